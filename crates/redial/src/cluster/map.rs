//! Who has which slots, as a node tells it.

use redis::{FromRedisValue as _, Value};

use crate::address::Host;

/// Sorted by slot.
#[derive(Debug, Default)]
pub(super) struct Map {
    ranges: Vec<(u16, u16, Host)>,
    /// Rises with each that was asked for.
    pub(super) version: u64,
}

impl Map {
    /// What CLUSTER SLOTS answered; `asked`: who was asked, by whose name it may leave itself out.
    pub(super) fn read(answer: Value, asked: &Host, version: u64) -> Option<Self> {
        let Value::Array(parts) = answer else { return None };
        let mut ranges: Vec<_> = parts.into_iter().map(|part| range(part, asked)).collect::<Option<_>>()?;
        ranges.sort_unstable_by_key(|(first, ..)| *first);
        (!ranges.is_empty()).then_some(Self { ranges, version })
    }

    pub(super) fn host(&self, slot: u16) -> Option<&Host> {
        let after = self.ranges.partition_point(|(first, ..)| *first <= slot);
        let (_, last, host) = self.ranges.get(after.checked_sub(1)?)?;
        (slot <= *last).then_some(host)
    }

    /// Everybody who has a slot, once.
    pub(super) fn hosts(&self) -> Vec<&Host> {
        let mut hosts: Vec<&Host> = self.ranges.iter().map(|(.., host)| host).collect();
        hosts.sort_unstable_by_key(|host| (&host.name, host.port));
        hosts.dedup();
        hosts
    }
}

fn range(part: Value, asked: &Host) -> Option<(u16, u16, Host)> {
    let Value::Array(fields) = part else { return None };
    let mut fields = fields.into_iter();
    let first = u16::from_redis_value(fields.next()?).ok()?;
    let last = u16::from_redis_value(fields.next()?).ok()?;
    let Value::Array(primary) = fields.next()? else { return None };
    let mut primary = primary.into_iter();
    let name = Option::<String>::from_redis_value(primary.next()?).ok()?;
    let port = u16::from_redis_value(primary.next()?).ok()?;
    // A node that doesn't know its own address says nothing, or `?`.
    let name = name.filter(|name| !name.is_empty() && name != "?").unwrap_or_else(|| asked.name.clone());
    Some((first, last, Host { name, port }))
}
