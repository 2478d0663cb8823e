//! A validation as JUnit XML, for the pages of CI systems: one test case a rule.

use std::fmt::Write;

use imagefactory_model::validation::Outcome;

use super::report::Report;

/// The whole document.
pub(crate) fn junit(report: &Report) -> String {
    let of = |outcomes: &[Outcome]| {
        report.rules.iter().filter(|rule| outcomes.contains(&rule.outcome)).count()
    };
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let suite = format!(
        "<testsuite name=\"imagefactory plugin validate {}\" tests=\"{}\" failures=\"{}\" \
         errors=\"{}\" skipped=\"{}\" time=\"{}\">",
        escaped(report.plugin_id()),
        report.rules.len(),
        of(&[Outcome::Failed]),
        of(&[Outcome::Crashed, Outcome::TimedOut]),
        of(&[Outcome::Skipped]),
        seconds(report.duration_ms()),
    );
    text.push_str(&suite);
    text.push('\n');
    for rule in &report.rules {
        let messages = escaped(&rule.messages.join("\n"));
        let body = match rule.outcome {
            Outcome::Success => format!("<system-out>{messages}</system-out>"),
            Outcome::Warning => format!("<system-out>warning: {messages}</system-out>"),
            Outcome::Failed => {
                format!("<failure message=\"{}\">{messages}</failure>", first(&rule.messages))
            }
            Outcome::Crashed => format!(
                "<error type=\"crashed\" message=\"{}\">{messages}</error>",
                first(&rule.messages)
            ),
            Outcome::TimedOut => format!(
                "<error type=\"timed_out\" message=\"{}\">{messages}</error>",
                first(&rule.messages)
            ),
            Outcome::Skipped => format!("<skipped message=\"{}\"/>", first(&rule.messages)),
        };
        writeln!(
            text,
            "  <testcase classname=\"imagefactory.plugin.{}\" name=\"{} {}\" \
             time=\"{}\">{body}</testcase>",
            rule.group,
            rule.id,
            escaped(rule.title),
            seconds(rule.duration_ms),
        )
        .ok(); // a String takes everything
    }
    text.push_str("</testsuite>\n");
    text
}

fn first(messages: &[String]) -> String {
    escaped(messages.first().map(String::as_str).unwrap_or_default())
}

fn seconds(ms: u64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

/// For text and attributes; characters that XML 1.0 cannot hold become blanks.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn what_a_plugin_prints_cannot_leave_its_element() {
        assert_eq!(escaped("</failure>\u{1b}[31m&\"\u{0}"), "&lt;/failure&gt; [31m&amp;&quot; ");
    }
}
