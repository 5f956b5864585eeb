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
    latest,
    place::{Place, Ran, View},
    publish::Answer,
    queue::Shape,
    retention,
    script::{Script, WhenFull},
    server::unexpected,
    shared::Shared,
};
use crate::{
    Confirm, Error, Outcome, Producer, PublishOptions, Queue, Recorded, Refused,
    batch::{self, Batch, Prepared},
    clock::moment,
    metrics, sys,
};

static PUBLISH: LazyLock<Script> =
    LazyLock::new(|| Script::recording(include_str!("lua/publish.lua"), WhenFull::Refused));

/// Publishes that wait for a partition; more wait to be sent.
const WAITING: usize = 1024;
/// What an event's digest is made in. It is stored for two hours.
const DIGESTS: Uuid = Uuid::from_u128(0x6a1f_0a52_94c1_4d0e_9b7c_3e5d_1f7a_8c20);

/// A publish into one partition.
pub(super) struct Request {
    batch: Batch,
    bytes: usize,
    /// What it was divided by.
    shape: Shape,
    producer: Option<Producer>,
    expect_lineage: Option<u64>,
    answer: oneshot::Sender<Result<Answer, Error>>,
}

/// Publishes a batch whose events are all fine.
pub(super) async fn send(
    shared: &Arc<Shared>,
    batch: Batch,
    shape: Shape,
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
    let request = Request { batch, bytes, shape, producer, expect_lineage, answer };
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
            Ok(ran) => answer(&shared, &place, requests, ran),
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
        let alike = taken.first().is_none_or(|first| first.shape == request.shape);
        if !taken.is_empty() && (events > batch::EVENTS || bytes > batch::BYTES || !alike) {
            break;
        }
        taken.extend(waiting.pop_front());
    }
    taken
}

async fn record(shared: &Shared, place: &Place, requests: &[Request]) -> Result<Ran, Error> {
    let latest = requests.first().is_some_and(|request| request.shape.latest);
    let mut events = requests.iter().flat_map(|request| &request.batch.events);
    let says_more = latest || events.any(|event| event.due.is_some());
    let queue = shared.queue(&place.queue);
    let reach = queue.as_ref().map_or_else(|| Queue::new(place.queue.clone()).dedupe, |queue| queue.dedupe);
    let mut small: Vec<Vec<u8>> = vec![
        place.queue.as_str().into(),
        shared.dedupe_events.to_string().into(),
        requests.first().map(|request| request.shape.text()).unwrap_or_default().into(),
        requests.len().to_string().into(),
        queue.map(|queue| limits(shared, &queue, place.partition)).unwrap_or_default().into(),
        reach.as_millis().to_string().into(),
        u8::from(says_more).to_string().into(),
        shared.scheduled_events.to_string().into(),
    ];
    let of_all = small.len();
    let text = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default().into_bytes();
    for request in requests {
        let producer = request.producer.as_ref();
        small.push(text(request.expect_lineage));
        small.push(producer.map(|producer| producer.outbox.clone()).unwrap_or_default().into());
        small.push(text(producer.map(|producer| producer.first_publish_no)));
        small.push(request.batch.events.len().to_string().into());
        for event in &request.batch.events {
            small.push(digest(&event.envelope.source, &event.envelope.id).to_vec());
            if says_more {
                small.push(more(event));
            }
        }
    }
    let mut small = small.iter().map(Vec::as_slice);
    let mut args: Vec<&[u8]> = small.by_ref().take(of_all).collect();
    for request in requests {
        args.extend(small.by_ref().take(4));
        for event in &request.batch.events {
            args.extend(small.next());
            args.push(event.json.as_deref().unwrap_or_default());
            if says_more {
                args.extend(small.next());
            }
        }
    }
    shared.run_on(&PUBLISH, place, &[], &args).await
}

/// What the window, and what waits, know an event by.
pub(super) fn digest(source: &str, id: &str) -> [u8; 16] {
    *Uuid::new_v5(&DIGESTS, format!("{source}\0{id}").as_bytes()).as_bytes()
}

/// The same, of an event as it is stored; None where it can't be read.
pub(super) fn digest_of(json: &[u8]) -> Option<Vec<u8>> {
    #[derive(serde::Deserialize)]
    struct Identity {
        source: String,
        id: String,
    }
    let Identity { source, id } = serde_json::from_slice(json).ok()?;
    Some(digest(&source, &id).to_vec())
}

