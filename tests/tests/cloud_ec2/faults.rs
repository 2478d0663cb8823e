//! EC2Cloud when something goes wrong: the right class, a sentence with a way out, nothing left at
//! the provider (which is asked), the secret nowhere (all files and logs are searched).

use std::time::Duration;

use crate::rig::{Rig, credentials, credentials_with};
use imagefactory_tests::strict_ec2::{ACCESS_KEY, Clock, Fault, StrictEc2};
use serde_json::json;

/// Enough that something is always under way.
const BLOCKS: u32 = 60;

#[tokio::test(flavor = "multi_thread")]
async fn wrong_keys_are_said_and_never_shown() {
    let rig = Rig::start();
    let target = rig.target_image(2).await;
    for (access, secret) in [
        (ACCESS_KEY, "wr0ng/5ecret+That8Must4Never2Show"),
        ("AKIDNOBODYKNOWS00001", "wr0ng/5ecret+That8Must4Never2Show"),
    ] {
        let given = (rig.provider(), credentials_with(access, secret));
        let id = rig.order_with(&target, given, json!({})).await;
        let log = id.clone();
        rig.check_failure((&target, id), ("user-request", &["check access_key"])).await;
        let said = rig.log(&log).await + &rig.daemon.log();
        assert!(!said.contains(secret), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_expires_in_mid_upload_ends_it_cleanly() {
    let rig = Rig::start();
    let target = rig.target_image(BLOCKS).await;
    let expired = Fault::new(403, "ExpiredTokenException");
    rig.ec2.faults().from_block = Some((20, expired));
    let id = rig.order(&target, json!({})).await;
    // The cleanup's own calls are not blocks, so the keys still open what they have to.
    rig.check_failure((&target, id), ("user-request", &["new temporary credentials"])).await;
    assert!(rig.ec2.world().blocks_taken >= 20, "it was in mid-upload");
    assert_eq!(rig.ec2.world().registered.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn storms_of_throttles_and_unavailability_are_waited_out() {
    let rig = Rig::start();
    let target = rig.target_image(BLOCKS).await;
    {
        let mut faults = rig.ec2.faults();
        faults.plan("PutSnapshotBlock", 8, Fault::new(400, "RequestThrottledException"));
        faults.plan("PutSnapshotBlock", 8, Fault::new(429, "ThrottlingException"));
        faults.plan("PutSnapshotBlock", 8, Fault::new(503, "ServiceUnavailable"));
        faults.plan("PutSnapshotBlock", 4, Fault::new(500, "InternalServerException"));
        faults.plan("StartSnapshot", 1, Fault::new(400, "ConcurrentLimitExceededException"));
        faults.plan("CompleteSnapshot", 2, Fault::new(503, "ServiceUnavailable"));
        faults.plan("RegisterImage", 2, Fault::new(503, "RequestLimitExceeded"));
        faults.plan("DescribeImages", 2, Fault::new(503, "RequestLimitExceeded"));
        faults.plan("DescribeSnapshots", 2, Fault::new(500, "InternalError"));
    }
    rig.push(&target, json!({"ec2_upload_concurrency": 16})).await;
    assert_eq!(rig.ec2.faults().left(), 0, "all of them happened");
    rig.assert_pushed(&target);
    let world = rig.ec2.world();
    assert_eq!(world.blocks_again, 0, "a refused block was not taken");
    assert_eq!((world.started.len(), world.registered.len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_cut_anywhere_cost_a_repetition_and_nothing_else() {
    let rig = Rig::start();
    let target = rig.target_image(BLOCKS).await;
    {
        let mut faults = rig.ec2.faults();
        faults.cut_each = Some(7);
        faults.swallow_each = Some(11);
    }
    rig.push(&target, json!({})).await;
    rig.assert_pushed(&target);
    let world = rig.ec2.world();
    assert!(world.blocks_again > 0, "some answers were swallowed");
    assert_eq!((world.started.len(), world.registered.len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn quotas_are_said_by_name_and_nothing_stays() {
    let rig = Rig::start();
    let target = rig.target_image(6).await;
    for (action, status, code) in [
        ("StartSnapshot", 402, "ServiceQuotaExceededException"),
        ("StartSnapshot", 400, "PendingSnapshotLimitExceeded"),
        ("RegisterImage", 400, "SnapshotLimitExceeded"),
        ("CopyImage", 400, "ResourceLimitExceeded"),
    ] {
        rig.ec2.faults().plan(action, 1, Fault::new(status, code));
        let id = rig.order(&target, json!({"ec2_copy_regions": "eu-west-1"})).await;
        rig.check_failure((&target, id), ("user-request", &[action, code, "higher quota"])).await;
        assert_eq!(rig.ec2.faults().left(), 0, "{action} was called");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_rights_name_the_call_and_where_the_rights_are_listed() {
    let rig = Rig::start();
    let target = rig.target_image(4).await;
    rig.ec2.faults().plan("RegisterImage", 1, Fault::new(403, "UnauthorizedOperation"));
    let id = rig.order(&target, json!({})).await;
    let wanted = ("user-request", &["RegisterImage", "UnauthorizedOperation", "README"][..]);
    rig.check_failure((&target, id), wanted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn data_that_arrives_damaged_is_sent_again_and_given_up_at_last() {
    let rig = Rig::start();
    let target = rig.target_image(6).await;
    rig.ec2.faults().plan("PutSnapshotBlock", 2, Fault::new(400, "InvalidChecksum"));
    rig.push(&target, json!({})).await;
    rig.assert_pushed(&target);
    let rig = Rig::start();
    let target = rig.target_image(6).await;
    // What no repetition mends.
    rig.ec2.faults().from_block = Some((2, Fault::new(400, "ValidationException")));
    let id = rig.order(&target, json!({})).await;
    let wanted = ("user-request", &["block ", "ValidationException"][..]);
    rig.check_failure((&target, id), wanted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_clock_is_made_up_for_and_told_of() {
    let rig = Rig::start();
    let target = rig.target_image(4).await;
    for ahead_s in [3700, -4000] {
        rig.ec2.faults().set_clock(Clock { ahead_s, silent: false });
        let image = rig.push(&target, json!({})).await;
        let log = rig.log(image["id"].as_str().unwrap()).await;
        assert!(log.contains("set the clock"), "{log}");
    }
    // Who never says his time leaves only the refusal.
    rig.ec2.faults().set_clock(Clock { ahead_s: 3700, silent: true });
    let id = rig.order(&target, json!({})).await;
    let image = rig.daemon.finished(&id).await;
    assert_eq!(image["status_detail"]["error_code"], "user-request", "{image:#}");
    assert!(image["status_detail"]["error"].as_str().unwrap().contains("Signature expired"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_nobody_vouches_for_is_refused_and_a_given_authority_is_believed() {
    let certified = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(certified.signing_key.serialize_der());
    rustls::crypto::ring::default_provider().install_default().ok();
    let tls = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key.unwrap())
        .unwrap();
    let rig = Rig::start_with(StrictEc2::start_tls(tls));
    let target = rig.target_image(2).await;
    let id = rig.order(&target, json!({})).await;
    let wanted = ("plugin-error", &["the certificate of 127.0.0.1", "authority"][..]);
    rig.check_failure((&target, id), wanted).await;
    let mut provider = rig.provider();
    provider["ca_certificates"] = json!(certified.cert.pem());
    let id = rig.order_with(&target, (provider, credentials()), json!({})).await;
    let image = rig.daemon.finished(&id).await;
    assert_eq!(image["status"], "COMPLETE", "{image:#}");
    rig.assert_pushed(&target);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_without_an_address_and_ports_without_a_listener_are_said() {
    let rig = Rig::start();
    let target = rig.target_image(1).await;
    for (endpoint, sentence) in [
        ("http://ec2.nowhere.invalid", "ec2.nowhere.invalid"),
        ("http://127.0.0.1:1", "nothing listens at 127.0.0.1:1"),
    ] {
        let provider = json!({"name": "ec2-us-east-1", "endpoint": endpoint});
        let id = rig.order_with(&target, (provider, credentials()), json!({})).await;
        let image = rig.daemon.finished(&id).await;
        assert_eq!(image["status_detail"]["error_code"], "plugin-error", "{image:#}");
        let error = image["status_detail"]["error"].as_str().unwrap();
        assert!(error.contains(sentence), "{error}");
    }
    rig.ec2.assert_empty();
    rig.assert_secrets_kept();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_push_leaves_nothing() {
    let rig = Rig::start();
    let target = rig.target_image(BLOCKS).await;
    rig.ec2.faults().latency = Duration::from_millis(100);
    let id = rig.order(&target, json!({})).await;
    rig.ec2.wait_until("some blocks are there", |world| world.blocks_taken >= 8);
    let path = format!("/imagefactory/provider_images/{id}/cancel");
    let answer = rig.daemon.post(&path, &json!({})).await;
    assert!(answer.status().is_success(), "{}", answer.status());
    rig.check_failure((&target, id), ("cancelled", &[])).await;
    assert!(rig.ec2.world().blocks_taken < u64::from(BLOCKS), "it was in mid-upload");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_taken_fails_the_push_and_keeps_the_other_image() {
    let rig = Rig::start();
    let target = rig.target_image(2).await;
    let first = rig.push(&target, json!({"ec2_name": "taken"})).await;
    let id = rig.order(&target, json!({"ec2_name": "taken"})).await;
    let image = rig.daemon.finished(&id).await;
    assert_eq!(image["status_detail"]["error_code"], "user-request", "{image:#}");
    assert!(image["status_detail"]["error"].as_str().unwrap().contains("another ec2_name"));
    rig.ec2.wait_until("only the first is left", |world| world.snapshots.len() == 1);
    let world = rig.ec2.world();
    assert_eq!(
        world.images.keys().next().unwrap(),
        first["identifier_on_provider"].as_str().unwrap()
    );
}
