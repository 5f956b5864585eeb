//! `turnpike bus tail`: from a place on, and then what comes.

use std::time::Duration;

use anyhow::Context as _;
use bus::{Bus, GapReason, TailFrom, Tailed};
use events::Filter;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    args,
    client::Client,
    gateway::{Gateway, encoded},
    screen::{Screen, Tone, printable, shortened},
};

/// After a failure; a gateway that is restarted is back by then.
const AGAIN: Duration = Duration::from_secs(1);
/// Failures in a row that end it.
const FAILURES: u32 = 10;
/// The most characters of an event's data that a line shows.
const DATA: usize = 100;

/// What comes next.
enum Next {
    Event(Value),
    /// Events that can't be had any more: how many, if anybody knows, and why.
    Gap(Option<u64>, String),
}

pub async fn run(client: &Client, options: args::Tail, screen: &Screen, json: bool) -> anyhow::Result<()> {
    let mut left = options.count;
    let mut show = |next: Next| -> anyhow::Result<bool> {
        let counts = matches!(next, Next::Event(_));
        match next {
            Next::Event(event) if json => screen.line(event.to_string())?,
            Next::Event(event) => screen.line(line(&event, screen))?,
            Next::Gap(lost, reason) if json => {
                screen.line(json!({"gap": {"lost": lost, "reason": reason}}).to_string())?
            }
            Next::Gap(lost, reason) => {
                let lost = lost.map_or_else(|| "events".to_owned(), |lost| format!("{lost} events"));
                screen.line(screen.toned(&format!("-- {lost} can't be had any more: {reason}"), Tone::Warning))?;
            }
        }
        if let Some(left) = left.as_mut().filter(|_| counts) {
            *left -= 1;
            return Ok(*left > 0);
        }
        Ok(true)
    };
    match client {
        Client::Gateway(gateway) => poll(gateway, &options.filter, begin(&options.from)?, &mut show).await,
        Client::Redis(bus) => follow(bus, &options.filter, &options.from, &mut show).await,
    }
}

/// Asks a gateway again and again.
async fn poll(
    gateway: &Gateway,
    filter: &str,
    mut place: (&'static str, String),
    show: &mut impl FnMut(Next) -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let mut failures = 0;
    loop {
        let path = format!("/events?filter={}&{}={}&wait=25s", encoded(filter), place.0, encoded(&place.1));
        let answer = match gateway.poll(Method::GET, &path).await {
            Ok(answer) => answer,
            Err((Some(StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE) | None, error)) => {
                failures += 1;
                if failures == 1 {
                    eprintln!("turnpike: {error:#}; trying again");
                }
                if failures == FAILURES {
                    return Err(error);
                }
                tokio::time::sleep(AGAIN).await;
                continue;
            }
            Err((_, error)) => return Err(error),
        };
        failures = 0;
        if let Some(cursor) = answer.cursor {
            place = ("cursor", cursor);
        }
        if let Some(gap) = answer.body.get("gap") {
            let reason = gap["reason"].as_str().unwrap_or("unknown");
            show(Next::Gap(gap["lost"].as_u64(), printable(reason)))?;
        }
        for told in answer.body["events"].as_array().into_iter().flatten() {
            let mut event = told["event"].clone();
            event["cursor"] = told["cursor"].clone();
            if !show(Next::Event(event))? {
                return Ok(());
            }
        }
    }
}

/// Follows the log itself.
async fn follow(
    bus: &Bus,
    filter: &str,
    from: &str,
    show: &mut impl FnMut(Next) -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let filter: Filter = filter
        .parse()
        .with_context(|| "in Redis itself one queue is followed at a time: ORDERS/*, DB/{CREATE,UPDATE}")?;
    let from = match (from, ago(from)) {
        ("earliest", _) => TailFrom::Earliest,
        ("latest", _) => TailFrom::Latest,
        (_, Some(ago)) => TailFrom::Time(OffsetDateTime::now_utc() - ago?),
        (cursor, None) => {
            TailFrom::Cursor(broker::read_cursor(cursor, &filter.queue).with_context(|| beginnings(cursor))?)
        }
    };
    let queue = filter.queue.clone();
    let mut tail = bus.tail(filter, from).await?;
    let mut failures = 0;
    loop {
        let goes_on = match tail.next().await {
            Ok(Tailed::Event { envelope, .. }) => {
                let mut event = serde_json::to_value(&*envelope)?;
                event["cursor"] = broker::cursor_text(&queue, &tail.cursor()).into();
                show(Next::Event(event))?
            }
            Ok(Tailed::Gap(gap)) => show(Next::Gap(gap.lost, reason(gap.reason).to_owned()))?,
            Ok(Tailed::CaughtUp) => true,
            Err(error) => {
                failures += 1;
                if failures == FAILURES {
                    return Err(error.into());
                }
                tokio::time::sleep(AGAIN).await;
                continue;
            }
        };
        failures = 0;
        if !goes_on {
            return Ok(());
        }
    }
}

fn reason(reason: GapReason) -> &'static str {
    match reason {
        GapReason::Retention => "retention",
        GapReason::Lineage => "lineage",
        GapReason::Reset => "reset",
        GapReason::Unreadable => "unreadable",
    }
}

