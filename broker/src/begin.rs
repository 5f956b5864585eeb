//! Where to begin, as clients write it: `latest`, `earliest`, `-PT5M` (ISO 8601: so long ago), a time as in RFC 3339, or a
//! cursor.

use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{hub::Begin, problem::Problem, seal::Seal};

/// `from`: anything but a cursor.
pub(crate) fn from(text: &str) -> Option<Begin> {
    match text {
        "latest" => Some(Begin::Latest),
        "earliest" => Some(Begin::Earliest),
        _ => match text.strip_prefix('-') {
            Some(ago) => OffsetDateTime::now_utc().checked_sub(duration(ago)?).map(Begin::Time),
            None => OffsetDateTime::parse(text, &Rfc3339).ok().map(Begin::Time),
        },
    }
}

/// A cursor, or what [`from`] reads.
pub(crate) fn any(text: &str, seal: &Seal) -> Result<Begin, Problem> {
    match from(text) {
        Some(begin) => Ok(begin),
        None => Ok(Begin::Cursor(seal.read(text)?)),
    }
}

/// `P1DT2H3M4S`, with whole numbers; at least one of them.
fn duration(text: &str) -> Option<Duration> {
    let text = text.strip_prefix('P')?;
    let (days, clock) = text.split_once('T').unwrap_or((text, ""));
    if text.ends_with('T') || text.is_empty() {
        return None;
    }
    let mut seconds = 0_i64;
    for (part, units) in [(days, &[('D', 86_400)][..]), (clock, &[('H', 3_600), ('M', 60), ('S', 1)])] {
        let mut rest = part;
        for &(unit, length) in units {
            let Some((number, after)) = rest.split_once(unit) else { continue };
            let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
            let number: i64 = if digits { number.parse().ok()? } else { return None };
            seconds = seconds.checked_add(number.checked_mul(length)?)?;
            rest = after;
        }
        if !rest.is_empty() {
            return None;
        }
    }
    Some(Duration::seconds(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_iso_8601() {
        for (text, seconds) in [("PT5M", 300), ("P7D", 604_800), ("P1DT2H3M4S", 93_784), ("PT0S", 0), ("PT90S", 90)] {
            assert_eq!(duration(text), Some(Duration::seconds(seconds)), "{text}");
        }
        for text in ["", "P", "PT", "P1DT", "5M", "PT5", "PT-5M", "P1M", "PT1.5S", "PT5M1H", "PT99999999999999999999S"]
        {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_beginning_is_refused() {
        assert_eq!(from("latest"), Some(Begin::Latest));
        let any = |text: &str| any(text, &Seal::default());
        assert!(matches!(any("2026-11-21T06:00:00Z"), Ok(Begin::Time(_))));
        assert!(matches!(any("AQ"), Ok(Begin::Cursor(_))));
        for text in ["", "newest", "-5m", "-PT9999999999999S", "2026-11-21"] {
            assert!(any(text).is_err(), "{text}");
        }
    }
}
