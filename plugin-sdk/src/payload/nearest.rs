//! The nearest known name to a misspelt one, for "did you mean". Called wherever a document with a
//! closed vocabulary is read.

/// Names longer than this are not compared: the cost is quadratic, and nobody meant them.
const NAME_CHARS_MAX: usize = 40;

/// The known name that is at most two edits (one for names of up to four letters) from `name`.
pub fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    if name.chars().count() > NAME_CHARS_MAX {
        return None;
    }
    let allowed = if name.chars().count() <= 4 { 1 } else { 2 };
    known
        .iter()
        .map(|candidate| (distance(&name.to_lowercase(), &candidate.to_lowercase()), *candidate))
        .filter(|(edits, _)| *edits <= allowed)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance, two rows of the table at a time.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (row, ca) in a.chars().enumerate() {
        let mut current = vec![row + 1];
        for (column, cb) in b.iter().enumerate() {
            let replace = above[column] + usize::from(ca != *cb);
            current.push(replace.min(above[column + 1] + 1).min(current[column] + 1));
        }
        above = current;
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_finds_its_neighbour() {
        let known = ["name", "os", "packages", "repositories", "commands"];
        assert_eq!(nearest("package", &known), Some("packages"));
        assert_eq!(nearest("Repositorys", &known), Some("repositories"));
        assert_eq!(nearest("nmae", &known), None, "two edits are too many for four letters");
        assert_eq!(nearest("nam", &known), Some("name"));
        assert_eq!(nearest("services", &known), None);
        assert_eq!(nearest(&"a".repeat(100_000), &known), None);
    }
}
