//! The bus, whichever way it is reached; the answers are the same.

use std::time::Duration;

use anyhow::{Context as _, bail};
use broker::{GroupView, LetterView, QueueView};
use bus::{Bus, Connection, Queue, Sought, Start, Which};
use bytes::Bytes;
use events::{Address, Envelope, Name};
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    args::{self, Letter, Set, Way},
    gateway::{Gateway, encoded},
    named::{Named, named, path},
    settings::{changed, settings},
};

/// The most items of a list that are shown.
const MOST: usize = 100_000;
/// Who publishes past every gateway.
pub const SOURCE: &str = "/operators/turnpike-bus";

pub enum Client {
    Gateway(Box<Gateway>),
    Redis(Bus),
}

/// An event to be published.
pub struct Draft {
    pub address: Address,
    pub data: Option<Bytes>,
    /// None: JSON.
    pub content_type: Option<String>,
    pub subject: Option<String>,
    pub key: Option<String>,
    pub id: Option<String>,
    pub reply_to: Option<String>,
    /// When it is recorded; None: now.
    pub deliver: Option<OffsetDateTime>,
}

impl Client {
    pub async fn open(way: &Way) -> anyhow::Result<Self> {
        match &way.redis {
            Some(url) => {
                let options =
                    bus::redis::Options { namespace: way.namespace.clone(), ..bus::redis::Options::default() };
                Ok(Self::Redis(bus::redis::open_with(url, options).await.context("no bus in Redis")?))
            }
            None => Ok(Self::Gateway(Box::new(Gateway::open(way).await?))),
        }
    }

    pub async fn queues(&self) -> anyhow::Result<Vec<QueueView>> {
        match self {
            Self::Gateway(gateway) => gateway.list("/queues", "queues", MOST).await,
            Self::Redis(bus) => {
                let mut queues: Vec<QueueView> = bus.queues().await?.into_iter().map(QueueView::from).collect();
                queues.sort_by(|a, b| a.name.cmp(&b.name));
                Ok(queues)
            }
        }
    }

    /// Changes a queue's settings, or makes one; the settings it has then.
    pub async fn set_queue(&self, set: &Set) -> anyhow::Result<QueueView> {
        let bus = match self {
            Self::Gateway(gateway) => {
                let answer = gateway.put(&format!("/queues/{}", set.queue), &settings(set)).await?;
                return serde_json::from_value(answer).context("PUT /queues: is this a gateway of this version?");
            }
            Self::Redis(bus) => bus,
        };
        let known = bus.queues().await?.into_iter().find(|known| known.settings.name == set.queue);
        let known = known.map_or_else(|| Queue::initial(set.queue.clone()), |known| known.settings);
        bus.declare_queue(changed(known, set)).await?;
        let queues = self.queues().await?;
        queues.into_iter().find(|queue| queue.name == set.queue.as_str()).context("the queue is gone")
    }

    /// An event with its data.
    pub async fn event(&self, event: &args::Event) -> anyhow::Result<Value> {
        match self {
            Self::Gateway(gateway) => gateway.get(&path(event, "", false)).await,
            Self::Redis(bus) => match named(bus, event).await? {
                Named::Cursor(cursor) => broker::event_directly(bus, &cursor).await,
                Named::Waiting(_) => bail!("the event waits for its time; its status says when that is"),
            },
        }
    }

    /// Takes an event back that waits for its time; done where none waits any more.
    pub async fn cancel(&self, queue: &Name, id: &str, source: Option<&str>) -> anyhow::Result<()> {
        match self {
            Self::Gateway(gateway) => {
                let source = source.map(|source| format!("&source={}", encoded(source))).unwrap_or_default();
                gateway.delete(&format!("/events/{}?queue={queue}{source}", encoded(id))).await.map(drop)
            }
            Self::Redis(bus) => {
                let source = source.unwrap_or(SOURCE);
                if !bus.cancel(queue, source, id).await?
                    && let Some(found) = bus.find(queue, source, id).await?
                    && found.position.is_some()
                {
                    bail!("the event is recorded already");
                }
                Ok(())
            }
        }
    }

    /// Where an event stands; in Redis with `watch`, once every group is done with it, at most after so long. One that waits
    /// for its time only says when that is.
    pub async fn status(&self, event: &args::Event, watch: Option<Duration>) -> anyhow::Result<Value> {
        match self {
            Self::Gateway(gateway) => gateway.get(&path(event, "/status", false)).await,
            Self::Redis(bus) => match named(bus, event).await? {
                Named::Cursor(cursor) => broker::status_directly(bus, &cursor, watch).await,
                Named::Waiting(status) => Ok(status),
            },
        }
    }

    pub async fn groups(&self) -> anyhow::Result<Vec<GroupView>> {
        match self {
            Self::Gateway(gateway) => gateway.list("/groups", "groups", MOST).await,
            Self::Redis(bus) => {
                let members = broker::count_members(bus.connections().await?);
                let view = |status: bus::GroupStatus| {
                    let members = members.get(&status.name).copied().unwrap_or(0);
                    GroupView::new(status, members)
                };
                let mut groups: Vec<GroupView> = bus.groups().await?.into_iter().map(view).collect();
                groups.sort_by(|a, b| a.name.cmp(&b.name));
                Ok(groups)
            }
        }
    }

    pub async fn connections(&self) -> anyhow::Result<Vec<Connection>> {
        match self {
            Self::Gateway(gateway) => gateway.list("/connections", "connections", MOST).await,
            Self::Redis(bus) => Ok(bus.connections().await?),
        }
    }

