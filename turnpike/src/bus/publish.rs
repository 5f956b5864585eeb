//! `turnpike bus publish`.

use std::{io::Read as _, time::Duration};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use serde_json::Value;

use super::{
    args,
    client::{Client, Draft},
    gateway::Refused,
    screen::{Screen, Tone, printable},
};

/// The most bytes that are read from the standard input.
const MOST: u64 = 1 << 20;
/// How often a line of a batch is waited for, and how long at most.
const WAITS: usize = 10;
const LONGEST_WAIT: Duration = Duration::from_secs(120);

pub async fn run(client: &Client, options: args::Publish, screen: &Screen, json: bool) -> anyhow::Result<()> {
    if !options.batch {
        let data = match options.data.as_deref() {
            Some("-") => Some(read()?),
            data => data.map(|text| Bytes::copy_from_slice(text.as_bytes())),
        };
        return publish(client, &options, data, screen, json).await;
    }
    for (number, line) in (1..).zip(std::io::stdin().lines()) {
        let line = line?;
        if !line.trim().is_empty() {
            patiently(client, &options, line.into(), screen, json).await.with_context(|| format!("line {number}"))?;
        }
    }
    Ok(())
}

/// Waits where there is too much now, as a rate limit or a full queue says: what is refused is not recorded.
async fn patiently(
    client: &Client,
    options: &args::Publish,
    data: Bytes,
    screen: &Screen,
    json: bool,
) -> anyhow::Result<()> {
    for _ in 0..WAITS {
        let published = publish(client, options, Some(data.clone()), screen, json).await;
        let Some(later) = published.as_ref().err().and_then(later) else { return published };
        eprintln!("turnpike: too many requests: going on in {later:?}");
        tokio::time::sleep(later).await;
    }
    publish(client, options, Some(data), screen, json).await
}

/// When what was refused may be tried again, if it is soon.
fn later(error: &anyhow::Error) -> Option<Duration> {
    let refused = error.chain().find_map(|cause| cause.downcast_ref::<Refused>())?;
    refused.later.filter(|later| *later <= LONGEST_WAIT)
}

async fn publish(
    client: &Client,
    options: &args::Publish,
    data: Option<Bytes>,
    screen: &Screen,
    json: bool,
) -> anyhow::Result<()> {
    let draft = Draft {
        address: options.address.clone(),
        data,
        content_type: options.content_type.clone(),
        subject: options.subject.clone(),
        key: options.key.clone(),
        id: options.id.clone(),
        reply_to: options.reply_to.clone(),
        deliver: options.later.map(|later| time::OffsetDateTime::now_utc() + later),
    };
    let receipt = client.publish(draft, &options.confirm, options.timeout).await?;
    if json {
        screen.json(&receipt)?
    } else {
        screen.line(told(&receipt, screen))?
    }
    // The event is recorded, and what was asked for is not so.
    match receipt["reason"].as_str() {
        Some("scheduled") | None => Ok(()),
        Some("timeout") if receipt["groups"].as_object().is_some_and(serde_json::Map::is_empty) => {
            bail!("the event is {}, not {}: no group takes it yet", text(&receipt, "confirm"), options.confirm)
        }
        Some(reason) => bail!("the event is {}, not {}: {reason}", text(&receipt, "confirm"), options.confirm),
    }
}

fn told(receipt: &Value, screen: &Screen) -> String {
    let scheduled = receipt["reason"] == "scheduled";
    let tone = if receipt["reason"].is_null() || scheduled { Tone::Good } else { Tone::Warning };
    let mut line = match scheduled {
        true => format!("{} for {}", screen.toned("scheduled", tone), text(receipt, "due")),
        false => screen.toned(&text(receipt, "confirm"), tone),
    };
    if receipt["duplicate"] == true {
        line.push_str(" (it had been published before)");
    }
    line.push_str(&format!("  id {}", text(receipt, "id")));
    if !receipt["cursor"].is_null() {
        line.push_str(&format!("  cursor {}", text(receipt, "cursor")));
    }
    for (group, standing) in receipt["groups"].as_object().into_iter().flatten() {
        let standing = standing.as_str().unwrap_or("nobody");
        line.push_str(&format!("\n  {}: {}", printable(group), printable(standing)));
    }
    line
}

fn text(receipt: &Value, field: &str) -> String {
    printable(receipt[field].as_str().unwrap_or("-"))
}

fn read() -> anyhow::Result<Bytes> {
    let mut data = Vec::new();
    std::io::stdin().lock().take(MOST + 1).read_to_end(&mut data)?;
    if data.len() as u64 > MOST {
        bail!("the standard input is larger than any event may be (256 KiB)");
    }
    Ok(data.into())
}
