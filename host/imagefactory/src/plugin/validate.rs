//! `imagefactory plugin validate`: tries the rules one after the other and makes a report of it.
//!
//! A rule whose prerequisites are not met is skipped and says which one: a library that does not
//! load fails rule 101 and nothing else.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use imagefactory_model::validation::{Outcome, ProbeOrder, Scenario};

use super::error::PluginError;
use super::probe::{find_runner, try_rule};
use super::report::{Report, RuleReport};
use super::rules::{Check, RULES, Rule, rule as rule_of};
use super::scenario::scenario_of;
use super::seen::Seen;
use super::subject::Subject;

/// What the command line asks for.
pub(crate) struct ValidateOptions {
    /// Path or id.
    pub(crate) plugin: String,
    /// Highest level to try.
    pub(crate) level: u8,
    /// Regular expression or beginning of ids.
    pub(crate) only: Option<String>,
    /// Chooses points and odd bytes.
    pub(crate) seed: u64,
    /// For each rule that runs plugin code.
    pub(crate) timeout: Duration,
    /// How long a cancelled operation may take.
    pub(crate) cancel_grace: Duration,
    /// How often create and destroy are repeated.
    pub(crate) rounds: u32,
    /// How many points an operation is disturbed at.
    pub(crate) points: u32,
    /// Where the runner is; `None` = beside this program or packaged.
    pub(crate) runner: Option<PathBuf>,
}

/// Which rules the options choose.
struct Chosen {
    level: u8,
    pattern: Option<(String, regex_lite::Regex)>,
}

impl Chosen {
    fn new(options: &ValidateOptions) -> Result<Chosen, PluginError> {
        let pattern = options.only.as_ref().map(|text| {
            let pattern = regex_lite::Regex::new(text).map_err(|error| PluginError::Pattern {
                pattern: text.clone(),
                message: error.to_string(),
            })?;
            Ok((text.clone(), pattern))
        });
        let chosen = Chosen { level: options.level, pattern: pattern.transpose()? };
        if !RULES.iter().any(|rule| chosen.has(rule)) {
            let pattern = options.only.clone().unwrap_or_default();
            return Err(PluginError::NoRules { level: options.level, pattern });
        }
        Ok(chosen)
    }

    /// The pattern is looked for in the id, as a whole number (`101`), or begins it.
    fn has(&self, rule: &Rule) -> bool {
        let id = rule.id();
        rule.level <= self.level
            && self.pattern.as_ref().is_none_or(|(text, pattern)| {
                id.starts_with(text.as_str()) || pattern.is_match(&id)
            })
    }
}

/// Tries the rules; `heard` is called after each one.
pub(crate) fn validate(
    options: &ValidateOptions,
    mut heard: impl FnMut(&RuleReport),
) -> Result<Report, PluginError> {
    let chosen = Chosen::new(options)?;
    let subject = Subject::find(&options.plugin)?;
    let scenario = scenario_of(&subject)?;
    let runner = find_runner(options.runner.as_deref())?;
    let mut trial = Trial {
        options,
        subject: &subject,
        scenario: &scenario,
        runner: &runner,
        tried: BTreeMap::new(),
    };
    let started = Instant::now();
    for rule in RULES.iter().filter(|rule| chosen.has(rule)) {
        trial.try_with_needs(rule, &mut |rule, report| {
            // What was not asked for is told only where it is the reason for what was.
            if chosen.has(rule) || report.outcome.is_failure() {
                heard(report);
            }
        })?;
    }
    let told = |number: &u16, report: &RuleReport| {
        rule_of(*number).is_some_and(|rule| chosen.has(rule)) || report.outcome.is_failure()
    };
    let tried = trial.tried.iter().filter(|(number, report)| told(number, report));
    let rules = tried.map(|(_, report)| report.clone()).collect();
    Ok(Report::new(options, &subject, rules, started.elapsed()))
}

/// Rules whose being skipped means that what comes after them cannot be tried either.
fn runs_first(number: u16) -> bool {
    matches!(number, 8 | 101 | 104 | 111 | 201 | 301 | 310)
}

/// Everything that trying rules takes, and what it brought so far.
struct Trial<'t> {
    options: &'t ValidateOptions,
    subject: &'t Subject,
    scenario: &'t Scenario,
    runner: &'t Path,
    tried: BTreeMap<u16, RuleReport>,
}

impl Trial<'_> {
    /// Tries what the rule needs, then the rule, each once. Needs have no circles (a test of the
    /// table), so this ends.
    fn try_with_needs(
        &mut self,
        rule: &Rule,
        heard: &mut impl FnMut(&Rule, &RuleReport),
    ) -> Result<(), PluginError> {
        if self.tried.contains_key(&rule.number) {
            return Ok(());
        }
        for need in rule.needs.iter().filter_map(|need| rule_of(*need)) {
            self.try_with_needs(need, heard)?;
        }
        let begun = Instant::now();
        let (outcome, messages) = match self.unmet(rule) {
            Some(number) => (Outcome::Skipped, vec![format!("IMGF-P-{number:03} is not met")]),
            None => self.try_one(rule)?,
        };
        let report = RuleReport::new(rule, outcome, messages, begun.elapsed());
        heard(rule, &report);
        self.tried.insert(rule.number, report);
        Ok(())
    }

    /// The first prerequisite that failed, or was itself not tried.
    fn unmet(&self, rule: &Rule) -> Option<u16> {
        rule.needs.iter().copied().find(|number| {
            self.tried.get(number).is_some_and(|report| {
                let skipped = report.outcome == Outcome::Skipped && runs_first(*number);
                report.outcome.is_failure() || skipped
            })
        })
    }

    fn try_one(&self, rule: &Rule) -> Result<(Outcome, Vec<String>), PluginError> {
        match rule.check {
            Check::Files(check) => {
                let mut seen = Seen::default();
                check(self.subject, &mut seen);
                Ok((seen.outcome(), seen.messages()))
            }
            Check::Runner => self.try_in_runner(rule),
        }
    }

    fn try_in_runner(&self, rule: &Rule) -> Result<(Outcome, Vec<String>), PluginError> {
        let Some(plugin) = self.subject.probed() else {
            return Ok((Outcome::Skipped, vec!["there is no library to load".into()]));
        };
        let folder = tempfile::Builder::new().prefix("imagefactory-validate-").tempdir();
        let folder =
            folder.map_err(|source| PluginError::File { path: std::env::temp_dir(), source })?;
        let order = ProbeOrder {
            rule: rule.number,
            plugin,
            folder: folder.path().to_owned(),
            timeout_ms: millis(self.options.timeout),
            cancel_grace_ms: millis(self.options.cancel_grace),
            rounds: self.options.rounds,
            points: self.options.points,
            seed: self.options.seed,
            scenario: self.scenario.clone(),
        };
        Ok(try_rule(self.runner, rule, &order))
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
