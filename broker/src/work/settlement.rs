//! What a member says of a delivery, as JSON: the body of `POST /deliveries/{token}/{verb}`, and an item of `POST
//! /groups/{group}/settle`.

use axum::{Json, body::Body, extract::State};
use bus::{Settlement, Verb};
use http::HeaderMap;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{LONGEST_DELAY, MOST_SETTLEMENTS, of_jobs, token::Held};
use crate::{
    access::Caller,
    body, duration,
    path::Named,
    problem::{Kind, Problem},
    query::{Parameters, refuse},
    shared::Shared,
};

/// The most bytes of a batch, and of a task's result with what stands around it.
pub(super) const BYTES: usize = 1 << 20;

#[derive(Debug, PartialEq, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Said {
    Ack {
        /// Of a task alone.
        #[serde(default)]
        result: Option<Value>,
    },
    Nack {
        #[serde(default)]
        delay: Option<String>,
        #[serde(default)]
        reason: String,
        #[serde(default = "yes")]
        retryable: bool,
    },
    Release {},
    Defer {
        delay: String,
    },
    Dead {
        #[serde(default)]
        reason: String,
    },
    Extend {
        /// Of a task alone: 0 to 1, and what is being done.
        #[serde(default)]
        progress: Option<f64>,
        #[serde(default)]
        note: Option<String>,
    },
}

/// Some settlements of one group's deliveries.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch {
    settlements: Vec<Map<String, Value>>,
}

fn yes() -> bool {
    true
}

impl Said {
    /// A verb with what is said beside it.
    pub fn read(mut said: Map<String, Value>, verb: &str) -> Result<Self, Problem> {
        if said.insert("verb".to_owned(), verb.into()).is_some() {
            return Err(refuse("verb", "stands in the path"));
        }
        Self::of(said)
    }

    fn of(said: Map<String, Value>) -> Result<Self, Problem> {
        serde_json::from_value(said.into()).map_err(|error| Problem::invalid(format!("the body: {error}")))
    }

    /// As the bus is told, of an event.
    pub fn verb(self) -> Result<Verb, Problem> {
        let of_a_task = |field: &str| refuse(field, "is said of a task alone");
        Ok(match self {
            Self::Ack { result: Some(_) } => return Err(of_a_task("result")),
            Self::Ack { .. } => Verb::Ack,
            Self::Nack { delay, reason, retryable } => Verb::Nack { delay: read_delay(delay)?, reason, retryable },
            Self::Release {} => Verb::Release,
            Self::Defer { delay } => Verb::Defer { delay: read_delay(Some(delay))?.unwrap_or_default() },
            Self::Dead { reason } => Verb::Dead { reason },
            Self::Extend { progress: Some(_), .. } => return Err(of_a_task("progress")),
            Self::Extend { note: Some(_), .. } => return Err(of_a_task("note")),
            Self::Extend { .. } => Verb::Extend,
        })
    }
}

pub(super) fn read_delay(delay: Option<String>) -> Result<Option<std::time::Duration>, Problem> {
    let Some(text) = delay else { return Ok(None) };
    let delay = duration::parse(&text).filter(|delay| *delay <= LONGEST_DELAY);
    let refused = || refuse("delay", "must be a duration such as 500ms or 5s, at most 1d");
    delay.map(Some).ok_or_else(refused)
}

/// The lease is over, or was never this one.
pub(super) fn lease_lost() -> Problem {
    Problem::new(Kind::LeaseLost, bus::LeaseLost.to_string())
}

/// `POST /groups/{group}/settle`: an outcome each.
pub(super) async fn settle(
    State(shared): State<Shared>,
    caller: Caller,
    Named(group): Named<String>,
    parameters: Parameters,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Problem> {
    caller.may_consume(&group)?;
    of_jobs(&group)?;
    parameters.done("nothing is")?;
    let Batch { settlements: said } = body::command_within(&headers, body, BYTES).await?;
    if !(1..=MOST_SETTLEMENTS).contains(&said.len()) {
        return Err(refuse("settlements", format!("must be 1 to {MOST_SETTLEMENTS}, not {}", said.len())));
    }
    let read: Vec<(Value, Result<Settlement, Problem>)> = said.into_iter().map(|said| item(&group, said)).collect();
    let settlements = read.iter().filter_map(|(_, settlement)| settlement.as_ref().ok()).cloned().collect();
    let mut settled = shared.bus.settle(&group, settlements).await?.into_iter();
    let outcomes = read.into_iter().map(|(token, settlement)| {
        let outcome = settlement.and_then(|_| settled.next().unwrap_or(Err(bus::LeaseLost)).map_err(|_| lease_lost()));
        match outcome {
            Ok(()) => json!({ "token": token }),
            Err(problem) => json!({ "token": token, "error": problem.brief() }),
        }
    });
    Ok(Json(json!({ "outcomes": outcomes.collect::<Vec<_>>() })))
}

/// One of a batch; what is none keeps its place among the others.
fn item(group: &str, mut said: Map<String, Value>) -> (Value, Result<Settlement, Problem>) {
    let token = said.remove("token").unwrap_or_default();
    let held = token.as_str().unwrap_or_default().parse().map_err(|error: bus::TokenError| refuse("token", error));
    let settlement = held.and_then(|held| match held {
        Held::Event { group: of, token } if of == group => Ok(Settlement { token, verb: Said::of(said)?.verb()? }),
        _ => Err(refuse("token", format!("is none of the group {group}"))),
    });
    (token, settlement)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(verb: &str, body: Value) -> Result<Verb, String> {
        let Value::Object(body) = body else { panic!("{body}") };
        Said::read(body, verb).and_then(Said::verb).map_err(|problem| problem.detail.into_owned())
    }

    #[test]
    fn a_verb_is_read_with_what_is_said_beside_it() {
        assert_eq!(read("ack", json!({})), Ok(Verb::Ack));
        let nack = read("nack", json!({"delay": "5s", "reason": "busy", "retryable": false}));
        let delay = Some(std::time::Duration::from_secs(5));
        assert_eq!(nack, Ok(Verb::Nack { delay, reason: "busy".to_owned(), retryable: false }));
        assert_eq!(read("nack", json!({})), Ok(Verb::Nack { delay: None, reason: String::new(), retryable: true }));
        assert_eq!(read("release", json!({})), Ok(Verb::Release));
        assert_eq!(read("extend", json!({})), Ok(Verb::Extend));
        assert_eq!(read("dead", json!({"reason": "unreadable"})), Ok(Verb::Dead { reason: "unreadable".to_owned() }));
    }

    #[test]
    fn what_does_not_belong_to_a_verb_is_refused_by_name() {
        for (verb, body, named) in [
            ("ack", json!({"reason": "x"}), "reason"),
            ("ack", json!({"result": 1}), "result"),
            ("ack", json!({"verb": "nack"}), "verb"),
            ("release", json!({"delay": "5s"}), "delay"),
            ("nack", json!({"delay": "25h"}), "delay"),
            ("defer", json!({}), "delay"),
            ("extend", json!({"progress": 0.5}), "progress"),
        ] {
            let refused = read(verb, body).unwrap_err();
            assert!(refused.contains(named), "{verb}: {refused}");
        }
    }
}
