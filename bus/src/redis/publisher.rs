//! A task a partition that publishes into it: one script is in flight, and what arrives meanwhile is the next batch.
//! Nothing lingers, and who gives up waiting takes nothing along.

use std::{
    collections::VecDeque,
    sync::{Arc, LazyLock},
};

use redis::{FromRedisValue as _, Value};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::{
    place::{Place, Ran, View},
    publish::Answer,
    retention,
    script::{Script, WhenFull},
    server::unexpected,
    shared::Shared,
};
use crate::{
    Confirm, Error, Outcome, Producer, PublishOptions, Recorded, Refused,
    batch::{self, Batch},
    metrics, sys,
};

static PUBLISH: LazyLock<Script> =
    LazyLock::new(|| Script::on_floor(include_str!("lua/publish.lua"), WhenFull::Refused));

/// Publishes that wait for a partition; more wait to be sent.
const WAITING: usize = 1024;
/// What an event's digest is made in. It is stored for two hours.
const DIGESTS: Uuid = Uuid::from_u128(0x6a1f_0a52_94c1_4d0e_9b7c_3e5d_1f7a_8c20);

/// A publish into one partition.
pub(super) struct Request {
    batch: Batch,
    bytes: usize,
    /// How many partitions it was divided by.
    count: u32,
    producer: Option<Producer>,
    expect_lineage: Option<u64>,
    answer: oneshot::Sender<Result<Answer, Error>>,
}

/// Publishes a batch whose events are all fine.
pub(super) async fn send(
    shared: &Arc<Shared>,
    batch: Batch,
    count: u32,
    options: &PublishOptions,
) -> Result<Answer, Error> {
    let place = shared.place(&batch.queue, batch.partition);
    let publisher = place.publisher.get_or_init(|| {
        let (sender, requests) = mpsc::channel(WAITING);
        tokio::spawn(work(shared.clone(), place.clone(), requests));
        sender
    });
    let bytes = batch.events.iter().filter_map(|event| event.json.as_ref().ok()).map(Vec::len).sum();
    let (answer, answered) = oneshot::channel();
    let PublishOptions { producer, expect_lineage, .. } = options.clone();
    let request = Request { batch, bytes, count, producer, expect_lineage, answer };
    publisher.send(request).await.map_err(|_| closed())?;
    answered.await.map_err(|_| closed())?
}

async fn work(shared: Arc<Shared>, place: Arc<Place>, mut requests: mpsc::Receiver<Request>) {
    let mut waiting = VecDeque::new();
    loop {
        if waiting.is_empty() {
            match shared.closed.run_until_cancelled(requests.recv()).await {
                Some(Some(request)) => waiting.push_back(request),
                _ => return,
            }
        }
        while waiting.len() < batch::EVENTS
            && let Ok(request) = requests.try_recv()
        {
            waiting.push_back(request);
        }
        let requests = next(&mut waiting);
        match record(&shared, &place, &requests).await {
            Ok(ran) => answer(&place, requests, ran),
            Err(error) => {
                for request in requests {
                    // Whoever asked may have gone meanwhile.
                    let _ = request.answer.send(Err(error.clone()));
                }
            }
        }
    }
}

/// The first of those that wait, as many as one entry may hold.
fn next(waiting: &mut VecDeque<Request>) -> Vec<Request> {
    let (mut events, mut bytes) = (0, 0);
    let mut taken: Vec<Request> = Vec::new();
    while let Some(request) = waiting.front() {
        events += request.batch.events.len();
        bytes += request.bytes;
        let alike = taken.first().is_none_or(|first| first.count == request.count);
        if !taken.is_empty() && (events > batch::EVENTS || bytes > batch::BYTES || !alike) {
            break;
        }
        taken.extend(waiting.pop_front());
    }
    taken
}

