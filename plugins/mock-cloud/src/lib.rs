//! MockCloud: a cloud plugin whose cloud is a text file.
//!
//! The tests build with it, and authors read it: it offers every operation of a cloud plugin,
//! announces in the journal what it creates, takes over what an earlier attempt made, and cleans
//! up. The "provider" is the ledger that the provider definition names, `{"ledger": "/folder"}`;
//! without one nothing is kept. `tests/fixtures/c` has its twin in C.

#![cfg_attr(not(test), forbid(unsafe_code))] // the tests play the host, which is C

mod ledger;
// The same pretended work as MockOS's; plugins never depend on each other, so the file is included.
#[path = "../../mock-os/src/work.rs"]
mod work;

use std::fs::File;
use std::io::Write;
use std::path::Path;

use imagefactory_plugin_sdk::author::{
    BuilderDidCreateTargetImage, BuilderShouldCreateTargetImage, BuilderWillCreateTargetImage,
    Cleanup, CloudPlugin, DeleteFromProvider, ErrorCode, Host, Plugin, PluginError,
    PushImageToProvider, Resource, Result, ShouldCreate, SnapshotImageOnProvider, Stage,
};
use imagefactory_plugin_sdk::payload::target_content::{TargetCommand, TargetContent};
use imagefactory_plugin_sdk::payload::template::{ContentType, TemplateFile};

use ledger::Ledger;
use work::Work;

/// What the journal calls a mock provider image.
const RESOURCE_KIND: &str = "mock-image";

struct MockCloud {
    host: Host,
}

impl Plugin for MockCloud {
    const ID: &'static str = "MockCloud";
    const VERSION: &'static str = "2.0.0";

    fn create(host: Host) -> Result<MockCloud> {
        Ok(MockCloud { host })
    }
}

impl CloudPlugin for MockCloud {}

impl BuilderShouldCreateTargetImage for MockCloud {
    fn builder_should_create_target_image(&self, stage: &Stage<'_>) -> Result<ShouldCreate> {
        match stage.text_parameter("mock_should")?.as_deref() {
            None | Some("yes") => Ok(ShouldCreate::Yes),
            Some("no") => {
                Work::from_parameters(stage)?.run(&self.host, "build")?;
                let line = format!("mock image for {}, all by the cloud plugin\n", target(stage)?);
                write_new(&self.host.output_image()?, &[line.as_bytes()])?;
                self.host.set_result("format", "raw")?;
                Ok(ShouldCreate::AlreadyCreated)
            }
            Some(other) => {
                Err(PluginError::user_fault(format!("mock_should is {other:?}, not yes or no")))
            }
        }
    }
}

impl BuilderWillCreateTargetImage for MockCloud {
    fn builder_will_create_target_image(&self, stage: &Stage<'_>) -> Result<()> {
        let target = target(stage)?;
        self.host.add_cloud_plugin_content(&TargetContent {
            files: vec![TemplateFile {
                name: "/etc/mock-cloud".to_owned(),
                kind: ContentType::Raw,
                file: target.to_owned(),
            }],
            commands: vec![TargetCommand {
                name: "mock-cloud".to_owned(),
                kind: ContentType::Raw,
                command: "test -s /etc/mock-cloud".to_owned(),
            }],
            ..TargetContent::default()
        })
    }
}

impl BuilderDidCreateTargetImage for MockCloud {
    /// With `mock_did`: the image gets that text as a last line. Without: it stays as it is.
    fn builder_did_create_target_image(&self, stage: &Stage<'_>) -> Result<()> {
        if let Some(line) = stage.text_parameter("mock_did")? {
            let input = self.host.input_image()?;
            let image = std::fs::read(&input).map_err(|error| named(error, "read", &input))?;
            write_new(&self.host.output_image()?, &[&image, line.as_bytes(), b"\n"])?;
            self.host.set_result("format", "raw")?;
        }
        Ok(())
    }
}

