//! What each stage is given and what its outcome means for the image: pure functions, one file for
//! each kind of image. All branching (which stages, in which order) is in `pipeline.rs`.

pub(crate) mod content_key;
pub(crate) mod images;
pub(crate) mod outcome;