async fn record(shared: &Shared, place: &Place, requests: &[Request]) -> Result<Ran, Error> {
    let count = requests.first().map_or(1, |request| request.count);
    let mut small: Vec<Vec<u8>> = vec![
        place.queue.as_str().into(),
        shared.dedupe_events.to_string().into(),
        count.to_string().into(),
        requests.len().to_string().into(),
        limits(shared, place).into(),
    ];
    let text = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default().into_bytes();
    for request in requests {
        let producer = request.producer.as_ref();
        small.push(text(request.expect_lineage));
        small.push(producer.map(|producer| producer.outbox.clone()).unwrap_or_default().into());
        small.push(text(producer.map(|producer| producer.first_publish_no)));
        small.push(request.batch.events.len().to_string().into());
        small.extend(request.batch.events.iter().map(|event| {
            let envelope = &event.envelope;
            let identity = format!("{}\0{}", envelope.source, envelope.id);
            Uuid::new_v5(&DIGESTS, identity.as_bytes()).as_bytes().to_vec()
        }));
    }
    let mut small = small.iter().map(Vec::as_slice);
    let mut args: Vec<&[u8]> = small.by_ref().take(5).collect();
    for request in requests {
        args.extend(small.by_ref().take(4));
        for event in &request.batch.events {
            args.extend(small.next());
            args.push(event.json.as_deref().unwrap_or_default());
        }
    }
    shared.run_on(&PUBLISH, place, &[], &args).await
}

/// What the partition may hold; nothing where its queue has no limits, which costs nothing then.
fn limits(shared: &Shared, place: &Place) -> String {
    match shared.queue(&place.queue) {
        Some(queue) if queue.max_len.is_some() || queue.max_bytes.is_some() => {
            retention::limits(shared, &queue, place.partition)
        }
        _ => String::new(),
    }
}

fn answer(place: &Place, requests: Vec<Request>, Ran { view, value }: Ran) {
    match value {
        Value::Array(answers) if answers.len() == requests.len() => {
            for (request, answer) in requests.into_iter().zip(answers) {
                let outcomes = outcomes(place, &request.batch, &view, answer);
                let _ = request.answer.send(outcomes.map(|outcomes| Answer::Outcomes(outcomes, view.lineage)));
            }
        }
        Value::Int(_) => {
            for request in requests {
                let _ = request.answer.send(Ok(Answer::Moved(request.batch)));
            }
        }
        _ => {
            for request in requests {
                let _ = request.answer.send(Err(unexpected()));
            }
        }
    }
}

/// What the script says of one publish.
fn outcomes(place: &Place, batch: &Batch, view: &View, answer: Value) -> Result<Vec<Outcome>, Error> {
    let answer = Vec::<i64>::from_redis_value(answer).map_err(|_| unexpected())?;
    match answer.split_first() {
        Some((0, _)) => Ok(batch.refuse(|_| Refused::LineageChanged { current: Some(view.lineage) })),
        Some((1, [expected])) => {
            let expected = expected.unsigned_abs();
            Ok(batch.refuse(|_| Refused::OutOfSequence { expected }))
        }
        Some((3, _)) => Ok(batch.refuse(|_| Refused::Full { retry_after: sys::FULL })),
        Some((2, positions)) if positions.len() == batch.events.len() => {
            let duplicates = positions.iter().filter(|position| **position <= 0).count() as u64;
            metrics::published(&place.queue, "duplicate", duplicates);
            metrics::published(&place.queue, "recorded", positions.len() as u64 - duplicates);
            Ok(positions.iter().map(|position| Ok(recorded(place, view, *position))).collect())
        }
        _ => Err(unexpected()),
    }
}

fn recorded(place: &Place, view: &View, position: i64) -> Recorded {
    let duplicate = position <= 0;
    let position = Some(position.unsigned_abs()).filter(|position| *position > 0);
    // What is new is of the lineage that the script found.
    let before = position.filter(|_| duplicate).and_then(|position| view.lineages.of(position));
    Recorded {
        partition: place.partition,
        lineage: before.map_or(view.lineage, |lineage| lineage.id),
        position,
        due: None,
        duplicate,
        confirmed: Confirm::Stored,
    }
}

fn closed() -> Error {
    Error::Unavailable("the bus is closed".to_owned())
}
