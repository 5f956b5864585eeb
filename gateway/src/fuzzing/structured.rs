//! Structured fields (RFC 9651), as much of them as limits are told in: a list of strings with integers as parameters.
//! Written from the RFC's parsing rules and not from what writes them.

/// Whether a field's value is such a list; how many members it has.
pub fn members(value: &[u8]) -> Option<usize> {
    let mut rest = value;
    let mut members = 0;
    loop {
        rest = string(rest)?;
        while let Some(after) = rest.strip_prefix(b";") {
            rest = parameter(after.trim_ascii_start())?;
        }
        members += 1;
        let Some(after) = rest.trim_ascii_start().strip_prefix(b",") else { break };
        rest = after.trim_ascii_start();
    }
    rest.is_empty().then_some(members)
}

/// 4.2.5: what follows a string.
fn string(text: &[u8]) -> Option<&[u8]> {
    let mut rest = text.strip_prefix(b"\"")?;
    loop {
        rest = match rest {
            [b'"', rest @ ..] => return Some(rest),
            [b'\\', b'"' | b'\\', rest @ ..] => rest,
            [b'\\', ..] => return None,
            [b' '..=b'~', rest @ ..] => rest,
            _ => return None,
        };
    }
}

/// 4.2.3.2: what follows `key=integer`.
fn parameter(text: &[u8]) -> Option<&[u8]> {
    let first = text.first().filter(|byte| byte.is_ascii_lowercase() || **byte == b'*')?;
    let is_key = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.*".contains(byte);
    let key = text.iter().position(|byte| !is_key(byte)).filter(|_| is_key(first))?;
    let number = text[key..].strip_prefix(b"=")?;
    let number = number.strip_prefix(b"-").unwrap_or(number);
    let digits = number.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(number.len());
    (1..=15).contains(&digits).then_some(&number[digits..])
}

#[test]
fn a_list_is_told_from_what_is_none() {
    assert_eq!(members(b"\"a\";q=100;w=60, \"b\\\"\";r=0;t=1"), Some(2));
    for none in ["", "a", "\"a\",", "\"a\";q=", "\"a\";Q=1", "\"a\";q=1234567890123456", "\"\u{e9}\"", "\"a\" \"b\""] {
        assert_eq!(members(none.as_bytes()), None, "{none}");
    }
}
