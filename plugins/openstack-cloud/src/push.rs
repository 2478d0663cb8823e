//! One push: an image with an id of our own choice, filled, and held against its checksum.
//!
//! The id follows from the stage, so a later attempt finds what an earlier one began. Glance cannot
//! continue an upload: an image that was cut off is `queued` again, and is uploaded anew. Ids are
//! never given out twice, not even after a deletion; the next one of the stage is taken then.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use imagefactory_plugin_sdk::author::{ErrorCode, Host, PluginError, Resource, Result, Stage};
use imagefactory_toolkit_disk::{DiskError, DiskFormat, ImageFacts, inspect};
use imagefactory_toolkit_http::{Body, Method, Progress, Response, RetryPolicy};

use crate::checksum::sha512_of;
use crate::glance::{Created, Glance, GlanceImage};
use crate::session::{Service, Session};
use crate::wishes::Wishes;

/// What the journal calls an image.
pub(crate) const RESOURCE_KIND: &str = "glance-image";

/// Ids of one stage: each damaged upload costs one, and the host repeats a stage three times.
const IDS_MAX: u32 = 16;

/// After the last byte Glance moves the image to its store.
const UPLOAD_IDLE: Duration = Duration::from_secs(600);

/// Glance fetches at its own pace; a day is longer than any image takes.
const IMPORT_MAX: Duration = Duration::from_secs(24 * 3600);
const IMPORT_LOOK_EVERY: Duration = Duration::from_secs(1);

/// What is pushed.
pub(crate) struct Push<'p> {
    pub(crate) host: &'p Host,
    pub(crate) session: &'p Session,
    pub(crate) stage: &'p Stage<'p>,
    pub(crate) wishes: Wishes,
    file: Arc<File>,
    pub(crate) facts: ImageFacts,
}

/// The image of this stage, and whether there is anything left to do.
struct Claim {
    id: String,
    resource: Resource,
    complete: bool,
}

