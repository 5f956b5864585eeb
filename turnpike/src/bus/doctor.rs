//! `turnpike bus doctor`: is all well, and what is to be done where it isn't.
//!
//! Redis itself is examined where it is at hand; queues, groups and members either way. What a service's outbox keeps is
//! its own: the bus can't tell.

use std::time::Duration;

use anyhow::{Context as _, bail};
use broker::{GroupView, QueueView};
use bus::{Bus, Connection, Overflow, redis};
use serde::Serialize;
use serde_json::json;
use time::OffsetDateTime;

use super::{
    args::Way,
    client::Client,
    list::OLD,
    screen::{Screen, Tone, grouped, humane, printable},
};

/// An event that waits for so long is a fault.
const MUCH_TOO_OLD: time::Duration = time::Duration::hours(1);
/// So much, in hundredths, of what a queue may keep is needed by a group that hasn't settled it.
const NEARLY_FULL: u64 = 80;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Level {
    Ok,
    Warning,
    Error,
}

/// Something that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    level: Level,
    what: String,
    /// Empty where nothing need be done.
    advice: String,
}

pub async fn run(way: &Way, screen: &Screen, json: bool) -> anyhow::Result<()> {
    let findings = examine(way).await?;
    let wrong = findings.iter().filter(|finding| finding.level == Level::Error).count();
    if json {
        screen.json(&json!({ "well": wrong == 0, "findings": findings }))?;
    } else {
        show(&findings, screen)?;
    }
    match wrong {
        0 => Ok(()),
        1 => bail!("one thing is wrong"),
        wrong => bail!("{wrong} things are wrong"),
    }
}

async fn examine(way: &Way) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let client = match &way.redis {
        None => Client::open(way).await?,
        Some(url) => {
            findings.extend(redis::examine(url, &way.namespace).await.into_iter().map(of_redis));
            if findings.iter().any(|finding| finding.level == Level::Error) {
                // A bus doesn't open on it.
                return Ok(findings);
            }
            let options = redis::Options { namespace: way.namespace.clone(), ..redis::Options::default() };
            let node = redis::Redis::open(url, options).await.context("no bus in Redis")?;
            findings.extend(node.silent_nodes().await?.into_iter().map(of_silent));
            Client::Redis(Bus::new(node))
        }
    };
    let (queues, groups) = (client.queues().await?, client.groups().await?);
    let connections = client.connections().await?;
    findings.extend(of_bus(&queues, &groups, &connections, OffsetDateTime::now_utc()));
    Ok(findings)
}

fn of_redis(redis::Finding { level, what, advice, .. }: redis::Finding) -> Finding {
    let level = match level {
        redis::Level::Fine => Level::Ok,
        redis::Level::Warning => Level::Warning,
        redis::Level::Fault => Level::Error,
    };
    Finding { level, what: format!("redis: {what}"), advice }
}

fn of_silent((node, silent): (String, Duration)) -> Finding {
    let ago = humane(i64::try_from(silent.as_secs()).unwrap_or(i64::MAX));
    Finding {
        level: Level::Warning,
        what: format!("the node {node} stopped telling {ago} ago, without a word"),
        advice: "see whether that process was killed or is cut off; after an hour it is forgotten".to_owned(),
    }
}

/// What the bus tells of itself.
fn of_bus(queues: &[QueueView], groups: &[GroupView], connections: &[Connection], now: OffsetDateTime) -> Vec<Finding> {
    let mut findings: Vec<Finding> = groups.iter().flat_map(|group| of_group(group, now)).collect();
    findings.extend(queues.iter().flat_map(|queue| of_queue(queue, groups)));
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    let events: u64 = queues.iter().map(|queue| queue.events).sum();
    let members: usize = groups.iter().map(|group| group.members).sum();
    let said = format!(
        "{} queues with {} events, {} groups with {members} members, {} connections",
        queues.len(),
        grouped(events),
        groups.len(),
        connections.len()
    );
    findings.push(Finding { level: Level::Ok, what: said, advice: String::new() });
    findings
}

