//! `Cache-Control` (RFC 9111, section 5.2), in requests and in answers, and `CDN-Cache-Control` (RFC 9213). Lenient in
//! what only makes it cautious: a directive that can't be read is taken for the stricter of what it could mean.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// Longer than anything is kept: what is said to be good for longer is good for so long (RFC 9111, section 1.2.2).
const LONGEST: u64 = 1 << 31;

pub const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");

/// What a client asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    pub no_store: bool,
    pub no_cache: bool,
    pub only_if_cached: bool,
    pub max_age: Option<Duration>,
    pub min_fresh: Option<Duration>,
    /// Some(MAX) without a number: however stale.
    pub max_stale: Option<Duration>,
    pub stale_if_error: Option<Duration>,
}

/// What an answer says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Said {
    pub no_store: bool,
    /// With a list of fields, too: leaving them out of a stored answer could break it.
    pub no_cache: bool,
    pub private: bool,
    pub public: bool,
    pub must_revalidate: bool,
    pub proxy_revalidate: bool,
    pub must_understand: bool,
    pub max_age: Option<Duration>,
    pub s_maxage: Option<Duration>,
    pub stale_while_revalidate: Option<Duration>,
    pub stale_if_error: Option<Duration>,
    /// There is a field at all.
    pub present: bool,
}

impl Asked {
    pub fn read(headers: &HeaderMap) -> Self {
        let mut asked = Self::default();
        let mut present = false;
        for value in headers.get_all(header::CACHE_CONTROL) {
            present = true;
            each(value, |name, argument| match name {
                "no-store" => asked.no_store = true,
                "no-cache" => asked.no_cache = true,
                "only-if-cached" => asked.only_if_cached = true,
                "max-age" => asked.max_age = Some(seconds(argument).unwrap_or_default()),
                "min-fresh" => asked.min_fresh = seconds(argument),
                "max-stale" if argument.is_none() => asked.max_stale = Some(Duration::MAX),
                "max-stale" => asked.max_stale = seconds(argument),
                "stale-if-error" => asked.stale_if_error = seconds(argument),
                _ => {}
            });
        }
        // RFC 9111, section 5.4: only of those who know no better.
        if !present {
            let pragma = headers.get_all(header::PRAGMA).iter();
            asked.no_cache = pragma.flat_map(words).any(|word| word.eq_ignore_ascii_case(b"no-cache"));
        }
        asked
    }
}

impl Said {
    /// What is said to this cache (RFC 9213, section 2.1), else to all.
    pub fn read(headers: &HeaderMap) -> Self {
        let targeted = Self::of(headers, &CDN_CACHE_CONTROL);
        if targeted.present { targeted } else { Self::of(headers, &header::CACHE_CONTROL) }
    }

    fn of(headers: &HeaderMap, field: &HeaderName) -> Self {
        let mut said = Self::default();
        for value in headers.get_all(field) {
            said.present = true;
            each(value, |name, argument| match name {
                "no-store" => said.no_store = true,
                "no-cache" => said.no_cache = true,
                "private" => said.private = true,
                "public" => said.public = true,
                "must-revalidate" => said.must_revalidate = true,
                "proxy-revalidate" => said.proxy_revalidate = true,
                "must-understand" => said.must_understand = true,
                // Said twice, the shorter one counts; what is no number is stale (section 4.2.1).
                "max-age" => said.max_age = shorter(said.max_age, seconds(argument)),
                "s-maxage" => said.s_maxage = shorter(said.s_maxage, seconds(argument)),
                "stale-while-revalidate" => said.stale_while_revalidate = Some(seconds(argument).unwrap_or_default()),
                "stale-if-error" => said.stale_if_error = Some(seconds(argument).unwrap_or_default()),
                _ => {}
            });
        }
        said
    }
}

fn shorter(before: Option<Duration>, now: Option<Duration>) -> Option<Duration> {
    let now = now.unwrap_or_default();
    Some(before.map_or(now, |before| before.min(now)))
}

/// Delta-seconds (section 1.2.2), also in quotes, where they don't belong but are meant.
pub fn seconds(argument: Option<&[u8]>) -> Option<Duration> {
    let text = argument?;
    let text = text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).unwrap_or(text);
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = text
        .iter()
        .fold(0_u64, |number, digit| number.saturating_mul(10).saturating_add(u64::from(digit - b'0')).min(LONGEST));
    Some(Duration::from_secs(number))
}

