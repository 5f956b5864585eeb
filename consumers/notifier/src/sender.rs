//! One attempt, from the ledger to the channel and back. Between the channel's answer and the ledger's commit lies the one
//! window in which a process may die with a message sent that its ledger doesn't know of.
//!
//! The attempt runs on a task of its own: a handler that is cancelled doesn't cut it off in that window.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};
use bus::Clock;
use lifecycle::abort_point;
use time::OffsetDateTime;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::{
    channel::{Channels, Letter, Outcome},
    ledger::{Key, Ledger, Seq},
};

/// How much longer than its timeout an attempt may be under way before another may be made: for the two transactions.
const MARGIN: Duration = Duration::from_secs(2);

/// How often, and after which pause, the ledger is told again what became of a message. It can't be told later.
const RECORD_ATTEMPTS: u32 = 8;
const RECORD_PAUSE: Duration = Duration::from_millis(250);

/// Where a test may kill the process: before a message is given to its channel; between the answer and the commit.
pub const ABORT_POINTS: [&str; 2] = ["notifier.intended", "notifier.sent"];

#[derive(Clone)]
pub(crate) struct Sender {
    pub ledger: Ledger,
    pub channels: Arc<Channels>,
    pub clock: Arc<dyn Clock>,
    pub attempts: TaskTracker,
}

/// It isn't sent; it may be attempted again.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unsent {
    pub reason: String,
    pub after: Option<Duration>,
}

impl Sender {
    pub fn now(&self) -> OffsetDateTime {
        self.clock.now()
    }

    /// Until when an attempt that begins now is the caller's alone.
    pub fn until(&self, letter: &Letter) -> OffsetDateTime {
        self.now() + self.channels.timeout(letter.recipient.channel) + MARGIN
    }

    /// Makes the attempt that the ledger has admitted. A failed one may be repeated `wait` later, or when the channel says.
    pub async fn attempt(
        &self,
        seq: Seq,
        letter: Letter,
        permit: OwnedSemaphorePermit,
        wait: Duration,
    ) -> Result<(), Unsent> {
        abort_point(ABORT_POINTS[0]);
        let sender = self.clone();
        let attempt = async move {
            let outcome = sender.channels.send(&letter).await;
            drop(permit);
            if let Outcome::Sent { .. } = outcome {
                abort_point(ABORT_POINTS[1]);
            }
            sender.record(seq, &outcome, wait).await;
            match outcome {
                // Refused for good, it is as done as what is sent: it holds back nobody else.
                Outcome::Sent { .. } | Outcome::Refused { .. } => Ok(()),
                Outcome::Retry { reason, after } => Err(Unsent { reason, after }),
            }
        };
        let attempt = self.attempts.spawn(attempt.in_current_span());
        attempt.await.unwrap_or_else(|_| Err(Unsent { reason: "the attempt panicked".to_owned(), after: None }))
    }

    /// Tells the ledger, again and again where it is away. In the end it is left untold: the event is settled all the same,
    /// so that what was sent isn't sent again as long as this process lives.
    async fn record(&self, seq: Seq, outcome: &Outcome, wait: Duration) {
        for attempt in 1..=RECORD_ATTEMPTS {
            let now = self.now();
            let recorded = match outcome {
                Outcome::Sent { reference } => self.ledger.sent(seq, reference.as_deref(), now).await,
                Outcome::Refused { reason } => self.ledger.failed(seq, reason, now).await,
                Outcome::Retry { reason, after } => {
                    self.ledger.unsent(seq, reason, now + after.unwrap_or(wait), now).await
                }
            };
            match recorded {
                Ok(()) => return,
                Err(error) if attempt == RECORD_ATTEMPTS => {
                    tracing::error!(seq = seq.0, ?outcome, %error, "the ledger doesn't know what became of a message");
                }
                Err(error) => {
                    tracing::warn!(seq = seq.0, %error, "the ledger can't be told at the moment");
                    tokio::time::sleep(RECORD_PAUSE * attempt).await;
                }
            }
        }
    }
}

impl Key {
    /// What providers and receivers may recognise a repeated message by: `msg_` and 32 hexadecimal digits.
    pub fn id(&self) -> String {
        // No part can hold the separator.
        let parts = [&self.source, &self.event, &self.rule, self.channel.as_str(), &self.recipient];
        let hash = digest(&SHA256, parts.join("\0").as_bytes());
        let mut text = [0; 32];
        telemetry::write_hex(&hash.as_ref()[..16], &mut text);
        format!("msg_{}", String::from_utf8_lossy(&text))
    }
}
