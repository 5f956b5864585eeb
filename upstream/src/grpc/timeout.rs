//! `grpc-timeout`: the deadline on the wire, as the time that remains.

use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue};

const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// How many tries came before this one (gRPC's proposal A6).
const PREVIOUS: HeaderName = HeaderName::from_static("grpc-previous-rpc-attempts");

/// The deadline, or the request's own where that is earlier. One that doesn't parse counts for none.
pub(crate) fn earliest(deadline: Option<Instant>, headers: &HeaderMap, now: Instant) -> Option<Instant> {
    let own = headers.get(TIMEOUT).and_then(parse).and_then(|timeout| now.checked_add(timeout));
    match (deadline, own) {
        (Some(deadline), Some(own)) => Some(deadline.min(own)),
        (deadline, own) => deadline.or(own),
    }
}

/// Writes what remains, over what was there.
pub(crate) fn set_timeout(headers: &mut HeaderMap, remaining: Duration) {
    if let Ok(value) = HeaderValue::try_from(format(remaining)) {
        headers.insert(TIMEOUT, value);
    }
}

/// Says how many tries came before, where any did.
pub(crate) fn set_previous(headers: &mut HeaderMap, tries: u32) {
    if tries > 0 {
        headers.insert(PREVIOUS, tries.into());
    }
}

/// At most eight digits and a unit.
fn parse(value: &HeaderValue) -> Option<Duration> {
    let (unit, digits) = value.as_bytes().split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let amount: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(amount * 3600),
        b'M' => Duration::from_secs(amount * 60),
        b'S' => Duration::from_secs(amount),
        b'm' => Duration::from_millis(amount),
        b'u' => Duration::from_micros(amount),
        b'n' => Duration::from_nanos(amount),
        _ => return None,
    })
}

fn format(remaining: Duration) -> String {
    const MOST: u128 = 99_999_999;
    for (amount, unit) in [(remaining.as_micros(), 'u'), (remaining.as_millis(), 'm')] {
        if amount <= MOST {
            return format!("{amount}{unit}");
        }
    }
    format!("{}S", u128::from(remaining.as_secs()).min(MOST))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<Duration> {
        parse(&HeaderValue::from_str(text).unwrap())
    }

    #[test]
    fn every_unit_is_read() {
        assert_eq!(parsed("2H"), Some(Duration::from_secs(7200)));
        assert_eq!(parsed("3M"), Some(Duration::from_secs(180)));
        assert_eq!(parsed("5S"), Some(Duration::from_secs(5)));
        assert_eq!(parsed("99999999m"), Some(Duration::from_millis(99_999_999)));
        assert_eq!(parsed("7u"), Some(Duration::from_micros(7)));
        assert_eq!(parsed("8n"), Some(Duration::from_nanos(8)));
    }

    #[test]
    fn what_the_specification_forbids_is_not_read() {
        for wrong in ["", "S", "1", "1s", "-1S", "+1S", "123456789m", "1.5S"] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for remaining in
            [Duration::ZERO, Duration::from_micros(1500), Duration::from_secs(15), Duration::from_secs(7200)]
        {
            assert_eq!(parsed(&format(remaining)), Some(remaining));
        }
        assert!(parsed(&format(Duration::MAX)).is_some());
    }

    #[test]
    fn the_earlier_deadline_counts() {
        let now = Instant::now();
        let mut headers = HeaderMap::new();
        set_timeout(&mut headers, Duration::from_secs(1));
        assert_eq!(earliest(Some(now + Duration::from_secs(5)), &headers, now), Some(now + Duration::from_secs(1)));
        assert_eq!(earliest(Some(now), &headers, now), Some(now));
        assert_eq!(earliest(None, &headers, now), Some(now + Duration::from_secs(1)));
        assert_eq!(earliest(None, &HeaderMap::new(), now), None);
    }
}
