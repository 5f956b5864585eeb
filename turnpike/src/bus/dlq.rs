//! `turnpike bus dlq`.

use anyhow::Context as _;
use broker::LetterView;
use serde_json::json;
use time::OffsetDateTime;

use super::{
    args::{Chosen, Dlq, Letter},
    client::Client,
    screen::{Cell, Screen, Tone, humane, printable, shortened},
};

pub async fn run(client: &Client, command: Dlq, screen: &Screen, json: bool) -> anyhow::Result<()> {
    match command {
        Dlq::Ls { group, count } => list(client, &group, count, screen, json).await,
        Dlq::Show { group, letter } => show(client, &group, letter, screen, json).await,
        Dlq::Redrive(Chosen { group, letters, .. }) => {
            let redriven = client.redrive(&group, &letters).await?;
            told(screen, json, "redriven", redriven, &group)
        }
        Dlq::Discard(Chosen { group, letters, .. }) => {
            let discarded = client.discard(&group, &letters).await?;
            told(screen, json, "discarded", discarded, &group)
        }
    }
}

fn told(screen: &Screen, json: bool, done: &str, count: u64, group: &str) -> anyhow::Result<()> {
    if json {
        return Ok(screen.json(&json!({ done: count }))?);
    }
    let letters = if count == 1 { "dead letter" } else { "dead letters" };
    Ok(screen.line(format!("{count} {letters} of {group} {done}"))?)
}

async fn list(client: &Client, group: &str, count: usize, screen: &Screen, json: bool) -> anyhow::Result<()> {
    let letters = client.dead_letters(group, None, count).await?;
    if json {
        return Ok(screen.json(&json!({ "dead_letters": letters }))?);
    }
    if letters.is_empty() {
        return Ok(screen.line(format!("{group} has no dead letters"))?);
    }
    let now = OffsetDateTime::now_utc();
    let row = |letter: &LetterView| {
        vec![
            Cell::text(format!("{}:{}", letter.partition, letter.position)),
            Cell::text(address(letter)),
            Cell::text(letter.event["subject"].as_str().unwrap_or("-")),
            Cell::text(&letter.reason).tone(Tone::Alarm),
            Cell::number(u64::from(letter.attempts)),
            Cell::age(Some(letter.died), now),
            Cell::text(shortened(&letter.error, 60)),
        ]
    };
    let rows: Vec<_> = letters.iter().map(row).collect();
    screen.table(&["LETTER", "EVENT", "SUBJECT", "REASON", "ATTEMPTS", "DIED", "ERROR"], &rows)?;
    Ok(())
}

async fn show(client: &Client, group: &str, letter: Letter, screen: &Screen, json: bool) -> anyhow::Result<()> {
    let before = Letter { position: letter.position.saturating_sub(1), ..letter };
    let found = client.dead_letters(group, Some(before), 1).await?;
    let found = found.into_iter().find(|one| (one.partition, one.position) == (letter.partition, letter.position));
    let found = found.with_context(|| {
        format!("no dead letter {}:{} in {group}: see `turnpike bus dlq ls {group}`", letter.partition, letter.position)
    })?;
    if json {
        return Ok(screen.json(&found)?);
    }
    let now = OffsetDateTime::now_utc();
    let ago = |at: OffsetDateTime| format!("{} ago", humane((now - at).whole_seconds()));
    let reason = screen.toned(&printable(&found.reason), Tone::Alarm);
    screen.line(format!("{}  {reason} after {} attempts, {}", address(&found), found.attempts, ago(found.died)))?;
    if found.redrive > 0 {
        screen.line(format!("redriven {} times before", found.redrive))?;
    }
    for attempt in &found.history {
        screen.line(format!("  {}  {}", ago(attempt.at), printable(&attempt.error)))?;
    }
    screen.line(format!("  last error: {}", printable(&found.error)))?;
    // JSON escapes what would steer the terminal.
    Ok(screen.line(serde_json::to_string_pretty(&found.event)?)?)
}

fn address(letter: &LetterView) -> String {
    let part = |name: &str| printable(letter.event[name].as_str().unwrap_or("?"));
    format!("{}/{}", part("queue"), part("event"))
}
