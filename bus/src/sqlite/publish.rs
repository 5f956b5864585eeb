//! Publishing: a queue's and partition's events are recorded all or none, in their order.

use rusqlite::Connection;

use super::{
    declare,
    latest::{self, Conflict},
    owned::{Answer, Owned, PartitionState},
    schedule,
};
use crate::{
    Outcome, Producer, PublishOptions, Queue, Recorded, Refused,
    batch::{self, Batch, Prepared},
    clock::moment,
    sys,
};

/// What becomes of an event that is not refused.
enum Verdict {
    /// Recorded before, there.
    Known(Option<u64>),
    /// It waits until it is due, in milliseconds since 1970.
    Waits(i64),
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
        if let Some(refused) = self.leads.shuts_out(options.fence.as_ref()) {
            return Ok(batch.refuse(|_| refused.clone()));
        }
        if let Some(refused) = batch.refused() {
            return Ok(refused);
        }
        let latest = self.queues.get(queue).is_some_and(|queue| queue.settings.latest);
        if let Some(refused) = batch.unexpectable(latest) {
            return Ok(refused);
        }
        if !self.queues.contains_key(queue)
            && let Err(error) = declare::queue(self, Queue::initial(queue.clone()), now)?
        {
            return Ok(batch.refuse(|_| Refused::Invalid(error.to_string())));
        }
        let Some(partition) = self.queues.get_mut(queue).and_then(|queue| queue.partitions.get_mut(number as usize))
        else {
            return Ok(batch.refuse(|_| Refused::Batch));
        };
        let producer = options.producer.as_ref();
        let verdicts = match judge(&self.conn, partition, &batch.events, producer, now)? {
            Ok(verdicts) => verdicts,
            Err(refused) => return Ok(batch.refuse(|_| refused.clone())),
        };
        let is_known = |index: usize| !matches!(verdicts[index], Verdict::New);
        if let Some(Conflict { index, current }) =
            latest::conflict(&self.conn, &partition.log, &batch.events, is_known)?
        {
            return Ok(batch.refuse_at(index, Refused::VersionConflict { current }));
        }
        let is_ahead = |index: usize| batch.events[index].due.is_some_and(|due| due > now) && !is_known(index);
        let room = self.scheduled_capacity.saturating_sub(partition.waiting.count);
        if let Some(index) = (0..batch.events.len()).filter(|index| is_ahead(*index)).nth(room) {
            return Ok(batch.refuse_at(index, Refused::Waiting { limit: self.scheduled_capacity }));
        }
        let new = (0..batch.events.len()).filter(|index| !is_known(*index) && !is_ahead(*index));
        let (count, bytes) = new.fold((0, 0), |(count, bytes), at| (count + 1, bytes + batch.events[at].bytes()));
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
        let mut publish_no = producer.map(|producer| producer.first_publish_no);
        for (event, verdict) in batch.events.into_iter().zip(verdicts) {
            let verdict = match verdict {
                // A repetition within the batch is known by now.
                Verdict::New if producer.is_none() => look(&self.conn, partition, &event, now)?,
                verdict => verdict,
            };
            let (position, due, duplicate) = match verdict {
                Verdict::Known(position) => (position, None, true),
                Verdict::Waits(due) => (None, Some(due), true),
                Verdict::New => {
                    let json = event.json.unwrap_or_default();
                    let position = match event.due.filter(|due| *due > now) {
                        None => Some(partition.append(&self.conn, event.envelope, &json, now, latest)?),
                        Some(due) => {
                            partition.schedule(&self.conn, &event.envelope, &json, due)?;
                            None
                        }
                    };
                    if let (Some(producer), Some(no)) = (producer, publish_no) {
                        partition.producers.record(&producer.outbox, no, position);
                    }
                    (position, event.due.filter(|_| position.is_none()), false)
                }
            };
            publish_no = publish_no.map(|no| no + 1);
            let lineages = &partition.log.lineages;
            let lineage = position.and_then(|position| lineages.of(position)).or(lineages.current());
            outcomes.push(Ok(Recorded {
                partition: number,
                lineage: lineage.map_or(0, |lineage| lineage.id),
                position,
                due: due.map(moment),
                duplicate,
                confirmed: options.confirm,
            }));
        }
        if !was_cut && partition.dedupe.cut_short() {
            self.tell_rarely("DEDUPE_CUT_SHORT", queue, number as usize, now);
        }
        Ok(outcomes)
    }
}

/// Which events are known already: by the producer's numbers if it gives any, else by the dedupe window and by what waits.
fn judge(
    conn: &Connection,
    partition: &mut PartitionState,
    events: &[Prepared],
    producer: Option<&Producer>,
    now: i64,
) -> Answer<Vec<Verdict>, Refused> {
    let Some(producer) = producer else {
        return events.iter().map(|event| look(conn, partition, event, now)).collect::<rusqlite::Result<_>>().map(Ok);
    };
    let last = partition.producers.last(&producer.outbox);
    let expected = last.map(|last| last + 1);
    if let Some(expected) = expected
        && producer.first_publish_no > expected
    {
        return Ok(Err(Refused::OutOfSequence { expected }));
    }
    let verdict = |(no, event): (u64, &Prepared)| {
        if last.is_none_or(|last| no > last) {
            // Numbers may begin anew; what waits is there all the same.
            return match due(conn, partition, event)? {
                Some(due) => Ok(Verdict::Waits(due)),
                None => Ok(Verdict::New),
            };
        }
        match partition.producers.position(&producer.outbox, no) {
            Some(position) => Ok(Verdict::Known(Some(position))),
            // It was to wait, or it is too long ago.
            None => match look(conn, partition, event, now)? {
                Verdict::New => Ok(Verdict::Known(None)),
                verdict => Ok(verdict),
            },
        }
    };
    (producer.first_publish_no..).zip(events).map(verdict).collect::<rusqlite::Result<_>>().map(Ok)
}

fn look(conn: &Connection, partition: &mut PartitionState, event: &Prepared, now: i64) -> rusqlite::Result<Verdict> {
    let hash = partition.dedupe.hash(&event.envelope.source, &event.envelope.id);
    if let Some(position) = partition.dedupe.find(hash, now) {
        return Ok(Verdict::Known(Some(position)));
    }
    Ok(due(conn, partition, event)?.map_or(Verdict::New, Verdict::Waits))
}

fn due(conn: &Connection, partition: &PartitionState, event: &Prepared) -> rusqlite::Result<Option<i64>> {
    if partition.waiting.count == 0 {
        return Ok(None);
    }
    schedule::due(conn, partition.log.id, &event.envelope.source, &event.envelope.id)
}
