//! A partition as this process knows it: its keys, and what the last script on it told.

use std::sync::{Arc, OnceLock};

use events::Name;
use parking_lot::RwLock;
use redis::{FromRedisValue as _, Value};
use tokio::sync::mpsc;

use super::{keys::PartitionKeys, publisher::Request, server::unexpected};
use crate::{Error, Lineage, Lineages};

pub(super) struct Place {
    pub(super) queue: Name,
    pub(super) partition: u32,
    pub(super) keys: PartitionKeys,
    /// To the task that publishes into it, once there is one.
    pub(super) publisher: OnceLock<mpsc::Sender<Request>>,
    view: RwLock<View>,
}

/// What was true when a script ran.
#[derive(Clone, Debug)]
pub(super) struct View {
    /// Of the current lineage.
    pub(super) lineage: u64,
    pub(super) lineages: Arc<Lineages>,
    pub(super) floor: u64,
    /// The position that the next event gets.
    pub(super) next: u64,
    /// The server's time, in milliseconds since 1970, as the partition's scripts see it: it never goes back.
    pub(super) now: i64,
}

/// A script's own answer, and what its prelude told.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) view: View,
    /// `Value::Nil` where the script returns nothing.
    pub(super) value: Value,
}

impl Place {
    pub(super) fn new(queue: Name, partition: u32, keys: PartitionKeys) -> Self {
        let view = View { lineage: 0, lineages: Arc::default(), floor: 1, next: 1, now: 0 };
        Self { queue, partition, keys, publisher: OnceLock::new(), view: RwLock::new(view) }
    }

    /// What was last told of it.
    pub(super) fn view(&self) -> View {
        self.view.read().clone()
    }

    /// Takes a script's answer in; and whether it told of another lineage than the last one.
    pub(super) fn took(&self, answer: Value) -> Result<(Ran, bool), Error> {
        let Value::Array(parts) = answer else { return Err(unexpected()) };
        let [lineage, next, floor, now, lineages, value]: [Value; 6] = parts.try_into().map_err(|_| unexpected())?;
        let number = |value: &Value| u64::from_redis_value_ref(value).map_err(|_| unexpected());
        let (lineage, next, floor) = (number(&lineage)?, number(&next)?, number(&floor)?);
        let now = i64::from_redis_value(now).map_err(|_| unexpected())?;
        let lineages = Option::<String>::from_redis_value(lineages).map_err(|_| unexpected())?;
        let mut known = self.view.write();
        let lineages = match lineages {
            Some(text) => Arc::new(parse(&text).ok_or_else(unexpected)?),
            None => known.lineages.clone(),
        };
        let view = View { lineage, lineages, floor, next, now };
        let changed = known.lineage != lineage;
        // Answers overtake each other; what is older doesn't count.
        if changed || next > known.next || floor > known.floor {
            *known = view.clone();
        } else {
            known.now = known.now.max(now);
        }
        Ok((Ran { view, value }, changed))
    }
}

/// As the prelude writes them: `id:first:parent`, the oldest first.
fn parse(text: &str) -> Option<Lineages> {
    let lineage = |text: &str| {
        let mut fields = text.split(':');
        let (id, first, parent) = (fields.next()?, fields.next()?, fields.next()?);
        let parent = if parent.is_empty() { None } else { Some(parent.parse().ok()?) };
        Some(Lineage { id: id.parse().ok()?, first: first.parse().ok()?, parent })
    };
    text.split(',').map(lineage).collect::<Option<_>>().map(Lineages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lineages_are_read_as_the_prelude_writes_them() {
        let lineages = parse("7:1:,9:12:7").unwrap();
        let first = Lineage { id: 7, first: 1, parent: None };
        assert_eq!(lineages.0, [first, Lineage { id: 9, first: 12, parent: Some(7) }]);
        assert_eq!(parse("7:1"), None);
        assert_eq!(parse(""), None);
    }
}
