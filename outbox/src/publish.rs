//! A round's publishing: one batch a partition, by its numbers, under the lineage it was verified with.

use bus::{Outcome, Producer, PublishOptions, Recorded, Refused};
use events::Envelope;

use crate::{
    Relay,
    lease::Lease,
    relay::{Step, Trouble},
    row::{Sent, Stamped, Stream},
    store::BATCH,
    trace::Send,
};

/// Below the bus's 1 MiB a batch, since a row's size on the bus is only estimated.
const BATCH_BYTES: usize = 900 * 1024;

impl Relay {
    /// Publishes a batch of each partition that waits. One in trouble doesn't hold up the others.
    pub(crate) async fn publish(&mut self) -> Result<Step, Trouble> {
        let mut round = Ok(Step::Idle);
        for stream in self.store.waiting().await? {
            match (self.publish_batch(&stream).await, &round) {
                (Err(trouble), _) => round = Err(trouble),
                (Ok(Step::Worked), Ok(_)) => round = Ok(Step::Worked),
                (Ok(_), _) => {}
            }
        }
        round
    }

    async fn publish_batch(&mut self, stream: &Stream) -> Result<Step, Trouble> {
        if !self.verified.contains_key(stream) {
            self.verify(stream).await?;
        }
        let Some(lease) = self.lease.clone() else { return Ok(Step::Idle) };
        // The first goes alone: if the bus has another event under its number, nothing has got ahead of it yet.
        let most = if self.counted.contains(stream) { BATCH } else { 1 };
        let batch = self.store.batch(stream, most, BATCH_BYTES).await?;
        let Some(first) = batch.first() else { return Ok(Step::Idle) };
        let options = PublishOptions {
            producer: Some(Producer {
                outbox: lease.outbox.clone(),
                first_publish_no: first.publish_no.cast_unsigned(),
            }),
            expect_lineage: self.verified.get(stream).copied().flatten(),
            ..PublishOptions::default()
        };
        let traced = Send::begin(stream.partition, batch.iter().map(|row| &row.envelope));
        let envelopes = batch.iter().map(|row| row.envelope.clone()).collect();
        let outcomes = self.bus.publish_with(envelopes, options).await.inspect_err(|_| traced.failed("bus"))?;
        lifecycle::abort_point("outbox.published");
        if let Some((id, reason)) = refusal(&batch, &outcomes) {
            traced.failed("refused");
            return self.refused(stream, &lease, id, reason).await;
        }
        drop(traced);
        let recorded: Vec<Recorded> = outcomes.into_iter().flatten().collect();
        let Some(sent) = self.sent(stream, &batch, &recorded).await? else {
            return self.renumber(&lease, "it has other events under these numbers").await;
        };
        let marked = self.store.mark(&lease, (self.now)(), stream, &sent).await?;
        if self.written(marked).is_none() {
            return Ok(Step::Idle);
        }
        self.metrics.published(sent.len());
        // One that the bus had is no proof: the number after it may be another event's still.
        if recorded.last().is_some_and(|last| !last.duplicate) {
            self.counted.insert(stream.clone());
        }
        self.verified.insert(stream.clone(), recorded.last().map(|recorded| recorded.lineage));
        Ok(Step::Worked)
    }

    async fn refused(&mut self, stream: &Stream, lease: &Lease, id: &str, reason: Refused) -> Result<Step, Trouble> {
        match reason {
            // Verified in the next round, which sends again what the bus lost.
            Refused::LineageChanged { .. } => {
                self.verified.remove(stream);
                Ok(Step::Idle)
            }
            Refused::OutOfSequence { .. } | Refused::SeveralPartitions => {
                self.renumber(lease, &reason.to_string()).await
            }
            // It was checked when it was appended, so this is a fault of the program; nothing is dropped for it.
            reason => Err(Trouble::Refused { id: id.to_owned(), reason }),
        }
    }

    async fn renumber(&mut self, lease: &Lease, reason: &str) -> Result<Step, Trouble> {
        let renumbered = self.store.renumber(lease, (self.now)()).await?;
        self.written(renumbered);
        self.lease = None;
        Err(Trouble::Apart(reason.to_owned()))
    }

    /// Where each row is on the bus. None: the bus took a row for one that it has, but that is another event. Then the
    /// database is older than what it published, restored from a copy perhaps, and its numbers have been used.
    async fn sent(
        &self,
        stream: &Stream,
        batch: &[Stamped],
        recorded: &[Recorded],
    ) -> Result<Option<Vec<Sent>>, Trouble> {
        let mut sent = Vec::with_capacity(batch.len());
        for (row, place) in batch.iter().zip(recorded) {
            let (position, waits) = match (place.position, place.due) {
                (Some(position), _) => (position, false),
                // It is lost if the log goes on from before what comes next now.
                (None, Some(_)) => (self.next_position(stream).await?, true),
                (None, None) => return Ok(None),
            };
            if place.duplicate && !waits && !self.is_at(stream, position, &row.envelope).await? {
                return Ok(None);
            }
            sent.push(Sent {
                publish_no: row.publish_no,
                lineage: place.lineage.cast_signed(),
                position: position.cast_signed(),
            });
        }
        Ok(Some(sent))
    }

    async fn next_position(&self, stream: &Stream) -> Result<u64, Trouble> {
        Ok(self.bus.read(&stream.queue, stream.partition, u64::MAX >> 1, 1).await?.next)
    }

    async fn is_at(&self, stream: &Stream, position: u64, envelope: &Envelope) -> Result<bool, Trouble> {
        let page = self.bus.read(&stream.queue, stream.partition, position, 1).await?;
        Ok(page.events.first().is_some_and(|logged| {
            logged.position == position
                && logged.envelope.id == envelope.id
                && logged.envelope.source == envelope.source
        }))
    }
}

/// What the bus has against the batch, and against which event of it.
fn refusal<'a>(batch: &'a [Stamped], outcomes: &[Outcome]) -> Option<(&'a str, Refused)> {
    let refused = batch
        .iter()
        .zip(outcomes)
        .filter_map(|(row, outcome)| outcome.as_ref().err().map(|reason| (row.envelope.id.as_str(), reason.clone())));
    // The others are refused because one was.
    refused.min_by_key(|(_, reason)| *reason == Refused::Batch)
}
