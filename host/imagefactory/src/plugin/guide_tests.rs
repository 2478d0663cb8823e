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
fn every_rule_has_one_number_and_its_needs_end_somewhere() {
    for (at, one) in RULES.iter().enumerate() {
        let earlier = RULES[..at].iter().all(|other| other.number < one.number);
        assert!(earlier, "{} is out of order", one.id());
        let mut left: Vec<(u16, u32)> = one.needs.iter().map(|need| (*need, 1)).collect();
        while let Some((need, depth)) = left.pop() {
            let needed = rule(need).unwrap_or_else(|| panic!("{} needs {need}", one.id()));
            assert_ne!(needed.number, one.number, "{} needs itself", one.id());
            assert!(depth < 32, "{} needs a circle", one.id());
            assert!(
                needed.level <= one.level,
                "{} needs {} of a higher level",
                one.id(),
                needed.id()
            );
            left.extend(needed.needs.iter().map(|need| (*need, depth + 1)));
        }
    }
}
