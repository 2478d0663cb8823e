//! One file for each noun of the API. A handler takes the request apart, asks the engine or the
//! store, and words the answer; it decides nothing about building.

pub(crate) mod api_information;
pub(crate) mod artifacts;
pub(crate) mod base_images;
pub(crate) mod events;
pub(crate) mod health;
pub(crate) mod image_lists;
pub(crate) mod images;
pub(crate) mod jeos;
pub(crate) mod leftovers;
pub(crate) mod log;
pub(crate) mod metrics;
pub(crate) mod plugins;
pub(crate) mod provider_images;
pub(crate) mod raw_image;
pub(crate) mod status_page;
pub(crate) mod target_images;
pub(crate) mod targets;
pub(crate) mod templates;
