//! The smallest OS plugin: an image with one line of text.

#![forbid(unsafe_code)]

use std::fs;

use imagefactory_plugin_sdk::author::{Host, OsPlugin, Plugin, Result, Stage};

struct Hello {
    host: Host,
}

impl Plugin for Hello {
    const ID: &'static str = "HelloOS";
    const VERSION: &'static str = "0.1.0";

    fn create(host: Host) -> Result<Hello> {
        Ok(Hello { host })
    }
}

impl OsPlugin for Hello {
    fn create_base_image(&self, stage: &Stage<'_>) -> Result<()> {
        let whom = stage.text_parameter("greet")?.unwrap_or_else(|| "world".to_owned());
        self.host.progress("write", "writing one line", 0, 1)?;
        fs::write(self.host.output_image()?, format!("Hello, {whom}\n"))?;
        self.host.set_result_text("format", "raw")
    }
}

imagefactory_plugin_sdk::export_os_plugin!(Hello);
