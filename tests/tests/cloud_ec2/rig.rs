//! A daemon with EC2Cloud, images with known data, and the questions that tests ask of both.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use imagefactory_tests::daemon::{Daemon, Setup};
use imagefactory_tests::factory::TDL_MOCK;
use imagefactory_tests::strict_ec2::{ACCESS_KEY, ACCOUNT, BLOCK_BYTES, SECRET_KEY, StrictEc2};
use serde_json::{Value, json};

/// Seconds that one request is repeated; in the wild it is minutes.
const RETRY_FOR_S: u64 = 8;

/// Of 400 MiB through programs that are not optimised; seconds on a quiet machine.
const UPLOAD_PATIENCE: Duration = Duration::from_secs(300);

/// A factory and its provider.
pub(crate) struct Rig {
    pub(crate) daemon: Daemon,
    pub(crate) ec2: StrictEc2,
}

impl Rig {
    /// With a strict EC2 on plain HTTP.
    pub(crate) fn start() -> Rig {
        Rig::start_with(StrictEc2::start())
    }

    /// With this one.
    pub(crate) fn start_with(ec2: StrictEc2) -> Rig {
        Rig { daemon: daemon(), ec2 }
    }

    /// The provider's definition.
    pub(crate) fn provider(&self) -> Value {
        json!({"name": "ec2-us-east-1", "endpoint": self.ec2.url()})
    }

    /// A target image whose disk has random data in so many blocks, with holes between.
    pub(crate) async fn target_image(&self, blocks: u32) -> String {
        let parameters = json!({"mock_size_bytes": 1 << 20, "fresh": true});
        let body = json!({"target_image": {"target": "ec2", "template": TDL_MOCK,
            "parameters": parameters}});
        let order = self.daemon.order("/imagefactory/target_images", &body).await;
        let id = order["id"].as_str().expect("an id").to_owned();
        let image = self.daemon.finished(&id).await;
        assert_eq!(image["status"], "COMPLETE", "{image}");
        fill(&self.body(&id), blocks);
        id
    }

    /// The file of an image.
    pub(crate) fn body(&self, id: &str) -> PathBuf {
        self.daemon.storage().join(format!("{id}.body"))
    }

    /// Orders a push; answers the provider image's id.
    pub(crate) async fn order(&self, target: &str, parameters: Value) -> String {
        self.order_with(target, (self.provider(), credentials()), parameters).await
    }

    /// The same with another provider and other credentials.
    pub(crate) async fn order_with(
        &self,
        target: &str,
        (provider, credentials): (Value, Value),
        parameters: Value,
    ) -> String {
        let body = json!({"provider_image": {"target": "ec2", "target_image_id": target,
            "provider": provider, "credentials": credentials, "parameters": parameters}});
        let order = self.daemon.order("/imagefactory/provider_images", &body).await;
        order["id"].as_str().expect("an id").to_owned()
    }

    /// Pushes and waits for the end, which is to be good.
    pub(crate) async fn push(&self, target: &str, parameters: Value) -> Value {
        let id = self.order(target, parameters).await;
        let image = self.daemon.finished(&id).await;
        assert_eq!(image["status"], "COMPLETE", "{image:#}\n{}", self.log(&id).await);
        image
    }

