//! Publishing: events are divided by partition; each partition's go to the task that publishes into it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use events::{Envelope, Name};
use futures_util::future::join_all;
use tokio::time::Instant;

use super::{
    offer::{self, Means},
    publisher,
    queue::{self, Shape},
    schedule,
    shared::Shared,
    wait,
};
use crate::{
    Confirm, Error, Outcome, PublishOptions, Refused,
    batch::{self, Batch, Prepared},
};

/// How often a publish is divided anew because a queue's shape changed meanwhile.
const ATTEMPTS: usize = 5;
/// Whoever changes them needs a moment between telling the partitions and registering the queue.
const PAUSE: Duration = Duration::from_millis(20);

/// What became of a batch.
pub(super) enum Answer {
    /// And the lineage that there was then.
    Outcomes(Vec<Outcome>, u64),
    /// Its queue has another shape than it was divided by: nothing of it was recorded.
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
    let mut waiting = batch::prepare(events, shared.now())?;
    let mut places: Vec<usize> = (0..waiting.len()).collect();
    let mut outcomes: Vec<Outcome> = vec![Err(Refused::Batch); waiting.len()];
    for attempt in 0..ATTEMPTS {
        let shapes = shapes(shared, &waiting).await?;
        let shape = |queue: &Name| shapes.iter().find(|(known, _)| known == queue).and_then(|(_, shape)| *shape);
        let count = |queue: &Name| shape(queue).map_or(1, |shape| shape.partitions);
        let mut batches = batch::divide(waiting, count);
        if let Some(refused) = batch::contradiction(&options, &batches) {
            places.iter().for_each(|place| outcomes[*place] = Err(refused.clone()));
            return Ok(outcomes);
        }
        let indexes: Vec<Vec<usize>> = batches.iter_mut().map(|batch| std::mem::take(&mut batch.indexes)).collect();
        let options = &options;
        let record = |batch: Batch| {
            let shape = shape(&batch.queue);
            async move {
                let (queue, partition) = (batch.queue.clone(), batch.partition);
                let answer = publish_batch(shared, batch, shape, options).await?;
                Ok::<_, Error>(confirmed(shared, (&queue, partition), answer, means, until).await)
            }
        };
        // Mostly it is one.
        let answers = match <[Batch; 1]>::try_from(batches) {
            Ok([batch]) => vec![record(batch).await],
            Err(batches) => join_all(batches.into_iter().map(record)).await,
        };
        let mut moved = Vec::new();
        for (answer, indexes) in answers.into_iter().zip(indexes) {
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
    Err(Error::Unavailable("the queue's settings keep changing".to_owned()))
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
            Means::Has(Confirm::Fsynced) => offer::fsynced(shared).await,
            Means::Has(level) => level,
            Means::Waits(level) => wait::reach(shared, &shared.place(queue, partition), *lineage, level, until).await,
        };
        outcomes.iter_mut().flatten().for_each(|recorded| recorded.confirmed = confirmed);
    }
    answer
}

/// What each queue is like; None where it isn't there. Mostly it is one.
async fn shapes(shared: &Shared, events: &[Prepared]) -> Result<Vec<(Name, Option<Shape>)>, Error> {
    let mut shapes: Vec<(Name, Option<Shape>)> = Vec::new();
    for Prepared { envelope, due, .. } in events {
        let queue = &envelope.queue;
        let known = shapes.iter().position(|(known, _)| known == queue);
        let at = match known {
            Some(at) => at,
            None => {
                let shape = shared.find_queue(queue).await?.map(|queue| Shape::of(&queue));
                shapes.push((queue.clone(), shape));
                shapes.len() - 1
            }
        };
        let shape = &mut shapes[at].1;
        if envelope.expectedversion.is_some() && shape.is_some_and(|shape| !shape.latest) {
            // Perhaps its versions are known by now.
            *shape = shared.ask_queue(queue).await?.map(|queue| Shape::of(&queue));
        }
        if due.is_some_and(|due| due > shared.now()) {
            schedule::announce(shared, queue).await?;
        }
    }
    Ok(shapes)
}

async fn publish_batch(
    shared: &Arc<Shared>,
    batch: Batch,
    shape: Option<Shape>,
    options: &PublishOptions,
) -> Result<Answer, Error> {
    // A lineage that is expected of a queue that isn't there must not make it.
    if shape.is_none() && options.expect_lineage.is_some() {
        return Ok(Answer::Outcomes(batch.refuse(|_| Refused::LineageChanged { current: None }), 0));
    }
    let unexpectable = || batch.unexpectable(shape.is_some_and(|shape| shape.latest));
    if let Some(refused) = batch.refused().or_else(unexpectable) {
        return Ok(Answer::Outcomes(refused, 0));
    }
    let shape = match shape {
        Some(shape) => shape,
        None => Shape::of(&*shared.ensure_queue(&batch.queue).await?),
    };
    if batch.partition >= shape.partitions {
        return Ok(Answer::Moved(batch));
    }
    publisher::send(shared, batch, shape, options).await
}
