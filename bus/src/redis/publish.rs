//! Publishing: events are divided by partition; each partition's go to the task that publishes into it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use events::{Envelope, Name};
use futures_util::future::join_all;

use super::{publisher, queue, shared::Shared};
use crate::{
    Confirm, Error, Outcome, PublishOptions, Refused,
    batch::{self, Batch, Prepared},
};

/// How often a publish is divided anew because a queue's partitions changed meanwhile.
const ATTEMPTS: usize = 5;
/// Whoever changes them needs a moment between telling the partitions and registering the queue.
const PAUSE: Duration = Duration::from_millis(20);

/// What became of a batch.
pub(super) enum Answer {
    Outcomes(Vec<Outcome>),
    /// Its queue has another number of partitions than it was divided by: nothing of it was recorded.
    Moved(Batch),
}

pub(super) async fn publish(
    shared: &Arc<Shared>,
    events: Vec<Envelope>,
    options: PublishOptions,
) -> Result<Vec<Outcome>, Error> {
    let confirmed = level(shared, &options)?;
    let mut waiting = batch::prepare(events)?;
    let mut places: Vec<usize> = (0..waiting.len()).collect();
    let mut outcomes: Vec<Outcome> = vec![Err(Refused::Batch); waiting.len()];
    for attempt in 0..ATTEMPTS {
        let counts = counts(shared, &waiting).await?;
        let batches = batch::divide(waiting, |queue| counts.get(queue).copied().flatten().unwrap_or(1));
        if let Some(refused) = batch::contradiction(&options, &batches) {
            places.iter().for_each(|place| outcomes[*place] = Err(refused.clone()));
            return Ok(outcomes);
        }
        let indexes: Vec<Vec<usize>> = batches.iter().map(|batch| batch.indexes.clone()).collect();
        let publishing = batches.into_iter().map(|batch| {
            let count = counts.get(&batch.queue).copied().flatten();
            publish_batch(shared, batch, count, &options)
        });
        let mut moved = Vec::new();
        for (answer, indexes) in join_all(publishing).await.into_iter().zip(indexes) {
            let own = indexes.into_iter().map(|index| places[index]);
            match answer? {
                Answer::Outcomes(answers) => own.zip(answers).for_each(|(place, answer)| outcomes[place] = answer),
                Answer::Moved(batch) => moved.extend(own.zip(batch.events)),
            }
        }
        if moved.is_empty() {
            outcomes.iter_mut().flatten().for_each(|recorded| recorded.confirmed = confirmed);
            return Ok(outcomes);
        }
        tokio::time::sleep(PAUSE).await;
        let queues: BTreeSet<&Name> = moved.iter().map(|(_, event)| &event.envelope.queue).collect();
        for name in queues {
            shared.ask_queue(name).await?;
            if attempt >= ATTEMPTS / 2 {
                queue::agree(shared, name).await?;
            }
        }
        // In the order they were given: it is each key's order.
        moved.sort_by_key(|(place, _)| *place);
        (places, waiting) = moved.into_iter().unzip();
    }
    Err(Error::Unavailable("the queue's partitions keep changing".to_owned()))
}

/// The level that the server gives, if it is the one asked for or less will do.
fn level(shared: &Shared, options: &PublishOptions) -> Result<Confirm, Error> {
    let lack = match options.confirm {
        Confirm::Stored => return Ok(Confirm::Stored),
        Confirm::Fsynced if shared.fsyncs() => return Ok(Confirm::Fsynced),
        Confirm::Fsynced => {
            "this Redis can't confirm what is on disk: set its appendonly to yes and appendfsync to always"
        }
        Confirm::Replicated(_) => "this Redis can't confirm what its replicas have",
    };
    if options.allow_degraded { Ok(Confirm::Stored) } else { Err(Error::NotGiven(lack.to_owned())) }
}

/// How many partitions each queue has; None where it isn't there.
async fn counts(shared: &Shared, events: &[Prepared]) -> Result<HashMap<Name, Option<u32>>, Error> {
    let mut counts = HashMap::new();
    for event in events {
        let queue = &event.envelope.queue;
        if !counts.contains_key(queue) {
            let count = shared.find_queue(queue).await?.map(|queue| queue.partitions);
            counts.insert(queue.clone(), count);
        }
    }
    Ok(counts)
}

async fn publish_batch(
    shared: &Arc<Shared>,
    batch: Batch,
    count: Option<u32>,
    options: &PublishOptions,
) -> Result<Answer, Error> {
    // A lineage that is expected of a queue that isn't there must not make it.
    if count.is_none() && options.expect_lineage.is_some() {
        return Ok(Answer::Outcomes(batch.refuse(|_| Refused::LineageChanged { current: None })));
    }
    if let Some(refused) = batch.refused() {
        return Ok(Answer::Outcomes(refused));
    }
    let count = match count {
        Some(count) => count,
        None => shared.ensure_queue(&batch.queue).await?.partitions,
    };
    if batch.partition >= count {
        return Ok(Answer::Moved(batch));
    }
    publisher::send(shared, batch, count, options).await
}
