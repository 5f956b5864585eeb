//! A task a partition that publishes into it: one script is in flight, and what arrives meanwhile is the next batch.
//! Nothing lingers, and who gives up waiting takes nothing along.

use std::{
    collections::VecDeque,
    pin::pin,
    sync::{Arc, LazyLock},
    task::Poll,
};

use futures_util::poll;
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
    Confirm, Error, Fence, Outcome, Producer, PublishOptions, Queue, Recorded, Refused,
    batch::{self, Batch, Prepared},
    clock::moment,
    sys,
};

static PUBLISH: LazyLock<Script> = LazyLock::new(|| {
    let parts = [
        include_str!("lua/outbox.lua"),
        include_str!("lua/asked.lua"),
        include_str!("lua/version.lua"),
        include_str!("lua/publish.lua"),
    ];
    Script::recording(&parts.join("\n"), WhenFull::Refused)
});
static PLAIN: LazyLock<Script> = LazyLock::new(|| Script::recording(include_str!("lua/plain.lua"), WhenFull::Refused));

/// Publishes that wait for a partition; more wait to be sent.
const WAITING: usize = 1024;
/// More events than that, which come while nothing is in flight, are sent in two halves: while the server is at one, those
/// who publish make the next.
const HALVED: usize = 64;
/// What an event's digest is made in. It is stored for two hours.
pub(super) const DIGESTS: Uuid = Uuid::from_u128(0x6a1f_0a52_94c1_4d0e_9b7c_3e5d_1f7a_8c20);

/// A publish into one partition.
pub(super) struct Request {
    batch: Batch,
    bytes: usize,
    /// What it was divided by.
    shape: Shape,
    producer: Option<Producer>,
    expect_lineage: Option<u64>,
    fence: Option<Fence>,
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
    let PublishOptions { producer, expect_lineage, fence, .. } = options;
    let (producer, fence) = (producer.clone(), fence.clone());
    let request = Request { batch, bytes, shape, producer, expect_lineage: *expect_lineage, fence, answer };
    publisher.send(request).await.map_err(|_| closed())?;
    answered.await.map_err(|_| closed())?
}

async fn work(shared: Arc<Shared>, place: Arc<Place>, mut requests: mpsc::Receiver<Request>) {
    let mut waiting = VecDeque::new();
    let mut done: Option<Done> = None;
    loop {
        take(&mut requests, &mut waiting);
        let was_idle = waiting.is_empty();
        if was_idle {
            if let Some(done) = done.take() {
                done.answer(&shared, &place);
            }
            match shared.closed.run_until_cancelled(requests.recv()).await {
                Some(Some(request)) => waiting.push_back(request),
                _ => return,
            }
            take(&mut requests, &mut waiting);
        }
        let requests = next(&mut waiting, was_idle);
        let recorded = {
            let mut recording = pin!(record(&shared, &place, &requests));
            match (done.take(), poll!(recording.as_mut())) {
                (None, Poll::Ready(recorded)) => recorded,
                (None, Poll::Pending) => recording.await,
                (Some(done), Poll::Ready(recorded)) => {
                    done.answer(&shared, &place);
                    recorded
                }
                (Some(done), Poll::Pending) => {
                    // What is next is on its way before anybody is woken: those who publish make more while the server
                    // is at it.
                    tokio::task::yield_now().await;
                    done.answer(&shared, &place);
                    recording.await
                }
            }
        };
        done = Some(Done { requests, recorded });
    }
}

/// What the server has answered, and whoever waits hasn't heard of yet.
struct Done {
    requests: Vec<Request>,
    recorded: Result<(View, Said), Error>,
}

impl Done {
    fn answer(self, shared: &Arc<Shared>, place: &Arc<Place>) {
        match self.recorded {
            Ok(ran) => answer(shared, place, self.requests, ran),
            Err(error) => {
                for request in self.requests {
                    // Whoever asked may have gone meanwhile.
                    let _ = request.answer.send(Err(error.clone()));
                }
            }
        }
    }
}

fn take(requests: &mut mpsc::Receiver<Request>, waiting: &mut VecDeque<Request>) {
    while waiting.len() < batch::EVENTS
        && let Ok(request) = requests.try_recv()
    {
        waiting.push_back(request);
    }
}

