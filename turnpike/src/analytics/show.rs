//! Tables that fit a terminal of 100 columns.

use gateway::analytics::{By, Clients, Routes, Statuses};
use time::{OffsetDateTime, UtcOffset, macros::format_description};

use crate::bus::{Cell, Screen, Tone, shortened};

/// Errors beyond this share are worth a look; beyond ten times that, at once.
const NOTABLE: f64 = 0.001;

pub fn routes(screen: &Screen, answer: &Routes) -> anyhow::Result<()> {
    let seconds = answer.to.saturating_sub(answer.from).max(1) as f64;
    let rows: Vec<_> = answer
        .routes
        .iter()
        .map(|route| {
            vec![
                Cell::text(shortened(&route.route, 36)),
                Cell::number(route.requests),
                Cell::text(format!("{:.1}", route.requests as f64 / seconds)).right(),
                share(route.errors, route.requests),
                Cell::number(route.client_errors),
                milliseconds(route.p50_ms),
                milliseconds(route.p90_ms),
                milliseconds(route.p99_ms),
            ]
        })
        .collect();
    screen.table(&["ROUTE", "REQUESTS", "PER S", "5XX", "4XX", "P50", "P90", "P99"], &rows)?;
    since(screen, answer.from)
}

pub fn clients(screen: &Screen, answer: &Clients) -> anyhow::Result<()> {
    let counted = match answer.by {
        By::Requests => "REQUESTS",
        By::Errors => "ERRORS",
    };
    let rows: Vec<_> = answer
        .clients
        .iter()
        .map(|client| {
            let error = if client.error == 0 { String::new() } else { format!("at most {} too many", client.error) };
            vec![
                Cell::text(shortened(&client.client, 48)),
                Cell::text(&client.kind),
                Cell::number(client.count),
                Cell::text(error).tone(Tone::Faint),
            ]
        })
        .collect();
    screen.table(&["CLIENT", "", counted, ""], &rows)?;
    if answer.floor > 0 {
        screen.line(format!("whoever is not listed has at most {}", answer.floor))?;
    }
    since(screen, answer.from)
}

pub fn errors(screen: &Screen, answer: &Statuses) -> anyhow::Result<()> {
    let rows: Vec<_> = answer
        .points
        .iter()
        .map(|point| {
            let bad = point.statuses.range(400..).map(|(status, count)| format!("{status}: {count}"));
            vec![
                Cell::text(clock(point.at)),
                Cell::number(point.requests),
                share(point.errors, point.requests),
                Cell::text(shortened(&bad.collect::<Vec<_>>().join("  "), 56)),
            ]
        })
        .collect();
    screen.table(&["UTC", "REQUESTS", "5XX", ""], &rows)?;
    since(screen, answer.from)
}

fn share(part: u64, whole: u64) -> Cell {
    let share = if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
    let tone = match share {
        0.0 => Tone::Faint,
        share if share < NOTABLE => Tone::Plain,
        share if share < 10.0 * NOTABLE => Tone::Warning,
        _ => Tone::Alarm,
    };
    let text = if part == 0 { "0".to_owned() } else { format!("{:.2} %", share * 100.0) };
    Cell::text(text).right().tone(tone)
}

fn milliseconds(milliseconds: f64) -> Cell {
    let text = match milliseconds {
        short if short < 10.0 => format!("{short:.1} ms"),
        long if long < 10_000.0 => format!("{long:.0} ms"),
        long => format!("{:.1} s", long / 1000.0),
    };
    Cell::text(text).right()
}

fn since(screen: &Screen, from: u64) -> anyhow::Result<()> {
    Ok(screen.line(screen.toned(&format!("since {} UTC", clock(from)), Tone::Faint))?)
}

fn clock(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]");
    time.and_then(|time| time.to_offset(UtcOffset::UTC).format(format).ok()).unwrap_or_default()
}
