//! The command line on a store of its own: what scripts read of it, and what it leaves behind.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a panic is how a test says that it failed; nothing of this is shipped"
)]

mod cli_rig;

use std::path::Path;

use cli_rig::{Answer, Home};
use serde_json::{Value, json};

/// Standard output with ids and paths of this run replaced.
fn golden(home: &Home, answer: &Answer) -> String {
    let mut text = answer.stdout.replace(home.folder.path().to_str().unwrap(), "HOME");
    text = text.replace(&answer.value("UUID"), "ID");
    text
}

#[test]
fn a_build_ends_with_the_lines_that_scripts_parse() {
    let home = Home::new();
    let answer = home.run(&["base_image", &home.template()]);
    assert_eq!(answer.status, 0, "{answer:?}");
    assert_eq!(
        golden(&home, &answer),
        "\n============ Final Image Details ============\nUUID: ID\nType: base_image\n\
         Image filename: HOME/storage/ID.body\nImage build completed SUCCESSFULLY!\n"
    );
    let id = answer.value("UUID");
    let meta = home.meta(&id);
    assert_eq!(meta["type"], "BaseImage");
    assert_eq!(meta["identifier"], id.as_str());
    assert_eq!(meta["data"], answer.value("Image filename").as_str());
    assert_eq!(meta["status"], "COMPLETE");
    assert_eq!(meta["percent_complete"], 100);
    for key in ["template", "icicle", "status_detail", "parameters", "properties"] {
        assert!(meta.get(key).is_some(), "{key} in {meta}");
    }
    assert!(home.path("storage").join(format!("{id}.body")).is_file());
    home.check_nothing_left_behind();
}

#[test]
fn a_failed_build_says_so_in_its_last_line_and_its_status() {
    let home = Home::new();
    let parameter = ["--parameter", "mock_fail", "the mock is broken"];
    let answer = home.run(&[&["base_image"], &parameter[..], &[&home.template()]].concat());
    assert_eq!(answer.status, 1, "{answer:?}");
    let golden = golden(&home, &answer);
    let start = "\n============ Final Image Details ============\nUUID: ID\nType: base_image\n\
                 Image filename: HOME/storage/ID.body\nImage build FAILED with error: ";
    assert!(golden.starts_with(start), "{golden}");
    assert!(golden.contains("the mock is broken"), "{golden}");
    assert_eq!(home.meta(&answer.value("UUID"))["status"], "FAILED");
}

#[test]
fn a_provider_image_by_template_tells_its_id_on_the_provider() {
    let home = Home::new();
    let credentials = home.write("credentials.xml", "<secret>canary-71</secret>\n");
    let arguments =
        ["provider_image", "mock", &home.provider(), &credentials, "--template", &home.template()];
    let answer = home.run(&arguments);
    assert_eq!(answer.status, 0, "{answer:?}");
    let identifier = answer.value("Image ID on provider");
    assert!(
        golden(&home, &answer).ends_with(&format!(
            "Type: provider_image\nImage filename: HOME/storage/ID.body\n\
             Image ID on provider: {identifier}\nImage build completed SUCCESSFULLY!\n"
        )),
        "{answer:?}"
    );
    let images = home.json(&["images", "{}"]);
    let types: Vec<&Value> =
        images["images"].as_array().unwrap().iter().map(|image| &image["type"]).collect();
    assert_eq!(types, ["BaseImage", "TargetImage", "ProviderImage"]);
    assert!(!format!("{answer:?}").contains("canary"), "{answer:?}");
    home.check_nowhere("canary-71", credentials.as_ref());
    home.check_nothing_left_behind();
}

