//! The core's small JSON: what it reads, refuses, and writes.

use imagefactory_plugin_sdk::author::json::{quote, Json, Object};

fn check_refused(text: &str, at: usize) {
    assert_eq!(Json::parse(text).map_err(|error| error.at), Err(at), "{text:?}");
}

#[test]
fn documents_are_read_member_by_member() {
    let text = r#" {"a" : [1, "two", {"b":null}, []], "c":{}, "n":-0.5e+3, "t":true, "a2":"x"} "#;
    let json = Json::parse(text).unwrap();
    let a: Vec<_> = json.member("a").unwrap().elements().map(|value| value.raw()).collect();
    assert_eq!(a, ["1", "\"two\"", r#"{"b":null}"#, "[]"]);
    assert_eq!(json.member("n").unwrap().as_f64(), Some(-500.0));
    assert_eq!(json.member("n").unwrap().as_u64(), None);
    assert_eq!(json.member("t").unwrap().as_bool(), Some(true));
    assert!(json.member("c").unwrap().is_object());
    assert_eq!(json.member("c").unwrap().members().count(), 0);
    assert_eq!(json.member("absent"), None);
    assert_eq!(json.member("a2").unwrap().as_text().as_deref(), Some("x"));
    assert_eq!(json.elements().count(), 0, "an object has no elements");
}

#[test]
fn of_two_members_with_one_name_the_last_counts() {
    let json = Json::parse(r#"{"a":1,"a":2}"#).unwrap();
    assert_eq!(json.member("a").unwrap().as_u64(), Some(2));
}

#[test]
fn texts_lose_their_escapes() {
    let read = |text: &str| Json::parse(text).unwrap().as_text().unwrap();
    assert_eq!(read(r#""\"\\\/\b\f\n\r\t""#), "\"\\/\u{8}\u{c}\n\r\t");
    assert_eq!(read(r#""caf\u00e9 \ud83d\ude00""#), "café 😀");
    assert_eq!(
        read(r#""lone \ud83d and \ude00 and \ud83dx""#),
        "lone \u{fffd} and \u{fffd} and \u{fffd}x"
    );
    let key = Json::parse(r#"{"\u0061":1}"#).unwrap();
    assert_eq!(key.member("a").unwrap().as_u64(), Some(1));
}

#[test]
fn what_is_not_json_is_refused_where_it_ceases_to_be() {
    check_refused("", 0);
    check_refused("{", 1);
    check_refused("[1,]", 3);
    check_refused("[1 2]", 3);
    check_refused(r#"{"a"1}"#, 4);
    check_refused("01", 1);
    check_refused("1.", 2);
    check_refused("-", 1);
    check_refused("nul", 0);
    check_refused("\"a\nb\"", 2);
    check_refused(r#""\x""#, 2);
    check_refused(r#""\u12g4""#, 5);
    check_refused("\"open", 5);
    check_refused("{} {}", 3);
}

#[test]
fn deep_nesting_is_refused_and_not_recursed_into() {
    let deep = "[".repeat(1_000_000);
    assert!(Json::parse(&deep).is_err());
    let lawful = format!("{}{}", "[".repeat(128), "]".repeat(128));
    assert!(Json::parse(&lawful).is_ok());
}

#[test]
fn what_is_written_can_be_read_again() {
    let nasty = "quote \" backslash \\ newline \n nul \u{0} é 😀";
    assert_eq!(Json::parse(&quote(nasty)).unwrap().as_text().unwrap(), nasty);
    let text = Object::new().text(nasty, nasty).number("n", 7).bool("b", false).end();
    let json = Json::parse(&text).unwrap();
    assert_eq!(json.member(nasty).unwrap().as_text().unwrap(), nasty);
    assert_eq!(json.member("n").unwrap().as_u64(), Some(7));
    assert_eq!(Object::new().end(), "{}");
}
