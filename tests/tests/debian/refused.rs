//! Templates that must fail, each with the sentence that says why.

use std::time::Duration;

use imagefactory_dispatch::requests::{NewBaseImage, OrderOptions};
use imagefactory_model::status::Status;
use imagefactory_plugin_sdk::payload::template::TemplateSource;
use imagefactory_tests::factory::Factory;
use imagefactory_tests::file_server::FileServer;
use serde_json::{Value, json};

use super::repository::SigningKey;
use super::{BOOKWORM, build, is_long_run};

async fn check_fails(factory: &Factory, template: &str, parameters: Value, says: &[&str]) {
    let image = build(factory, template, parameters).await;
    assert_eq!(image.status, Status::Failed, "{template}");
    let error = image.status_detail.error.unwrap_or_default();
    for words in says {
        assert!(error.contains(words), "no '{words}' in: {error}");
    }
    assert!(image.body.is_none());
}

fn with(element: &str) -> String {
    BOOKWORM.replace("<packages>", &format!("{element}<packages>"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_template_asks_for_in_vain_is_named() {
    if !is_long_run() {
        return;
    }
    let factory = Factory::start_with_debian().await;
    let check = |template: String, says: &'static [&'static str]| {
        let factory = &factory;
        async move { check_fails(factory, &template, json!({}), says).await }
    };
    check(
        BOOKWORM.replace("'less'", "'no-such-package-anywhere'"),
        &["there is no package 'no-such-package-anywhere'", "look for its name in this release"],
    )
    .await;
    check(BOOKWORM.replace("'less'", "'-oAPT::x=y'"), &["no name of a package"]).await;
    check(BOOKWORM.replace("<version>12", "<version>99"), &["11, 12, 13"]).await;
    check(BOOKWORM.replace("x86_64", "aarch64"), &["DebianOS builds x86_64", "qemu-user"]).await;
    let small = "</os><disk><size>5 MiB</size></disk>";
    check(BOOKWORM.replace("</os>", small), &["too small", "1 GiB"]).await;
    let binary = BOOKWORM.replace("name='/etc/motd'>", "name='/etc/motd' type='base64'>");
    check(binary, &["base64"]).await;
    let boot = "</rootpw><kernelparam>quiet; halt</kernelparam>";
    check(BOOKWORM.replace("</rootpw>", boot), &["kernelparam"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn repositories_that_cannot_be_used_are_named() {
    if !is_long_run() {
        return;
    }
    let factory = Factory::start_with_debian().await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gone = format!(
        "<repositories><repository name='gone'><url>http://{nobody}/debian sid main</url>\
         </repository></repositories>"
    );
    check_fails(&factory, &with(&gone), json!({}), &["http://127.0.0.1", "/debian"]).await;
    let install = BOOKWORM.replace("http://debian.example/debian", &format!("http://{nobody}/x"));
    check_fails(&factory, &install, json!({}), &["asking the repository", "is its url right"])
        .await;

    // Signed by Debian, and the template expects somebody else.
    let other = SigningKey::new().public();
    let keys = json!({"fresh": true, "repository_keys": {"install": other}});
    check_fails(&factory, BOOKWORM, keys, &["the repository", "cannot be used", "key"]).await;
    let keys = json!({"repository_keys": {"nobody": other}});
    check_fails(&factory, BOOKWORM, keys, &["repository_keys", "'nobody'", "there are install"])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn contents_behind_urls_are_refused_where_they_lead_inside_and_where_they_are_not() {
    if !is_long_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("long"), vec![b'x'; 2 << 20]).unwrap();
    let server = FileServer::serve(folder.path());
    let public = "http://files.example";
    let mapped = server.url();
    let factory = Factory::start_with_debian_and(|configuration| {
        let mirrors = &mut configuration.public_settings["mirrors"];
        mirrors[public] = json!(mapped);
        let settings = json!({"url_bytes_max": 1 << 20}).as_object().cloned().unwrap();
        configuration.plugin_settings.insert("DebianOS".to_owned(), settings);
    })
    .await;
    let file = |url: &str| {
        with(&format!("<files><file name='/etc/x' type='url'>{url}</file></files>"))
            .replace("<files><file name='/etc/motd'>made by a test</file></files>", "")
    };
    let check = |url: String, says: &'static [&'static str]| {
        let (factory, template) = (&factory, file(&url));
        async move { check_fails(factory, &template, json!({}), says).await }
    };
    check(format!("{mapped}/long"), &["private address 127.0.0.1", "mirrors"]).await;
    check(format!("{public}/to/http://169.254.169.254/key"), &["private address"]).await;
    check(format!("{public}/missing"), &["the file '/etc/x'", "404"]).await;
    check(format!("{public}/long"), &["longer than 1048576 bytes"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_fail_or_hang_end_the_build_with_their_name_and_last_lines() {
    if !is_long_run() {
        return;
    }
    let factory = Factory::start_with_debian().await;
    let command = |script: &str| {
        BOOKWORM.replace("echo marked > /etc/marked", &format!("<![CDATA[{script}]]>"))
    };
    let fails = command("echo what went wrong >&2; exit 1");
    check_fails(&factory, &fails, json!({}), &["command 'mark'", "what went wrong"]).await;

    let new = NewBaseImage {
        template: command("sleep 86423 & echo begun; sleep 86423"),
        options: OrderOptions::from(TemplateSource::Rest),
    };
    let image = factory.dispatcher.build_base_image(new).await.expect("it is taken").image;
    let begun = factory.wait_within(image.id, Duration::from_secs(1800), |image| {
        image.status_detail.activity.contains("the command mark")
    });
    begun.await;
    factory.dispatcher.cancel(image.id).await.expect("it can be cancelled");
    let image = factory.finished_within(image.id, Duration::from_secs(60)).await;
    assert_eq!(image.status, Status::Failed);
    let error = image.status_detail.error.unwrap_or_default();
    assert!(error.contains("cancel"), "{error}");
    let sleeping = std::process::Command::new("pgrep").args(["-f", "^sleep 86423$"]).output();
    assert_eq!(String::from_utf8_lossy(&sleeping.unwrap().stdout), "", "left running");
}
