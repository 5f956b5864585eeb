//! `turnpike bus queues`, `groups` and `clients`.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use broker::{GroupView, QueueView};
use bus::{Connection, Overflow, Transport};
use serde::Serialize;
use serde_json::json;
use time::OffsetDateTime;
use tokio::time::MissedTickBehavior;

use super::{
    args::Set,
    client::Client,
    screen::{Cell, Screen, Tone, grouped, in_bytes, shortened},
};

/// Between two looks of `-w`.
const AGAIN: Duration = Duration::from_secs(1);
/// An event that waits for longer is worth a look.
pub(super) const OLD: time::Duration = time::Duration::minutes(5);

pub async fn queues(client: &Client, screen: &Screen, json: bool) -> anyhow::Result<()> {
    let queues = client.queues().await?;
    if json {
        return Ok(screen.json(&json!({ "queues": queues }))?);
    }
    show_queues(&queues, screen)
}

/// `turnpike bus queues set`.
pub async fn set(client: &Client, set: &Set, screen: &Screen, json: bool) -> anyhow::Result<()> {
    let queue = client.set_queue(set).await?;
    if json {
        return Ok(screen.json(&queue)?);
    }
    show_queues(&[queue], screen)
}

fn show_queues(queues: &[QueueView], screen: &Screen) -> anyhow::Result<()> {
    let row = |queue: &QueueView| {
        let published: u64 = queue.partitions.iter().map(|partition| partition.next.saturating_sub(1)).sum();
        let short = queue.partitions.iter().any(|partition| partition.dedupe_cut_short);
        vec![
            Cell::text(&queue.name),
            Cell::number(queue.events),
            Cell::bytes(queue.bytes),
            Cell::number(published),
            Cell::number(queue.partitions.len() as u64),
            Cell::text(kept(queue)),
            match short {
                true => Cell::text("dedupe window cut short").tone(Tone::Warning),
                false => Cell::text(peculiarities(queue)).tone(Tone::Faint),
            },
        ]
    };
    let rows: Vec<_> = queues.iter().map(row).collect();
    Ok(screen.table(&["QUEUE", "EVENTS", "SIZE", "PUBLISHED", "PARTITIONS", "KEPT", ""], &rows)?)
}

/// What a queue may hold, of each partition: `7d, 10,000, 1 GiB, drops the oldest`.
fn kept(queue: &QueueView) -> String {
    let mut kept = vec![queue.max_age.clone()];
    kept.extend(queue.max_len.map(grouped));
    kept.extend(queue.max_bytes.map(in_bytes));
    if queue.overflow == Overflow::DropOldest && kept.len() > 1 {
        kept.push("drops the oldest".to_owned());
    }
    kept.join(", ")
}

