//! Base64 as templates have always been read: the standard alphabet, on one line, padded. Bits that
//! the last group leaves over are ignored and surplus padding after a full group is allowed,
//! because the established parser decodes such documents. Thirty lines, so that plugins need no
//! crate for it.

/// The bytes, or a sentence's end that says what is wrong ("holds …").
pub(crate) fn decode(text: &str) -> Result<Vec<u8>, String> {
    let digits = text.trim_end_matches('=');
    let padding = text.len() - digits.len();
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3 + 3);
    let mut held = 0u32;
    for (index, byte) in digits.bytes().enumerate() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b' ' | b'\t' | b'\r' | b'\n' => {
                return Err("holds blanks or line ends; write it on one line".to_owned());
            }
            b'=' => return Err("holds `=` before its end".to_owned()),
            _ => {
                let odd = text[index..].chars().next().unwrap_or('?').escape_debug();
                return Err(format!("holds `{odd}`; only A-Z a-z 0-9 + / and a final = may occur"));
            }
        };
        held = held << 6 | u32::from(value);
        // Every digit but the first of a group of four completes one byte.
        let bits_over = 6 - 2 * (index % 4) as u32;
        if index % 4 != 0 {
            bytes.push((held >> bits_over) as u8);
        }
    }
    let padding_needed = match digits.len() % 4 {
        0 => 0,
        1 => return Err("is one digit too long or three too short".to_owned()),
        partial => 4 - partial,
    };
    if padding > 2 || padding < padding_needed {
        return Err(format!("ends with {padding} `=` where {padding_needed} are needed"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_decodes_as_the_rfc_says() {
        for (text, bytes) in
            [("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm9vYg==", "foob"), ("", "")]
        {
            assert_eq!(decode(text).unwrap(), bytes.as_bytes(), "{text}");
        }
        assert_eq!(decode("+/+/").unwrap(), [0xfb, 0xff, 0xbf]);
    }

    #[test]
    fn base64_that_the_established_parser_takes_is_taken() {
        assert_eq!(decode("Zh==").unwrap(), b"f", "left-over bits");
        assert_eq!(decode("Zm9v=").unwrap(), b"foo", "padding after a full group");
        assert_eq!(decode("Zm8==").unwrap(), b"fo", "more padding than needed");
    }

    #[test]
    fn base64_that_does_not_decode_says_why() {
        for (text, why) in [
            ("Zg", "2 are needed"),
            ("Zg=", "2 are needed"),
            ("Z", "too long"),
            ("Zm9v\nZm9v", "one line"),
            ("Zm9v===", "ends with 3"),
            ("Zm-v", "`-`"),
            ("Zmäv", "`ä`"),
            ("Zg==Zg==", "before its end"),
        ] {
            let message = decode(text).unwrap_err();
            assert!(message.contains(why), "{text}: {message}");
        }
    }
}
