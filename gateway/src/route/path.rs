//! One form for every path, before it is compared with templates. What was matched is what is forwarded.
//!
//! Dot segments go (RFC 3986 §5.2.4), slashes in a row become one, escapes of unreserved characters are decoded, other
//! escapes are written in upper case. An escaped slash, backslash or NUL is refused: the gateway and what is behind it
//! could read such a path differently.

use std::borrow::Cow;

/// Why a path is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    #[error("the path must begin with a slash")]
    Relative,
    #[error("the path holds a character that must be escaped")]
    Character,
    #[error("the path holds an incomplete escape")]
    Escape,
    #[error("the path holds an escaped slash, backslash or control character")]
    Ambiguous,
}

/// Brings a path into the form that templates are compared with. Costs one pass and no allocation where it is in that
/// form already, as nearly all are.
///
/// # Errors
/// If the path can be read in two ways, or in none.
pub fn normalise(path: &str) -> Result<Cow<'_, str>, BadPath> {
    let mut before = 0;
    let mut plain = true;
    for &byte in path.as_bytes() {
        match byte {
            b'%' => plain = false,
            b'/' | b'.' if before == b'/' => plain = false,
            b'\\' | 0..=b' ' | 0x7f.. => return Err(BadPath::Character),
            _ => {}
        }
        before = byte;
    }
    if !path.starts_with('/') {
        return Err(BadPath::Relative);
    }
    if plain { Ok(Cow::Borrowed(path)) } else { rewrite(path).map(Cow::Owned) }
}

fn rewrite(path: &str) -> Result<String, BadPath> {
    let path = unescape(path)?;
    let mut out: Vec<&str> = Vec::new();
    let mut directory = true;
    for segment in path.split('/').skip(1) {
        directory = matches!(segment, "" | "." | "..");
        match segment {
            "" | "." => {}
            ".." => _ = out.pop(),
            segment => out.push(segment),
        }
    }
    let mut joined = String::with_capacity(path.len());
    for segment in &out {
        joined.push('/');
        joined.push_str(segment);
    }
    if directory {
        joined.push('/');
    }
    Ok(joined)
}

/// Decodes escapes that never needed to be, and writes the others alike.
fn unescape(path: &str) -> Result<String, BadPath> {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let digits = rest.get(at + 1..at + 3).ok_or(BadPath::Escape)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(BadPath::Escape);
        }
        let byte = u8::from_str_radix(digits, 16).map_err(|_| BadPath::Escape)?;
        match byte {
            b'/' | b'\\' | 0..=0x1f | 0x7f => return Err(BadPath::Ambiguous),
            b'-' | b'.' | b'_' | b'~' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => out.push(char::from(byte)),
            _ => {
                out.push('%');
                out.push_str(&digits.to_ascii_uppercase());
            }
        }
        rest = &rest[at + 3..];
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_in_normal_form_is_left_alone() {
        for path in ["/", "/products/42", "/a.b/c-d_e~f", "/products/", "/a:b;c=d@e"] {
            assert!(matches!(normalise(path), Ok(Cow::Borrowed(same)) if same == path), "{path}");
        }
    }

    #[test]
    fn dots_slashes_and_needless_escapes_go() {
        for (path, normal) in [
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/../../b", "/b"),
            ("/a/..", "/"),
            ("/a/b/.", "/a/b/"),
            ("//a///b", "/a/b"),
            ("/a//", "/a/"),
            ("/%61%2Db", "/a-b"),
            ("/%2e%2e/admin", "/admin"),
            ("/a/%2E%2e/b", "/b"),
            ("/caf%c3%a9", "/caf%C3%A9"),
            ("/.well-known/x", "/.well-known/x"),
            ("/...", "/..."),
            ("/%25", "/%25"),
        ] {
            assert_eq!(normalise(path).as_deref(), Ok(normal), "{path}");
        }
    }

    #[test]
    fn a_path_with_two_readings_is_refused() {
        for (path, why) in [
            ("/a%2fb", BadPath::Ambiguous),
            ("/a%2Fb", BadPath::Ambiguous),
            ("/a%5cb", BadPath::Ambiguous),
            ("/a%00", BadPath::Ambiguous),
            ("/a%0d%0ab", BadPath::Ambiguous),
            ("/a%", BadPath::Escape),
            ("/a%2", BadPath::Escape),
            ("/a%zz", BadPath::Escape),
            ("/a%+1", BadPath::Escape),
            ("/a\\b", BadPath::Character),
            ("/a b", BadPath::Character),
            ("/é", BadPath::Character),
            ("a/b", BadPath::Relative),
            ("*", BadPath::Relative),
            ("", BadPath::Relative),
        ] {
            assert_eq!(normalise(path).err(), Some(why), "{path}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_normal_form_is_its_own_normal_form(path in "/[a-z./%0-9A-F]{0,24}") {
            if let Ok(once) = normalise(&path) {
                let twice = normalise(&once).map(Cow::into_owned);
                proptest::prop_assert_eq!(twice.as_deref(), Ok(&*once));
                proptest::prop_assert!(!once.contains("//") && !once.contains("/../"));
            }
        }
    }
}
