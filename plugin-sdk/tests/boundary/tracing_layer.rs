//! `tracing` events in the stage's log.

use imagefactory_plugin_sdk::abi::*;
use imagefactory_plugin_sdk::author::tracing::HostLayer;
use imagefactory_plugin_sdk::author::{Host, OsPlugin, Plugin, Result, Stage};
use imagefactory_plugin_sdk::os_plugin;
use tracing_subscriber::layer::SubscriberExt;

use crate::fake_host::{FakeHost, Line, PluginInstance, StageTexts};

struct Talkative {
    host: Host,
}

impl Plugin for Talkative {
    const ID: &'static str = "Talkative";
    const VERSION: &'static str = "1.0.0";

    fn create(host: Host) -> Result<Talkative> {
        Ok(Talkative { host })
    }
}

impl OsPlugin for Talkative {
    fn create_base_image(&self, _stage: &Stage<'_>) -> Result<()> {
        let layer = HostLayer::new(self.host.clone());
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            let span =
                tracing::info_span!("install", package = "glibc", size = tracing::field::Empty);
            let _entered = span.enter();
            span.record("size", 12u64);
            tracing::warn!(code = 3, ratio = f64::NAN, quoted = "a \"b\"", "odd {}", "thing");
        });
        Ok(())
    }
}

#[test]
fn an_event_becomes_a_line_with_its_fields_and_spans() {
    let host = FakeHost::new();
    let instance = PluginInstance::create(os_plugin!(Talkative), &host).unwrap();
    let os: &imgf_os_v1 = instance.table(IMGF_IFACE_OS_V1).unwrap();
    assert_eq!(instance.run(os.create_base_image, &StageTexts::new()), IMGF_OK);
    let fields = concat!(
        r#"{"code":3,"ratio":"NaN","quoted":"a \"b\"","target":"boundary::tracing_layer","#,
        r#""spans":[{"name":"install","fields":{"package":"glibc","size":12}}]}"#
    );
    let line = Line {
        level: IMGF_LOG_WARN,
        message: "odd thing".to_owned(),
        fields_json: Some(fields.to_owned()),
    };
    assert_eq!(host.record().lines, [line]);
}
