//! One stage from Hello to End: what the plugin is served, what it answers, how it fails.

mod harness;

use harness::*;
use imagefactory_model::frames::*;
use imagefactory_model::stage::*;

fn built(deed: &str) -> Run {
    let bench = Bench::new();
    let library = bench.compile("builder", &[]);
    let hello = bench.hello(&library, PluginKind::Os);
    let mut order = bench.order(Operation::CreateBaseImage);
    order.template_xml = Some(deed.into());
    let run = run(hello, order);
    if run.end().is_some_and(|(code, _)| code == 0) && run.result("format").is_some() {
        assert_eq!(std::fs::read_to_string(bench.path("output/image")).unwrap(), "an image");
    }
    run
}

#[test]
fn a_base_image_is_built_and_the_end_carries_the_nonce() {
    let run = built("build");
    assert_eq!(run.ended_with(), 0);
    assert_eq!(run.result("format").unwrap(), "raw");
}

#[test]
fn describing_tells_what_the_library_is_and_creates_nothing() {
    let bench = Bench::new();
    let library = bench.compile("builder", &[]);
    let run = describe(bench.hello(&library, PluginKind::Os));
    assert_eq!(run.ended_with(), 0);
    let facts = &run.ready().facts;
    assert_eq!((facts.id.as_str(), facts.version.as_str()), ("TestPlugin", "1.2.3"));
    assert_eq!(facts.interfaces, ["imagefactory.os/1"]);
    assert_eq!(facts.operations, ["create_base_image"]);
    assert_eq!((facts.abi_compiled.as_str(), facts.abi_chosen.as_str()), ("1.0", "1.0"));
    assert_eq!(facts.sha256.len(), 64);
}