/// The first of those that wait, as many as one entry may hold; or half of them, where nothing was in flight.
fn next(waiting: &mut VecDeque<Request>, was_idle: bool) -> Vec<Request> {
    let all: usize = waiting.iter().map(|request| request.batch.events.len()).sum();
    let most = if was_idle && all > HALVED { all.div_ceil(2).min(batch::EVENTS) } else { batch::EVENTS };
    let (mut events, mut bytes) = (0, 0);
    let mut taken: Vec<Request> = Vec::new();
    while let Some(request) = waiting.front() {
        events += request.batch.events.len();
        bytes += request.bytes;
        let alike = taken.first().is_none_or(|first| first.shape == request.shape);
        if !taken.is_empty() && (events > most || bytes > batch::BYTES || !alike) {
            break;
        }
        taken.extend(waiting.pop_front());
    }
    taken
}

/// What a script said of several publishes.
enum Said {
    /// The queue has another shape than they were divided by.
    Moved,
    /// Each event is new; they are the latest of the log.
    Plain,
    /// An answer each.
    Each(Vec<Value>),
}

async fn record(shared: &Shared, place: &Place, requests: &[Request]) -> Result<(View, Said), Error> {
    let shape = requests.first().map_or(Shape { partitions: 1, latest: false }, |request| request.shape);
    let queue = shared.queue(&place.queue);
    let reach = queue.as_ref().map_or_else(|| Queue::new(place.queue.clone()).dedupe, |queue| queue.dedupe);
    let all = All {
        shape: shape.text(),
        capacity: shared.dedupe_events.to_string(),
        reach: reach.as_millis().to_string(),
        limits: queue.map(|queue| limits(shared, &queue, place.partition)).unwrap_or_default(),
        says_more: shape.latest || events_of(requests).any(|event| event.due.is_some()),
        digests: events_of(requests).map(|event| digest(&event.envelope.source, &event.envelope.id)).collect(),
    };
    if all.is_plain(requests)
        && let Some(recorded) = record_plain(shared, place, requests, &all).await?
    {
        return Ok(recorded);
    }
    let Ran { view, value } = record_each(shared, place, requests, &all).await?;
    match value {
        Value::Array(answers) if answers.len() == requests.len() => Ok((view, Said::Each(answers))),
        Value::Int(_) => Ok((view, Said::Moved)),
        _ => Err(unexpected()),
    }
}

fn events_of(requests: &[Request]) -> impl Iterator<Item = &Prepared> {
    requests.iter().flat_map(|request| &request.batch.events)
}

/// What both scripts are told of several publishes.
struct All {
    shape: String,
    capacity: String,
    /// In milliseconds.
    reach: String,
    limits: String,
    /// Of an event more is said than its digest and itself.
    says_more: bool,
    digests: Vec<[u8; 16]>,
}

impl All {
    /// Nothing is asked but to record them, and no two are the same.
    fn is_plain(&self, requests: &[Request]) -> bool {
        let asks = |request: &Request| {
            request.producer.is_some() || request.expect_lineage.is_some() || request.fence.is_some()
        };
        if self.says_more || !self.limits.is_empty() || requests.iter().any(asks) {
            return false;
        }
        let mut sorted = self.digests.clone();
        sorted.sort_unstable();
        sorted.windows(2).all(|two| two[0] != two[1])
    }
}

/// None: something of them is known already, which the other script tells.
async fn record_plain(
    shared: &Shared,
    place: &Place,
    requests: &[Request],
    all: &All,
) -> Result<Option<(View, Said)>, Error> {
    let count = all.digests.len().to_string();
    let mut args: Vec<&[u8]> = Vec::with_capacity(5 + 3 * all.digests.len());
    args.push(place.queue.as_str().as_bytes());
    args.extend([&all.capacity, &all.shape, &all.reach, &count].map(String::as_bytes));
    args.extend(all.digests.iter().map(<[u8; 16]>::as_slice));
    args.extend(events_of(requests).flat_map(|event| [b"e".as_slice(), event.json.as_deref().unwrap_or_default()]));
    let Ran { view, value } = shared.run_on(&PLAIN, place, &[], &args).await?;
    match value {
        Value::Int(0) => Ok(Some((view, Said::Moved))),
        Value::Int(1) => Ok(Some((view, Said::Plain))),
        Value::Int(-1) => Ok(None),
        _ => Err(unexpected()),
    }
}

