//! The `Authorization: OAuth …` header (RFC 5849, 3.5.1).

use crate::base_string::{decode, encode};

/// Parameters in one header. The protocol has eight.
const PARAMETERS_MAX: usize = 32;

/// The parameters of a header, decoded, in its order, `realm` left out. `None`: not such a header,
/// or one that is broken or says something twice.
pub fn parse(header: &str) -> Option<Vec<(String, String)>> {
    let (scheme, rest) = header.trim().split_once([' ', '\t'])?;
    if !scheme.eq_ignore_ascii_case("OAuth") {
        return None;
    }
    let mut parameters: Vec<(String, String)> = Vec::new();
    for pair in rest.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=')?;
        let name = decode(name.trim())?;
        let value = value.trim();
        let value = match value.strip_prefix('"') {
            Some(quoted) => quoted.strip_suffix('"')?,
            None => value,
        };
        if name.eq_ignore_ascii_case("realm") {
            continue;
        }
        if parameters.len() == PARAMETERS_MAX || parameters.iter().any(|(other, _)| *other == name)
        {
            return None;
        }
        parameters.push((name, decode(value)?));
    }
    Some(parameters)
}

/// The header with these parameters.
pub fn write(parameters: &[(String, String)]) -> String {
    let pairs: Vec<String> = parameters
        .iter()
        .map(|(name, value)| format!("{}=\"{}\"", encode(name), encode(value)))
        .collect();
    format!("OAuth {}", pairs.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_parsed(header: &str, wanted: Option<&[(&str, &str)]>) {
        let found = parse(header);
        let wanted: Option<Vec<_>> = wanted
            .map(|pairs| pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect());
        assert_eq!(found, wanted, "{header}");
    }

    #[test]
    fn a_header_is_read_whatever_its_realm_and_blanks() {
        check_parsed(r#"OAuth realm="x, y=z", a="1%262""#, None); // a comma within quotes is no one's habit
        check_parsed(r#"oauth realm="", a="1%262" ,b="""#, Some(&[("a", "1&2"), ("b", "")]));
        check_parsed("OAuth a=1", Some(&[("a", "1")]));
    }

    #[test]
    fn what_is_said_twice_or_broken_is_refused() {
        check_parsed(r#"OAuth a="1", a="2""#, None);
        check_parsed(r#"OAuth a="1"#, None);
        check_parsed("OAuth a", None);
        check_parsed("OAuth a=%ff", None);
        check_parsed("Basic a=b", None);
        check_parsed("OAuth", None);
        let many: Vec<String> = (0..40).map(|index| format!("p{index}=x")).collect();
        check_parsed(&format!("OAuth {}", many.join(",")), None);
    }
}