/// What most queues aren't.
fn peculiarities(queue: &QueueView) -> String {
    let dedupe = format!("dedupe {}", queue.dedupe);
    let waiting: u64 = queue.partitions.iter().map(|partition| partition.scheduled).sum();
    let scheduled = format!("{} scheduled", grouped(waiting));
    let all = [
        (scheduled.as_str(), waiting > 0),
        ("latest", queue.latest),
        ("realtime", queue.realtime),
        ("journal", queue.journal),
        (&dedupe, !matches!(queue.dedupe.as_str(), "" | "2h")),
    ];
    all.iter().filter(|(_, is)| *is).map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

pub async fn groups(client: &Client, screen: &Screen, json: bool, watch: bool) -> anyhow::Result<()> {
    let mut beat = tokio::time::interval(AGAIN);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before: Option<Passed> = None;
    loop {
        beat.tick().await;
        let groups = client.groups().await?;
        if !watch {
            return match json {
                true => Ok(screen.json(&json!({ "groups": groups }))?),
                false => show_groups(&groups, None, screen),
            };
        }
        let passed = Passed::new(&client.queues().await?, &groups);
        let rates = before.as_ref().map(|before| passed.since(before)).unwrap_or_default();
        before = Some(passed);
        if json {
            screen.line(json!({ "groups": groups, "rates": rates }).to_string())?;
        } else {
            screen.clear()?;
            show_groups(&groups, Some(&rates), screen)?;
            screen.line("")?;
        }
    }
}

/// What had passed at a moment, by group: events that were published into its queue, and of those how many it is
/// done with.
struct Passed {
    at: Instant,
    groups: BTreeMap<String, (u64, u64)>,
}

/// Events a second; none where nobody can tell yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
struct Rate {
    published: f64,
    settled: f64,
}

impl Passed {
    fn new(queues: &[QueueView], groups: &[GroupView]) -> Self {
        let published = |group: &GroupView| -> u64 {
            let queue = queues.iter().find(|queue| queue.name == group.queue);
            queue.into_iter().flat_map(|queue| &queue.partitions).map(|partition| partition.next).sum()
        };
        let passed = |group: &GroupView| {
            let published = published(group);
            (group.name.clone(), (published, published.saturating_sub(group.lag)))
        };
        Self { at: Instant::now(), groups: groups.iter().map(passed).collect() }
    }

    fn since(&self, before: &Self) -> BTreeMap<String, Rate> {
        let seconds = (self.at - before.at).as_secs_f64().max(0.001);
        #[expect(clippy::cast_precision_loss, reason = "a rate that is read by people")]
        let rate = |now: u64, then: u64| (now.saturating_sub(then) as f64 / seconds).round();
        let both = self.groups.iter().filter_map(|(name, now)| Some((name, now, before.groups.get(name)?)));
        both.map(|(name, now, then)| {
            (name.clone(), Rate { published: rate(now.0, then.0), settled: rate(now.1, then.1) })
        })
        .collect()
    }
}

/// With `rates`, these in place of what doesn't change.
fn show_groups(groups: &[GroupView], rates: Option<&BTreeMap<String, Rate>>, screen: &Screen) -> anyhow::Result<()> {
    let now = OffsetDateTime::now_utc();
    let row = |group: &GroupView| {
        let late = group.oldest.is_some_and(|oldest| now - oldest > OLD);
        let mut row = vec![Cell::text(shortened(&group.name, 24))];
        match rates.map(|rates| rates.get(&group.name)) {
            None => row.extend([Cell::text(shortened(&group.filter, 24)), Cell::text(&group.mode)]),
            Some(None) => row.extend([Cell::text("-").right(), Cell::text("-").right()]),
            Some(Some(rate)) => row.extend([Cell::rate(rate.published), Cell::rate(rate.settled)]),
        }
        row.extend([
            Cell::number(group.lag),
            Cell::number(group.in_flight),
            Cell::number(group.retrying).tone(Tone::Warning),
            Cell::number(group.parked).tone(Tone::Warning),
            Cell::age(group.oldest, now).tone(if late { Tone::Alarm } else { Tone::Plain }),
            Cell::number(group.dead).tone(Tone::Alarm),
            Cell::number(group.members as u64),
            Cell::text(state(group)).tone(Tone::Alarm),
        ]);
        row
    };
    let rows: Vec<_> = groups.iter().map(row).collect();
    let (first, second) = if rates.is_some() { ("IN/S", "DONE/S") } else { ("FILTER", "MODE") };
    let heads = ["GROUP", first, second, "LAG", "FLIGHT", "RETRY", "PARKED", "OLDEST", "DEAD", "MEMBERS", ""];
    Ok(screen.table(&heads, &rows)?)
}

/// What is wrong with a group.
fn state(group: &GroupView) -> String {
    let mut wrong = Vec::new();
    if group.blocked_by_key {
        wrong.push("blocked".to_owned());
    }
    if group.abandoned.is_some() {
        wrong.push("abandoned".to_owned());
    } else if group.members == 0 && group.lag > 0 {
        wrong.push("nobody works".to_owned());
    }
    if group.lost > 0 {
        wrong.push(format!("lost {}", grouped(group.lost)));
    }
    wrong.join(", ")
}

pub async fn clients(client: &Client, screen: &Screen, json: bool) -> anyhow::Result<()> {
    let connections = client.connections().await?;
    if json {
        return Ok(screen.json(&json!({ "connections": connections }))?);
    }
    let now = OffsetDateTime::now_utc();
    let row = |connection: &Connection| {
        let follows: Vec<String> = connection
            .subscriptions
            .iter()
            .map(|subscription| match &subscription.group {
                Some(group) => format!("{} ({group})", subscription.filter),
                None => subscription.filter.clone(),
            })
            .collect();
        vec![
            Cell::text(&connection.id),
            Cell::text(match connection.transport {
                Transport::WebSocket => "websocket",
                Transport::Sse => "sse",
                Transport::LongPoll => "long-poll",
                Transport::Grpc => "gRPC",
                Transport::Member => "member",
            }),
            Cell::text(connection.subject.as_deref().unwrap_or("-")),
            Cell::text(connection.address.as_deref().unwrap_or("-")),
            Cell::text(&connection.node),
            Cell::age(Some(connection.since), now),
            Cell::text(follows.join(" ")),
        ]
    };
    let rows: Vec<_> = connections.iter().map(row).collect();
    Ok(screen.table(&["CONNECTION", "BY", "WHO", "FROM", "NODE", "SINCE", "FOLLOWS"], &rows)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_what_passed_between_two_looks() {
        let passed =
            |at, published, settled| Passed { at, groups: BTreeMap::from([("g".to_owned(), (published, settled))]) };
        let began = Instant::now();
        let before = passed(began, 100, 40);
        let after = passed(began + Duration::from_secs(2), 300, 100);
        assert_eq!(after.since(&before)["g"], Rate { published: 100.0, settled: 30.0 });
        // Where the group was moved back, nothing is settled.
        assert_eq!(passed(began + Duration::from_secs(1), 100, 0).since(&before)["g"], Rate::default());
        assert!(Passed { at: began, groups: BTreeMap::new() }.since(&before).is_empty());
    }
}
