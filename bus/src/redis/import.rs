//! Taking in what is copied from another bus, positions kept. A partition is written before its queue is registered, so that
//! nobody knows it; should somebody use it all the same, the next step is refused.

use std::{collections::HashMap, sync::LazyLock};

use redis::{FromRedisValue as _, Value};

use super::{
    Redis, bookmark, group, latest,
    place::Place,
    publisher,
    script::{Script, WhenFull},
    server::unexpected,
};
use crate::{
    Error, Group, Queue,
    copy::{self, Buried, GroupPart, QueuePart, Raw},
};

static IMPORT: LazyLock<Script> = LazyLock::new(|| Script::alone(include_str!("lua/import.lua"), WhenFull::Refused));

/// Entries that are read at once to count what they hold.
const PAGE: usize = 64;
/// The most runs of an outbox's numbers that are kept (outbox.lua).
const RUNS: usize = 16;
/// Bytes of dead letters that one step takes.
const STEP_BYTES: usize = 1 << 20;
/// Longer than a partition's dedupe window is kept, in milliseconds.
const MARGIN: u128 = 60_000;

/// What is there of a queue or a group before a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum There {
    Nothing,
    /// This very copy was ended.
    Copied,
    Other,
}

/// A partition that is being written.
pub(crate) struct Target<'a> {
    redis: &'a Redis,
    /// What is copied.
    name: &'a str,
    queue: &'a Queue,
    partition: u32,
    place: std::sync::Arc<Place>,
}

impl Redis {
    pub(crate) async fn what_is_there(&self, name: &str, queue: &Queue) -> Result<There, Error> {
        if self.shared.ask_queue(&queue.name).await?.is_none() {
            return Ok(There::Nothing);
        }
        let meta = self.shared.place(&queue.name, 0).keys.meta.clone();
        let copied: Option<String> = self.shared.server.ask(redis::cmd("HGET").arg(meta).arg("copied")).await?;
        Ok(if copied.as_deref() == Some(name) { There::Copied } else { There::Other })
    }

    /// The queue that a group of this name reads, if there is one.
    pub(crate) async fn group_there(&self, group: &str) -> Result<Option<Group>, Error> {
        Ok(self.shared.find_group(group).await?.map(|group| (*group).clone()))
    }

    /// Registers a queue whose partitions were all written.
    pub(crate) async fn register_queue(&self, queue: &Queue) -> Result<(), Error> {
        self.shared.put_queue(queue).await?;
        if queue.latest {
            // Otherwise the first event that expects a version would be put off.
            for partition in 0..queue.partitions {
                latest::build(&self.shared, &self.shared.place(&queue.name, partition)).await?;
            }
        }
        Ok(())
    }

    /// Keeps places for clients.
    pub(crate) async fn put_bookmarks(&self, places: &[copy::Place]) -> Result<(), Error> {
        bookmark::put(&self.shared, places).await
    }

    pub(crate) async fn register_group(&self, group: &Group) -> Result<(), Error> {
        self.shared.put_group(group).await
    }

    pub(crate) fn target<'a>(&'a self, name: &'a str, queue: &'a Queue, partition: u32) -> Target<'a> {
        Target { redis: self, name, queue, partition, place: self.shared.place(&queue.name, partition) }
    }

    /// The time as the bus there has it, in milliseconds since 1970.
    pub(crate) fn now(&self) -> i64 {
        self.shared.now()
    }

    pub(crate) fn dedupe_events(&self) -> u64 {
        self.shared.dedupe_events as u64
    }
}