/// How a gateway is told where to begin: the parameter and its value.
fn begin(from: &str) -> anyhow::Result<(&'static str, String)> {
    match (from, ago(from)) {
        (_, Some(ago)) => Ok(("from", format!("-PT{}S", ago?.as_secs()))),
        ("earliest" | "latest", None) => Ok(("from", from.to_owned())),
        (cursor, None) => Ok(("cursor", cursor.to_owned())),
    }
}

/// `-5m`.
fn ago(from: &str) -> Option<anyhow::Result<Duration>> {
    let text = from.strip_prefix('-')?;
    Some(match args::duration(text) {
        Ok(duration) if duration.as_secs() < 100 * 365 * 86_400 => Ok(duration),
        _ => Err(anyhow::anyhow!(beginnings(from))),
    })
}

fn beginnings(from: &str) -> String {
    format!("--from {from}: say earliest, latest, so long ago as in -5m, or a cursor of the queue")
}

/// An event in one line: when, what, about what, its data.
fn line(event: &Value, screen: &Screen) -> String {
    let text = |name: &str| printable(event[name].as_str().unwrap_or_default());
    let recorded = event["recordedtime"].as_str().or(event["time"].as_str()).unwrap_or_default();
    let time = OffsetDateTime::parse(recorded, &Rfc3339).map(|time| {
        let (hour, minute, second) = time.to_hms();
        format!("{hour:02}:{minute:02}:{second:02}.{:03}", time.millisecond())
    });
    let data = match (event.get("data"), event.get("data_base64").and_then(Value::as_str)) {
        (Some(data), _) => shortened(&data.to_string(), DATA),
        (None, Some(base64)) => format!("{} of {} characters in Base64", text("datacontenttype"), base64.len()),
        (None, None) => String::new(),
    };
    let time = screen.toned(&time.unwrap_or_default(), Tone::Faint);
    let address = screen.toned(&format!("{}/{}", text("queue"), text("event")), Tone::Good);
    let line = format!("{time}  {address}  {}  {}  {}", text("subject"), text("source"), printable(&data));
    line.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_is_told_how_long_ago_in_its_own_words() {
        assert_eq!(begin("-5m").unwrap(), ("from", "-PT300S".to_owned()));
        assert_eq!(begin("earliest").unwrap(), ("from", "earliest".to_owned()));
        assert_eq!(begin("AQID").unwrap(), ("cursor", "AQID".to_owned()));
        for wrong in ["-", "-5", "-5w", "-99999999d"] {
            assert!(begin(wrong).is_err(), "{wrong}");
        }
    }
}
