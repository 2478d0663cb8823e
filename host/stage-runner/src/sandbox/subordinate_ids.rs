//! Which ids were delegated to a user (/etc/subuid, /etc/subgid; subuid(5)).
//!
//! Only finds the range; that the delegation is genuine is checked by newuidmap itself.

use std::fs;

/// Ids that belong to a user besides its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The first.
    pub start: u32,
    /// How many.
    pub count: u32,
}

/// More are of no use: ids inside are 16 bit in practice (tar, rpm, nobody = 65534).
const IDS_MAX: u32 = 65_536;

/// The first range of the user in `file`. The error is a phrase for people.
pub fn of(file: &str, uid: u32) -> Result<Range, String> {
    let lines = fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
    let accounts = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = name_of(&accounts, uid);
    find(&lines, name, uid).ok_or_else(|| format!("{file} has no line for uid {uid}"))
}

fn name_of(accounts: &str, uid: u32) -> Option<&str> {
    accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

fn find(lines: &str, name: Option<&str>, uid: u32) -> Option<Range> {
    lines.lines().find_map(|line| {
        let mut fields = line.split(':');
        let owner = fields.next()?;
        if Some(owner) != name && owner.parse() != Ok(uid) {
            return None;
        }
        let start: u32 = fields.next()?.trim().parse().ok()?;
        let count: u32 = fields.next()?.trim().parse().ok()?;
        let usable = count > 0 && start.checked_add(count).is_some();
        usable.then(|| Range { start, count: count.min(IDS_MAX - 1) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_found_by_name_and_by_number() {
        let lines = "other:1:2\nann:100000:65536\n1001:300000:5\n";
        let ann = Range { start: 100_000, count: 65_535 };
        assert_eq!(find(lines, Some("ann"), 1000), Some(ann));
        assert_eq!(find(lines, None, 1001), Some(Range { start: 300_000, count: 5 }));
        assert_eq!(find(lines, Some("bob"), 1002), None);
    }

    #[test]
    fn broken_lines_and_ranges_beyond_the_last_id_are_passed_over() {
        let lines = "ann\nann:x:1\nann:4294967295:2\nann:7:0\nann:5:6\n";
        assert_eq!(find(lines, Some("ann"), 1), Some(Range { start: 5, count: 6 }));
    }

    #[test]
    fn an_account_is_found_by_its_number() {
        let accounts = "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n";
        assert_eq!(name_of(accounts, 1000), Some("ann"));
        assert_eq!(name_of(accounts, 7), None);
    }
}
