use time::OffsetDateTime;

/// A parameter: made from `i64`, `i32`, `bool` (0 or 1), `&str`, `String`, `Vec<u8>`, `&[u8]`, and `Option` of these.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Integer(i64),
    Text(String),
    Bytes(Vec<u8>),
}

/// A row of a result.
pub struct Row(());

impl Row {
    // get::<T>(column) where T is i64, bool, String, Vec<u8>, or Option of these
    pub fn get<T>(&self, _column: &str) -> Result<T, crate::Error> {
        todo!()
    }
}

/// Microseconds since 1970, for storing.
pub fn micros(time: OffsetDateTime) -> i64 {
    (time.unix_timestamp_nanos() / 1_000) as i64
}

/// The time that was stored as microseconds since 1970.
pub fn from_micros(micros: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1_000).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}