fn of_group(group: &GroupView, now: OffsetDateTime) -> Vec<Finding> {
    let GroupView { name, .. } = group;
    let age = group.oldest.map_or(time::Duration::ZERO, |oldest| now - oldest);
    let aged = humane(age.whole_seconds());
    let by_age = if age > MUCH_TOO_OLD { Level::Error } else { Level::Warning };
    let mut findings = Vec::new();
    let mut found = |level: Level, what: String, advice: String| findings.push(Finding { level, what, advice });
    if group.blocked_by_key {
        found(
            Level::Error,
            format!("{name} is blocked: so much is unsettled that it takes nothing more"),
            format!("see what fails (turnpike bus dlq ls {name}, the service's log), and mend it"),
        );
    }
    if group.abandoned.is_some() {
        found(
            Level::Error,
            format!("{name} is abandoned: nobody claimed for as long as {} keeps events", group.queue),
            "start its consumer, which goes on from the oldest event that is kept".to_owned(),
        );
    } else if group.members == 0 && group.lag > 0 {
        found(
            by_age,
            format!("nobody works for {name}: {} events wait, the oldest for {aged}", grouped(group.lag)),
            "start its consumer; or, if it is no longer wanted, know that its queue keeps what it has not settled"
                .to_owned(),
        );
    } else if age > OLD {
        found(
            by_age,
            format!("{name} is late: its oldest event waits for {aged}, {} do in all", grouped(group.lag)),
            format!(
                "start more members, or see what holds it up: {} retry, {} are parked",
                group.retrying, group.parked
            ),
        );
    }
    if group.dead > 0 {
        found(
            Level::Warning,
            format!("{name} has {} dead letters", grouped(group.dead)),
            format!("turnpike bus dlq ls {name}; then redrive or discard them"),
        );
    }
    if group.lost > 0 {
        let range = group.lost_ranges.last();
        let range =
            range.map(|lost| format!(", last {} to {} of partition {}", lost.from, lost.to - 1, lost.partition));
        found(
            Level::Warning,
            format!(
                "{name} lost {} events before it had settled them{}",
                grouped(group.lost),
                range.unwrap_or_default()
            ),
            format!("let {} keep more (turnpike bus queues set), or the group work faster", group.queue),
        );
    }
    findings
}

fn of_queue(queue: &QueueView, groups: &[GroupView]) -> Vec<Finding> {
    let name = &queue.name;
    let mut findings = Vec::new();
    if queue.partitions.iter().any(|partition| partition.dedupe_cut_short) {
        findings.push(Finding {
            level: Level::Warning,
            what: format!("{name}: the dedupe window is cut short: more is published than it holds"),
            advice: format!(
                "shorten it (turnpike bus queues set {name} --dedupe 10m), or add partitions to a new queue"
            ),
        });
    }
    // What is settled is trimmed where there must be room; what a group needs is not.
    let slowest = groups.iter().filter(|group| group.queue == *name).max_by_key(|group| group.lag);
    let Some(slowest) = slowest.filter(|group| group.lag > 0 && queue.events > 0) else { return findings };
    let partitions = queue.partitions.len().max(1) as u64;
    let share = |needs: u64, limit: u64| needs.saturating_mul(100) / limit.saturating_mul(partitions).max(1);
    let bytes = queue.bytes / queue.events * slowest.lag.min(queue.events);
    let shares = [queue.max_len.map(|most| share(slowest.lag, most)), queue.max_bytes.map(|most| share(bytes, most))];
    if let Some(share) = shares.into_iter().flatten().max().filter(|share| *share >= NEARLY_FULL) {
        let (level, follows) = match queue.overflow {
            Overflow::Reject if share >= 100 => (Level::Error, "publishes are refused"),
            Overflow::Reject => (Level::Warning, "publishes will be refused"),
            Overflow::DropOldest => (Level::Warning, "its oldest events are lost to that group"),
        };
        findings.push(Finding {
            level,
            what: format!(
                "{name} is nearly full: {} needs about {share} % of what it may keep; {follows}",
                slowest.name
            ),
            advice: format!(
                "have {} catch up, or turnpike bus queues set {name} --max-len … --max-bytes …",
                slowest.name
            ),
        });
    }
    findings
}

