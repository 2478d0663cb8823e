//! schemathesis against the served OpenAPI document: no failure of any check, within a minute.
//!
//! Two runs: all operations with ids of nobody, and all reads with the ids of a finished cascade,
//! so that documents of real images are held against their schemas. The environment is made by
//! `tests/clients/make-venv`. The seed is fixed in
//! `make test` and new in `make test-long`; the output names it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test says that it failed"
)]

mod clients_rig;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use clients_rig::{file, run, text};
use imagefactory_tests::daemon::{Daemon, Setup};
use imagefactory_tests::factory::TDL_MOCK;
use serde_json::json;

/// Both runs together stay below a minute on two cores.
const SECONDS: [&str; 2] = ["30", "20"];

/// The time of a run is a time to stop at, not to be done by.
const PATIENCE: Duration = Duration::from_secs(180);

fn schemathesis(daemon: &Daemon, configuration: &str, seconds: &str, arguments: &[&str]) {
    let venv = Command::new(file("make-venv")).output().unwrap();
    assert!(venv.status.success(), "{}", String::from_utf8_lossy(&venv.stderr));
    let venv = String::from_utf8(venv.stdout).unwrap();
    let program = Path::new(venv.trim()).join("bin/st");
    let path = daemon.folder.path().join("schemathesis.toml");
    std::fs::write(&path, configuration).unwrap();
    let url = format!("{}/imagefactory/openapi.json", daemon.url());
    let mut all = vec!["--no-color", "--config-file", path.to_str().unwrap(), "run", &url];
    all.extend(["--phases", "examples,coverage,fuzzing", "--max-time", seconds]);
    all.extend(["--continue-on-failure", "--request-timeout", "20"]);
    // The same questions each day; `make test-long` asks new ones.
    if std::env::var_os("IMAGEFACTORY_TEST_LONG").is_none() {
        all.extend(["--seed", "2012"]);
    }
    all.extend(arguments);
    let ran = run(&program, &all, "", PATIENCE);
    assert!(ran.success, "{}\n{}", ran.stdout, ran.stderr);
    // Nothing selected would be no failure either.
    assert!(ran.stdout.contains("No issues found"), "{}", ran.stdout);
    let log = daemon.log();
    assert!(!log.contains("panicked"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_no_fault_in_what_the_document_says() {
    let daemon = Daemon::start();
    schemathesis(&daemon, &text("schemathesis.toml"), SECONDS[0], &["--exclude-path", "/metrics"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_no_fault_in_documents_of_finished_images() {
    let daemon = Setup::default().start();
    daemon.wait_for_log("active plugin=MockCloud");
    let order = json!({"provider_image": {
        "target": "mock", "provider": {"ledger": daemon.ledger()}, "credentials": "x",
        "template": TDL_MOCK,
    }});
    let provider = daemon.order("/imagefactory/provider_images", &order).await;
    let provider = daemon.finished(provider["id"].as_str().unwrap()).await;
    let target = daemon.image(provider["target_image_id"].as_str().unwrap()).await.unwrap();
    let (p, t) = (provider["id"].as_str().unwrap(), target["id"].as_str().unwrap());
    let b = target["base_image_id"].as_str().unwrap();
    let mut configuration = text("schemathesis.toml");
    configuration.push_str(&format!(
        "[parameters]\nbase_image_id = \"{b}\"\ntarget_image_id = \"{t}\"\nplugin_id = \"MockOS\"\n\
         again = \"MockOS\"\ntarget = \"mock\"\n"
    ));
    for (collection, id) in [("base_images", b), ("target_images", t), ("provider_images", p)] {
        configuration.push_str(&format!(
            "[[operations]]\ninclude-path-regex = \"{collection}/[{{]id\"\n\
             parameters = {{ id = \"{id}\" }}\n"
        ));
    }
    schemathesis(&daemon, &configuration, SECONDS[1], &["--include-method", "GET"]);
}
