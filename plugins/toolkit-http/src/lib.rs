//! HTTP as cloud plugins need it: one blocking client that retries, limits, tells progress, ends
//! when the stage is to end, and whose errors name the host, the port and a way out.
//!
//! An ordinary library that plugins link; nothing of it crosses the plugin boundary. It brings its
//! own small runtime, since a shared library has its own statics. It knows no cloud: signing,
//! tokens and the meaning of an answer are each plugin's.
//!
//! ```no_run
//! use imagefactory_plugin_sdk::author::{Host, Result};
//! use imagefactory_toolkit_http::{Body, HttpClient, HttpOptions, Method, Progress, Request};
//!
//! fn upload(host: &Host, file: std::fs::File, token: &str) -> Result<String> {
//!     let client = HttpClient::new(host, HttpOptions::from_host(host)?)?;
//!     let length = file.metadata()?.len();
//!     let progress = Progress::new("upload", "uploading the image", length);
//!     let request = Request::new(Method::PUT, "https://cloud.example/v2/images/1/file")?
//!         .secret_header("X-Auth-Token", token)
//!         .body(Body::file_range(file, 0..length))
//!         .progress(&progress);
//!     let answer = client.send(&request)?.expect_success("the image cannot be uploaded")?;
//!     Ok(answer.text())
//! }
//! ```

#![cfg_attr(not(test), forbid(unsafe_code))] // the tests play the host, which is C

mod options;

mod request;

mod client;

mod attempt;
mod bandwidth;
mod body;
mod failure;
mod names;
mod parallel;
mod progress;
mod redaction;
mod response;
mod retry;

pub use body::Body;
pub use client::HttpClient;
pub use options::{HttpOptions, HttpSettings, Timeouts};
pub use parallel::parallel;
pub use progress::Progress;
pub use redaction::{shown_url, shown_without};
pub use request::Request;
pub use reqwest::{Method, Url};
pub use response::Response;
pub use retry::RetryPolicy;

#[cfg(test)]
#[path = "../../../plugin-sdk/tests/fake_host/mod.rs"]
mod fake_host;
#[cfg(test)]
mod tests;
