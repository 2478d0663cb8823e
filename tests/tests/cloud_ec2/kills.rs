//! The daemon is killed while it uploads to EC2: it goes on where it was, and makes one image.
//!
//! Two kills at random moments each run, thirty with `IMAGEFACTORY_TEST_LONG`;
//! `IMAGEFACTORY_KILL_SEED` repeats the moments of an earlier run. What was sent twice is counted
//! by the server, to the byte.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::rig::{Rig, credentials};
use imagefactory_tests::strict_ec2::BLOCK_BYTES;
use serde_json::json;

/// 400 MiB of data: a usual image.
const BLOCKS: u32 = 800;

/// The share of its bytes that a kill may send twice.
const TWICE_MAX: f64 = 0.01;

fn seed() -> u64 {
    let given = std::env::var("IMAGEFACTORY_KILL_SEED").ok().and_then(|seed| seed.parse().ok());
    given.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs())
}

fn kills() -> u64 {
    if std::env::var_os("IMAGEFACTORY_TEST_LONG").is_some() { 30 } else { 2 }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_upload_goes_on_and_sends_less_than_a_hundredth_twice() {
    let (seed, kills) = (seed(), kills());
    println!("IMAGEFACTORY_KILL_SEED={seed}");
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut rig = Rig::start();
    // So slow that a kill finds it at work, and that answers are under way when it comes.
    rig.ec2.faults().latency = Duration::from_millis(2);
    let target = rig.target_image(BLOCKS).await;
    let data_bytes = f64::from(BLOCKS) * BLOCK_BYTES as f64;
    for kill in 0..kills {
        let (taken_before, bytes_before) = {
            let world = rig.ec2.world();
            (world.blocks_taken, world.block_bytes_received)
        };
        let id = rig.order(&target, json!({})).await;
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let at = random % u64::from(BLOCKS);
        rig.ec2.wait_until("its moment", |world| world.blocks_taken >= taken_before + at);
        rig.daemon.kill_and_restart();
        let image = rig.finished_at_last(&id).await;
        assert_eq!(image["status"], "COMPLETE", "kill at block {at}: {image:#}");
        {
            let world = rig.ec2.world();
            world.the_image();
            let sent = world.block_bytes_received - bytes_before;
            let twice = (sent as f64 - data_bytes) / data_bytes;
            println!("kill {kill} at block {at}: {:.3} % sent twice", twice * 100.0);
            assert!(twice < TWICE_MAX, "{twice} of the data was sent twice, kill at block {at}");
            assert_eq!(world.started.len() as u64, kill + 1, "one snapshot an order");
            assert_eq!(world.registered.len() as u64, kill + 1, "one image an order");
        }
        rig.assert_pushed(&target);
        let path = format!("/imagefactory/provider_images/{id}");
        let body = json!({"credentials": credentials()});
        let request = rig.daemon.request(reqwest::Method::DELETE, &path).json(&body);
        assert!(request.send().await.unwrap().status().is_success());
        rig.daemon.gone(&id).await;
        rig.ec2.assert_empty();
    }
    rig.assert_secrets_kept();
}
