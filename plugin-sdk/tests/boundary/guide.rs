//! The guide for plugin authors shows real code.

#[test]
fn the_guide_shows_the_example_as_it_is() {
    let guide = include_str!("../../../docs/guides/plugin-authors.md");
    let example = include_str!("../../examples/hello_os.rs");
    assert!(guide.contains(&format!("```rust\n{example}```")), "copy examples/hello_os.rs there");
}

#[test]
fn what_the_guide_shows_of_the_mock_plugins_is_in_them() {
    let guide = include_str!("../../../docs/guides/plugin-authors.md");
    let sources = [
        include_str!("../../../plugins/mock-os/src/lib.rs"),
        include_str!("../../../plugins/mock-cloud/src/lib.rs"),
    ];
    // Excerpts are marked `Rust`: highlighted alike, and no doc test, since they are not whole.
    let excerpts = guide.split("```Rust\n").skip(1);
    let excerpts: Vec<&str> = excerpts.filter_map(|text| text.split("```").next()).collect();
    assert!(excerpts.len() >= 3, "{}", excerpts.len());
    for excerpt in excerpts {
        assert!(sources.iter().any(|source| source.contains(excerpt)), "not there:\n{excerpt}");
    }
}
