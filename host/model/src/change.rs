//! A change: what the store recorded about an image, told to callbacks, events and watchers.

use crate::image::Image;

/// One recorded change of one image. Published only after it was recorded, so that whoever hears of
/// it finds it.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The image after the change.
    pub image: Image,
    /// Did its status change (callbacks hear of these), or only activity and percent?
    pub status_changed: bool,
}