/// What is said of an event besides: its key's digest, the version it expects, when it is due.
fn more(event: &Prepared) -> Vec<u8> {
    let mut more = latest::digest(event.envelope.key()).to_vec();
    more.extend(event.envelope.expectedversion.map(|version| version.to_string()).unwrap_or_default().into_bytes());
    more.push(b':');
    more.extend(event.due.map(|due| due.max(0).to_string()).unwrap_or_default().into_bytes());
    more
}

/// What the partition may hold; nothing where its queue has no limits, which costs nothing then.
fn limits(shared: &Shared, queue: &Queue, partition: u32) -> String {
    let is_limited = queue.max_len.is_some() || queue.max_bytes.is_some();
    if is_limited { retention::limits(shared, queue, partition) } else { String::new() }
}

fn answer(shared: &Arc<Shared>, place: &Arc<Place>, requests: Vec<Request>, Ran { view, value }: Ran) {
    match value {
        Value::Array(answers) if answers.len() == requests.len() => {
            for (request, answer) in requests.into_iter().zip(answers) {
                let outcomes = outcomes(shared, place, &request.batch, &view, answer);
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
fn outcomes(
    shared: &Arc<Shared>,
    place: &Arc<Place>,
    batch: &Batch,
    view: &View,
    answer: Value,
) -> Result<Vec<Outcome>, Error> {
    let Value::Array(answer) = answer else { return Err(unexpected()) };
    let number = |at: usize| answer.get(at).and_then(|value| u64::from_redis_value_ref(value).ok());
    let at = usize::try_from(number(1).unwrap_or(0)).unwrap_or(0);
    match (number(0), answer.len()) {
        (Some(0), _) => Ok(batch.refuse(|_| Refused::LineageChanged { current: Some(view.lineage) })),
        (Some(1), 2) => {
            let expected = number(1).ok_or_else(unexpected)?;
            Ok(batch.refuse(|_| Refused::OutOfSequence { expected }))
        }
        (Some(3), _) => Ok(batch.refuse(|_| Refused::Full { retry_after: sys::FULL })),
        (Some(4), 3) => {
            let current = number(2).ok_or_else(unexpected)?;
            Ok(batch.refuse_at(at, Refused::VersionConflict { current }))
        }
        (Some(5), 2) => Ok(batch.refuse_at(at, Refused::Waiting { limit: shared.scheduled_events })),
        (Some(6), _) => {
            let (shared, place) = (shared.clone(), place.clone());
            tokio::spawn(async move { latest::build(&shared, &place).await });
            Err(latest::is_built())
        }
        (Some(2), count) if count == batch.events.len() + 1 => {
            let recorded = answer.into_iter().skip(1).map(|value| recorded(place, view, value));
            let recorded = recorded.collect::<Result<Vec<Recorded>, Error>>()?;
            let duplicates = recorded.iter().filter(|recorded| recorded.duplicate).count() as u64;
            let scheduled =
                recorded.iter().filter(|recorded| recorded.due.is_some() && !recorded.duplicate).count() as u64;
            metrics::published(&place.queue, "duplicate", duplicates);
            metrics::published(&place.queue, "scheduled", scheduled);
            metrics::published(&place.queue, "recorded", recorded.len() as u64 - duplicates - scheduled);
            if scheduled > 0 {
                shared.schedule.changed();
            }
            Ok(recorded.into_iter().map(Ok).collect())
        }
        _ => Err(unexpected()),
    }
}

/// What the script says of one event.
fn recorded(place: &Place, view: &View, value: Value) -> Result<Recorded, Error> {
    let (position, due, duplicate) = match value {
        Value::Int(position) => {
            let known = Some(position.unsigned_abs()).filter(|position| *position > 0);
            (known, None, position <= 0)
        }
        value => {
            let (due, waited) = <(i64, u8)>::from_redis_value(value).map_err(|_| unexpected())?;
            (None, Some(moment(due)), waited == 1)
        }
    };
    // What is new is of the lineage that the script found.
    let before = position.filter(|_| duplicate).and_then(|position| view.lineages.of(position));
    Ok(Recorded {
        partition: place.partition,
        lineage: before.map_or(view.lineage, |lineage| lineage.id),
        position,
        due,
        duplicate,
        confirmed: Confirm::Stored,
    })
}

fn closed() -> Error {
    Error::Unavailable("the bus is closed".to_owned())
}
