//! Durations as operators write them: `300ms`, `2s`, `5m`, `1h`. For `#[serde(with = …)]`.

use std::time::Duration;

use serde::{Deserialize as _, Deserializer, de::Error as _};

/// Reads a duration; a bare number is refused, because nobody agrees on its unit.
pub fn parse(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong(text))?;
    let milliseconds: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong(text)),
    };
    number.checked_mul(milliseconds).map(Duration::from_millis).ok_or_else(|| wrong(text))
}

pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

/// For an `Option<Duration>` with `#[serde(default, deserialize_with = "duration::option")]`.
pub fn option<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    Option::<String>::deserialize(deserializer)?.map(|text| parse(&text).map_err(D::Error::custom)).transpose()
}

fn wrong(text: &str) -> String {
    format!("`{text}` is not a duration such as 300ms, 2s, 5m or 1h")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_needs_a_number_and_a_unit() {
        assert_eq!(parse("300ms"), Ok(Duration::from_millis(300)));
        assert_eq!(parse("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(parse("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(parse("1h"), Ok(Duration::from_secs(3600)));
        for wrong in ["", "5", "s", "-1s", "1.5s", "1 s", "1d", "99999999999999999999s", "18446744073709551615h"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
