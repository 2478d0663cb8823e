//! The guide for plugin authors shows real code.

#[test]
fn the_guide_shows_the_example_as_it_is() {
    let guide = include_str!("../../../docs/guides/plugin-authors.md");
    let example = include_str!("../../examples/hello_os.rs");
    assert!(guide.contains(&format!("```rust\n{example}```")), "copy examples/hello_os.rs there");
}