async fn record_each(shared: &Shared, place: &Place, requests: &[Request], all: &All) -> Result<Ran, Error> {
    let mut small: Vec<Vec<u8>> = vec![
        place.queue.as_str().into(),
        all.capacity.clone().into(),
        all.shape.clone().into(),
        requests.len().to_string().into(),
        all.limits.clone().into(),
        all.reach.clone().into(),
        u8::from(all.says_more).to_string().into(),
        shared.scheduled_events.to_string().into(),
    ];
    let of_all = small.len();
    let text = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default().into_bytes();
    let mut digests = all.digests.iter();
    for request in requests {
        let producer = request.producer.as_ref();
        small.push(expected(request));
        small.push(producer.map(|producer| producer.outbox.clone()).unwrap_or_default().into());
        small.push(text(producer.map(|producer| producer.first_publish_no)));
        small.push(request.batch.events.len().to_string().into());
        for event in &request.batch.events {
            small.extend(digests.next().map(|digest| digest.to_vec()));
            if all.says_more {
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
            if all.says_more {
                args.extend(small.next());
            }
        }
    }
    shared.run_on(&PUBLISH, place, &[], &args).await
}

/// What the window, and what waits, know an event by.
pub(super) fn digest(source: &str, id: &str) -> [u8; 16] {
    *Uuid::new_v5(&DIGESTS, [source, "\0", id].concat().as_bytes()).as_bytes()
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

/// The lineage that a publish expects, and the lease that it was made under: `lineage@name=number`, each where there is one.
fn expected(request: &Request) -> Vec<u8> {
    let mut expected = request.expect_lineage.map(|lineage| lineage.to_string()).unwrap_or_default();
    if let Some(Fence { name, number }) = &request.fence {
        expected.push_str(&format!("@{name}={number}"));
    }
    expected.into_bytes()
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

fn answer(shared: &Arc<Shared>, place: &Arc<Place>, requests: Vec<Request>, (view, said): (View, Said)) {
    match said {
        Said::Each(answers) => {
            for (request, answer) in requests.into_iter().zip(answers) {
                let outcomes = outcomes(shared, place, &request.batch, &view, answer);
                let _ = request.answer.send(outcomes.map(|outcomes| Answer::Outcomes(outcomes, view.lineage)));
            }
        }
        Said::Plain => {
            let count = events_of(&requests).count() as u64;
            let mut positions = view.next.saturating_sub(count)..;
            for request in requests {
                let position = positions.by_ref().take(request.batch.events.len());
                let outcomes = position.map(|position| Ok(new(place, &view, position))).collect();
                let _ = request.answer.send(Ok(Answer::Outcomes(outcomes, view.lineage)));
            }
        }
        Said::Moved => {
            for request in requests {
                let _ = request.answer.send(Ok(Answer::Moved(request.batch)));
            }
        }
    }
}

/// What was recorded just now: it is of the lineage that the script found.
fn new(place: &Place, view: &View, position: u64) -> Recorded {
    Recorded {
        partition: place.partition,
        lineage: view.lineage,
        position: Some(position),
        due: None,
        duplicate: false,
        confirmed: Confirm::Stored,
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
        (Some(7), 2) => {
            let current = number(1).ok_or_else(unexpected)?;
            Ok(batch.refuse(|_| Refused::Fenced { current }))
        }
        (Some(5), 2) => Ok(batch.refuse_at(at, Refused::Waiting { limit: shared.scheduled_events })),
        (Some(6), _) => {
            latest::build_aside(shared, place);
            Err(latest::is_built())
        }
        (Some(2), count) if count == batch.events.len() + 1 => {
            let recorded = answer.into_iter().skip(1).map(|value| recorded(place, view, value));
            let recorded = recorded.collect::<Result<Vec<Recorded>, Error>>()?;
            if recorded.iter().any(|recorded| recorded.due.is_some() && !recorded.duplicate) {
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