impl PushImageToProvider for MockCloud {
    fn push_image_to_provider(&self, stage: &Stage<'_>) -> Result<()> {
        self.make_provider_image(stage, "upload", "mock")
    }
}

impl SnapshotImageOnProvider for MockCloud {
    fn snapshot_image_on_provider(&self, stage: &Stage<'_>) -> Result<()> {
        self.make_provider_image(stage, "snapshot", "mock-snapshot")
    }
}

impl DeleteFromProvider for MockCloud {
    fn delete_from_provider(&self, stage: &Stage<'_>) -> Result<()> {
        let image = stage.image("self")?.and_then(|image| image.member("identifier_on_provider"));
        let identifier = image.and_then(|identifier| identifier.as_text()).ok_or_else(|| {
            PluginError::user_fault("the image has no identifier on the provider")
        })?;
        Work::from_parameters(stage)?.run(&self.host, "delete")?;
        Ledger::of(stage)?.remove(|line| line.identifier == identifier)
    }
}

impl Cleanup for MockCloud {
    fn cleanup(&self, stage: &Stage<'_>, left: &[Resource]) -> Result<()> {
        let ledger = Ledger::of(stage)?;
        let mut first_error = Ok(());
        for resource in left {
            // By its token: the identifier may never have been recorded.
            let removed = ledger
                .remove(|line| line.token == resource.token)
                .and_then(|()| self.host.removed(resource));
            first_error = first_error.and(removed);
        }
        first_error
    }
}

impl MockCloud {
    /// Push and snapshot differ only in what they would have done before the image is there.
    fn make_provider_image(&self, stage: &Stage<'_>, phase: &str, prefix: &str) -> Result<()> {
        let ledger = Ledger::of(stage)?;
        let account = self.account(stage)?;
        let work = Work::from_parameters(stage)?;

        // The stage's id is the token: the same in every attempt, so none makes a second image.
        let image = Resource::product(stage.stage_id(), RESOURCE_KIND);
        self.host.will_create(&image)?;
        let wanted = format!("{prefix}-{}", stage.stage_id());
        let identifier = ledger.create_once(stage.stage_id(), &wanted)?;
        self.host.created(&image.with_id(&identifier))?;

        // As with real providers, the image exists first and fills slowly.
        let done = self.host.checkpoint::<u64>("steps_done")?.unwrap_or(0);
        work.run_from(&self.host, phase, done, |steps| {
            self.host.put_checkpoint("steps_done", &steps)
        })?;

        self.host.set_result("identifier_on_provider", &identifier)?;
        self.host.set_result("provider_account_identifier", &account)?;
        self.host.set_result_json("effective_parameters", &work.used().end())
    }

    /// Follows from the credentials without giving them away.
    fn account(&self, stage: &Stage<'_>) -> Result<String> {
        match stage.credential_name() {
            Some(name) => {
                let bytes = self.host.secret(name)?.expose().len();
                Ok(format!("mock-account-{bytes}"))
            }
            None => Ok("mock-account".to_owned()),
        }
    }
}

fn target<'a>(stage: &Stage<'a>) -> Result<&'a str> {
    stage
        .target()
        .ok_or_else(|| PluginError::new(ErrorCode::InvalidArgument, "the stage names no target"))
}

fn write_new(path: &Path, parts: &[&[u8]]) -> Result<()> {
    let written = File::options()
        .write(true)
        .create_new(true)
        .open(path)
        .and_then(|mut file| parts.iter().try_for_each(|part| file.write_all(part)));
    written.map_err(|error| named(error, "write", path))
}

fn named(error: std::io::Error, what: &str, path: &Path) -> PluginError {
    PluginError::from(error).while_doing(format!("cannot {what} {}", path.display()))
}

imagefactory_plugin_sdk::export_cloud_plugin!(MockCloud);

#[cfg(test)]
#[path = "../../../plugin-sdk/tests/fake_host/mod.rs"]
mod fake_host;
#[cfg(test)]
mod tests;
