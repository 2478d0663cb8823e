//! Mends what a form does to credentials: a raw `+` decodes to a blank.
//!
//! The API's document posts a PEM key in a form without encoding its `+` signs, and clients do as
//! it says. Inside PEM blocks and secret access keys a blank can be nothing else than such a `+`;
//! only the indentation of a line is kept. Passwords may hold blanks and are left alone.

/// Elements whose text is one base64 word.
const BASE64_ELEMENTS: [&str; 1] = ["secret_access_key"];

/// The credentials with their plus signs.
pub(super) fn mended(text: &str) -> String {
    let mut mended = String::with_capacity(text.len());
    let mut indentation = None;
    for line in text.split_inclusive('\n') {
        let bare = line.trim();
        if bare.contains("-----BEGIN ") {
            indentation = Some(leading_blanks(line));
            mended.push_str(line);
        } else if bare.contains("-----END ") {
            indentation = None;
            mended.push_str(line);
        } else if let Some(indentation) = indentation {
            // RFC 1421 headers ("Proc-Type: 4,ENCRYPTED") are no base64.
            if bare.contains(':') {
                mended.push_str(line)
            } else {
                mend(line, indentation, &mut mended)
            }
        } else {
            mended.push_str(line);
        }
    }
    BASE64_ELEMENTS.iter().fold(mended, |text, element| mend_element(&text, element))
}

fn leading_blanks(line: &str) -> usize {
    line.bytes().take_while(|byte| *byte == b' ').count()
}

fn mend(line: &str, indentation: usize, mended: &mut String) {
    let content = line.trim_end_matches(['\n', '\r']);
    let kept = indentation.min(leading_blanks(content));
    let (blanks, base64) = content.split_at(kept);
    mended.push_str(blanks);
    match base64.trim().is_empty() {
        true => mended.push_str(base64),
        false => mended.push_str(&base64.replace(' ', "+")),
    }
    mended.push_str(&line[content.len()..]);
}

/// `<name>word with blanks</name>` on one line.
fn mend_element(text: &str, name: &str) -> String {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let Some(start) = text.find(&open).map(|at| at + open.len()) else { return text.to_owned() };
    let Some(end) = text[start..].find(&close).map(|at| start + at) else { return text.to_owned() };
    let word = &text[start..end];
    if word.contains(['\n', '<']) || word.trim().is_empty() {
        return text.to_owned();
    }
    format!("{}{}{}", &text[..start], word.replace(' ', "+"), &text[end..])
}

#[cfg(test)]
mod tests {
    use super::mended;

    fn check_mended(original: &str) {
        let through_a_form = original.replace('+', " ");
        assert_eq!(mended(&through_a_form), original);
    }

    #[test]
    fn plus_signs_come_back_inside_pem_blocks() {
        check_mended("-----BEGIN PRIVATE KEY-----\n+a+b+\n++c=\n-----END PRIVATE KEY-----\n");
        check_mended(
            "<key>\n    -----BEGIN CERTIFICATE-----\r\n    ab+cd\r\n    +e==\r\n    \
             -----END CERTIFICATE-----\n</key>",
        );
        check_mended("<secret_access_key>as+d/HG+</secret_access_key>");
    }

    #[test]
    fn everything_else_keeps_its_blanks() {
        for text in [
            "<password>my pass word</password>",
            "a b c",
            "<secret_access_key>\n  a b\n</secret_access_key>",
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nab\n-----END RSA PRIVATE KEY-----\nx y",
        ] {
            assert_eq!(mended(text), text);
        }
    }
}