impl<'p> Push<'p> {
    /// Looks at the target image. Nothing is asked of the cloud.
    pub(crate) fn prepare(
        host: &'p Host,
        session: &'p Session,
        stage: &'p Stage<'p>,
        wishes: Wishes,
    ) -> Result<Push<'p>> {
        let path = host.input_image()?;
        let file = File::open(&path).map_err(|error| unreadable(error.into()))?;
        let facts = inspect(&file).map_err(|error| unreadable(disk_error(error)))?;
        let target = stage.image("target")?;
        let declared = target.and_then(|image| image.member("format")).and_then(|it| it.as_text());
        let declared = declared.unwrap_or_else(|| facts.format.name().to_owned());
        if DiskFormat::parse(&declared) != Some(facts.format) {
            let found = facts.format;
            let message = format!("the target image is called {declared} and begins like {found}");
            return Err(PluginError::new(ErrorCode::InvalidArgument, message));
        }
        Ok(Push { host, session, stage, wishes, file: Arc::new(file), facts })
    }

    /// Makes the image, or takes over what is there. Answers it as Glance has it.
    pub(crate) fn run(&self) -> Result<GlanceImage> {
        let claim = self.claim()?;
        let given_up = AtomicBool::new(false);
        let (filled, sha512) = std::thread::scope(|scope| {
            let hash = || sha512_of(&self.file, self.facts.file_bytes, &given_up);
            let hash = std::thread::Builder::new().spawn_scoped(scope, hash);
            let filled = if claim.complete { Ok(()) } else { self.fill(&claim.id) };
            given_up.store(filled.is_err(), Ordering::Relaxed);
            let hashed = hash.map(|thread| thread.join());
            (filled, hashed)
        });
        filled?;
        let sha512 = match sha512.map_err(PluginError::from)? {
            Ok(hashed) => hashed.map_err(|error| unreadable(error.into()))?.unwrap_or_default(),
            Err(_) => {
                let message = "the checksum's thread panicked";
                return Err(PluginError::new(ErrorCode::Panic, message));
            }
        };
        let image = self.glance().image(&claim.id)?.ok_or_else(|| vanished(&claim.id))?;
        self.check(&claim, &image, &sha512)?;
        if self.wishes.protected() && !image.protected {
            self.glance().protect(&claim.id, true)?;
        }
        self.host.created(&claim.resource)?;
        Ok(image)
    }

    fn glance(&self) -> Glance<'_> {
        Glance { host: self.host, session: self.session }
    }

    /// Finds the image that an earlier attempt began, or begins one.
    fn claim(&self) -> Result<Claim> {
        let glance = self.glance();
        for number in 0..IDS_MAX {
            let id = image_id(self.stage.stage_id(), number);
            let resource = resource(self.stage.stage_id(), number, &id);
            let mut found = glance.settled(&id)?;
            if found.is_none() {
                self.host.will_create(&resource)?;
                match glance.create(&self.wishes.image(self.stage, &id, &self.facts))? {
                    Created::Yes => return Ok(Claim { id, resource, complete: false }),
                    // Made by a request whose answer was lost; or ours once and deleted since.
                    Created::IdTaken => found = glance.settled(&id)?,
                }
            }
            let Some(image) = found else {
                self.host.removed(&resource)?;
                continue;
            };
            if image.imagefactory_stage_id.as_deref() != Some(self.stage.stage_id()) {
                continue;
            }
            // Said again: the attempt that began it may have died before it was recorded.
            self.host.will_create(&resource)?;
            self.host.info(&format!("the image {id} is there from before, {}", image.status));
            match image.status.as_str() {
                "queued" => return Ok(Claim { id, resource, complete: false }),
                "active" => return Ok(Claim { id, resource, complete: true }),
                _ => {
                    glance.delete(&id)?;
                    self.host.removed(&resource)?;
                }
            }
        }
        let message = format!("{IDS_MAX} images of this stage were begun and none was finished");
        Err(PluginError::new(ErrorCode::AlreadyExists, message)
            .hint("order the image anew, and look into Glance's log"))
    }

    fn fill(&self, id: &str) -> Result<()> {
        match &self.wishes.openstack_import_uri {
            Some(uri) => self.import(id, uri),
            None => self.upload(id),
        }
    }

    /// Sends the file until Glance has it. Each attempt is a whole one.
    fn upload(&self, id: &str) -> Result<()> {
        let bytes = self.facts.file_bytes;
        let progress = Progress::new("upload", "uploading the image", bytes);
        let policy = self.session.client.options().retries;
        let (mut attempt, mut waited) = (1, Duration::ZERO);
        loop {
            // An upload may take longer than what is left of a token's life.
            self.session.refresh()?;
            let path = format!("/v2/images/{id}/file");
            let request = self
                .session
                .request(Service::Image, Method::PUT, &path)?
                .header("content-type", "application/octet-stream")
                .body(Body::file_range(self.file.clone(), 0..bytes))
                .progress(&progress)
                .retries(RetryPolicy::never())
                .idle_timeout(UPLOAD_IDLE);
            let answer = self.session.client.send(&request);
            let Trouble { error, again, asked } = match trouble(answer) {
                None => return Ok(()),
                Some(trouble) => trouble,
            };
            if error.code() == ErrorCode::Cancelled {
                return Err(error);
            }
            if error.code() == ErrorCode::Auth {
                self.session.renew()?;
            }
            // The answer may be lost and the image complete.
            let image = self.glance().settled(id)?.ok_or_else(|| vanished(id))?;
            if image.status == "active" {
                return Ok(());
            }
            let pause = policy.pause_after(attempt, waited, asked);
            let Some(pause) = pause.filter(|_| again && image.status == "queued") else {
                return Err(error);
            };
            self.host
                .warn(&format!("{error}; the upload begins anew in {:.1} s", pause.as_secs_f64()));
            progress.restart();
            self.host.sleep_unless_cancelled(pause)?;
            waited += pause;
            attempt += 1;
        }
    }

    fn import(&self, id: &str, uri: &str) -> Result<()> {
        let glance = self.glance();
        glance.import(id, uri)?;
        let until = Instant::now() + IMPORT_MAX;
        let mut begun = false;
        while Instant::now() < until {
            let image = glance.image(id)?.ok_or_else(|| vanished(id))?;
            begun |= image.status != "queued";
            let failed = image.os_glance_failed_import.as_ref().is_some_and(|it| !it.is_empty());
            match image.status.as_str() {
                "active" => return Ok(()),
                "queued" if begun || failed => {
                    let message = "Glance gave up the import of openstack_import_uri";
                    return Err(PluginError::new(ErrorCode::Io, message).by_user().hint(
                        "can Glance reach that address, and does its configuration allow it?",
                    ));
                }
                _ => self.host.progress("import", "Glance fetches the image", 0, 0)?,
            }
            self.host.sleep_unless_cancelled(IMPORT_LOOK_EVERY)?;
        }
        let message = "Glance has not finished the import within a day";
        Err(PluginError::new(ErrorCode::Timeout, message))
    }

    /// Holds what Glance has against what was sent.
    fn check(&self, claim: &Claim, image: &GlanceImage, sha512: &str) -> Result<()> {
        if image.status != "active" {
            let message = format!("the image {} is {} and not active", claim.id, image.status);
            return Err(PluginError::new(ErrorCode::Io, message).retryable());
        }
        let same_size = image.size == Some(self.facts.file_bytes);
        let same = match (image.os_hash_algo.as_deref(), &image.os_hash_value) {
            (Some("sha512"), Some(value)) => same_size && value == sha512,
            (algorithm, _) => {
                let algorithm = algorithm.unwrap_or("no");
                self.host.warn(&format!(
                    "Glance computes {algorithm} checksum: only sizes are compared"
                ));
                same_size
            }
        };
        if same {
            return Ok(());
        }
        // Nobody must boot it, and the id is used up.
        self.glance().delete(&claim.id)?;
        self.host.removed(&claim.resource)?;
        let sent = (self.facts.file_bytes, sha512);
        let got = (image.size.unwrap_or(0), image.os_hash_value.as_deref().unwrap_or("none"));
        let message = format!(
            "Glance stored other bytes than were sent: {} with sha512 {} instead of {} with {}",
            got.0, got.1, sent.0, sent.1
        );
        Err(PluginError::new(ErrorCode::Io, message)
            .retryable()
            .vendor_code("checksum-mismatch")
            .hint("something between here and Glance, or its store, damages data"))
    }
}

