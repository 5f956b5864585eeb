//! Durations as people write them: `500ms`, `5s`, `15m`, `12h`, `7d`.

use std::time::Duration;

const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// A whole number and a unit.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, millis) = UNITS.iter().find(|(name, _)| *name == unit)?;
    Some(Duration::from_millis(number.parse::<u64>().ok()?.checked_mul(*millis)?))
}

/// In the largest unit that says it whole: what [`parse`] reads.
pub(crate) fn text(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let whole = UNITS.iter().find(|(_, unit)| millis != 0 && millis.is_multiple_of(*unit));
    whole.map_or_else(|| "0s".to_owned(), |(name, unit)| format!("{}{name}", millis / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_survives_its_text_form() {
        for written in ["1ms", "1500ms", "90s", "15m", "36h", "7d", "0s"] {
            assert_eq!(text(parse(written).unwrap()), written);
        }
        assert_eq!(text(parse("604800s").unwrap()), "7d");
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for written in
            ["", "5", "s", "1.5s", "-1s", "+1s", "5 s", "5S", "1w", "99999999999999999999s", "999999999999999999d"]
        {
            assert_eq!(parse(written), None, "{written}");
        }
    }
}
