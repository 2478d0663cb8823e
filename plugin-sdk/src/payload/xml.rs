//! The one entry through which XML of others is read: templates, target content, ICICLE.
//! No DTD, no entities but the five of XML, no XInclude; size, depth, elements, attributes and
//! namespaces are bounded before the parser sees a byte, because the parser's own checks for
//! duplicates cost the square of the attributes of one element. Nothing here recurses on depth.

mod scan;
pub(crate) mod walk;

use roxmltree::{Document, ParsingOptions};

use super::finding::{without_controls, Finding};

/// How much of a document is read. Everything beyond is refused with a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct XmlLimits {
    /// Bytes of the whole text. Default 1 MiB: the largest template in public use is under 100 kB.
    pub bytes_max: usize,
    /// Elements inside elements. Default 32: a template needs 5.
    pub depth_max: usize,
    /// Elements, comments and processing instructions. Default 50,000: every package of a
    /// distribution release could be listed.
    pub elements_max: usize,
    /// Attributes of one element. Default 32: a template needs 3.
    pub attributes_max: usize,
    /// Namespace declarations in the whole document. Default 16: a template needs none.
    pub namespaces_max: usize,
}

impl Default for XmlLimits {
    fn default() -> Self {
        XmlLimits {
            bytes_max: 1 << 20,
            depth_max: 32,
            elements_max: 50_000,
            attributes_max: 32,
            namespaces_max: 16,
        }
    }
}

/// Parses within `limits`; the error is the one reason why the text is no acceptable XML.
pub fn parse<'t>(text: &'t str, limits: &XmlLimits) -> Result<Document<'t>, Finding> {
    scan::check(text, limits)?;
    let options = ParsingOptions { allow_dtd: false, ..ParsingOptions::default() };
    Document::parse_with_options(text, options).map_err(|error| {
        let position = error.pos();
        // roxmltree ends most of its messages with the position, which we show in front.
        let message = error.to_string();
        let message = match message.rfind(" at ") {
            Some(end) if message.ends_with(|c: char| c.is_ascii_digit()) => &message[..end],
            _ => &message,
        };
        Finding {
            line: position.row,
            column: position.col,
            message: format!("this is not well-formed XML: {}", without_controls(message)),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_refused(text: &str, limits: &XmlLimits, expected: &str) {
        let finding = parse(text, limits).expect_err(expected);
        assert!(finding.to_string().contains(expected), "{finding}");
    }

    #[test]
    fn what_is_not_xml_is_refused_with_its_place() {
        let limits = XmlLimits::default();
        check_refused("", &limits, "not well-formed");
        check_refused("no xml", &limits, "line 1:1: this is not well-formed XML");
        check_refused("<a>\n  <b></a>", &limits, "line 2:6: ");
        check_refused("<a>&nbsp;</a>", &limits, "nbsp");
        check_refused("<a/><b/>", &limits, "not well-formed");
        check_refused("<a x='1' x='2'/>", &limits, "not well-formed");
        check_refused("<a><!-- </a>", &limits, "not well-formed");
        check_refused("<a x='1</a>", &limits, "not well-formed");
    }

    #[test]
    fn a_document_at_a_limit_is_read_and_one_beyond_is_not() {
        let limits = XmlLimits {
            bytes_max: 60,
            depth_max: 2,
            elements_max: 4,
            attributes_max: 2,
            namespaces_max: 1,
        };
        assert!(parse("<a><b/><c/><!-- --></a>", &limits).is_ok());
        check_refused("<a><b/><c/><!-- --><d/></a>", &limits, "more than 4 elements");
        assert!(parse("<a><b></b></a>", &limits).is_ok());
        check_refused("<a><b><c/></b></a>", &limits, "deeper than 2");
        assert!(parse("<a x='1' y='2'/>", &limits).is_ok());
        check_refused("<a x='1' y='2' z='3'/>", &limits, "more than 2 attributes");
        assert!(parse("<a xmlns:b='c'/>", &limits).is_ok());
        check_refused("<a xmlns:b='c' xmlns='d'/>", &limits, "more than 1 namespace");
        check_refused(&format!("<a>{}</a>", "x".repeat(60)), &limits, "67 bytes");
    }
}
