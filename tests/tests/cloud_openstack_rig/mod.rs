//! A daemon with OpenStackCloud, and the real Keystone and Glance that all tests of the program
//! share as long as any of them runs.

use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use imagefactory_tests::daemon::{Daemon, Setup};
use imagefactory_tests::factory::TDL_MOCK;
use imagefactory_tests::faulty_proxy::FaultyProxy;
use imagefactory_tests::openstack_servers::{OpenStackServers, PASSWORD};
use serde_json::{Value, json};
use tokio::sync::Mutex;

/// Real servers in Python on a busy machine.
const PATIENCE: Duration = Duration::from_secs(400);

/// What the shared Glance takes.
pub(crate) const IMAGE_BYTES_MAX: u64 = 48 << 20;

/// Of the images that are pushed: several pieces, no whole number of them.
pub(crate) const IMAGE_BYTES: u64 = (5 << 20) + 512;

/// The servers that are running, or new ones.
pub(crate) async fn servers() -> Arc<OpenStackServers> {
    static RUNNING: Mutex<Weak<OpenStackServers>> = Mutex::const_new(Weak::new());
    let mut running = RUNNING.lock().await;
    if let Some(servers) = running.upgrade() {
        return servers;
    }
    let servers = Arc::new(OpenStackServers::start_with(IMAGE_BYTES_MAX).await);
    *running = Arc::downgrade(&servers);
    servers
}

/// A factory before a cloud, with a proxy in between that behaves until it is told not to.
pub(crate) struct Rig {
    pub(crate) daemon: Daemon,
    pub(crate) servers: Arc<OpenStackServers>,
    pub(crate) proxy: FaultyProxy,
}

impl Rig {
    pub(crate) async fn start() -> Rig {
        Rig::start_with(|setup| setup).await
    }

    /// With more in the daemon's configuration.
    pub(crate) async fn start_with(configure: impl FnOnce(Setup) -> Setup) -> Rig {
        Rig::before(servers().await, configure)
    }

    /// Before these servers.
    pub(crate) fn before(
        servers: Arc<OpenStackServers>,
        configure: impl FnOnce(Setup) -> Setup,
    ) -> Rig {
        let proxy = FaultyProxy::start(servers.glance);
        let setup = Setup::default()
            .plugin("OpenStackCloud", "openstack_cloud")
            .with("http", json!({ "retry_for_s": 6, "connect_timeout_s": 5 }));
        let daemon = configure(setup).start();
        Rig { daemon, servers, proxy }
    }

    /// The provider whose Glance is behind the proxy.
    pub(crate) fn provider(&self) -> Value {
        self.servers.provider_by(&self.proxy.url())
    }

    /// Orders a provider image from the mock template, with everything that it needs before.
    pub(crate) async fn order(
        &self,
        provider: Value,
        credentials: Value,
        parameters: Value,
    ) -> Value {
        let mut all = json!({ "mock_size_bytes": IMAGE_BYTES, "openstack_image_format": "raw" });
        all.as_object_mut().unwrap().extend(parameters.as_object().unwrap().clone());
        let body = json!({ "provider_image": {
            "template": TDL_MOCK, "target": "openstack-kvm", "provider": provider,
            "credentials": credentials, "parameters": all,
        } });
        self.daemon.order("/imagefactory/provider_images", &body).await
    }

    /// The same, with the usual provider and credentials, until it is final.
    pub(crate) async fn push(&self, parameters: Value) -> Value {
        let ordered = self.order(self.provider(), self.servers.credentials(), parameters).await;
        self.finished(&ordered).await
    }

    /// Waits until the image is final.
    pub(crate) async fn finished(&self, image: &Value) -> Value {
        let id = image["id"].as_str().unwrap();
        let until = Instant::now() + PATIENCE;
        loop {
            let image = self.daemon.image(id).await.expect("it is there");
            if matches!(image["status"].as_str(), Some("COMPLETE" | "FAILED" | "DELETEFAILED")) {
                return image;
            }
            assert!(Instant::now() < until, "not final: {image}\n{}", self.daemon.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What Glance has of an order, asked of Glance.
    pub(crate) async fn in_glance(&self, image: &Value) -> Vec<Value> {
        let of_this = |it: &Value| it["imagefactory_image_id"] == image["id"];
        self.servers.images().await.into_iter().filter(of_this).collect()
    }

    /// COMPLETE, and exactly one image in Glance, whose bytes are the target image's.
    pub(crate) async fn check_arrived(&self, image: &Value) -> Value {
        let log = || self.daemon.log();
        assert_eq!(image["status"], "COMPLETE", "{}\n{}", image["status_detail"], log());
        let found = self.in_glance(image).await;
        assert_eq!(found.len(), 1, "{found:#?}");
        let id = found[0]["id"].as_str().unwrap();
        assert_eq!(image["identifier_on_provider"], id);
        assert_eq!(image["provider_account_identifier"], self.servers.project.as_str());
        let target = image["target_image"]["id"].as_str().or(image["target_image_id"].as_str());
        let target = target.expect("it has a target image").to_owned();
        let body = std::fs::read(self.daemon.storage().join(format!("{target}.body"))).unwrap();
        let there = self.servers.download(id).await;
        assert_eq!(there.len(), body.len());
        assert!(there == body, "other bytes than the target image's");
        self.check_no_secret();
        found.into_iter().next().unwrap()
    }

    /// FAILED with this sentence, and nothing in Glance.
    pub(crate) async fn check_failed(&self, image: &Value, sentence: &str) {
        assert_eq!(image["status"], "FAILED", "{image}");
        let error = image["status_detail"]["error"].as_str().unwrap();
        assert!(error.contains(sentence), "{error}");
        let until = Instant::now() + PATIENCE;
        // Cleaning up is a stage of its own, after the image's end was told.
        while !self.in_glance(image).await.is_empty() {
            assert!(Instant::now() < until, "left: {:#?}", self.in_glance(image).await);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        self.check_no_secret();
    }

    /// Neither the password nor any token that was used stands in a file or log of the factory.
    pub(crate) fn check_no_secret(&self) {
        let mut secrets = vec![PASSWORD.to_owned()];
        for passed in self.proxy.passed() {
            let mut headers = passed.head.lines().filter_map(|line| line.split_once(": "));
            let token = headers.find(|(name, _)| name.eq_ignore_ascii_case("x-auth-token"));
            secrets.extend(token.map(|(_, token)| token.to_owned()));
        }
        secrets.sort();
        secrets.dedup();
        let log = self.daemon.log();
        for secret in &secrets {
            assert!(!log.contains(secret), "the log has a secret");
        }
        check_folder(self.daemon.folder.path(), &secrets);
    }
}

fn check_folder(folder: &Path, secrets: &[String]) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        // What is removed meanwhile holds nothing any more.
        let Ok(facts) = entry.metadata() else { continue };
        if facts.is_dir() {
            check_folder(&entry.path(), secrets);
        } else if facts.is_file() && facts.len() < 64 << 20 {
            let Ok(bytes) = std::fs::read(entry.path()) else { continue };
            for secret in secrets {
                let found = bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
                assert!(!found, "{} has a secret", entry.path().display());
            }
        }
    }
}
