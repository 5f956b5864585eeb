//! `turnpike bus get` and `status`: one event.

use anyhow::bail;
use events::Name;
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    args,
    client::Client,
    screen::{Cell, Screen, Tone, humane, printable},
    watch::Watch,
};

pub async fn get(client: &Client, event: &args::Event, screen: &Screen, json: bool) -> anyhow::Result<()> {
    let event = client.event(event).await?;
    if json {
        return Ok(screen.json(&event)?);
    }
    let text = |name: &str| printable(event[name].as_str().unwrap_or("-"));
    let address = screen.toned(&format!("{}/{}", text("queue"), text("event")), Tone::Good);
    let sequence = text("sequence");
    let position = sequence.trim_start_matches('0');
    screen.line(format!("{address}  position {position}, recorded {}", text("recordedtime")))?;
    // JSON escapes what would steer the terminal.
    Ok(screen.line(serde_json::to_string_pretty(&event)?)?)
}

pub fn cancelled(queue: &Name, id: &str, screen: &Screen, json: bool) -> anyhow::Result<()> {
    if json {
        return Ok(screen.json(&json!({ "queue": queue, "id": id, "waits": false }))?);
    }
    Ok(screen.line(format!("{} doesn't wait in {queue} (any more)", printable(id)))?)
}

pub async fn status(client: &Client, options: &args::Status, screen: &Screen, json: bool) -> anyhow::Result<()> {
    if !options.watch {
        let status = client.status(&options.event, None).await?;
        return if json { Ok(screen.json(&status)?) } else { show(&status, screen) };
    }
    let (mut watch, mut shown) = (Watch::new(client, &options.event), Value::Null);
    loop {
        let status = watch.next().await?;
        if status != shown {
            // A line each.
            if json { screen.line(status.to_string())? } else { show(&status, screen)? }
        }
        if is_over(&status) {
            return match status["delivery"].as_str() {
                Some("failed") => bail!("a group has given up on the event"),
                _ => Ok(()),
            };
        }
        shown = status;
    }
}

/// Whether every group that takes it is done with it; where nobody does, somebody may come.
fn is_over(status: &Value) -> bool {
    let open =
        |standing: &Value| matches!(standing.as_str(), None | Some("pending" | "leased" | "retrying" | "parked"));
    let groups = status["groups"].as_object();
    status["delivery"] != "nobody" && groups.is_some_and(|groups| !groups.values().any(open))
}

fn show(status: &Value, screen: &Screen) -> anyhow::Result<()> {
    let text = |name: &str| printable(status[name].as_str().unwrap_or("-"));
    if status["delivery"] == "scheduled" {
        return Ok(screen.line(format!("scheduled for {}  {} id {}", text("due"), text("queue"), text("id")))?);
    }
    let (delivery, tone) = match status["delivery"].as_str() {
        Some("delivered") => ("delivered", Tone::Good),
        Some("failed") => ("failed", Tone::Alarm),
        Some("nobody") => ("recorded; no group takes it", Tone::Plain),
        _ => ("pending", Tone::Warning),
    };
    let place = format!("{}/{} {}:{}", text("queue"), text("event"), status["partition"], status["position"]);
    screen.line(format!(
        "{}  {place}  id {}  recorded {}",
        screen.toned(delivery, tone),
        text("id"),
        text("recordedtime")
    ))?;
    let groups = status["groups"].as_object().into_iter().flatten();
    let now = OffsetDateTime::now_utc();
    let row = |(group, standing): (&String, &Value)| {
        let standing = standing.as_str().unwrap_or("nobody");
        let tone = match standing {
            "acked" => Tone::Good,
            "dead" | "lost" => Tone::Alarm,
            "retrying" | "parked" | "expired" => Tone::Warning,
            _ => Tone::Plain,
        };
        vec![
            Cell::text(group),
            Cell::text(standing).tone(tone),
            Cell::text(detail(&status["details"][group], standing, now)),
        ]
    };
    let rows: Vec<_> = groups.map(row).collect();
    if rows.is_empty() {
        return Ok(());
    }
    Ok(screen.table(&["GROUP", "", ""], &rows)?)
}

/// `attempt 2, in 14s`.
fn detail(detail: &Value, standing: &str, now: OffsetDateTime) -> String {
    let moment = |name: &str| detail[name].as_str().and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
    let mut parts = Vec::new();
    parts.extend(detail["attempt"].as_u64().map(|attempt| format!("attempt {attempt}")));
    parts.extend(moment("until").map(|until| format!("leased for {} more", humane((until - now).whole_seconds()))));
    parts.extend(detail["behind"].as_u64().map(|position| format!("behind {position}")));
    parts.extend(detail["reason"].as_str().map(str::to_owned));
    parts.extend(moment("at").map(|at| match standing {
        "dead" => format!("{} ago", humane((now - at).whole_seconds())),
        _ => format!("again in {}", humane((at - now).whole_seconds())),
    }));
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_over_once_no_group_is_at_it() {
        let status =
            |delivery: &str, standing: Value| json!({"delivery": delivery, "groups": {"a": "acked", "b": standing}});
        assert!(is_over(&status("delivered", json!("filtered"))));
        assert!(is_over(&status("failed", json!("dead"))));
        // Another one has failed already; this one is still at it.
        assert!(!is_over(&status("failed", json!("retrying"))));
        assert!(!is_over(&status("pending", Value::Null)));
        assert!(!is_over(&json!({"delivery": "nobody", "groups": {}})));
    }

    #[test]
    fn what_goes_with_a_standing_is_said_in_words() {
        let now = OffsetDateTime::parse("2026-11-21T12:00:00Z", &Rfc3339).unwrap();
        let said = |detail: Value, standing| super::detail(&detail, standing, now);
        assert_eq!(
            said(json!({"attempt": 1, "until": "2026-11-21T12:00:20Z"}), "leased"),
            "attempt 1, leased for 20s more"
        );
        assert_eq!(said(json!({"attempt": 3, "at": "2026-11-21T12:00:30Z"}), "retrying"), "attempt 3, again in 30s");
        assert_eq!(said(json!({"behind": 7}), "parked"), "behind 7");
        assert_eq!(said(json!({"reason": "refused", "at": "2026-11-21T11:00:00Z"}), "dead"), "refused, 1h ago");
        assert_eq!(said(Value::Null, "acked"), "");
    }
}
