//! The daemon is killed while it uploads to a registry: it goes on where it was, and makes one
//! image.
//!
//! Two kills at random moments each run, thirty with `IMAGEFACTORY_TEST_LONG`;
//! `IMAGEFACTORY_KILL_SEED` repeats the moments of an earlier run. What was sent twice is counted
//! by the registry, to the byte. Docker's own registry refuses a session that broke off in the
//! middle of a piece, so against it only the image is compared.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test says that it failed"
)]

mod cloud_docker_rig;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cloud_docker_rig::{RegistryServer, Rig};
use imagefactory_tests::faulty_proxy::{Fault, FaultyProxy};
use imagefactory_tests::strict_registry::{Behaviour, StrictRegistry};
use serde_json::json;

/// Content of the image; it does not compress.
const BYTES: u64 = 8 << 20;

/// So slow that a kill finds it at work: three seconds an image.
const BYTES_PER_S: u64 = 3 << 20;

/// The share of its bytes that a kill may send twice.
const TWICE_MAX: f64 = 0.01;

const PATIENCE: Duration = Duration::from_secs(120);

fn seed() -> u64 {
    let given = std::env::var("IMAGEFACTORY_KILL_SEED").ok().and_then(|seed| seed.parse().ok());
    given.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs())
}

fn kills() -> u64 {
    if std::env::var_os("IMAGEFACTORY_TEST_LONG").is_some() { 30 } else { 2 }
}

struct Dice(u64);

impl Dice {
    fn new() -> Dice {
        let seed = seed();
        // Past libtest, which would swallow it.
        use std::io::Write;
        writeln!(std::io::stderr(), "IMAGEFACTORY_KILL_SEED={seed}").expect("standard error");
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_upload_goes_on_and_sends_less_than_a_hundredth_twice() {
    let mut dice = Dice::new();
    let mut rig = Rig::start_with(BYTES).await;
    let target = rig.target_image(json!({"docker_sbom": false})).await;
    let behaviour = Behaviour { bytes_per_s: BYTES_PER_S, ..Behaviour::default() };
    let registry = StrictRegistry::start(behaviour);
    for kill in 0..kills() {
        let repository = format!("kill/{kill}");
        let provider = json!({"registry": registry.authority(), "plain_http": true,
            "repository": repository});
        let before = registry.holdings().upload_bytes;
        let id = rig.order(&target, &provider, json!({})).await;
        let at = dice.below(BYTES);
        registry.wait_for_bytes(before + at, PATIENCE);
        rig.daemon.kill_and_restart();
        let image = rig.daemon.finished(&id).await;
        let log = rig.log(&id).await;
        assert_eq!(image["status"], "COMPLETE", "kill at byte {at}: {image:#}\n{log}");
        {
            let holdings = registry.holdings();
            let ours = |key: &&String| key.starts_with(&format!("{repository}@"));
            let blobs = holdings.blobs.iter().filter(|(key, _)| ours(key));
            let whole: u64 = blobs.map(|(_, blob)| blob.len() as u64).sum();
            let sent = holdings.upload_bytes - before;
            let twice = (sent as f64 - whole as f64) / whole as f64;
            println!("kill {kill} at byte {at}: {:.3} % sent twice", twice * 100.0);
            assert!(twice < TWICE_MAX, "{twice} of it was sent twice, kill at byte {at}\n{log}");
            assert_eq!(holdings.manifests.keys().filter(ours).count(), 1, "one image");
            assert!(holdings.uploads.is_empty(), "no session is left");
        }
        rig.delete(&id, None).await;
        let holdings = registry.holdings();
        assert!(holdings.manifests.is_empty() && holdings.tags.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_upload_to_dockers_own_registry_makes_one_whole_image() {
    let mut dice = Dice::new();
    let mut rig = Rig::start_with(BYTES).await;
    let target = rig.target_image(json!({})).await;
    let server = RegistryServer::start();
    let proxy = FaultyProxy::start(server.address());
    for kill in 0..kills().div_ceil(2) {
        proxy.plan("PATCH", "/blobs/uploads/", 1, Fault::Slow(BYTES_PER_S));
        let repository = format!("kill{kill}");
        let provider = json!({"registry": format!("{}/{repository}", proxy.url())});
        let before = proxy.body_bytes("PATCH", &repository);
        let id = rig.order(&target, &provider, json!({})).await;
        let at = dice.below(BYTES);
        let deadline = std::time::Instant::now() + PATIENCE;
        while proxy.body_bytes("PATCH", &repository) < before + at {
            assert!(std::time::Instant::now() < deadline, "no upload");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        rig.daemon.kill_and_restart();
        let image = rig.daemon.finished(&id).await;
        assert_eq!(image["status"], "COMPLETE", "kill at byte {at}: {image:#}");
        let digest = server.digest(&format!("{repository}:latest")).unwrap();
        assert!(image["identifier_on_provider"].as_str().unwrap().ends_with(&digest));
        rig.delete(&id, None).await;
        assert!(!server.manifests().iter().any(|path| path.contains("/revisions/")));
    }
}
