//! Two-legged OAuth 1.0a (RFC 5849) without tokens: consumer key and shared secret.
//!
//! - [`base_string`]: what is signed, and the signature itself
//! - [`header`]: the `Authorization` header
//! - [`signer`]: for clients
//! - [`verifier`]: for the daemon: signature, age, replay

pub mod base_string;
pub mod header;
pub mod signer;
pub mod verifier;

pub use verifier::{Denied, SignedRequest, Verifier};
