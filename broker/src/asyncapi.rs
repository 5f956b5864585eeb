//! `GET /asyncapi.json`: AsyncAPI 3 of what the broker tells and is told. The protocol and the webhooks stand in `asyncapi.yaml`;
//! put in are where the broker is, and a channel for each queue that the caller may read or publish to, with the events that
//! groups name or that were seen in it lately. Whoever is nobody sees the protocol alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
    time::Duration,
};

use axum::{
    Json, Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use bus::{GroupStatus, QueueStatus};
use events::Name;
use http::{HeaderMap, header};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::{access::Caller, filter::Filter, problem::Problem, query::Parameters, shared::Shared};

/// The most queues that are described, by name.
const MOST_QUEUES: usize = 200;
/// The most events of a queue that are described.
const MOST_EVENTS: usize = 64;
/// How many of a queue's newest events are looked at, and for how long that is believed.
const SAMPLE: u64 = 16;
const BELIEVED: Duration = Duration::from_secs(60);
/// What stands where a queue's events aren't known.
const ANY: &str = "any";

#[expect(clippy::expect_used, reason = "a test reads it")]
pub(crate) static PROTOCOL: LazyLock<Value> =
    LazyLock::new(|| serde_saphyr::from_str(include_str!("../asyncapi.yaml")).expect("the document is YAML"));

/// The events that were seen in queues.
#[derive(Default)]
pub(crate) struct Seen(Mutex<BTreeMap<Name, (Instant, BTreeSet<Name>)>>);

/// What a caller may do with a queue's events.
struct Described {
    queue: Name,
    read: Vec<Name>,
    write: Vec<Name>,
    /// It may do that with events that nobody knows yet, too.
    read_any: bool,
    write_any: bool,
}

pub(crate) fn router() -> Router<Shared> {
    Router::new().route("/asyncapi.json", get(document))
}

async fn document(
    State(shared): State<Shared>,
    caller: Caller,
    parameters: Parameters,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    parameters.done("nothing is")?;
    let mut document = PROTOCOL.clone();
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).filter(|text| is_host(text));
    let host = text("x-forwarded-host").or_else(|| text("host")).unwrap_or("localhost");
    let secure = headers.get("x-forwarded-proto").is_some_and(|scheme| scheme == "https");
    for (server, [plain, encrypted]) in [("socket", ["ws", "wss"]), ("http", ["http", "https"])] {
        document["servers"][server]["host"] = host.into();
        document["servers"][server]["protocol"] = if secure { encrypted } else { plain }.into();
    }
    // Nobody in particular may do nothing with any of them.
    if caller.subject.is_some() {
        for described in queues(&shared, &caller).await? {
            described.put_into(&mut document);
        }
    }
    // By the caller's scopes: nobody else may be given it.
    Ok(([(header::CACHE_CONTROL, "private, no-cache")], Json(document)).into_response())
}

async fn queues(shared: &Shared, caller: &Caller) -> Result<Vec<Described>, Problem> {
    let (mut queues, groups) = (shared.bus.queues().await?, shared.bus.groups().await?);
    queues.sort_by(|a, b| a.settings.name.cmp(&b.settings.name));
    let mut described = Vec::new();
    for queue in queues {
        let name = &queue.settings.name;
        let events = known(shared, &queue, &groups).await?;
        let reads = |event: &str| {
            let filter = format!("{name}/{event}").parse::<Filter>();
            filter.is_ok_and(|filter| caller.may_read(&filter).is_ok())
        };
        let writes = |event: &Name| caller.may_write(name, event).is_ok();
        let one = Described {
            read: events.iter().filter(|event| reads(event.as_str())).cloned().collect(),
            write: events.iter().filter(|event| writes(event)).cloned().collect(),
            read_any: reads("*"),
            // A name that nobody has.
            write_any: Name::new("0").is_ok_and(|event| writes(&event)),
            queue: queue.settings.name,
        };
        if !one.is_empty() {
            described.push(one);
        }
        if described.len() >= MOST_QUEUES {
            break;
        }
    }
    Ok(described)
}

/// The events that the queue is known to have.
async fn known(shared: &Shared, queue: &QueueStatus, groups: &[GroupStatus]) -> Result<BTreeSet<Name>, Problem> {
    let name = &queue.settings.name;
    let mut known = match shared.seen.of(name) {
        Some(seen) => seen,
        None => {
            let mut seen = BTreeSet::new();
            if let Some(partition) = queue.partitions.first() {
                let from = partition.next.saturating_sub(SAMPLE).max(partition.floor);
                let page = shared.bus.read(name, 0, from, SAMPLE as usize).await?;
                seen.extend(page.events.iter().map(|logged| logged.envelope.event.clone()));
            }
            shared.seen.put(name, seen)
        }
    };
    let named = groups.iter().filter(|group| group.filter.queue == *name).flat_map(|group| group.filter.events.iter());
    known.extend(named.flatten().cloned());
    Ok(known.into_iter().take(MOST_EVENTS).collect())
}

