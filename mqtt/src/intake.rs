//! What comes in goes into the bus, in its order, and is acknowledged once it is recorded.

use std::{
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
    message::Rejected,
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
        let mut rejected = Vec::with_capacity(messages.len());
        let mut events = Vec::with_capacity(messages.len());
        for (message, _) in &messages {
            let event = self.plan.event(message, self.source, &mut self.known);
            let event = event.inspect_err(|why| {
                tracing::warn!(topic = %String::from_utf8_lossy(&message.topic), reason = why.0, "a message is rejected");
            });
            rejected.push(event.is_err());
            events.push(event.unwrap_or_else(|why| self.plan.rejection(message, &why, self.source)));
        }
        let outcomes = self.record(events).await?;
        for (((message, connection), rejected), outcome) in messages.iter().zip(rejected).zip(outcomes) {
            let taken = match outcome {
                Ok(_) if rejected => Taken::Rejected,
                Ok(true) => Taken::Duplicate,
                Ok(false) => Taken::Recorded,
                Err(why) => {
                    tracing::warn!(topic = %String::from_utf8_lossy(&message.topic), reason = why, "a message is rejected");
                    let rejection = self.plan.rejection(message, &Rejected(why), self.source);
                    self.record(vec![rejection]).await?;
                    Taken::Rejected
                }
            };
            metrics::taken(taken);
            self.acknowledge(message, *connection, taken);
        }
        Ok(())
    }

    fn acknowledge(&self, message: &Publish, connection: u64, taken: Taken) {
        // The identifiers of a connection that is gone may mean others by now: the broker sends the message again.
        if message.qos == QoS::AtMostOnce || self.connection.load(Relaxed) != connection {
            return;
        }
        let Some(mut ack) = self.client.prepare_ack(message) else { return };
        if let (ManualAck::PubAck(ack), Taken::Rejected) = (&mut ack, taken) {
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
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
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