impl Target<'_> {
    /// The next position that is wanted; None where all has been copied already.
    pub(crate) async fn begin(&self, floor: u64) -> Result<Option<u64>, Error> {
        let prefix = self.redis.shared.keys().group(&self.queue.name, self.partition, "");
        let at = self.step("begin", &[], vec![floor.to_string().into(), prefix.into()]).await?;
        let at = u64::from_redis_value(at).map_err(|_| unexpected())?;
        Ok((at > 0).then_some(at))
    }

    /// Writes events, which go on from those before; `bytes`: of all before them. Those recorded after `known_from`
    /// are known by their source and id.
    pub(crate) async fn write(
        &self,
        part: &QueuePart,
        events: &[Raw],
        mut bytes: u64,
        known_from: (u64, i64),
    ) -> Result<(), Error> {
        let (Some(first), Some(last)) = (events.first(), events.last()) else { return Ok(()) };
        let text = |number: u64| number.to_string().into_bytes();
        let kept = self.queue.dedupe.as_millis() + MARGIN;
        let mut args = vec![text(first.position), text(last.position + 1), kept.to_string().into_bytes()];
        let lineage = |event: &Raw| part.lineages.of(event.position).map_or(0, |lineage| lineage.id);
        // An entry is of one lineage and one time.
        for entry in events.chunk_by(|a, b| a.recorded == b.recorded && lineage(a) == lineage(b)) {
            let first = &entry[0];
            args.extend([
                text(first.position),
                first.recorded.to_string().into_bytes(),
                text(lineage(first)),
                text(bytes),
                text(entry.len() as u64),
            ]);
            for event in entry {
                let known = event.position >= known_from.0 && event.recorded > known_from.1;
                args.push(known.then(|| publisher::digest_of(&event.json)).flatten().unwrap_or_default());
                args.push(event.json.clone());
                bytes += event.json.len() as u64;
            }
        }
        self.step("events", &[], args).await.map(drop)
    }

    /// Writes a group's place, and the first of its letters. `next_letters` gives more of them after a position.
    pub(crate) async fn write_group(
        &self,
        part: &QueuePart,
        group: &GroupPart,
        mut next_letters: impl FnMut(u64) -> anyhow::Result<Vec<Buried>>,
    ) -> anyhow::Result<()> {
        let Some(ledger) = group.ledgers.get(self.partition as usize) else { return Ok(()) };
        let of = self.redis.shared.keys().group_keys(&self.queue.name, self.partition, &group.group.name);
        let keys = [of.state, of.dead, of.died, of.order];
        let lineage = part.lineages.current().map_or(0, |lineage| lineage.id);
        let mut fields = group::fields(ledger, self.redis.now().unsigned_abs(), lineage, group.generation);
        fields.push(("claimed".into(), group.claimed.to_string().into()));
        fields.push(("abandoned".into(), group.abandoned.map(|at| at.to_string()).unwrap_or_default().into()));
        if self.partition == 0 {
            fields.push(("deaths".into(), group.deaths.to_string().into()));
            fields.push(("mourned".into(), group.mourned.to_string().into()));
        }
        let head = |first: &str, fields: usize| {
            vec![group.group.name.clone().into_bytes(), first.into(), fields.to_string().into_bytes()]
        };
        for (number, fields) in fields.chunks(1000).enumerate() {
            let mut args = head(if number == 0 { "1" } else { "" }, fields.len());
            args.extend(fields.iter().flat_map(|(name, value)| [name.clone().into_bytes(), value.clone()]));
            self.step("group", &keys, args).await?;
        }
        let mut after = 0;
        loop {
            let letters = next_letters(after)?;
            let Some(last) = letters.last() else { return Ok(()) };
            after = last.position;
            let mut args = head("", 0);
            let mut bytes = 0;
            for letter in letters {
                let (position, died, redriven) = (letter.position, letter.died, letter.redriven);
                let Some(text) = group::letter_text(letter) else { continue };
                bytes += text.len();
                args.extend([
                    position.to_string().into_bytes(),
                    text.into_bytes(),
                    died.to_string().into_bytes(),
                    u8::from(redriven).to_string().into_bytes(),
                ]);
                if bytes >= STEP_BYTES {
                    self.step("group", &keys, std::mem::replace(&mut args, head("", 0))).await?;
                    bytes = 0;
                }
            }
            self.step("group", &keys, args).await?;
        }
    }

    /// How many events there are, and their bytes.
    pub(crate) async fn count(&self) -> Result<(u64, u64), Error> {
        let (mut from, mut events, mut bytes) = ("-".to_owned(), 0, 0);
        loop {
            let mut range = redis::cmd("XRANGE");
            range.arg(&self.place.keys.stream).arg(&from).arg("+").arg("COUNT").arg(PAGE);
            let entries: Vec<(String, Vec<(String, Value)>)> = self.redis.shared.server.ask(&range).await?;
            let Some((last, _)) = entries.last() else { return Ok((events, bytes)) };
            from = format!("({last}");
            for (name, value) in entries.into_iter().flat_map(|(_, fields)| fields) {
                if let (Value::BulkString(event), "e") = (value, name.as_str()) {
                    events += 1;
                    bytes += event.len() as u64;
                }
            }
        }
    }

    /// Of a group: its next position, how many events are unsettled, and how many letters there are, and are dead.
    pub(crate) async fn count_group(&self, group: &str) -> Result<(u64, u64, u64, u64), Error> {
        let of = self.redis.shared.keys().group_keys(&self.queue.name, self.partition, group);
        let mut all = redis::pipe();
        all.hget(&of.state, "next").hkeys(&of.state).hlen(&of.dead).zcard(&of.died);
        let (next, fields, letters, dead): (u64, Vec<String>, u64, u64) =
            self.redis.shared.server.ask_all(&all).await?;
        let unsettled = fields.iter().filter(|field| field.bytes().all(|byte| byte.is_ascii_digit())).count();
        Ok((next, unsettled as u64, letters, dead))
    }

    /// Ends it: from here on it may be used.
    pub(crate) async fn end(&self, part: &QueuePart) -> Result<(), Error> {
        let mut history = Vec::new();
        for lineage in &part.lineages.0 {
            let parent = lineage.parent.map(|parent| parent.to_string()).unwrap_or_default();
            history.push(format!("{}:{}:{parent}", lineage.id, lineage.first));
        }
        let lineage = part.lineages.current().map_or(0, |lineage| lineage.id);
        let mut fields: HashMap<String, String> = [
            ("lineage", lineage.to_string()),
            ("lineages", history.join(",")),
            ("seq", (part.next - 1).to_string()),
            ("floor", part.floor.to_string()),
            // What is recorded never lies in the future of the next time.
            ("now", part.recorded.to_string()),
            ("bytes", part.bytes.to_string()),
            ("freed", "0".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        if self.queue.latest {
            // It is built from the log.
            fields.insert("view".to_owned(), "lost".to_owned());
        }
        for outbox in &part.outboxes {
            let runs = &outbox.runs[outbox.runs.len().saturating_sub(RUNS)..];
            let runs: Vec<String> =
                runs.iter().map(|(no, position, count)| format!("{no}:{position}:{count}")).collect();
            fields.insert(format!("p:{}", outbox.name), format!("{}|{}", outbox.last, runs.join(",")));
        }
        let args = fields.into_iter().flat_map(|(name, value)| [name.into_bytes(), value.into_bytes()]).collect();
        self.step("end", &[], args).await.map(drop)
    }

    async fn step(&self, step: &str, more: &[String], args: Vec<Vec<u8>>) -> Result<Value, Error> {
        let of = &self.place.keys;
        let own = [&of.meta, &of.stream, &of.dedupe, &of.dedupe_order, &of.groups];
        let keys: Vec<&String> = own.into_iter().chain(more).collect();
        let mut call = IMPORT.call(keys.into_iter());
        call.arg(self.name).arg(step);
        for arg in &args {
            call.arg(arg.as_slice());
        }
        self.redis.shared.server.call(&IMPORT, &call).await.map_err(|error| match error {
            Error::Unavailable(reason) if reason.contains("INUSE") => Error::Conflict(format!(
                "somebody uses the queue {} there: stop what does, empty the namespace, and copy again",
                self.queue.name
            )),
            other => other,
        })
    }
}
