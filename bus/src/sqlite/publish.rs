//! Publishing: a queue's and partition's events are recorded all or none, in their order.

use super::{
    declare,
    owned::{Answer, Owned, PartitionState},
};
use crate::{
    Outcome, Producer, PublishOptions, Queue, Recorded, Refused,
    batch::{self, Batch, Prepared, refuse},
    metrics, sys,
};

/// What becomes of an event that is not refused.
enum Verdict {
    /// Recorded before, there.
    Known(Option<u64>),
    New,
}

impl Owned {
    pub(super) fn publish(
        &mut self,
        events: Vec<Prepared>,
        options: &PublishOptions,
        now: i64,
    ) -> Answer<Vec<Outcome>> {
        let mut outcomes: Vec<Outcome> = vec![Err(Refused::Batch); events.len()];
        let batches =
            batch::divide(events, |queue| self.queues.get(queue).map_or(1, |queue| queue.settings.partitions));
        if let Some(refused) = batch::contradiction(options, &batches) {
            outcomes.fill(Err(refused));
            return Ok(Ok(outcomes));
        }
        for batch in batches {
            let indexes = batch.indexes.clone();
            let batch = self.publish_batch(batch, options, now)?;
            for (index, outcome) in indexes.into_iter().zip(batch) {
                outcomes[index] = outcome;
            }
        }
        Ok(Ok(outcomes))
    }

    /// Publishes into one partition.
    fn publish_batch(&mut self, batch: Batch, options: &PublishOptions, now: i64) -> rusqlite::Result<Vec<Outcome>> {
        let (queue, number) = (&batch.queue, batch.partition);
        let current =
            self.queues.get(queue).and_then(|queue| queue.partitions.get(number as usize)?.log.lineages.current());
        if let Some(expected) = options.expect_lineage
            && current.map(|lineage| lineage.id) != Some(expected)
        {
            let current = current.map(|lineage| lineage.id);
            return Ok(batch.refuse(|_| Refused::LineageChanged { current }));
        }
        if let Some(refused) = batch.refused() {
            return Ok(refused);
        }
        if !self.queues.contains_key(queue)
            && let Err(error) = declare::queue(self, Queue::new(queue.clone()), now)?
        {
            return Ok(batch.refuse(|_| Refused::Invalid(error.to_string())));
        }
        let Some(partition) = self.queues.get_mut(queue).and_then(|queue| queue.partitions.get_mut(number as usize))
        else {
            return Ok(batch.refuse(|_| Refused::Batch));
        };
        let verdicts = match judge(partition, &batch.events, options.producer.as_ref(), now) {
            Ok(verdicts) => verdicts,
            Err(refused) => return Ok(refuse(queue, batch.events.len(), |_| refused.clone())),
        };
        let new = verdicts.iter().zip(&batch.events).filter(|(verdict, _)| matches!(verdict, Verdict::New));
        let (count, bytes) = new.fold((0, 0), |(count, bytes), (_, event)| (count + 1, bytes + event.bytes()));
        if !self.make_room(queue, number as usize, count, bytes, now)? {
            self.tell_rarely("QUEUE_FULL", queue, number as usize, now);
            return Ok(batch.refuse(|_| Refused::Full { retry_after: sys::FULL }));
        }
        let Some(partition) = self.queues.get_mut(queue).and_then(|queue| queue.partitions.get_mut(number as usize))
        else {
            return Ok(batch.refuse(|_| Refused::Batch));
        };
        let was_cut = partition.dedupe.cut_short();
        let mut outcomes = Vec::with_capacity(batch.events.len());
        let mut duplicates = 0;
        let mut publish_no = options.producer.as_ref().map(|producer| producer.first_publish_no);
        for (event, verdict) in batch.events.into_iter().zip(verdicts) {
            let (position, duplicate) = match verdict {
                Verdict::Known(position) => (position, true),
                Verdict::New => {
                    let hash = partition.dedupe.hash(&event.envelope.source, &event.envelope.id);
                    // A repetition within the batch is known by now.
                    match partition.dedupe.find(hash, now).filter(|_| options.producer.is_none()) {
                        Some(position) => (Some(position), true),
                        None => {
                            let json = event.json.unwrap_or_default();
                            let position = partition.log.append(&self.conn, event.envelope, &json, now)?;
                            partition.dedupe.insert(hash, position, now);
                            if let (Some(producer), Some(no)) = (&options.producer, publish_no) {
                                partition.producers.record(&producer.outbox, no, position);
                            }
                            (Some(position), false)
                        }
                    }
                }
            };
            publish_no = publish_no.map(|no| no + 1);
            let lineages = &partition.log.lineages;
            let lineage = position.and_then(|position| lineages.of(position)).or(lineages.current());
            duplicates += u64::from(duplicate);
            outcomes.push(Ok(Recorded {
                partition: number,
                lineage: lineage.map_or(0, |lineage| lineage.id),
                position,
                due: None,
                duplicate,
                confirmed: options.confirm,
            }));
        }
        if !was_cut && partition.dedupe.cut_short() {
            self.tell_rarely("DEDUPE_CUT_SHORT", queue, number as usize, now);
        }
        metrics::published(queue, "duplicate", duplicates);
        metrics::published(queue, "recorded", outcomes.len() as u64 - duplicates);
        Ok(outcomes)
    }
}

/// Which events are known already: by the producer's numbers if it gives any, else by the dedupe window.
fn judge(
    partition: &mut PartitionState,
    events: &[Prepared],
    producer: Option<&Producer>,
    now: i64,
) -> Result<Vec<Verdict>, Refused> {
    let Some(producer) = producer else {
        return Ok(events
            .iter()
            .map(|event| {
                let hash = partition.dedupe.hash(&event.envelope.source, &event.envelope.id);
                partition.dedupe.find(hash, now).map_or(Verdict::New, |position| Verdict::Known(Some(position)))
            })
            .collect());
    };
    let last = partition.producers.last(&producer.outbox);
    let expected = last.map(|last| last + 1);
    if let Some(expected) = expected
        && producer.first_publish_no > expected
    {
        return Err(Refused::OutOfSequence { expected });
    }
    Ok((producer.first_publish_no..)
        .take(events.len())
        .map(|no| match last {
            Some(last) if no <= last => Verdict::Known(partition.producers.position(&producer.outbox, no)),
            _ => Verdict::New,
        })
        .collect())
}
