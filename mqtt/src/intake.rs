//! What comes in goes into the bus, in its order, and is acknowledged once it is recorded.

use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bus::{Bus, Error, Fence, Outcome, PublishOptions, Refused};
use events::Envelope;
use rumqttc::{AsyncClient, ManualAck, PubAckReason, Publish, QoS};
use tokio::sync::mpsc;

use crate::{
    known::Known,
    message::{Rejected, is_own},
    metrics::{self, Taken},
    plan::Plan,
};

/// Events that are published at once, and their bytes of data, about.
const BATCH: usize = 64;
const BATCH_BYTES: usize = 512 * 1024;
/// How long the bus is given before it is asked again: longer each time.
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What came over a connection. The broker's packet identifiers are good on one connection alone.
#[derive(Debug)]
pub(crate) enum Came {
    /// A connection begins; whether the broker has kept the session.
    Connected { session: bool },
    Message {
        message: Box<Publish>,
        /// The how manieth.
        connection: u64,
    },
}

/// Who takes messages into the bus.
pub(crate) struct Intake<'a> {
    pub bus: &'a Bus,
    pub plan: &'a Plan,
    pub source: &'a str,
    pub known: Known,
    /// The lease that this is done under, where there is one.
    pub fence: Option<Fence>,
    pub client: AsyncClient,
    /// The how manieth it is now.
    pub connection: Arc<AtomicU64>,
}

/// What a message means to the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    Event,
    Rejection,
    /// An event that this dispatcher gave to the broker, and that came back: it is in the bus.
    Own,
}

/// The lease is somebody else's.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outlived;

