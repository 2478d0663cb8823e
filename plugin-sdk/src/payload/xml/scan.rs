//! One pass over the bytes of an XML text that enforces the limits and refuses DTDs, in constant
//! memory. It does not check well-formedness: where it and the parser could disagree, the text is
//! malformed and the parser, which comes next, refuses it at that place.

use super::XmlLimits;
use crate::payload::finding::Finding;

/// Refuses what is beyond `limits` or has a DTD.
pub(super) fn check(text: &str, limits: &XmlLimits) -> Result<(), Finding> {
    if text.len() > limits.bytes_max {
        let message =
            format!("the document has {} bytes; at most {} are read", text.len(), limits.bytes_max);
        return Err(Finding { line: 0, column: 0, message });
    }
    let mut scan = Scan { text, limits, depth: 0, elements: 0, namespaces: 0 };
    let mut at = 0;
    while let Some(markup) = text[at..].find('<').map(|offset| at + offset) {
        at = scan.markup(markup)?;
    }
    Ok(())
}

struct Scan<'t> {
    text: &'t str,
    limits: &'t XmlLimits,
    depth: usize,
    elements: usize,
    namespaces: usize,
}

impl Scan<'_> {
    /// Takes the markup that starts at `at`; answers where to go on.
    fn markup(&mut self, at: usize) -> Result<usize, Finding> {
        let rest = &self.text[at..];
        if rest.starts_with("<![CDATA[") {
            return Ok(self.after(at, "]]>"));
        }
        if rest.starts_with("</") {
            self.depth = self.depth.saturating_sub(1);
            return Ok(self.after(at, ">"));
        }
        if rest.starts_with("<!--") || rest.starts_with("<?") {
            self.count_element(at)?;
            return Ok(if rest.starts_with("<?") {
                self.after(at, "?>")
            } else {
                self.after(at + "<!--".len(), "-->")
            });
        }
        if rest.starts_with("<!") {
            return Err(self.finding(
                at,
                "a document type declaration (DTD) is not accepted; remove the <!…> and write \
                 entities as the characters they stand for"
                    .to_owned(),
            ));
        }
        self.count_element(at)?;
        self.start_tag(at)
    }

    /// Counts the attributes of a start tag, honouring quotes.
    fn start_tag(&mut self, at: usize) -> Result<usize, Finding> {
        let bytes = self.text.as_bytes();
        let mut quote = None;
        let mut attributes = 0;
        let mut name_start = at;
        let mut in_name = false;
        let mut index = at + 1;
        while let Some(&byte) = bytes.get(index) {
            match (quote, byte) {
                (Some(open), _) if byte == open => quote = None,
                (Some(_), _) => {}
                (None, b'"' | b'\'') => {
                    quote = Some(byte);
                    in_name = false;
                }
                // A blank ends a name, but `xmlns:a = "b"` is still of that name.
                (None, b' ' | b'\t' | b'\r' | b'\n') => in_name = false,
                (None, b'=') => {
                    attributes += 1;
                    in_name = false;
                    if bytes[name_start..].starts_with(b"xmlns") {
                        self.namespaces += 1;
                    }
                }
                (None, b'>') => {
                    self.tag_limits(at, attributes)?;
                    if self.depth >= self.limits.depth_max {
                        let message = format!(
                            "elements are nested deeper than {}; no document needs that",
                            self.limits.depth_max
                        );
                        return Err(self.finding(at, message));
                    }
                    if bytes[index - 1] != b'/' {
                        self.depth += 1;
                    }
                    return Ok(index + 1);
                }
                _ if !in_name => {
                    in_name = true;
                    name_start = index;
                }
                _ => {}
            }
            index += 1;
        }
        self.tag_limits(at, attributes)?;
        Ok(bytes.len())
    }

    fn tag_limits(&self, at: usize, attributes: usize) -> Result<(), Finding> {
        if attributes > self.limits.attributes_max {
            let message =
                format!("this element has more than {} attributes", self.limits.attributes_max);
            return Err(self.finding(at, message));
        }
        if self.namespaces > self.limits.namespaces_max {
            let message = format!(
                "the document declares more than {} namespaces",
                self.limits.namespaces_max
            );
            return Err(self.finding(at, message));
        }
        Ok(())
    }

    fn count_element(&mut self, at: usize) -> Result<(), Finding> {
        self.elements += 1;
        if self.elements > self.limits.elements_max {
            let message = format!(
                "the document has more than {} elements and comments",
                self.limits.elements_max
            );
            return Err(self.finding(at, message));
        }
        Ok(())
    }

    /// The place after the next `end`, or the end of the text.
    fn after(&self, at: usize, end: &str) -> usize {
        self.text[at..].find(end).map_or(self.text.len(), |offset| at + offset + end.len())
    }

    fn finding(&self, at: usize, message: String) -> Finding {
        let before = &self.text[..at];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |tail| tail.chars().count()) + 1;
        Finding { line: line as u32, column: column as u32, message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dtd_is_refused_with_its_place_wherever_it_stands() {
        for text in [
            "<?xml version='1.0'?>\n<!DOCTYPE a [<!ENTITY b 'c'>]>\n<a>&b;</a>",
            "<?xml version='1.0'?>\n<!DOCTYPE a SYSTEM 'file:///etc/passwd'><a/>",
        ] {
            let finding = check(text, &XmlLimits::default()).unwrap_err();
            assert_eq!((finding.line, finding.column), (2, 1), "{finding}");
            assert!(finding.message.contains("DTD"));
        }
    }

    #[test]
    fn what_looks_like_markup_inside_comments_and_cdata_is_not_counted() {
        let limits = XmlLimits { elements_max: 2, depth_max: 2, ..XmlLimits::default() };
        check("<a><!-- <b><c><d> --></a>", &limits).unwrap();
        check("<a><![CDATA[<b><c><!DOCTYPE d>]]><b/></a>", &limits).unwrap();
        check("<a x='>' y=\"<'\"/>", &limits).unwrap();
    }

    #[test]
    fn blanks_around_the_equals_sign_do_not_hide_a_namespace() {
        let limits = XmlLimits { namespaces_max: 0, ..XmlLimits::default() };
        assert!(check("<a xmlns:b = 'c'/>", &limits).is_err());
        assert!(check("<a xmlns\n=\n'c'/>", &limits).is_err());
        assert!(check("<a b='c' d = 'e'/>", &limits).is_ok());
    }
}
