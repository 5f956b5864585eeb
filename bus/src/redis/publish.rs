//! Publishing: events are divided by partition; each partition's go to the task that publishes into it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use events::{Envelope, Name};
use futures_util::future::join_all;
use tokio::time::Instant;

use super::{
    offer::{self, Means},
    publisher, queue,
    shared::Shared,
    wait,
};
use crate::{
    Error, Outcome, PublishOptions, Refused,
    batch::{self, Batch, Prepared},
};

/// How often a publish is divided anew because a queue's partitions changed meanwhile.
const ATTEMPTS: usize = 5;
/// Whoever changes them needs a moment between telling the partitions and registering the queue.
const PAUSE: Duration = Duration::from_millis(20);

/// What became of a batch.
pub(super) enum Answer {
    /// And the lineage that there was then.
    Outcomes(Vec<Outcome>, u64),
    /// Its queue has another number of partitions than it was divided by: nothing of it was recorded.
    Moved(Batch),
}

pub(super) async fn publish(
    shared: &Arc<Shared>,
    events: Vec<Envelope>,
    options: PublishOptions,
) -> Result<Vec<Outcome>, Error> {
    shared.takes_events()?;
    let means = offer::means(shared, &options).await?;
    let until = Instant::now() + options.patience;
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
        let options = &options;
        let publishing = batches.into_iter().map(|batch| {
            let count = counts.get(&batch.queue).copied().flatten();
            async move {
                let (queue, partition) = (batch.queue.clone(), batch.partition);
                let answer = publish_batch(shared, batch, count, options).await?;
                Ok::<_, Error>(confirmed(shared, (&queue, partition), answer, means, until).await)
            }
        });
        let mut moved = Vec::new();
        for (answer, indexes) in join_all(publishing).await.into_iter().zip(indexes) {
            let own = indexes.into_iter().map(|index| places[index]);
            match answer? {
                Answer::Outcomes(answers, _) => own.zip(answers).for_each(|(place, answer)| outcomes[place] = answer),
                Answer::Moved(batch) => moved.extend(own.zip(batch.events)),
            }
        }
        if moved.is_empty() {
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

/// Waits where the level must be waited for, and says which one it is.
async fn confirmed(
    shared: &Arc<Shared>,
    (queue, partition): (&Name, u32),
    mut answer: Answer,
    means: Means,
    until: Instant,
) -> Answer {
    if let Answer::Outcomes(outcomes, lineage) = &mut answer
        && outcomes.iter().any(Result::is_ok)
    {
        let confirmed = match means {
            Means::Has(level) => level,
            Means::Waits(level) => wait::reach(shared, &shared.place(queue, partition), *lineage, level, until).await,
        };
        outcomes.iter_mut().flatten().for_each(|recorded| recorded.confirmed = confirmed);
    }
    answer
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
        return Ok(Answer::Outcomes(batch.refuse(|_| Refused::LineageChanged { current: None }), 0));
    }
    if let Some(refused) = batch.refused() {
        return Ok(Answer::Outcomes(refused, 0));
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