    /// A group's first dead letters after a place.
    pub async fn dead_letters(
        &self,
        group: &str,
        after: Option<Letter>,
        most: usize,
    ) -> anyhow::Result<Vec<LetterView>> {
        let after = after.map_or((0, 0), |letter| (letter.partition, letter.position));
        match self {
            Self::Gateway(gateway) if after == (0, 0) => {
                gateway.list(&format!("/groups/{}/dead-letters", encoded(group)), "dead_letters", most).await
            }
            Self::Gateway(gateway) => {
                let (partition, position) = after;
                let path = format!(
                    "/groups/{}/dead-letters?after={partition}:{position}&limit={}",
                    encoded(group),
                    most.min(1000)
                );
                let page: Value = gateway.get(&path).await?;
                Ok(serde_json::from_value(page["dead_letters"].clone())?)
            }
            Self::Redis(bus) => {
                let mut letters: Vec<LetterView> = Vec::new();
                let mut after = after;
                while letters.len() < most {
                    let page = bus.dead_letters(group, after, (most - letters.len()).min(1000)).await?;
                    let Some(last) = page.last() else { break };
                    after = (last.partition, last.position);
                    letters.extend(page.into_iter().map(LetterView::from));
                }
                Ok(letters)
            }
        }
    }

    /// Gives dead letters to their group again; how many.
    pub async fn redrive(&self, group: &str, letters: &[Letter]) -> anyhow::Result<u64> {
        match self {
            Self::Gateway(gateway) => command(gateway, group, "redrive", "redriven", letters).await,
            Self::Redis(bus) => Ok(bus.redrive(group, which(letters)).await?),
        }
    }

    /// Forgets dead letters; how many.
    pub async fn discard(&self, group: &str, letters: &[Letter]) -> anyhow::Result<u64> {
        match self {
            Self::Gateway(gateway) => command(gateway, group, "discard", "discarded", letters).await,
            Self::Redis(bus) => Ok(bus.discard(group, which(letters)).await?),
        }
    }

    /// Moves a group, or says what moving it would do.
    pub async fn seek(&self, group: &str, to: Start, dry_run: bool) -> anyhow::Result<Sought> {
        let gateway = match self {
            Self::Redis(bus) => return Ok(bus.seek(group, to, dry_run).await?),
            Self::Gateway(gateway) => gateway,
        };
        let mut body = match to {
            Start::Earliest => json!({"to": "earliest"}),
            Start::Latest => json!({"to": "latest"}),
            Start::Position(position) => json!({ "position": position }),
            Start::Time(time) => json!({"time": time.format(&Rfc3339)?}),
        };
        body["dry_run"] = dry_run.into();
        let path = format!("/groups/{}/seek", encoded(group));
        let answer = gateway.post(&path, "application/json", body.to_string().into()).await?;
        let count = |name: &str| answer[name].as_u64().with_context(|| format!("POST {path} doesn't say {name}"));
        Ok(Sought { again: count("again")?, skipped: count("skipped")?, leases: count("leases")? })
    }

    /// Publishes; the receipt.
    pub async fn publish(&self, draft: Draft, confirm: &str, timeout: Duration) -> anyhow::Result<Value> {
        match self {
            Self::Gateway(gateway) => {
                let Address { queue, event } = &draft.address;
                let mut path =
                    format!("/events/{queue}/{event}?confirm={}&timeout={}ms", encoded(confirm), timeout.as_millis());
                let parameters = [
                    ("subject", &draft.subject),
                    ("key", &draft.key),
                    ("id", &draft.id),
                    ("reply_to", &draft.reply_to),
                ];
                for (name, value) in parameters {
                    if let Some(value) = value {
                        path.push_str(&format!("&{name}={}", encoded(value)));
                    }
                }
                if let Some(deliver) = draft.deliver {
                    path.push_str(&format!("&deliverytime={}", encoded(&deliver.format(&Rfc3339)?)));
                }
                let media = draft.content_type.as_deref().unwrap_or("application/json");
                gateway.post(&path, media, draft.data.unwrap_or_default()).await
            }
            Self::Redis(bus) => broker::publish_directly(bus, envelope(draft)?, confirm, timeout).await,
        }
    }
}

/// A command on dead letters; none named: all.
async fn command(gateway: &Gateway, group: &str, verb: &str, done: &str, letters: &[Letter]) -> anyhow::Result<u64> {
    let named: Vec<Value> =
        letters.iter().map(|letter| json!({"partition": letter.partition, "position": letter.position})).collect();
    let body = if named.is_empty() { json!({"all": true}) } else { json!({"letters": named}) };
    let path = format!("/groups/{}/{verb}", encoded(group));
    let answer = gateway.post(&path, "application/json", body.to_string().into()).await?;
    answer[done].as_u64().with_context(|| format!("POST {path} doesn't say how many"))
}

fn which(letters: &[Letter]) -> Which {
    match letters {
        [] => Which::All,
        letters => Which::These(letters.iter().map(|letter| (letter.partition, letter.position)).collect()),
    }
}

fn envelope(draft: Draft) -> anyhow::Result<Envelope> {
    let Address { queue, event } = draft.address;
    let mut envelope = Envelope::new(SOURCE, queue, event);
    envelope.subject = draft.subject;
    envelope.partitionkey = draft.key;
    envelope.replyto = draft.reply_to;
    envelope.deliverytime = draft.deliver;
    if let Some(id) = draft.id {
        envelope.id = id;
    }
    if let Some(data) = draft.data.filter(|data| !data.is_empty()) {
        envelope = match draft.content_type {
            Some(media) if !media.contains("json") => envelope.binary(media, data.to_vec()),
            _ => match serde_json::from_slice(&data) {
                Ok(json) => envelope.data(json),
                Err(error) => bail!("the data is not JSON ({error}): quote it, or say --content-type text/plain"),
            },
        };
    }
    envelope.check()?;
    Ok(envelope)
}
