//! Claiming events for a group and settling them.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use events::Envelope;
use time::OffsetDateTime;

/// Unsettled deliveries a member may hold.
pub(crate) const IN_FLIGHT_PER_MEMBER: usize = 1000;
/// Leased deliveries of a group and partition.
pub(crate) const IN_FLIGHT: usize = 1000;
/// Unsettled events (leased, retrying, waiting for their key) of a group and partition.
pub(crate) const UNSETTLED: usize = 10_000;

/// Asks for events.
#[derive(Clone, Debug)]
pub struct Claim {
    pub group: String,
    /// Who asks: a random name a member. What it holds is counted by it, and whether it died with one event or several.
    pub member: String,
    /// At most so many events.
    pub max: usize,
    /// At most so many bytes, but at least one event.
    pub bytes: usize,
}

/// What a claim got.
#[derive(Clone, Debug, Default)]
pub struct Claimed {
    pub leased: Vec<Leased>,
    /// It stopped short of what is there: claim again.
    pub more: bool,
}

/// A delivery, and the lease on it.
#[derive(Clone, Debug)]
pub struct Leased {
    pub token: Token,
    pub envelope: Arc<Envelope>,
    pub partition: u32,
    pub position: u64,
    /// 1 for the first; a release and an expiry that is nobody's fault don't count.
    pub attempt: u32,
    /// How often it came back from the dead letters.
    pub redrive: u32,
    pub first_delivered: OffsetDateTime,
    /// The lease's end, unless it is extended.
    pub until: OffsetDateTime,
}

/// Proves that a delivery is still the settler's. The generation changes when the group is moved, the secret with
/// every delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    pub(crate) generation: u32,
    pub(crate) partition: u32,
    pub(crate) position: u64,
    pub(crate) secret: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a delivery's token")]
pub struct TokenError;

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}.{:x}.{:x}.{:016x}", self.generation, self.partition, self.position, self.secret)
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let mut parts = text.split('.').map(|part| u64::from_str_radix(part, 16).map_err(|_| TokenError));
        let mut part = || parts.next().ok_or(TokenError)?;
        let (generation, partition, position, secret) = (part()?, part()?, part()?, part()?);
        let small = |number: u64| u32::try_from(number).map_err(|_| TokenError);
        let token = Self { generation: small(generation)?, partition: small(partition)?, position, secret };
        // No other spelling of the same: what is told of a token is told under its one name.
        if token.to_string() == text { Ok(token) } else { Err(TokenError) }
    }
}

/// What a settlement says of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Done, durably.
    Ack,
    /// Failed. Again after `delay` (at most 24 h), else by the schedule; never, where it isn't retryable.
    Nack { delay: Option<Duration>, reason: String, retryable: bool },
    /// Given back unstarted; doesn't count as an attempt.
    Release,
    /// Not now: given back, and comes again after `delay` (at most 24 h); doesn't count as an attempt. It keeps its key's
    /// turn.
    Defer { delay: Duration },
    /// Set aside at once.
    Dead { reason: String },
    /// Not settled yet: the lease begins anew.
    Extend,
}

#[derive(Clone, Debug)]
pub struct Settlement {
    pub token: Token,
    pub verb: Verb,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_its_text_form() {
        let token = Token { generation: 3, partition: 255, position: u64::MAX, secret: 7 };
        assert_eq!(token.to_string().parse(), Ok(token));
        for text in
            ["", "1.2.3", "1.2.3.4", "01.2.3.0000000000000004", "+1.2.3.0000000000000004", "1.2.3.0000000000000004.5"]
        {
            assert_eq!(text.parse::<Token>(), Err(TokenError), "{text}");
        }
    }
}
