//! `turnpike bus queues`, `groups` and `clients`.

use std::time::Duration;

use broker::{GroupView, QueueView};
use bus::{Connection, Transport};
use serde_json::json;
use time::OffsetDateTime;

use super::{
    client::Client,
    screen::{Cell, Screen, Tone},
};

/// Between two looks of `-w`.
const AGAIN: Duration = Duration::from_secs(1);
/// An event that waits for longer is worth a look.
const OLD: time::Duration = time::Duration::minutes(5);

pub async fn queues(client: &Client, screen: &Screen, json: bool) -> anyhow::Result<()> {
    let queues = client.queues().await?;
    if json {
        return Ok(screen.json(&json!({ "queues": queues }))?);
    }
    let row = |queue: &QueueView| {
        let published: u64 = queue.partitions.iter().map(|partition| partition.next.saturating_sub(1)).sum();
        let short = queue.partitions.iter().any(|partition| partition.dedupe_cut_short);
        vec![
            Cell::text(&queue.name),
            Cell::number(queue.events),
            Cell::bytes(queue.bytes),
            Cell::number(published),
            Cell::number(queue.partitions.len() as u64),
            Cell::text(&queue.max_age),
            Cell::text(if short { "dedupe window cut short" } else { "" }).tone(Tone::Warning),
        ]
    };
    let rows: Vec<_> = queues.iter().map(row).collect();
    Ok(screen.table(&["QUEUE", "EVENTS", "SIZE", "PUBLISHED", "PARTITIONS", "KEPT", ""], &rows)?)
}

pub async fn groups(client: &Client, screen: &Screen, json: bool, watch: bool) -> anyhow::Result<()> {
    let mut beat = tokio::time::interval(AGAIN);
    loop {
        beat.tick().await;
        let groups = client.groups().await?;
        if json {
            screen.json(&json!({ "groups": groups }))?;
        } else {
            if watch {
                screen.clear()?;
            }
            show_groups(&groups, screen)?;
        }
        if !watch {
            return Ok(());
        }
        if !json {
            screen.line("")?;
        }
    }
}

fn show_groups(groups: &[GroupView], screen: &Screen) -> anyhow::Result<()> {
    let now = OffsetDateTime::now_utc();
    let row = |group: &GroupView| {
        let late = group.oldest.is_some_and(|oldest| now - oldest > OLD);
        vec![
            Cell::text(&group.name),
            Cell::text(&group.filter),
            Cell::text(&group.mode),
            Cell::number(group.lag),
            Cell::number(group.in_flight),
            Cell::number(group.retrying).tone(Tone::Warning),
            Cell::number(group.parked).tone(Tone::Warning),
            Cell::age(group.oldest, now).tone(if late { Tone::Alarm } else { Tone::Plain }),
            Cell::number(group.dead).tone(Tone::Alarm),
            Cell::number(group.lost).tone(Tone::Alarm),
            Cell::number(group.members as u64),
            Cell::text(state(group)).tone(Tone::Alarm),
        ]
    };
    let rows: Vec<_> = groups.iter().map(row).collect();
    let heads =
        ["GROUP", "FILTER", "MODE", "LAG", "IN FLIGHT", "RETRYING", "PARKED", "OLDEST", "DEAD", "LOST", "MEMBERS", ""];
    Ok(screen.table(&heads, &rows)?)
}

fn state(group: &GroupView) -> &'static str {
    if group.blocked_by_key {
        "blocked by a key"
    } else if group.abandoned.is_some() {
        "abandoned"
    } else if group.members == 0 && group.lag > 0 {
        "nobody works"
    } else {
        ""
    }
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
