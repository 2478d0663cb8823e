//! A validation for people: one line a rule while it runs, a sentence at the end.

use std::fmt::Write;

use imagefactory_model::validation::Outcome;

use super::report::{Report, RuleReport, Verdict};
use super::rules::RULES;

/// One rule: a mark, the id, the title, and below it what was found.
pub(crate) fn rule_lines(rule: &RuleReport, coloured: bool) -> String {
    let (mark, colour) = match rule.outcome {
        Outcome::Success => ("ok     ", "32"),
        Outcome::Warning => ("warning", "33"),
        Outcome::Failed => ("FAILED ", "31"),
        Outcome::Crashed => ("CRASHED", "31"),
        Outcome::TimedOut => ("TIMEOUT", "31"),
        Outcome::Skipped => ("skipped", "90"),
    };
    let mark = paint(mark, colour, coloured);
    let mut text = format!("{mark} {} {} ({} ms)\n", rule.id, rule.title, rule.duration_ms);
    for message in &rule.messages {
        // Texts of a plugin may hold escapes; a terminal shall not obey them.
        let message: String =
            message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        writeln!(text, "          {message}").ok(); // a String takes everything
    }
    if rule.outcome.is_failure() {
        let duty = RULES.iter().find(|known| known.id() == rule.id).map(|known| known.duty);
        writeln!(text, "          duty: {}", duty.unwrap_or_default()).ok(); // as above
    }
    text
}

/// The sentence at the end.
pub(crate) fn summary(report: &Report, coloured: bool) -> String {
    let count = |name: &str| report.counts.get(name).copied().unwrap_or(0);
    let broken = count("failed") + count("crashed") + count("timed_out");
    let (verdict, colour) = match report.verdict {
        Verdict::Passed => ("passes", "32"),
        Verdict::PassedWithWarnings => ("passes with warnings", "33"),
        Verdict::Failed => ("fails", "31"),
    };
    format!(
        "{} {}: {} met, {} warnings, {broken} broken, {} not tried; {} ms, --seed {}\n",
        report.plugin_id(),
        paint(verdict, colour, coloured),
        count("success"),
        count("warning"),
        count("skipped"),
        report.duration_ms(),
        report.seed(),
    )
}

fn paint(text: &str, colour: &str, coloured: bool) -> String {
    if coloured { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
}
