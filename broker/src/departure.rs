//! When a stream has to end although its client would stay: after its time, so that load spreads over nodes again and who
//! was let in shows again that it still may, when it is its turn in a drain, which sends clients away one by one, or when this
//! node has too much to bear.

use std::time::Duration;

use lifecycle::Shutdown;
use tokio::time::{Instant, sleep_until};

use crate::{access::Caller, overload::Seat, settings::Settings, shared::Shared, told::What};

/// How long a client shall wait that was sent away, in milliseconds: not all at once.
const RETRY: std::ops::RangeInclusive<u64> = 200..=8_000;

pub(crate) struct Departure {
    shutdown: Shutdown,
    /// When it is rotated away.
    end: Instant,
    /// Over how long a drain is spread.
    drain: Duration,
    /// Its turn in a drain.
    leaves: Option<Instant>,
    /// Where it may be sent away from.
    seat: Option<Seat>,
}

/// Why it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    Drain,
    Rotated,
    /// This node has too much to bear.
    Overload,
}

impl Departure {
    /// That of a client who follows from now on, and may be sent away.
    pub(crate) fn of(shared: &Shared, caller: &Caller) -> Self {
        let seat = Some(shared.overload.sit(caller.subject.is_some()));
        Self { seat, ..Self::new(&shared.shutdown, &shared.settings) }
    }

    /// That of a stream that begins now.
    pub(crate) fn new(shutdown: &Shutdown, settings: &Settings) -> Self {
        let end = Instant::now() + settings.rotation.mul_f64(rand::random_range(0.9..1.1));
        Self { shutdown: shutdown.clone(), end, drain: settings.drain, leaves: None, seat: None }
    }

    /// Waits until it is time. May be cancelled and called again.
    pub(crate) async fn due(&mut self) -> Why {
        loop {
            let turn = self.leaves.map_or(self.end, |leaves| leaves.min(self.end));
            tokio::select! {
                biased;
                () = self.shutdown.dropping().cancelled() => return Why::Drain,
                () = sent_away(self.seat.as_ref()) => return Why::Overload,
                () = sleep_until(turn) => break,
                () = self.shutdown.draining().cancelled(), if self.leaves.is_none() => {
                    self.leaves = Some(Instant::now() + self.drain.mul_f64(rand::random_range(0.0..1.0)));
                }
            }
        }
        if self.shutdown.draining().is_cancelled() { Why::Drain } else { Why::Rotated }
    }

    /// Its client was told something: of an event, that counts where somebody has to go.
    pub(crate) fn told(&self, what: &What) {
        if let (What::Event(event), Some(seat)) = (what, &self.seat) {
            seat.told(event.envelope.priority);
        }
    }

    /// How long a client that is sent away shall wait.
    pub(crate) fn retry_after() -> Duration {
        Duration::from_millis(rand::random_range(RETRY))
    }
}

async fn sent_away(seat: Option<&Seat>) {
    match seat {
        Some(seat) => seat.sent_away().await,
        None => std::future::pending().await,
    }
}
