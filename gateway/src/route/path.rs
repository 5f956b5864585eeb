//! One form for every path, before it is compared with templates. What was matched is what is forwarded.
//!
//! Dot segments go (RFC 3986 §5.2.4), slashes in a row become one, escapes of unreserved characters are decoded, other
//! escapes are written in upper case. Nothing is decoded twice, and a slash at the end stays: `/a/` is not `/a`. Refused is
//! what the gateway and whoever is behind it could read differently: an escaped slash, backslash or control character, dot
//! segments with parameters (`/..;x/`), escapes that are not UTF-8. The query is nobody's affair here.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

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
    #[error("the path holds a dot segment with parameters")]
    Parameters,
    #[error("the path doesn't decode to UTF-8")]
    Encoding,
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
            // `/.;` and `/..;`, found below.
            b';' if before == b'.' => plain = false,
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
            // Servlet containers cut parameters off before they look for dots.
            segment if segment.starts_with(".;") || segment.starts_with("..;") => return Err(BadPath::Parameters),
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
    let mut is_ascii = true;
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
                is_ascii &= byte.is_ascii();
                out.push('%');
                out.push_str(&digits.to_ascii_uppercase());
            }
        }
        rest = &rest[at + 3..];
    }
    out.push_str(rest);
    // Overlong forms of a slash or a dot are no UTF-8 either.
    if !is_ascii && percent_decode_str(&out).decode_utf8().is_err() {
        return Err(BadPath::Encoding);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_path_in_normal_form_is_left_alone() {
        for path in ["/", "/products/42", "/a.b/c-d_e~f", "/products/", "/a:b;c=d@e", "/a;v=1/b;x"] {
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
            // Once, not twice.
            ("/%252e%252e/a", "/%252e%252e/a"),
            ("/a%252fb", "/a%252fb"),
            ("/%3f%23%3B", "/%3F%23%3B"),
            ("/a;x=1/../b", "/b"),
            ("/a.;x", "/a.;x"),
            ("/%2e/%2E%2e/%2e%2E/", "/"),
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
            ("/a%1", BadPath::Escape),
            ("/%7f", BadPath::Ambiguous),
            ("/a/..;/b", BadPath::Parameters),
            ("/a/.;x/b", BadPath::Parameters),
            ("/a/%2e%2e;x=1/b", BadPath::Parameters),
            ("/a/.%2e;", BadPath::Parameters),
            // A slash and a dot in overlong form, half a letter, a surrogate.
            ("/%c0%af", BadPath::Encoding),
            ("/%c0%ae%c0%ae/", BadPath::Encoding),
            ("/caf%c3", BadPath::Encoding),
            ("/%ed%a0%80", BadPath::Encoding),
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

    /// Paths made of what paths are attacked with.
    fn hostile() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "/", "//", ".", "..", "%2e", "%2E", "%2f", "%5c", "%00", "%25", "%252e", ";", "a", "b", "%61", "%C3%A9",
            "%c0", ":", "~", "%7E", "?", "%3b", "%", "\\", "\u{e9}",
        ]);
        prop::collection::vec(piece, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn a_normal_form_is_its_own_and_leads_nowhere_up(path in hostile()) {
            let Ok(once) = normalise(&path) else { return Ok(()) };
            let twice = normalise(&once).map(Cow::into_owned);
            prop_assert_eq!(twice.as_deref(), Ok(&*once));
            prop_assert!(once.starts_with('/') && !once.contains("//"));
            for segment in once.split('/') {
                let decoded = percent_decode_str(segment).decode_utf8().unwrap();
                prop_assert!(!matches!(&*decoded, "." | ".."), "{} in {}", segment, once);
                prop_assert!(!decoded.contains(['/', '\\', '\0']), "{} in {}", segment, once);
                let without_parameters = decoded.split(';').next().unwrap();
                prop_assert!(segment.contains("%3B") || !matches!(without_parameters, "." | ".."), "{} in {}", segment, once);
            }
        }

        #[test]
        fn any_text_is_refused_or_brought_into_normal_form(path in "\\PC{0,40}") {
            if let Ok(once) = normalise(&path) {
                let twice = normalise(&once).map(Cow::into_owned);
                prop_assert_eq!(twice.as_deref(), Ok(&*once));
            }
        }
    }
}
