//! `turnpike bus publish`.

use std::io::Read as _;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use serde_json::Value;

use super::{
    args,
    client::{Client, Draft},
    screen::{Screen, Tone, printable},
};

/// The most bytes that are read from the standard input.
const MOST: u64 = 1 << 20;

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
            let published = publish(client, &options, Some(line.into()), screen, json).await;
            published.with_context(|| format!("line {number}"))?;
        }
    }
    Ok(())
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
