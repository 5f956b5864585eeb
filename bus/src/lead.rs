//! One holder at a time, by name: a lease whose numbers only rise, and publishes that a later holder shuts out.
//!
//! Who stood still past its lease's end may not know that somebody else has it by now. So what it publishes carries the
//! lease's number, and a partition that has seen a later one refuses it: the sequencers of Chubby (Burrows 2006, section
//! 2.4), which others call fencing tokens.

use std::{ops::RangeInclusive, time::Duration};

use crate::Error;

/// A lease's name and number, as a publish carries it ([`crate::PublishOptions::fence`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    pub name: String,
    /// Rises with each holder, and where one had to begin again.
    pub number: u64,
}

const MAX_NAME: usize = 64;
/// How long a lease may be asked for.
const TIMES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(12 * 3600);

/// # Errors
/// [`Error::Invalid`].
pub(crate) fn check(name: &str, time: Duration) -> Result<(), Error> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if !(1..=MAX_NAME).contains(&name.len()) || !name.bytes().all(allowed) {
        return Err(Error::Invalid(format!("name: must be 1 to {MAX_NAME} of A-Z, a-z, 0-9, '.', '_' and '-'")));
    }
    if !TIMES.contains(&time) {
        return Err(Error::Invalid("time: must be 1 s to 12 h".to_owned()));
    }
    Ok(())
}
