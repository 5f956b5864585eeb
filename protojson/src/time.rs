//! Timestamps (RFC 3339) and durations, as JSON shows them.

/// Days from 0000-03-01 to 1970-01-01, in a calendar whose years end with February.
const EPOCH: i64 = 719_468;
/// 0001-01-01T00:00:00Z and 9999-12-31T23:59:59Z.
pub const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
/// About 10,000 years.
pub const DURATION: i64 = 315_576_000_000;

/// Days since 1970-01-01 of a day of the Gregorian calendar. (The years are counted from March, so that a leap day is the
/// last of its year, and grouped by four hundred, which are always as long.)
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + day_of_year - EPOCH
}

/// Year, month and day of so many days since 1970-01-01.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + EPOCH;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + i64::from(month <= 2), month, day)
}

fn month_len(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn number(digits: &[u8]) -> Option<i64> {
    let mut value = 0;
    for byte in digits {
        if !byte.is_ascii_digit() {
            return None;
        }
        value = value * 10 + i64::from(byte - b'0');
    }
    Some(value)
}

/// Billionths from `.5`, and what follows.
fn fraction(text: &[u8]) -> Option<(i32, &[u8])> {
    let Some((b'.', rest)) = text.split_first() else { return Some((0, text)) };
    let len = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if len == 0 || len > 9 {
        return None;
    }
    let nanos = number(&rest[..len])? * 10_i64.pow(9 - u32::try_from(len).ok()?);
    Some((nanos.try_into().ok()?, &rest[len..]))
}

/// Seconds and billionths of a timestamp; none for one that isn't of the usual form.
pub fn timestamp(text: &[u8]) -> Option<(i64, i32)> {
    let (start, rest) = text.split_first_chunk::<19>()?;
    let fixed = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if !fixed.iter().all(|(at, byte)| start[*at] == *byte) {
        return None;
    }
    let part = |at: usize| number(&start[at..at + 2]);
    let (year, month, day) = (number(&start[..4])?, part(5)?, part(8)?);
    let (hour, minute, second) = (part(11)?, part(14)?, part(17)?);
    if !(1..=12).contains(&month) || day < 1 || day > month_len(year, month) || hour > 23 || minute > 59 || second > 59
    {
        return None;
    }
    let (nanos, offset) = fraction(rest)?;
    let offset = match offset {
        b"Z" => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (number(&[*h1, *h2])?, number(&[*m1, *m2])?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let seconds = hours * 3600 + minutes * 60;
            if *sign == b'-' { -seconds } else { seconds }
        }
        _ => return None,
    };
    let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset;
    SECONDS.contains(&seconds).then_some((seconds, nanos))
}

/// Seconds and billionths of a duration such as `-1.5s`, which have the same sign; none for what isn't of that form.
pub fn duration(text: &[u8]) -> Option<(i64, i32)> {
    let (negative, text) = text.strip_prefix(b"-").map_or((false, text), |rest| (true, rest));
    let len = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if len == 0 || len > 12 {
        return None;
    }
    let seconds = number(&text[..len])?;
    let (nanos, b"s") = fraction(&text[len..])? else { return None };
    let sign = if negative { -1 } else { 1 };
    (seconds <= DURATION).then_some((seconds * sign, nanos * sign as i32))
}

/// Appends a timestamp, without quotes.
pub fn write_timestamp(seconds: i64, nanos: u32, text: &mut Vec<u8>) {
    let (year, month, day) = date(seconds.div_euclid(86_400));
    let time = seconds.rem_euclid(86_400);
    digits(year, 4, text);
    for (mark, value) in [(b'-', month), (b'-', day), (b'T', time / 3600), (b':', time / 60 % 60), (b':', time % 60)] {
        text.push(mark);
        digits(value, 2, text);
    }
    write_fraction(nanos, text);
    text.push(b'Z');
}

/// Appends a duration, without quotes. Seconds and billionths must have the same sign.
pub fn write_duration(seconds: i64, nanos: i32, text: &mut Vec<u8>) {
    if seconds < 0 || nanos < 0 {
        text.push(b'-');
    }
    text.extend_from_slice(itoa::Buffer::new().format(seconds.unsigned_abs()).as_bytes());
    write_fraction(nanos.unsigned_abs(), text);
    text.push(b's');
}

/// In three, six or nine digits, or none.
fn write_fraction(nanos: u32, text: &mut Vec<u8>) {
    let (value, width) = match nanos {
        0 => return,
        _ if nanos.is_multiple_of(1_000_000) => (nanos / 1_000_000, 3),
        _ if nanos.is_multiple_of(1_000) => (nanos / 1_000, 6),
        _ => (nanos, 9),
    };
    text.push(b'.');
    digits(i64::from(value), width, text);
}

fn digits(mut value: i64, width: usize, text: &mut Vec<u8>) {
    let start = text.len();
    text.resize(start + width, b'0');
    for byte in text[start..].iter_mut().rev() {
        *byte = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_comes_back() {
        for day in (SECONDS.start() / 86_400)..=(SECONDS.end() / 86_400) {
            let (year, month, of_month) = date(day);
            assert!((1..=9999).contains(&year) && (1..=month_len(year, month)).contains(&of_month));
            assert_eq!(days(year, month, of_month), day);
        }
    }

    #[test]
    fn times_are_read_and_written() {
        for (text, seconds, nanos) in [
            ("1970-01-01T00:00:00Z", 0, 0),
            ("0001-01-01T00:00:00Z", *SECONDS.start(), 0),
            ("9999-12-31T23:59:59.999999999Z", *SECONDS.end(), 999_999_999),
            ("2000-02-29T12:34:56.500Z", 951_827_696, 500_000_000),
            ("1969-12-31T23:59:59.000001Z", -1, 1_000),
        ] {
            assert_eq!(timestamp(text.as_bytes()), Some((seconds, nanos)), "{text}");
            let mut written = Vec::new();
            write_timestamp(seconds, nanos as u32, &mut written);
            assert_eq!(String::from_utf8(written).unwrap(), text);
        }
        assert_eq!(timestamp(b"1970-01-01T01:30:00.5+01:30"), Some((0, 500_000_000)));
        for text in ["2001-02-29T00:00:00Z", "1970-01-01T24:00:00Z", "1970-01-01t00:00:00Z", "1970-01-01T00:00:00", ""]
        {
            assert_eq!(timestamp(text.as_bytes()), None, "{text}");
        }
    }
}
