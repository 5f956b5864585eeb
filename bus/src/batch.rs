//! A publish before it reaches a backend: its events checked, in their stored form, divided by partition.

use events::{Envelope, Name, ReplyTo};

use crate::{Error, Outcome, Partition, PublishOptions, Refused, clock::millis, schedule::LONGEST};

/// The most events and bytes of a publish.
pub(crate) const EVENTS: usize = 256;
pub(crate) const BYTES: usize = 1 << 20;
/// The most bytes of an event as it is stored: its data, a third more if it is binary, and its attributes.
const EVENT_BYTES: usize = Envelope::MAX_DATA_BYTES / 3 * 4 + (16 << 10);

/// What is set aside for an event as it is stored; most have no more.
const USUAL_BYTES: usize = 1024;

/// The highest number of a relay: there is a next one to each of a batch, and a script can count so far.
const LAST_PUBLISH_NO: u64 = (1 << 53) - 1024;

/// An event and its stored form.
pub(crate) struct Prepared {
    pub(crate) envelope: Envelope,
    /// When it is to be recorded, in milliseconds since 1970; None: at once.
    pub(crate) due: Option<i64>,
    pub(crate) json: Result<Vec<u8>, Refused>,
}

/// The events of a publish that fall into one queue and partition, with their places in the publish.
pub(crate) struct Batch {
    pub(crate) queue: Name,
    pub(crate) partition: u32,
    pub(crate) indexes: Vec<usize>,
    pub(crate) events: Vec<Prepared>,
}

/// Serialises and checks events. `now`: about, in milliseconds since 1970.
pub(crate) fn prepare(events: Vec<Envelope>, now: i64) -> Result<Vec<Prepared>, Error> {
    if events.len() > EVENTS {
        return Err(Error::Invalid(format!("events: {} at once, {EVENTS} allowed", events.len())));
    }
    let prepared: Vec<Prepared> = events
        .into_iter()
        .map(|mut envelope| {
            (envelope.recordedtime, envelope.sequence, envelope.cursor) = (None, None, None);
            let due = envelope.deliverytime.map(millis);
            let json = check(&envelope, now);
            Prepared { envelope, due, json }
        })
        .collect();
    let bytes: usize = prepared.iter().filter_map(|event| event.json.as_ref().ok()).map(Vec::len).sum();
    if bytes > BYTES {
        return Err(Error::Invalid(format!("events: {bytes} bytes at once, {BYTES} allowed")));
    }
    Ok(prepared)
}

fn check(envelope: &Envelope, now: i64) -> Result<Vec<u8>, Refused> {
    envelope.check().map_err(|error| Refused::Invalid(error.to_string()))?;
    if let Some(time) = envelope.deliverytime {
        let refused = |what: &str| Err(Refused::Invalid(what.to_owned()));
        let longest = i64::try_from(LONGEST.as_millis()).unwrap_or(i64::MAX);
        if millis(time).saturating_sub(now) > longest {
            return refused("deliverytime: lies more than 366 days ahead");
        }
        if envelope.expirytime.is_some_and(|expiry| expiry <= time) {
            return refused("expirytime: is not after the deliverytime");
        }
        // Nobody would hear of the conflict when the time comes.
        if envelope.expectedversion.is_some() {
            return refused("expectedversion: can't be expected of an event with a deliverytime");
        }
    }
    if let Some(Err(error)) = envelope.replyto.as_deref().map(str::parse::<ReplyTo>) {
        return Err(Refused::Invalid(format!("replyto: {error}")));
    }
    let mut json = Vec::with_capacity(USUAL_BYTES);
    serde_json::to_writer(&mut json, envelope).map_err(|error| Refused::Invalid(error.to_string()))?;
    if json.len() > EVENT_BYTES {
        return Err(Refused::TooLarge { bytes: json.len(), limit: EVENT_BYTES });
    }
    Ok(json)
}

/// By partition, in the order of each one's first event. `count`: how many partitions a queue has.
pub(crate) fn divide(events: Vec<Prepared>, count: impl Fn(&Name) -> u32) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    for (index, event) in events.into_iter().enumerate() {
        let queue = &event.envelope.queue;
        let partition = Partition::of(event.envelope.key(), count(queue)).index;
        // Mostly there is one: looking through them is less than a map of them.
        let known = batches.iter().position(|batch| batch.partition == partition && batch.queue == *queue);
        let at = known.unwrap_or_else(|| {
            batches.push(Batch { queue: queue.clone(), partition, indexes: Vec::new(), events: Vec::new() });
            batches.len() - 1
        });
        batches[at].indexes.push(index);
        batches[at].events.push(event);
    }
    batches
}

/// Why a producer's numbers can't be taken for these batches, if they can't.
pub(crate) fn contradiction(options: &PublishOptions, batches: &[Batch]) -> Option<Refused> {
    let producer = options.producer.as_ref()?;
    if producer.first_publish_no > LAST_PUBLISH_NO {
        return Some(Refused::Invalid(format!("first_publish_no: must be at most {LAST_PUBLISH_NO}")));
    }
    (batches.len() > 1).then_some(Refused::SeveralPartitions)
}

impl Prepared {
    /// Of its stored form.
    pub(crate) fn bytes(&self) -> u64 {
        self.json.as_ref().map_or(0, |json| json.len() as u64)
    }
}

impl Batch {
    /// Refuses the whole batch where one of its events is refused.
    pub(crate) fn refused(&self) -> Option<Vec<Outcome>> {
        let refused = self.events.iter().position(|event| event.json.is_err())?;
        let reason = self.events[refused].json.as_ref().err().cloned().unwrap_or(Refused::Batch);
        Some(self.refuse_at(refused, reason))
    }

    /// Refuses a batch of which an event expects a version where no versions are known.
    pub(crate) fn unexpectable(&self, latest: bool) -> Option<Vec<Outcome>> {
        let expects = |event: &Prepared| event.envelope.expectedversion.is_some();
        let index = if latest { None } else { self.events.iter().position(expects) }?;
        let reason = format!("expectedversion: the queue {} doesn't keep each key's last event (latest)", self.queue);
        Some(self.refuse_at(index, Refused::Invalid(reason)))
    }

    /// Refuses the whole batch because of one of its events.
    pub(crate) fn refuse_at(&self, at: usize, reason: Refused) -> Vec<Outcome> {
        self.refuse(|index| if index == at { reason.clone() } else { Refused::Batch })
    }

    pub(crate) fn refuse(&self, reason: impl Fn(usize) -> Refused) -> Vec<Outcome> {
        (0..self.events.len()).map(|index| Err(reason(index))).collect()
    }
}