impl Seen {
    fn of(&self, queue: &Name) -> Option<BTreeSet<Name>> {
        let seen = self.0.lock();
        seen.get(queue).filter(|(at, _)| at.elapsed() < BELIEVED).map(|(_, events)| events.clone())
    }

    /// Adds to what was seen before; all of it.
    fn put(&self, queue: &Name, events: BTreeSet<Name>) -> BTreeSet<Name> {
        let mut seen = self.0.lock();
        // Of no more queues than a page describes; a queue that is gone makes room.
        if seen.len() >= MOST_QUEUES && !seen.contains_key(queue) {
            let oldest = seen.iter().min_by_key(|(_, (at, _))| *at).map(|(queue, _)| queue.clone());
            oldest.map(|queue| seen.remove(&queue));
        }
        let entry = seen.entry(queue.clone()).or_insert_with(|| (Instant::now(), BTreeSet::new()));
        entry.0 = Instant::now();
        entry.1.extend(events);
        while entry.1.len() > MOST_EVENTS {
            entry.1.pop_last();
        }
        entry.1.clone()
    }
}

impl Described {
    fn is_empty(&self) -> bool {
        self.read.is_empty() && self.write.is_empty() && !self.read_any && !self.write_any
    }

    /// A channel with a message for each event, and an operation for each way.
    fn put_into(&self, document: &mut Value) {
        let queue = self.queue.as_str();
        let (channel, at) = (format!("queue.{queue}"), format!("#/channels/queue.{queue}"));
        let mut messages = Map::new();
        for event in self.read.iter().chain(&self.write) {
            messages.insert(event.to_string(), message(queue, Some(event.as_str())));
        }
        if self.read_any || self.write_any {
            messages.insert(ANY.to_owned(), message(queue, None));
        }
        document["channels"][channel] = json!({
            "address": queue,
            "title": format!("The queue {queue}"),
            "description": format!("Followed by the filter `{queue}/*`, over each transport; published to at `/events/{queue}/EVENT`, or by `pub`."),
            "servers": [{ "$ref": "#/servers/socket" }, { "$ref": "#/servers/http" }],
            "messages": messages,
        });
        let ways = [
            ("send", "follow", "What those are told who follow", &self.read, self.read_any),
            ("receive", "publish", "What clients publish to", &self.write, self.write_any),
        ];
        for (action, verb, summary, events, any) in ways {
            if events.is_empty() && !any {
                continue;
            }
            let names = events.iter().map(Name::as_str).chain(any.then_some(ANY));
            document["operations"][format!("{verb}.{queue}")] = json!({
                "action": action,
                "channel": { "$ref": at },
                "summary": format!("{summary} {queue}."),
                "messages": names.map(|event| json!({ "$ref": format!("{at}/messages/{event}") })).collect::<Vec<_>>(),
            });
        }
    }
}

fn message(queue: &str, event: Option<&str>) -> Value {
    let mut of = json!({ "queue": { "const": queue } });
    if let Some(event) = event {
        of["event"] = json!({ "const": event });
    }
    json!({
        "name": format!("{queue}/{}", event.unwrap_or("*")),
        "contentType": "application/cloudevents+json",
        "payload": { "allOf": [{ "$ref": "#/components/schemas/CloudEvent" }, { "type": "object", "properties": of }] },
    })
}

/// What comes with the request is put into the document as a host alone.
fn is_host(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    !text.is_empty() && text.len() <= 255 && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_of_the_protocol_is_described() {
        let frames = include_str!("websocket/frame.rs");
        let (_, verbs) = frames.split_once("match name.as_str() {").unwrap();
        let (verbs, _) = verbs.split_once("unknown =>").unwrap();
        let mut known = 0;
        for line in verbs.lines() {
            let Some((verb, _)) = line.trim().strip_prefix('"').and_then(|line| line.split_once("\" =>")) else {
                continue;
            };
            known += 1;
            assert!(PROTOCOL["components"]["messages"][verb].is_object(), "{verb}");
            let message = json!({ "$ref": format!("#/components/messages/{verb}") });
            let in_channel = PROTOCOL["channels"]["socket"]["messages"].as_object().unwrap();
            let (name, _) = in_channel.iter().find(|(_, one)| **one == message).unwrap_or_else(|| panic!("{verb}"));
            let heard = json!({ "$ref": format!("#/channels/socket/messages/{name}") });
            assert!(PROTOCOL["operations"]["hear"]["messages"].as_array().unwrap().contains(&heard), "{verb}");
        }
        assert!(known >= 6, "{known}");
    }

    #[test]
    fn what_is_no_host_is_left_out() {
        for host in ["localhost:8080", "shop.example", "[::1]:80"] {
            assert!(is_host(host), "{host}");
        }
        for text in ["", "a b", "a/b", "<script>", &"a".repeat(256)] {
            assert!(!is_host(text), "{text}");
        }
    }
}
