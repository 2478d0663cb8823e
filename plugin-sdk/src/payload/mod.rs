//! The documents that cross the plugin boundary, one type each: what a client sends (templates,
//! provider definitions, credentials), what the host hands to a stage (images, resources), and
//! what a plugin gives back (target content, results, ICICLE).
//!
//! Host and plugins share these parsers, so a document means the same on both sides. Everything
//! here is a value: no file is opened, nothing is fetched. Every reader treats its input as
//! hostile: sizes are bounded, nothing recurses on depth, and errors say where and what instead.

pub mod template;

pub mod target_content;

pub mod credentials;
pub mod provider;

pub mod image;
pub mod resources;

pub mod icicle;
pub mod results;

pub mod manifest;

pub mod finding;
pub mod sensitive;
pub mod xml;

pub(crate) mod base64;
pub mod nearest;