#[test]
fn a_chain_by_ids_is_built_step_by_step_and_deleted_again() {
    let home = Home::new();
    let base = home.base_image();
    let target = home.run(&["target-image", "mock", "--id", &base]);
    assert_eq!(target.status, 0, "{target:?}");
    let target = target.value("UUID");
    assert_eq!(home.meta(&target)["base_image_id"], base.as_str());
    let provider_file = home.write("provider.json", &home.provider()[1..]);
    let provider = home.run(&["provider_image", "mock", &provider_file, "@mock", "--id", &target]);
    assert_eq!(provider.status, 0, "{provider:?}");
    let provider = provider.value("UUID");

    let deleted = home.run(&["delete", &provider]);
    assert_eq!(
        (deleted.status, deleted.stdout),
        (0, format!("Deleting image with id {provider}\n"))
    );
    assert_eq!(home.json(&["images", &json!({"identifier": provider}).to_string()]), json!({}));
    let ledger = std::fs::read_to_string(home.path("ledger/ledger")).unwrap();
    assert!(ledger.lines().any(|line| line.starts_with("remove ")), "{ledger}");
    assert!(!home.path("storage").join(format!("{provider}.meta")).exists());
    let again = home.run(&["delete", &provider]);
    assert_eq!(again.status, 1);
    assert_eq!(again.stderr, format!("imagefactory: there is no image {provider}\n"));
}

#[test]
fn a_snapshot_build_makes_no_target_image() {
    let home = Home::new();
    let (provider, template) = (home.provider(), home.template());
    let arguments = ["provider_image", "mock", &provider, "@mock", "--template", &template];
    let answer = home.run(&[&arguments[..], &["--snapshot"]].concat());
    assert_eq!(answer.status, 0, "{answer:?}");
    let image = home.json(&["images", "{}"]);
    assert_eq!(image["target_image_id"], Value::Null, "one image, and so the document itself");
    assert_eq!(image["parameters"]["snapshot"], true);
}

#[test]
fn a_json_run_writes_one_document_and_nothing_else() {
    let home = Home::new();
    let document = home.json(&["base_image", &home.template()]);
    assert_eq!(document["status"], "COMPLETE");
    let id = document["identifier"].as_str().unwrap();
    assert_eq!(document, home.meta(id), "the document is that of the .meta file");
    let raw = home.run(&["--output", "json", "--raw", "images", "{}"]);
    assert_eq!(raw.stdout.lines().count(), 1, "{raw:?}");
    assert_eq!(raw.json(), document);
}

