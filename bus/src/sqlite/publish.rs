//! Publishing: a queue's and partition's events are recorded all or none, in their order.

use std::collections::HashMap;

use events::{Envelope, Name};

use super::{
    declare,
    owned::{Answer, Owned, PartitionState},
};
use crate::{Error, Outcome, Partition, Producer, PublishOptions, Queue, Recorded, Refused, metrics};

/// The most events and bytes of a publish.
const EVENTS: usize = 256;
const BYTES: usize = 1 << 20;
/// The most bytes of an event as it is stored: its data, a third more if it is binary, and its attributes.
const EVENT_BYTES: usize = Envelope::MAX_DATA_BYTES / 3 * 4 + (16 << 10);

/// The highest number of a relay: there is a next one to each of a batch.
const LAST_PUBLISH_NO: u64 = u64::MAX >> 2;

/// An event and its stored form, made before the writer thread sees it.
pub(super) struct Prepared {
    envelope: Envelope,
    json: Result<Vec<u8>, Refused>,
}

/// The events of a publish that fall into one queue and partition, with their places in the publish.
struct Batch {
    queue: Name,
    partition: u32,
    indexes: Vec<usize>,
    events: Vec<Prepared>,
}

/// What becomes of an event that is not refused.
enum Verdict {
    /// Recorded before, there.
    Known(Option<u64>),
    New,
}

/// Serialises and checks events, off the writer thread.
pub(super) fn prepare(events: Vec<Envelope>) -> Result<Vec<Prepared>, Error> {
    if events.len() > EVENTS {
        return Err(Error::Invalid(format!("events: {} at once, {EVENTS} allowed", events.len())));
    }
    let prepared: Vec<Prepared> = events
        .into_iter()
        .map(|mut envelope| {
            (envelope.recordedtime, envelope.sequence, envelope.cursor) = (None, None, None);
            let json = check(&envelope);
            Prepared { envelope, json }
        })
        .collect();
    let bytes: usize = prepared.iter().filter_map(|event| event.json.as_ref().ok()).map(Vec::len).sum();
    if bytes > BYTES {
        return Err(Error::Invalid(format!("events: {bytes} bytes at once, {BYTES} allowed")));
    }
    Ok(prepared)
}

fn check(envelope: &Envelope) -> Result<Vec<u8>, Refused> {
    envelope.check().map_err(|error| Refused::Invalid(error.to_string()))?;
    // Recording it and passing over what it asks for would be worse than saying so.
    if envelope.deliverytime.is_some() {
        return Err(Refused::Invalid("deliverytime: this bus doesn't deliver later".to_owned()));
    }
    if envelope.expectedversion.is_some() {
        return Err(Refused::Invalid("expectedversion: this bus doesn't compare versions".to_owned()));
    }
    let json = serde_json::to_vec(envelope).map_err(|error| Refused::Invalid(error.to_string()))?;
    if json.len() > EVENT_BYTES {
        return Err(Refused::TooLarge { bytes: json.len(), limit: EVENT_BYTES });
    }
    Ok(json)
}

impl Owned {
    pub(super) fn publish(
        &mut self,
        events: Vec<Prepared>,
        options: &PublishOptions,
        now: i64,
    ) -> Answer<Vec<Outcome>> {
        let mut outcomes: Vec<Outcome> = vec![Err(Refused::Batch); events.len()];
        let batches = self.divide(events);
        if options.producer.as_ref().is_some_and(|producer| producer.first_publish_no > LAST_PUBLISH_NO) {
            outcomes.fill(Err(Refused::Invalid(format!("first_publish_no: must be at most {LAST_PUBLISH_NO}"))));
            return Ok(Ok(outcomes));
        }
        if options.producer.is_some() && batches.len() > 1 {
            outcomes.fill(Err(Refused::SeveralPartitions));
            return Ok(Ok(outcomes));
        }
        for Batch { queue, partition, indexes, events } in batches {
            let batch = self.publish_batch(&queue, partition, events, options, now)?;
            for (index, outcome) in indexes.into_iter().zip(batch) {
                outcomes[index] = outcome;
            }
        }
        Ok(Ok(outcomes))
    }

    /// By partition, in the order of each one's first event.
    fn divide(&self, events: Vec<Prepared>) -> Vec<Batch> {
        let mut batches: Vec<Batch> = Vec::new();
        let mut places: HashMap<(Name, u32), usize> = HashMap::new();
        for (index, event) in events.into_iter().enumerate() {
            let queue = event.envelope.queue.clone();
            let count = self.queues.get(&queue).map_or(1, |queue| queue.settings.partitions);
            let partition = Partition::of(event.envelope.key(), count).index;
            let at = *places.entry((queue.clone(), partition)).or_insert(batches.len());
            if at == batches.len() {
                batches.push(Batch { queue, partition, indexes: Vec::new(), events: Vec::new() });
            }
            batches[at].indexes.push(index);
            batches[at].events.push(event);
        }
        batches
    }

    /// Publishes into one partition.
    fn publish_batch(
        &mut self,
        queue: &Name,
        number: u32,
        events: Vec<Prepared>,
        options: &PublishOptions,
        now: i64,
    ) -> rusqlite::Result<Vec<Outcome>> {
        let current =
            self.queues.get(queue).and_then(|queue| queue.partitions.get(number as usize)?.log.lineages.current());
        if let Some(expected) = options.expect_lineage
            && current.map(|lineage| lineage.id) != Some(expected)
        {
            let current = current.map(|lineage| lineage.id);
            return Ok(refuse(queue, events.len(), |_| Refused::LineageChanged { current }));
        }
        if let Some(refused) = events.iter().position(|event| event.json.is_err()) {
            let reason = events[refused].json.as_ref().err().cloned().unwrap_or(Refused::Batch);
            return Ok(refuse(
                queue,
                events.len(),
                |index| if index == refused { reason.clone() } else { Refused::Batch },
            ));
        }
        if !self.queues.contains_key(queue)
            && let Err(error) = declare::queue(self, Queue::new(queue.clone()), now)?
        {
            return Ok(refuse(queue, events.len(), |_| Refused::Invalid(error.to_string())));
        }
        let Some(partition) = self.queues.get_mut(queue).and_then(|queue| queue.partitions.get_mut(number as usize))
        else {
            return Ok(refuse(queue, events.len(), |_| Refused::Batch));
        };
        let verdicts = match judge(partition, &events, options.producer.as_ref(), now) {
            Ok(verdicts) => verdicts,
            Err(refused) => return Ok(refuse(queue, events.len(), |_| refused.clone())),
        };
        let mut outcomes = Vec::with_capacity(events.len());
        let mut duplicates = 0;
        let mut publish_no = options.producer.as_ref().map(|producer| producer.first_publish_no);
        for (event, verdict) in events.into_iter().zip(verdicts) {
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
                duplicate,
            }));
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

fn refuse(queue: &Name, count: usize, reason: impl Fn(usize) -> Refused) -> Vec<Outcome> {
    metrics::published(queue, "refused", count as u64);
    (0..count).map(|index| Err(reason(index))).collect()
}
