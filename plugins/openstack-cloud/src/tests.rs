//! OpenStackCloud as the runner meets it, on a fake host, against a strict stub of our own where
//! no real service can be had: Nova. What Keystone and Glance do is tested with the real ones
//! (tests/tests/cloud_openstack.rs).

use std::path::Path;
use std::sync::{Arc, Mutex};

use imagefactory_plugin_sdk::abi::*;
use serde_json::{Value, json};

use crate::OpenStackCloud;
use crate::fake_host::{FakeHost, PluginInstance, StageTexts, check_manifest};
use crate::server::{Act, Seen, Server, answer};

const STAGE: &str = "11111111-2222-4333-8444-555555555555";
const IMAGE: &str = "aaaaaaaa-2222-4333-8444-555555555555";
const SERVER: &str = "bbbbbbbb-2222-4333-8444-555555555555";

fn openstack_cloud() -> &'static imgf_plugin {
    imagefactory_plugin_sdk::cloud_plugin!(OpenStackCloud)
}

/// A cloud with one server, `SERVER`. It refuses what the real ones refuse: a request without the
/// token, an unknown path, a createImage that is not exactly one.
struct Stub {
    server: Server,
    images: Arc<Mutex<Vec<Value>>>,
}

impl Stub {
    /// `in_body`: Nova names the image as from microversion 2.45 on, else as before it.
    fn start(in_body: bool) -> Stub {
        let images: Arc<Mutex<Vec<Value>>> = Arc::default();
        let kept = images.clone();
        let server = Server::start(move |_, seen| {
            let mut images = kept.lock().unwrap();
            match (seen.method.as_str(), seen.path.as_str()) {
                ("POST", "/v3/auth/tokens") => token(seen),
                _ if !seen.head.to_lowercase().contains("x-auth-token: a-token\r\n") => {
                    answer(401, "")
                }
                ("POST", path) if path == format!("/compute/v2.1/servers/{SERVER}/action") => {
                    images.push(json!({ "id": IMAGE, "status": "active", "size": 5,
                        "imagefactory_stage_id": STAGE }));
                    created(in_body)
                }
                ("POST", path) if path.ends_with("/action") => {
                    answer(404, r#"{"itemNotFound":{"message":"Instance could not be found."}}"#)
                }
                ("GET", path) if path.starts_with("/v2/images?imagefactory_stage_id=") => {
                    assert!(path.ends_with(STAGE), "{path}");
                    answer(200, &json!({ "images": *images }).to_string())
                }
                ("GET", path) if path == format!("/v2/images/{IMAGE}") => match images.first() {
                    Some(image) => answer(200, &image.to_string()),
                    None => answer(404, ""),
                },
                ("DELETE", path) if path == format!("/v2/images/{IMAGE}") => {
                    images.clear();
                    answer(204, "")
                }
                (method, path) => answer(400, &format!("no {method} {path} here")),
            }
        });
        Stub { server, images }
    }

    fn actions(&self) -> Vec<Seen> {
        let seen = self.server.seen();
        seen.into_iter().filter(|seen| seen.path.ends_with("/action")).collect()
    }
}

fn token(seen: &Seen) -> Act {
    let host = seen.head.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let endpoint = |path: &str| {
        let url = format!("http://{host}{path}");
        json!([{ "interface": "public", "region": "one", "url": url }])
    };
    let body = json!({ "token": {
        "project": { "id": "a-project", "name": "lab" },
        "catalog": [
            { "type": "compute", "endpoints": endpoint("/compute/v2.1") },
            { "type": "image", "endpoints": endpoint("") },
        ],
    } });
    Act::Answer(201, "x-subject-token: a-token\r\n".to_owned(), body.to_string().into_bytes())
}

fn created(in_body: bool) -> Act {
    if in_body {
        return answer(202, &json!({ "image_id": IMAGE }).to_string());
    }
    let location = format!("location: http://glance.example/images/{IMAGE}\r\n");
    Act::Answer(202, location, Vec::new())
}

struct Factory {
    stub: Stub,
    host: Box<FakeHost>,
}

impl Factory {
    fn start(in_body: bool) -> Factory {
        let host = FakeHost::new();
        let credentials = json!({ "username": "ann", "password": "pw", "project_name": "lab" });
        host.record().secrets.insert("credentials".to_owned(), credentials.to_string());
        Factory { stub: Stub::start(in_body), host }
    }

    fn stage(&self, server: &str) -> StageTexts {
        let provider = json!({ "auth_url": self.stub.server.url("") });
        StageTexts {
            target: Some("openstack".to_owned()),
            provider: Some(provider.to_string()),
            parameters_json: Some(json!({ "openstack_server_id": server }).to_string()),
            credential_name: Some("credentials".to_owned()),
            ..StageTexts::new()
        }
    }

    fn snapshot(&self, stage: &StageTexts) -> i32 {
        let instance = PluginInstance::create(openstack_cloud(), &self.host).unwrap();
        let cloud: &imgf_cloud_v1 = instance.table(IMGF_IFACE_CLOUD_V1).unwrap();
        instance.run(cloud.snapshot_image_on_provider, stage)
    }
}

#[test]
fn it_is_the_plugin_that_its_manifest_describes() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugin-manifests/OpenStackCloud.json");
    check_manifest(openstack_cloud(), &std::fs::read_to_string(path).unwrap());
}

#[test]
fn a_snapshot_is_asked_of_nova_once_whatever_form_its_answer_has() {
    for in_body in [false, true] {
        let factory = Factory::start(in_body);
        for _attempt in 0..2 {
            assert_eq!(factory.snapshot(&factory.stage(SERVER)), IMGF_OK, "{in_body}");
        }
        let actions = factory.stub.actions();
        assert_eq!(actions.len(), 1, "the second attempt takes the first one's over");
        let body: Value = serde_json::from_slice(&actions[0].body).unwrap();
        let wanted = json!({ "createImage": {
            "name": "66666666-7777-4888-9999-aaaaaaaaaaaa",
            "metadata": {
                "imagefactory_stage_id": STAGE,
                "imagefactory_image_id": "66666666-7777-4888-9999-aaaaaaaaaaaa",
            },
        } });
        assert_eq!(body, wanted);
        let results = factory.host.record().results.clone();
        assert_eq!(results["identifier_on_provider"], format!("{IMAGE:?}"));
        assert_eq!(results["provider_account_identifier"], "\"a-project\"");
    }
}

#[test]
fn cleanup_finds_a_snapshot_whose_id_nobody_recorded() {
    let factory = Factory::start(true);
    assert_eq!(factory.snapshot(&factory.stage(SERVER)), IMGF_OK);
    let journal = json!([{ "event": "will_create", "scratch": false, "token": STAGE,
        "kind": "glance-snapshot", "resource_id": null, "details": null }]);
    for _twice in 0..2 {
        let instance = PluginInstance::create(openstack_cloud(), &factory.host).unwrap();
        assert_eq!(instance.cleanup(&factory.stage(SERVER), &journal.to_string()), IMGF_OK);
        assert!(factory.stub.images.lock().unwrap().is_empty());
    }
}

#[test]
fn a_server_that_is_not_there_is_the_users_to_name() {
    let factory = Factory::start(true);
    let missing = "cccccccc-2222-4333-8444-555555555555";
    assert_eq!(factory.snapshot(&factory.stage(missing)), IMGF_E_NOT_FOUND);
    let error = factory.host.the_error();
    assert!(error.message.contains("Instance could not be found"), "{error:?}");
    assert_eq!(factory.snapshot(&factory.stage("../x")), IMGF_E_NOT_FOUND);
}
