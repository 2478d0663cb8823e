//! MockCloud's ledger, read by a test: what the "provider" was asked to create and remove.
//!
//! The plugin only ever appends; so the file is the whole history of the provider and not just its
//! present. Knows nothing of images: who should be there is the caller's to say.

use std::collections::BTreeMap;
use std::path::Path;

/// The history of one provider.
#[derive(Debug, Default)]
pub struct Ledger {
    facts: Vec<Fact>,
}

#[derive(Debug)]
struct Fact {
    created: bool,
    token: String,
    identifier: String,
}

impl Ledger {
    /// Reads the file `ledger` of the folder; none is an empty history.
    pub fn read(folder: &Path) -> Ledger {
        let text = std::fs::read_to_string(folder.join("ledger")).unwrap_or_default();
        Ledger::parse(&text)
    }

    fn parse(text: &str) -> Ledger {
        let fact = |line: &str| {
            let words: Vec<&str> = line.split(' ').collect();
            let [verb, token, identifier] = words[..] else { panic!("a torn line: {line:?}") };
            let created = match verb {
                "create" => true,
                "remove" => false,
                _ => panic!("a torn line: {line:?}"),
            };
            Fact { created, token: token.to_owned(), identifier: identifier.to_owned() }
        };
        Ledger { facts: text.lines().map(fact).collect() }
    }

    /// How many images were ever created.
    pub fn creations(&self) -> usize {
        self.facts.iter().filter(|fact| fact.created).count()
    }

    /// Identifiers of what exists now, with the token each was made for.
    pub fn standing(&self) -> BTreeMap<&str, &str> {
        let mut standing = BTreeMap::new();
        for fact in &self.facts {
            match fact.created {
                true => standing.insert(fact.identifier.as_str(), fact.token.as_str()),
                false => standing.remove(fact.identifier.as_str()),
            };
        }
        standing
    }

    /// Tokens for which something was created while an earlier creation still stood.
    pub fn doubled(&self) -> Vec<&str> {
        let mut standing: BTreeMap<&str, bool> = BTreeMap::new();
        let mut doubled = Vec::new();
        for fact in &self.facts {
            let before = standing.insert(&fact.token, fact.created);
            if fact.created && before == Some(true) {
                doubled.push(fact.token.as_str());
            }
        }
        doubled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_removed_does_not_stand_and_may_be_created_again() {
        let ledger = Ledger::parse("create a m-a\ncreate b m-b\nremove a m-a\ncreate a m-a\n");
        assert_eq!(ledger.standing(), BTreeMap::from([("m-a", "a"), ("m-b", "b")]));
        assert!(ledger.doubled().is_empty());
        assert_eq!(ledger.creations(), 3);
    }

    #[test]
    fn a_second_creation_for_a_token_is_seen() {
        assert_eq!(Ledger::parse("create a m-a\ncreate a m-a2\n").doubled(), ["a"]);
    }
}