    /// Waits for the end of a long upload on a busy machine.
    pub(crate) async fn finished_at_last(&self, id: &str) -> Value {
        let started = Instant::now();
        loop {
            let image = self.daemon.image(id).await.expect("it is there");
            if matches!(image["status"].as_str(), Some("COMPLETE" | "FAILED")) {
                return image;
            }
            assert!(started.elapsed() < UPLOAD_PATIENCE, "not there: {image:#}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What the image's log says.
    pub(crate) async fn log(&self, id: &str) -> String {
        let path = format!("/imagefactory/provider_images/{id}/log");
        self.daemon.get(&path).await.text().await.expect("a log")
    }

    /// Demands that a push fails like this, and leaves nothing at the provider.
    pub(crate) async fn check_failure(
        &self,
        (target, id): (&str, String),
        (code, sentences): (&str, &[&str]),
    ) {
        let image = self.daemon.finished(&id).await;
        assert_eq!(image["status"], "FAILED", "{image:#}");
        let error = image["status_detail"]["error"].as_str().expect("an error");
        let log = self.log(&id).await;
        assert_eq!(image["status_detail"]["error_code"], code, "{error}\n{log}");
        for sentence in sentences {
            assert!(error.contains(sentence), "no {sentence:?} in {error}");
        }
        // Its cleanup follows at once.
        self.ec2.wait_until("nothing is left", |world| world.everything().is_empty());
        self.assert_secrets_kept();
        assert!(self.body(target).exists(), "the target image stays");
    }

    /// Demands that the secret key stands in no log and in no file of the factory but the
    /// operator's own configuration.
    pub(crate) fn assert_secrets_kept(&self) {
        let secret = SECRET_KEY.as_bytes();
        assert!(!self.daemon.log().contains(SECRET_KEY), "the daemon's log has the secret");
        let mut folders = vec![self.daemon.folder.path().to_owned()];
        while let Some(folder) = folders.pop() {
            // Folders of stages come and go.
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                let kind = entry.file_type().expect("a kind");
                if kind.is_dir() {
                    folders.push(path);
                } else if kind.is_file() && !path.ends_with("imagefactory.conf") {
                    let Ok(content) = std::fs::read(&path) else { continue };
                    let found = content.windows(secret.len()).any(|part| part == secret);
                    assert!(!found, "the secret stands in {}", path.display());
                }
            }
        }
    }

    /// Demands that the only snapshot holds the image.
    pub(crate) fn assert_pushed(&self, target: &str) {
        let file = File::open(self.body(target)).expect("the body");
        self.ec2.world().the_snapshot().assert_holds(&file);
    }
}

/// A daemon with EC2Cloud.
pub(crate) fn daemon() -> Daemon {
    let keys = json!({"access_key": ACCESS_KEY, "secret_access_key": SECRET_KEY});
    let http = json!({"retry_for_s": RETRY_FOR_S});
    Setup::default()
        .plugin("EC2Cloud", "ec2_cloud")
        .with("credentials", json!({"aws": keys}))
        .with("plugin_settings", json!({"EC2Cloud": {"http": http}}))
        .start()
}

/// As the document sends them.
pub(crate) fn credentials() -> Value {
    credentials_with(ACCESS_KEY, SECRET_KEY)
}

/// The same with these keys.
pub(crate) fn credentials_with(access: &str, secret: &str) -> Value {
    json!(format!(
        "<provider_credentials><ec2_credentials><account_number>{ACCOUNT}</account_number>\
         <access_key>{access}</access_key><secret_access_key>{secret}</secret_access_key>\
         <certificate>-----BEGIN CERTIFICATE-----</certificate><key>none</key>\
         </ec2_credentials></provider_credentials>"
    ))
}

/// Writes blocks that all differ, each third one a hole; the last one is cut off.
fn fill(body: &Path, blocks: u32) {
    let file = File::options().write(true).truncate(true).open(body).expect("the body");
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut block = vec![0; BLOCK_BYTES];
    for word in block.chunks_exact_mut(8) {
        // xorshift: nothing that could be taken for zeros.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        word.copy_from_slice(&state.to_le_bytes());
    }
    let places = (0_u64..).filter(|at| at % 3 != 2).take(blocks as usize);
    for (number, at) in places.enumerate() {
        block[..8].copy_from_slice(&at.to_le_bytes());
        let is_last = number + 1 == blocks as usize;
        let length = if is_last { BLOCK_BYTES - 1000 } else { BLOCK_BYTES };
        file.write_all_at(&block[..length], at * BLOCK_BYTES as u64).expect("room");
    }
}