impl Intake<'_> {
    /// Until nothing more comes.
    ///
    /// # Errors
    /// Once somebody else has the lease: nothing more may be written.
    pub(crate) async fn run(mut self, mut came: mpsc::Receiver<Came>) -> Result<(), Outlived> {
        let mut next = None;
        loop {
            let first = match next.take() {
                Some(first) => first,
                None => match came.recv().await {
                    Some(first) => first,
                    None => return Ok(()),
                },
            };
            let mut messages = match first {
                Came::Connected { session } => {
                    if !session {
                        self.known.forget();
                    }
                    continue;
                }
                Came::Message { message, connection } => vec![(*message, connection)],
            };
            let mut bytes = messages[0].0.payload.len();
            while messages.len() < BATCH && bytes < BATCH_BYTES {
                match came.try_recv() {
                    Ok(Came::Message { message, connection }) => {
                        bytes += message.payload.len();
                        messages.push((*message, connection));
                    }
                    Ok(other) => {
                        next = Some(other);
                        break;
                    }
                    Err(_) => break,
                }
            }
            self.take(messages).await?;
        }
    }

    async fn take(&mut self, messages: Vec<(Publish, u64)>) -> Result<(), Outlived> {
        let mut meanings = Vec::with_capacity(messages.len());
        let mut events = Vec::with_capacity(messages.len());
        for (message, _) in &messages {
            let (meaning, event) = self.meaning(message);
            meanings.push(meaning);
            events.extend(event);
        }
        let mut outcomes = self.record(events).await?.into_iter();
        for ((message, connection), meaning) in messages.iter().zip(meanings) {
            let outcome = if meaning == Meaning::Own { None } else { outcomes.next() };
            let rejected = meaning == Meaning::Rejection;
            let refused = rejected || matches!(outcome, Some(Err(_)));
            let taken = match outcome {
                None => Taken::Own,
                Some(Ok(true)) => Taken::Duplicate,
                Some(Ok(false)) if rejected => Taken::Rejected,
                Some(Ok(false)) => Taken::Recorded,
                Some(Err(why)) if rejected => lost(message, &why),
                Some(Err(why)) => self.reject(message, Rejected(why)).await?,
            };
            metrics::taken(taken);
            self.acknowledge(message, *connection, refused);
        }
        Ok(())
    }

    /// And what is to be recorded.
    fn meaning(&mut self, message: &Publish) -> (Meaning, Option<Envelope>) {
        if is_own(message, self.source) {
            return (Meaning::Own, None);
        }
        match self.plan.event(message, self.source, &mut self.known) {
            Ok(event) => (Meaning::Event, Some(event)),
            Err(why) => (Meaning::Rejection, Some(self.rejection(message, &why))),
        }
    }

    fn rejection(&mut self, message: &Publish, why: &Rejected) -> Envelope {
        tracing::warn!(topic = %topic(message), reason = why.0, "a message is rejected");
        self.plan.rejection(message, why, self.source, &mut self.known)
    }

    /// Rejects a message whose event the bus refused.
    async fn reject(&mut self, message: &Publish, why: Rejected) -> Result<Taken, Outlived> {
        let rejection = self.rejection(message, &why);
        Ok(match self.record(vec![rejection]).await?.pop() {
            Some(Err(why)) => lost(message, &why),
            Some(Ok(true)) => Taken::Duplicate,
            _ => Taken::Rejected,
        })
    }

    fn acknowledge(&self, message: &Publish, connection: u64, refused: bool) {
        // The identifiers of a connection that is gone may mean others by now: the broker sends the message again.
        if message.qos == QoS::AtMostOnce || self.connection.load(Relaxed) != connection {
            return;
        }
        let Some(mut ack) = self.client.prepare_ack(message) else { return };
        if let (ManualAck::PubAck(ack), true) = (&mut ack, refused) {
            ack.reason = PubAckReason::PayloadFormatInvalid;
        }
        if let Err(error) = self.client.try_manual_ack(ack) {
            tracing::debug!(%error, "an acknowledgement could not be sent");
        }
    }

    /// Records events, however long the bus is away; of each, whether it had been recorded before, or why it can't be.
    async fn record(&self, events: Vec<Envelope>) -> Result<Vec<Result<bool, String>>, Outlived> {
        let mut outcomes: Vec<Option<Result<bool, String>>> = events.iter().map(|_| None).collect();
        let (mut pause, mut most) = (PAUSE, usize::MAX);
        loop {
            let open = (0..events.len()).filter(|at| outcomes[*at].is_none());
            let open: Vec<usize> = open.take(most).collect();
            if open.is_empty() {
                return Ok(outcomes.into_iter().flatten().collect());
            }
            let options = PublishOptions { fence: self.fence.clone(), ..PublishOptions::default() };
            let batch = open.iter().map(|at| events[*at].clone()).collect();
            match self.bus.publish_with(batch, options).await {
                Ok(answered) => {
                    let progress = settle(&open, answered, &mut outcomes)?;
                    if progress {
                        pause = PAUSE;
                        continue;
                    }
                }
                // Too much together is not too much each.
                Err(Error::Invalid(_)) if open.len() > 1 => {
                    most = open.len().div_ceil(2);
                    continue;
                }
                Err(Error::Invalid(reason)) => {
                    open.iter().for_each(|at| outcomes[*at] = Some(Err(reason.clone())));
                    continue;
                }
                Err(error) => tracing::debug!(%error, "messages wait for the bus"),
            }
            if pause < LONGEST_PAUSE && pause * 2 >= LONGEST_PAUSE {
                tracing::warn!(messages = open.len(), "messages wait: the bus is away, or a queue of theirs is full");
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

fn topic(message: &Publish) -> Cow<'_, str> {
    String::from_utf8_lossy(&message.topic)
}

/// A message that the bus refuses even as a rejection: all that is left of it is this line.
fn lost(message: &Publish, why: &str) -> Taken {
    tracing::error!(topic = %topic(message), bytes = message.payload.len(), reason = why, "a message that is rejected can't be kept");
    Taken::Dropped
}

/// Notes what became of each; whether something did.
fn settle(
    open: &[usize],
    answered: Vec<Outcome>,
    outcomes: &mut [Option<Result<bool, String>>],
) -> Result<bool, Outlived> {
    let mut progress = false;
    for (at, outcome) in open.iter().zip(answered) {
        outcomes[*at] = match outcome {
            Ok(recorded) => Some(Ok(recorded.duplicate)),
            Err(Refused::Fenced { .. }) => return Err(Outlived),
            // Room may be made; and those beside one that is refused may go by themselves.
            Err(Refused::Full { .. } | Refused::Batch) => None,
            Err(refused) => Some(Err(refused.to_string())),
        };
        progress |= outcomes[*at].is_some();
    }
    Ok(progress)
}