fn show(findings: &[Finding], screen: &Screen) -> anyhow::Result<()> {
    for Finding { level, what, advice } in findings {
        let (word, tone) = match level {
            Level::Ok => ("ok     ", Tone::Good),
            Level::Warning => ("warning", Tone::Warning),
            Level::Error => ("error  ", Tone::Alarm),
        };
        screen.line(format!("{}  {}", screen.toned(word, tone), printable(what)))?;
        if *level > Level::Ok && !advice.is_empty() {
            screen.line(format!("         {}", printable(advice)))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use broker::PartitionView;

    use super::*;

    fn group() -> GroupView {
        serde_json::from_value(json!({
            "name": "logger", "queue": "DB", "filter": "DB/*", "mode": "keyed", "lag": 0, "in_flight": 0, "retrying": 0,
            "parked": 0, "dead": 0, "blocked_by_key": false, "oldest": null, "next": [1], "members": 1
        }))
        .unwrap()
    }

    fn queue() -> QueueView {
        let partition = json!({"partition": 0, "floor": 1, "next": 101, "lineage": "1", "dedupe_cut_short": false});
        let partition: PartitionView = serde_json::from_value(partition).unwrap();
        serde_json::from_value(json!({
            "name": "DB", "max_age": "7d", "events": 100, "bytes": 1000, "partitions": [partition]
        }))
        .unwrap()
    }

    fn worst(queue: &QueueView, group: &GroupView) -> (Level, String) {
        let found = of_bus(std::slice::from_ref(queue), std::slice::from_ref(group), &[], OffsetDateTime::now_utc());
        (found[0].level, found[0].what.clone())
    }

    #[test]
    fn a_group_that_works_is_well() {
        assert_eq!(worst(&queue(), &group()).0, Level::Ok);
        let now = OffsetDateTime::now_utc();
        assert_eq!(worst(&queue(), &GroupView { lag: 9, oldest: Some(now), ..group() }).0, Level::Ok);
    }

    #[test]
    fn what_is_wrong_with_a_group_is_found() {
        let ago = |minutes| Some(OffsetDateTime::now_utc() - time::Duration::minutes(minutes));
        for (group, level, what) in [
            (GroupView { lag: 9, members: 0, oldest: ago(0), ..group() }, Level::Warning, "nobody works"),
            (GroupView { lag: 9, members: 0, oldest: ago(90), ..group() }, Level::Error, "nobody works"),
            (GroupView { lag: 9, oldest: ago(10), ..group() }, Level::Warning, "is late"),
            (GroupView { blocked_by_key: true, ..group() }, Level::Error, "is blocked"),
            (GroupView { abandoned: ago(1), ..group() }, Level::Error, "is abandoned"),
            (GroupView { dead: 3, ..group() }, Level::Warning, "3 dead letters"),
            (GroupView { lost: 7, ..group() }, Level::Warning, "lost 7 events"),
        ] {
            let found = worst(&queue(), &group);
            assert!(found.0 == level && found.1.contains(what), "{found:?}");
        }
    }

    #[test]
    fn a_queue_whose_room_a_group_needs_is_nearly_full() {
        let behind = GroupView { lag: 90, oldest: Some(OffsetDateTime::now_utc()), ..group() };
        let limited = QueueView { max_len: Some(100), ..queue() };
        assert_eq!(worst(&limited, &behind).0, Level::Warning);
        // What is settled makes room.
        assert_eq!(worst(&limited, &group()).0, Level::Ok);
        let full = QueueView { max_len: Some(90), ..queue() };
        let found = worst(&full, &behind);
        assert!(found.0 == Level::Error && found.1.contains("publishes are refused"), "{found:?}");
        assert_eq!(worst(&QueueView { overflow: Overflow::DropOldest, ..full }, &behind).0, Level::Warning);
        assert_eq!(worst(&QueueView { max_bytes: Some(1 << 20), ..queue() }, &behind).0, Level::Ok);
    }
}
