//! OAuth at the door: the verifier of `host/oauth`, which the command line's signer shares.

pub(crate) use imagefactory_oauth::verifier::system_clock;
pub(crate) use imagefactory_oauth::{Denied, SignedRequest, Verifier};
