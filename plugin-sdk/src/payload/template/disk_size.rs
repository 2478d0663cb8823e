//! The size of a disk: digits, then a unit. Sizes are exact and may exceed every machine's numbers;
//! whether a disk of that size can be made is decided where it is made.

use std::convert::TryFrom;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::payload::finding::quoted;

/// Digits that are looked at. 128 bits have 39; more are kept as text.
const DIGITS_MAX: usize = 1000;

/// A disk size. In JSON a string, because it may exceed a JSON reader's numbers: plain digits are
/// bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum DiskSize {
    /// In bytes.
    Bytes(u128),
    /// More than 128 bits hold: the digits, a blank and the unit (`GiB` where none was given).
    Beyond(String),
}

impl DiskSize {
    /// In bytes; `None` where 128 bits do not hold them.
    pub fn bytes(&self) -> Option<u128> {
        match self {
            DiskSize::Bytes(bytes) => Some(*bytes),
            DiskSize::Beyond(_) => None,
        }
    }
}

/// Reads TDL's form: `10`, `10G`, `10 GiB`, `500 mb`. The error is a whole sentence.
impl<'t> TryFrom<&'t str> for DiskSize {
    type Error = String;

    fn try_from(text: &'t str) -> Result<Self, String> {
        let text = text.trim();
        let digits_end = text.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(digits_end);
        let unit = unit.trim_start_matches(' ');
        if digits.is_empty() {
            return Err(format!(
                "the disk size {} has no number; write for example 10 GiB",
                quoted(text)
            ));
        }
        let factor = unit_bytes(unit).ok_or_else(|| {
            format!(
                "the disk size {} has the unit {}; known are G, T, B, kB, MB, GB … YB (powers of \
                 1000) and KiB, MiB, GiB … YiB (powers of 1024)",
                quoted(text),
                quoted(unit)
            )
        })?;
        let digits = match digits.trim_start_matches('0') {
            "" => "0",
            significant => significant,
        };
        if digits.len() > DIGITS_MAX {
            return Err(format!(
                "the disk size has {} digits; no disk needs more than {DIGITS_MAX}",
                digits.len()
            ));
        }
        let bytes = digits.parse().ok().and_then(|count: u128| count.checked_mul(factor));
        Ok(match bytes {
            Some(bytes) => DiskSize::Bytes(bytes),
            None if unit.is_empty() => DiskSize::Beyond(format!("{digits} GiB")),
            None => DiskSize::Beyond(format!("{digits} {unit}")),
        })
    }
}

/// Bytes of one unit, in any case. No unit, `G` and `T` are binary: they are older than `GiB`.
fn unit_bytes(unit: &str) -> Option<u128> {
    let unit = unit.to_ascii_lowercase();
    let power = |prefix: &str| {
        let place = "kmgtpezy".find(prefix).filter(|_| prefix.len() == 1)?;
        Some(place as u32 + 1)
    };
    match unit.as_str() {
        "" | "g" => Some(1 << 30),
        "t" => Some(1 << 40),
        "b" => Some(1),
        _ => match unit.strip_suffix("ib") {
            Some(prefix) => Some(1024u128.pow(power(prefix)?)),
            None => Some(1000u128.pow(power(unit.strip_suffix('b')?)?)),
        },
    }
}

impl From<DiskSize> for String {
    fn from(size: DiskSize) -> String {
        size.to_string()
    }
}

/// Reads the JSON form, where plain digits are bytes.
impl TryFrom<String> for DiskSize {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return match text.parse() {
                Ok(bytes) => Ok(DiskSize::Bytes(bytes)),
                Err(_) => DiskSize::try_from(format!("{text} B").as_str()),
            };
        }
        DiskSize::try_from(text.as_str())
    }
}

/// The JSON form.
impl fmt::Display for DiskSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DiskSize::Bytes(bytes) => write!(f, "{bytes}"),
            DiskSize::Beyond(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_size(text: &str, bytes: u128) {
        assert_eq!(DiskSize::try_from(text).unwrap(), DiskSize::Bytes(bytes), "{text}");
    }

    #[test]
    fn sizes_are_read_as_the_table_says() {
        check_size("10", 10 << 30);
        check_size("10G", 10 << 30);
        check_size(" 10   g ", 10 << 30);
        check_size("2T", 2 << 40);
        check_size("2t", 2 << 40);
        check_size("512B", 512);
        check_size("0", 0);
        check_size("0007kB", 7000);
        check_size("1 kib", 1024);
        check_size("3 MB", 3_000_000);
        check_size("3 MiB", 3 << 20);
        check_size("4GB", 4_000_000_000);
        check_size("4gIb", 4 << 30);
        check_size("5TB", 5_000_000_000_000);
        check_size("6PiB", 6 << 50);
        check_size("7EB", 7_000_000_000_000_000_000);
        check_size("1 ZB", 1_000_000_000_000_000_000_000);
        check_size("1 ZiB", 1 << 70);
        check_size("1 YB", 1_000_000_000_000_000_000_000_000);
        check_size("1 YiB", 1 << 80);
    }

    #[test]
    fn what_is_no_size_is_refused_with_a_way_out() {
        for text in
            ["", "G", "-1", "1.5G", "10 X", "10K", "10 i", "10ib", "10 kib b", "1e3", "10\tG"]
        {
            let message = DiskSize::try_from(text).unwrap_err();
            assert!(message.contains("disk size"), "{text}: {message}");
        }
        assert!(DiskSize::try_from("١٠").is_err(), "only ASCII digits");
        assert!(DiskSize::try_from("9".repeat(1001).as_str()).is_err());
    }

    #[test]
    fn a_size_beyond_128_bits_is_kept_exactly() {
        let size = DiskSize::try_from("999999999999999999999999999 YiB").unwrap();
        assert_eq!(size, DiskSize::Beyond("999999999999999999999999999 YiB".to_owned()));
        assert_eq!(size.bytes(), None);
        let digits = "9".repeat(50);
        let size = DiskSize::try_from(digits.as_str()).unwrap();
        assert_eq!(size, DiskSize::Beyond(format!("{digits} GiB")));
    }

    #[test]
    fn the_json_form_round_trips() {
        for text in ["10", "512 B", "1YiB", "999999999999999999999999999 YiB"] {
            let size = DiskSize::try_from(text).unwrap();
            let json = serde_json::to_string(&size).unwrap();
            assert_eq!(serde_json::from_str::<DiskSize>(&json).unwrap(), size, "{json}");
        }
        assert_eq!(serde_json::to_string(&DiskSize::Bytes(7)).unwrap(), "\"7\"");
    }
}