#[test]
fn images_are_found_by_what_their_metadata_says() {
    let home = Home::new();
    let (first, second) = (home.base_image(), home.base_image());
    let all = home.json(&["images", r#"{"type": "BaseImage"}"#]);
    let ids: Vec<&Value> =
        all["images"].as_array().unwrap().iter().map(|image| &image["identifier"]).collect();
    assert_eq!(ids, [&first, &second]);
    assert_eq!(home.json(&["images", r#"{"status": "FAILED"}"#]), json!({}));
    assert_eq!(home.json(&["images", r#"{"nonsense": 1}"#]), json!({}));
    let one =
        home.json(&["images", &json!({"identifier": second, "status": "COMPLETE"}).to_string()]);
    assert_eq!(one["identifier"], second.as_str());
    let lines = home.run(&["images", "{}"]);
    assert_eq!(lines.stdout.lines().count(), 2);
    assert!(lines.stdout.starts_with(&format!("{first}  base_image      COMPLETE")), "{lines:?}");
}

#[test]
fn parameters_come_from_files_and_flags_and_get_the_declared_types() {
    let home = Home::new();
    let file = home.write("parameters.json", r#"{"mock_steps": 2, "mock_duration_ms": 5}"#);
    let script = home.write("kickstart", "a script\n");
    let document = home.json(&[
        "base_image",
        "--parameters",
        &file,
        "--parameter",
        "mock_steps",
        "3",
        "--file-parameter",
        "install_script",
        &script,
        "--parameter",
        "generate_icicle",
        "true",
        &home.template(),
    ]);
    assert_eq!(
        document["parameters"],
        json!({"mock_steps": 3, "mock_duration_ms": 5, "install_script": "a script\n",
            "generate_icicle": "true"})
    );
}

#[test]
fn wrong_use_is_status_2_and_names_the_mistake() {
    let home = Home::new();
    let template = home.template();
    check_refused(&home, &["base_image"], 2, "<TEMPLATE>");
    check_refused(&home, &["target_image", "mock"], 2, "--id <UUID>");
    let both = ["target_image", "mock", "--id", &"1".repeat(32), "--template", &template];
    check_refused(&home, &both, 2, "cannot be used with");
    check_refused(&home, &["delete", "no-uuid"], 2, "no-uuid");
    check_refused(&home, &["images", "["], 2, r#"{"type": "BaseImage"}"#);
    check_refused(&home, &["--output", "yaml", "plugins"], 2, "log, json");
    check_refused(&home, &["--oauth-key", "k", "plugins"], 2, "--url");
    let parameters = home.write("parameters.json", "[]");
    check_refused(
        &home,
        &["base_image", "--parameters", &parameters, &template],
        2,
        "no JSON object",
    );
    let callbacks = ["--parameter", "callbacks", r#"["ftp://h"]"#];
    check_refused(&home, &[&["base_image", &template], &callbacks[..]].concat(), 2, "http");
    assert_eq!(home.json(&["images", "{}"]), json!({}), "nothing was ordered");
}

#[test]
fn what_cannot_be_done_is_status_1_and_one_sentence() {
    let home = Home::new();
    let (template, provider) = (home.template(), home.provider());
    let id = "6a1a9a60-0000-4000-8000-000000000000";
    check_refused(
        &home,
        &["base_image", "/no/such.tdl"],
        1,
        "cannot read the template /no/such.tdl: No",
    );
    check_refused(&home, &["target_image", "moon", "--template", &template], 1, "mocksphere");
    check_refused(&home, &["target_image", "mock", "--id", id], 1, "there is no image");
    check_refused(&home, &["logs", id], 1, "there is no image");
    check_refused(&home, &["cancel", id], 1, "there is no image");
    check_refused(&home, &["watch", id], 1, "there is no image");
    check_refused(&home, &["plugins", "--id", "Nobody"], 1, "there are MockCloud, MockOS");
    let push = ["provider_image", "mock", &provider, "@nobody", "--template", &template];
    check_refused(&home, &push, 1, "no credentials named '@nobody'");
    let push = ["provider_image", "mock", "us-east-1", "@mock", "--template", &template];
    check_refused(&home, &push, 1, "written with '@' before it");
    check_refused(&home, &["--config", "/no/such.conf", "plugins"], 2, "--config");
    assert_eq!(home.json(&["images", "{}"]), json!({}), "nothing was ordered");
}

fn check_refused(home: &Home, arguments: &[&str], status: i32, text: &str) {
    let answer = home.run(arguments);
    assert_eq!(answer.status, status, "{arguments:?}: {answer:?}");
    assert_eq!(answer.stdout, "", "{arguments:?}");
    assert!(answer.stderr.contains(text), "{arguments:?}: {answer:?}");
    if status == 1 {
        assert_eq!(answer.stderr.lines().count(), 1, "{arguments:?}: {answer:?}");
        assert!(answer.stderr.starts_with("imagefactory: "), "{arguments:?}: {answer:?}");
    }
}

#[test]
fn progress_is_one_line_a_change_on_standard_error() {
    let home = Home::new();
    let answer = home.run(&["base_image", &home.template()]);
    let id = answer.value("UUID");
    let lines: Vec<&str> = answer.stderr.lines().collect();
    let statuses: Vec<&str> = lines
        .iter()
        .filter_map(|line| line.strip_prefix(&format!("base_image {id}: ")))
        .filter_map(|rest| rest.split(' ').next())
        .collect();
    assert_eq!(statuses.len(), lines.len(), "nothing else is written: {lines:?}");
    assert!(!lines.windows(2).any(|pair| pair[0] == pair[1]), "{lines:?}");
    let mut order = statuses.clone();
    order.dedup();
    // One that lasts no time may go unseen; none is seen out of order, and the last one always is.
    let mut life = ["NEW", "PENDING", "BUILDING", "COMPLETE"].iter();
    assert!(order.iter().all(|status| life.any(|next| next == status)), "{lines:?}");
    assert_eq!(order.last(), Some(&"COMPLETE"), "{lines:?}");
}

#[test]
fn a_verbose_build_shows_its_log() {
    let home = Home::new();
    let answer = home.run(&["--debug", "base_image", &home.template()]);
    assert_eq!(answer.status, 0, "{answer:?}");
    let log = home.run(&["logs", &answer.value("UUID")]);
    assert!(!log.stdout.is_empty());
    for line in log.stdout.lines() {
        assert!(answer.stderr.contains(line), "{line} in {}", answer.stderr);
    }
    assert!(log.stdout.contains("create_base_image"), "{log:?}");
}

#[test]
fn an_imported_image_is_a_complete_base_image() {
    let home = Home::new();
    let disk = home.write("disk.img", &"x".repeat(4096));
    let template = home.template();
    let answer = home.run(&["import_base_image", &disk, "--template", &template]);
    assert_eq!(answer.status, 0, "{answer:?}");
    assert!(answer.stdout.ends_with("Image build completed SUCCESSFULLY!\n"), "{answer:?}");
    let id = answer.value("UUID");
    assert_eq!(std::fs::read(answer.value("Image filename")).unwrap().len(), 4096);
    assert_eq!(home.meta(&id)["status"], "COMPLETE");
    let target = home.run(&["target_image", "mock", "--id", &id]);
    assert_eq!(target.status, 0, "{target:?}");
}

#[test]
fn an_image_that_needs_another_file_is_not_imported() {
    let home = Home::new();
    let mut header = b"QFI\xfb\0\0\0\x03".to_vec();
    header.extend(1024_u64.to_be_bytes()); // where its backing file's name stands
    header.resize(4096, 0);
    std::fs::write(home.path("disk.qcow2"), header).unwrap();
    let disk = home.path("disk.qcow2");
    check_refused(&home, &["import_base_image", disk.to_str().unwrap()], 2, "has a backing file");
}

#[test]
fn templates_are_judged_without_a_build() {
    let home = Home::new();
    let good = home.run(&["template", "check", &home.template()]);
    assert_eq!(good.status, 0, "{good:?}");
    assert!(good.stdout.ends_with(": MockOS_A 1 x86_64, built by MockOS\n"), "{good:?}");
    let broken = home.write("broken.tdl", "<template>\n  <nome/>\n</template>\n");
    let bad = home.run(&["template", "check", &broken]);
    assert_eq!(bad.status, 1, "{bad:?}");
    assert!(bad.stdout.contains(&format!("{broken}:2:")), "{bad:?}");
    let foreign = home
        .write("foreign.tdl", &imagefactory_tests::factory::TDL_MOCK.replace("MockOS_A", "Plan9"));
    let bad = home.run(&["--output", "json", "template", "check", &foreign]);
    assert_eq!(bad.status, 1, "{bad:?}");
    assert_eq!(bad.json()["valid"], false);
    assert!(bad.json()["error"].as_str().is_some_and(|why| why.contains("Plan9")), "{bad:?}");
    assert!(!home.path("storage").exists(), "no store is needed");
}

#[test]
fn plugins_are_listed_with_what_they_serve() {
    let home = Home::new();
    home.write("plugins.d/Broken.json", "{");
    let lines = home.run(&["plugins"]);
    assert_eq!(lines.status, 0, "{lines:?}");
    assert_eq!(lines.stderr, "", "{lines:?}");
    let row = |id: &str| {
        let line = lines.stdout.lines().find(|line| line.starts_with(id)).unwrap().to_owned();
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(row("MockCloud")[..5], ["MockCloud", "cloud", "2.0.0", "active", "mock"]);
    assert_eq!(row("Broken")[1], "inactive");
    let one = home.json(&["plugins", "--id", "MockOS"]);
    assert_eq!((&one["id"], &one["active"]), (&json!("MockOS"), &json!(true)));
    assert_eq!(home.json(&["plugins"])["MockOS"], one);
}

#[test]
fn a_store_of_a_newer_schema_is_refused_with_a_sentence() {
    let home = Home::new();
    home.base_image();
    let database = home.path("storage/imagefactory.sqlite");
    raise_schema(&database);
    for arguments in [&["images", "{}"][..], &["base_image", &home.template()]] {
        let answer = home.run(arguments);
        assert_eq!(answer.status, 1, "{answer:?}");
        assert!(answer.stderr.contains("was written by a newer Image Factory"), "{answer:?}");
        assert_eq!(answer.stderr.lines().count(), 1, "{answer:?}");
    }
}

/// As a later version's migrations would.
fn raise_schema(database: &Path) {
    use sqlx::Connection;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let address = format!("sqlite:{}", database.display());
        let mut connection = sqlx::SqliteConnection::connect(&address).await.unwrap();
        sqlx::query(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
             VALUES (999, 'from the future', 1, x'00', 0)",
        )
        .execute(&mut connection)
        .await
        .unwrap();
        connection.close().await.unwrap();
    });
}