/// Why an upload is not done, and whether another one may be.
struct Trouble {
    error: PluginError,
    again: bool,
    asked: Option<Duration>,
}

fn trouble(answer: Result<Response>) -> Option<Trouble> {
    match answer {
        Ok(response) if response.is_success() => None,
        Ok(response) => {
            // 401: the token has expired meanwhile. 409: it was being saved still.
            let again = response.is_passing() || matches!(response.status(), 401 | 409);
            let asked = response.retry_after();
            Some(Trouble { error: response.error("the image cannot be uploaded"), again, asked })
        }
        Err(error) => {
            let again =
                matches!(error.code(), ErrorCode::Io | ErrorCode::Timeout | ErrorCode::Unavailable);
            Some(Trouble { error, again, asked: None })
        }
    }
}

/// The stage's own id, and others that follow from it.
fn image_id(stage_id: &str, number: u32) -> String {
    match stage_id.get(..8).and_then(|first| u32::from_str_radix(first, 16).ok()) {
        Some(first) => format!("{:08x}{}", first ^ number, stage_id.get(8..).unwrap_or_default()),
        // A host whose stage ids are no UUIDs; Glance says so.
        None => stage_id.to_owned(),
    }
}

fn resource(stage_id: &str, number: u32, id: &str) -> Resource {
    let token = if number == 0 { stage_id.to_owned() } else { format!("{stage_id}-{number}") };
    Resource::product(token, RESOURCE_KIND).with_id(id)
}

fn vanished(id: &str) -> PluginError {
    let message = format!("the image {id} has vanished from Glance");
    PluginError::new(ErrorCode::NotFound, message).hint("does anybody else delete images there?")
}

fn unreadable(error: PluginError) -> PluginError {
    error.while_doing("the target image cannot be read")
}

fn disk_error(error: DiskError) -> PluginError {
    match error {
        DiskError::Read(cause) => PluginError::from(cause),
        damaged @ DiskError::Damaged { .. } => {
            PluginError::new(ErrorCode::InvalidArgument, damaged.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_of_a_stage_is_another_uuid() {
        let stage = "11111111-2222-4333-8444-555555555555";
        assert_eq!(image_id(stage, 0), stage);
        assert_eq!(image_id(stage, 2), "11111113-2222-4333-8444-555555555555");
    }
}
