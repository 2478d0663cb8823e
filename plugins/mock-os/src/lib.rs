//! MockOS: an OS plugin that builds nothing, quickly and always the same.
//!
//! The tests build with it, and authors read it: it offers every operation of an OS plugin. Its
//! base image is a small raw file that follows from the template alone; its target image is that
//! file and, behind it, what the cloud plugin asked for. It uses the SDK's core only, so Debian's
//! old `rustc` compiles this very file without cargo (`tests/fixtures/c` has its twin in C).

#![cfg_attr(not(test), forbid(unsafe_code))] // the tests play the host, which is C

mod image;
mod work;

use std::sync::Mutex;

use imagefactory_plugin_sdk::author::json::Object;
use imagefactory_plugin_sdk::author::{
    AddCloudPluginContent, CreateTargetImage, ErrorCode, Host, OsPlugin, Plugin, PluginError,
    ResolveInputs, Result, Stage, VerifyImage,
};

use image::Digest;
use work::Work;

/// What cloud plugins may ask for, all together: a thousand times what MockCloud does.
const CONTENT_BYTES_MAX: usize = 1 << 20;

struct MockOs {
    host: Host,
    /// The TargetContents received so far, one a line.
    content: Mutex<String>,
}

impl Plugin for MockOs {
    const ID: &'static str = "MockOS";
    const VERSION: &'static str = "2.0.0";

    fn create(host: Host) -> Result<MockOs> {
        Ok(MockOs { host, content: Mutex::new(String::new()) })
    }
}

impl OsPlugin for MockOs {
    fn create_base_image(&self, stage: &Stage<'_>) -> Result<()> {
        let template = template_of(stage)?;
        let bytes = image::size_parameter(stage)?;
        let work = Work::from_parameters(stage)?;
        self.host.info("making a mock base image");
        work.run(&self.host, "install")?;
        image::write_base(&self.host.output_image()?, Digest::of(template), bytes)?;
        let used = work.used().number("mock_size_bytes", bytes).end();
        self.host.set_result_json("effective_parameters", &used)?;
        self.set_image_results(Digest::of(template))
    }
}

impl CreateTargetImage for MockOs {
    fn create_target_image(&self, stage: &Stage<'_>) -> Result<()> {
        let template = template_of(stage)?;
        let work = Work::from_parameters(stage)?;
        self.host.info("making a mock target image");
        work.run(&self.host, "customize")?;
        let content = self.content.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        image::write_target(&self.host.input_image()?, &self.host.output_image()?, &content)?;
        self.host.set_result_json("effective_parameters", &work.used().end())?;
        self.set_image_results(Digest::of(template))
    }
}

impl AddCloudPluginContent for MockOs {
    fn add_cloud_plugin_content(&self, content_json: &str) -> Result<()> {
        let mut content = self.content.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let bytes = content.len() + content_json.len() + 1;
        if bytes > CONTENT_BYTES_MAX {
            let message = format!(
                "target contents of {bytes} bytes were asked for; MockOS takes {CONTENT_BYTES_MAX}"
            );
            return Err(PluginError::new(ErrorCode::InvalidArgument, message));
        }
        content.push_str(content_json);
        content.push('\n');
        Ok(())
    }
}

impl ResolveInputs for MockOs {
    fn resolve_inputs(&self, _stage: &Stage<'_>) -> Result<()> {
        // Beside the template its images follow from nothing but this code.
        self.host.set_result_text("input_digest", &format!("{} {}", Self::ID, Self::VERSION))
    }
}

impl VerifyImage for MockOs {
    fn verify_image(&self, _stage: &Stage<'_>) -> Result<()> {
        let ours = image::is_mock_image(&self.host.input_image()?)?;
        let how = if ours { "its first line is a mock image's" } else { "it is no mock image" };
        self.host
            .set_result_json("verified", &Object::new().bool("ok", ours).text("how", how).end())
    }
}

impl MockOs {
    fn set_image_results(&self, digest: Digest) -> Result<()> {
        let icicle =
            format!(r#"<icicle><packages><package name="mock-{digest}"/></packages></icicle>"#);
        self.host.set_result_text("icicle", &icicle)?;
        self.host.set_result_text("format", "raw")
    }
}

fn template_of<'a>(stage: &Stage<'a>) -> Result<&'a str> {
    stage.template_xml().ok_or_else(|| PluginError::user_fault("there is no template"))
}

imagefactory_plugin_sdk::export_os_plugin!(MockOs);

#[cfg(test)]
#[path = "../../../plugin-sdk/tests/fake_host/mod.rs"]
mod fake_host;
#[cfg(test)]
mod tests;
