//! Times and durations, as protobuf has them and as we do.

use std::time::Duration;

use prost_types::Timestamp;
use time::OffsetDateTime;

use crate::{problem::Problem, query::refuse};

const NANOS: i128 = 1_000_000_000;
/// The first and the last second of protobuf's times: of the years 1 and 9999.
const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

pub(super) fn timestamp(time: OffsetDateTime) -> Timestamp {
    // Both are counted from 1970, and nanoseconds upwards from the second.
    Timestamp { seconds: time.unix_timestamp(), nanos: i32::try_from(time.nanosecond()).unwrap_or(0) }
}

/// The moment so many milliseconds after 1970.
pub(super) fn of_millis(millis: i64) -> Timestamp {
    let nanos = i32::try_from(millis.rem_euclid(1000) * 1_000_000).unwrap_or(0);
    Timestamp { seconds: millis.div_euclid(1000), nanos }
}

pub(super) fn time(field: &str, timestamp: Timestamp) -> Result<OffsetDateTime, Problem> {
    let Timestamp { seconds, nanos } = timestamp;
    let refused = || refuse(field, "must be a time of the years 1 to 9999");
    if !SECONDS.contains(&seconds) || !(0..1_000_000_000).contains(&nanos) {
        return Err(refused());
    }
    let nanos = i128::from(seconds) * NANOS + i128::from(nanos);
    OffsetDateTime::from_unix_timestamp_nanos(nanos).map_err(|_| refused())
}

pub(super) fn wire_duration(duration: Duration) -> prost_types::Duration {
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    prost_types::Duration { seconds, nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0) }
}

/// A duration of 0 to the longest.
pub(super) fn duration(field: &str, duration: prost_types::Duration, longest: Duration) -> Result<Duration, Problem> {
    let refused = || refuse(field, format!("must be a duration of 0 to {}", crate::duration::text(longest)));
    let (Ok(seconds), Ok(nanos)) = (u64::try_from(duration.seconds), u32::try_from(duration.nanos)) else {
        return Err(refused());
    };
    let read = Duration::from_secs(seconds).checked_add(Duration::from_nanos(nanos.into()));
    read.filter(|duration| nanos < 1_000_000_000 && *duration <= longest).ok_or_else(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_survives_its_wire_form() {
        for nanos in [0, 1, -1, 1_795_000_000_123_456_789, -62_135_596_800_000_000_000] {
            let moment = OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap();
            assert_eq!(time("time", timestamp(moment)), Ok(moment), "{nanos}");
        }
        assert_eq!(of_millis(-1), Timestamp { seconds: -1, nanos: 999_000_000 });
    }

    #[test]
    fn what_is_out_of_range_is_refused() {
        for (seconds, nanos) in [(i64::MAX, 0), (253_402_300_800, 0), (0, -1), (0, 1_000_000_000)] {
            assert!(time("time", Timestamp { seconds, nanos }).is_err(), "{seconds} {nanos}");
        }
        let minute = Duration::from_secs(60);
        for (seconds, nanos) in [(-1, 0), (61, 0), (60, 1), (0, -1), (i64::MAX, i32::MAX)] {
            assert!(duration("wait", prost_types::Duration { seconds, nanos }, minute).is_err(), "{seconds} {nanos}");
        }
        assert_eq!(duration("wait", wire_duration(minute), minute), Ok(minute));
    }
}
