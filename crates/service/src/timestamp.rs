//! Times as messages carry them.

use prost_types::Timestamp;
use time::OffsetDateTime;

/// A time as `google.protobuf.Timestamp`.
pub fn timestamp(time: OffsetDateTime) -> Timestamp {
    // Below a thousand million, so it always fits.
    Timestamp { seconds: time.unix_timestamp(), nanos: i32::try_from(time.nanosecond()).unwrap_or_default() }
}
