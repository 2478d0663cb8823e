//! Holds docs/guides/validator.md and the table of rules together.

use std::path::Path;

use super::rules::{RULES, rule};

const BEGIN: &str = "<!-- rules: begin (made from host/imagefactory/src/plugin/rules.rs) -->\n";
const END: &str = "<!-- rules: end -->\n";

/// The table as the guide shows it.
fn table() -> String {
    let mut text = String::new();
    let mut group = ' ';
    for rule in RULES {
        let (letter, name) = rule.group();
        if letter != group {
            group = letter;
            text += &format!(
                "\n**{letter}. {}**\n\n| rule | level | | duty |\n|---|---|---|---|\n",
                capitalised(name)
            );
        }
        text += &format!("| `{}` | {} | {} | {} |\n", rule.id(), rule.level, rule.title, rule.duty);
    }
    text + "\n"
}

fn capitalised(text: &str) -> String {
    let (head, tail) = text.split_at(1);
    head.to_uppercase() + tail
}

#[test]
fn the_guide_shows_the_rules_as_they_are() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guides/validator.md");
    let guide = std::fs::read_to_string(&path).expect("docs/guides/validator.md");
    let begin = guide.find(BEGIN).expect("the mark where the table begins") + BEGIN.len();
    let end = guide.find(END).expect("the mark where the table ends");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let renewed = format!("{}{}{}", &guide[..begin], table(), &guide[end..]);
        std::fs::write(&path, renewed).expect("the guide can be written");
    } else {
        assert_eq!(guide[begin..end], table(), "run with UPDATE_GOLDEN=1 and review the change");
    }
}

#[test]
fn every_rule_has_one_number_and_needs_only_earlier_ones() {
    for (at, one) in RULES.iter().enumerate() {
        assert!(
            RULES[..at].iter().all(|other| other.number < one.number),
            "{} is out of order",
            one.id()
        );
        for need in one.needs {
            assert!(rule(*need).is_some(), "{} needs {need}, which there is not", one.id());
            assert!(*need < one.number, "{} needs a later rule", one.id());
        }
    }
}