/// The members of a comma-separated field, quoted strings in one piece.
pub fn words(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    let mut rest = value.as_bytes();
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (mut quoted, mut escaped) = (false, false);
        let end = rest.iter().position(|byte| {
            let ends = *byte == b',' && !quoted;
            if escaped {
                escaped = false;
            } else if quoted && *byte == b'\\' {
                escaped = true;
            } else if *byte == b'"' {
                quoted = !quoted;
            }
            ends
        });
        let (word, tail) = match end {
            Some(end) => (&rest[..end], &rest[end + 1..]),
            None => (rest, &rest[rest.len()..]),
        };
        rest = tail;
        Some(word.trim_ascii())
    })
    .filter(|word| !word.is_empty())
}

/// Each directive by its name in lower case, with its argument.
fn each(value: &HeaderValue, mut take: impl FnMut(&str, Option<&[u8]>)) {
    for word in words(value) {
        let (name, argument) = match word.iter().position(|byte| *byte == b'=') {
            // Space around the sign doesn't belong there; what it means is clear, and the argument is none.
            Some(at) => (word[..at].trim_ascii_end(), Some(&word[at + 1..])),
            None => (word, None),
        };
        // The longest that is known has 22 letters.
        let mut lower = [0; 32];
        let Some(lower) = lower.get_mut(..name.len()) else { continue };
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        if let Ok(name) = std::str::from_utf8(lower) {
            take(name, argument);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(values: &[&'static str]) -> Said {
        let fields = values.iter().map(|value| (header::CACHE_CONTROL, HeaderValue::from_static(value)));
        Said::read(&fields.collect())
    }

    fn asked(values: &[&'static str]) -> Asked {
        let fields = values.iter().map(|value| (header::CACHE_CONTROL, HeaderValue::from_static(value)));
        Asked::read(&fields.collect())
    }

    const fn secs(number: u64) -> Option<Duration> {
        Some(Duration::from_secs(number))
    }

    #[test]
    fn directives_are_read_whatever_their_form() {
        assert_eq!(
            said(&["Max-Age=60 , PUBLIC"]),
            Said { max_age: secs(60), public: true, present: true, ..said(&[]) }
        );
        assert_eq!(said(&["max-age=\"60\""]).max_age, secs(60));
        assert_eq!(said(&["max-age=99999999999999999999"]).max_age, secs(LONGEST));
        assert!(said(&["private=\"set-cookie, x\", no-cache=\"a\""]).private);
        assert_eq!(said(&["ext=\"max-age=5, no-store\", max-age=7"]).max_age, secs(7), "what is quoted is one word");
        assert!(!said(&["ext=\"a, no-store\""]).no_store);
        assert_eq!(said(&["foo", "s-maxage=3"]).s_maxage, secs(3));
    }

    #[test]
    fn what_can_not_be_read_is_the_stricter_of_what_it_could_mean() {
        for odd in ["max-age", "max-age=", "max-age=-5", "max-age=1.5", "max-age=a", "max-age = 5", "max-age=5 5"] {
            assert_eq!(said(&[odd]).max_age, secs(0), "{odd}");
        }
        assert_eq!(said(&["max-age=60, max-age=5"]).max_age, secs(5));
        assert_eq!(asked(&["max-age=x"]).max_age, secs(0));
    }

    #[test]
    fn a_client_may_take_what_is_stale() {
        assert_eq!(asked(&["max-stale"]).max_stale, Some(Duration::MAX));
        assert_eq!(asked(&["max-stale=5"]).max_stale, secs(5));
        assert_eq!(asked(&["min-fresh=5, only-if-cached"]).min_fresh, secs(5));
    }

    #[test]
    fn pragma_counts_only_alone() {
        let mut headers = HeaderMap::from_iter([(header::PRAGMA, HeaderValue::from_static("foo, No-Cache"))]);
        assert!(Asked::read(&headers).no_cache);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("max-age=5"));
        assert!(!Asked::read(&headers).no_cache);
    }

    #[test]
    fn what_is_said_to_this_cache_goes_before_what_is_said_to_all() {
        let headers = HeaderMap::from_iter([
            (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
            (CDN_CACHE_CONTROL, HeaderValue::from_static("max-age=9")),
        ]);
        let said = Said::read(&headers);
        assert!(!said.no_store && said.max_age == secs(9));
    }
}
