//! Asking a gateway's ops listener every second: what it does, and whether it is well.

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::Deserialize;
use tokio::time::{Instant, MissedTickBehavior};

use crate::{
    board::Board,
    scrape::{Scrape, Scrapes},
    view::{Gateway, Health},
};

const EVERY: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(2);
const MOST_BYTES: usize = 4 << 20;
const MOST_REASONS: usize = 8;
/// What `/readyz` answers.
const READY: u16 = 200;
const NOT_READY: u16 = 503;

type Ops = Client<HttpConnector, Empty<Bytes>>;

/// Asks for ever.
pub(crate) async fn watch(url: String, board: Board) {
    let ops: Ops = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(1).build(HttpConnector::new());
    let mut scrapes = Scrapes::default();
    let mut timer = tokio::time::interval(EVERY);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        timer.tick().await;
        let asked = tokio::time::timeout(TIMEOUT, ask(&ops, &url, &mut scrapes)).await;
        let gateway = match asked {
            Ok(Ok(gateway)) => gateway,
            Ok(Err(error)) => away(format!("{error:#}")),
            Err(_) => away(format!("no answer within {} s", TIMEOUT.as_secs())),
        };
        board.gateway(&url, gateway);
    }
}

pub(crate) fn unknown() -> Gateway {
    Gateway { health: Health::Unknown, traffic: None, in_flight: None, connections: None }
}

fn away(reason: String) -> Gateway {
    Gateway { health: Health::Away(vec![reason]), ..unknown() }
}

async fn ask(ops: &Ops, url: &str, scrapes: &mut Scrapes) -> anyhow::Result<Gateway> {
    let (status, body) = get(ops, url, "/readyz").await?;
    let health = match status.as_u16() {
        READY => Health::Ready,
        NOT_READY => Health::NotReady(reasons(&body)),
        _ => Health::NotReady(vec![format!("/readyz answers {status}")]),
    };
    let (status, body) = get(ops, url, "/metrics").await?;
    anyhow::ensure!(status == StatusCode::OK, "/metrics answers {status}");
    let scrape = Scrape::read(&String::from_utf8_lossy(&body));
    let (in_flight, connections) = (scrape.in_flight, scrape.connections);
    let traffic = scrapes.take(Instant::now(), scrape);
    Ok(Gateway { health, traffic, in_flight, connections })
}

async fn get(ops: &Ops, url: &str, path: &str) -> anyhow::Result<(StatusCode, Bytes)> {
    let address = format!("{}{path}", url.trim_end_matches('/')).parse().context("its URL")?;
    let response = ops.get(address).await.context("it can't be reached")?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MOST_BYTES).collect().await;
    let body = body.map_err(anyhow::Error::from_boxed).context("its answer breaks off")?;
    Ok((status, body.to_bytes()))
}

/// What `/readyz` says is missing: `role: part: why`.
fn reasons(body: &[u8]) -> Vec<String> {
    #[derive(Deserialize)]
    struct Answer {
        waiting: std::collections::BTreeMap<String, std::collections::BTreeMap<String, String>>,
    }
    let Ok(Answer { waiting }) = serde_json::from_slice(body) else {
        return vec!["it isn't ready and doesn't say why".to_owned()];
    };
    let parts = waiting.into_iter().flat_map(|(role, parts)| {
        parts.into_iter().map(move |(part, reason)| match part.as_str() {
            "role" => format!("{role}: {reason}"),
            _ => format!("{role}: {part}: {reason}"),
        })
    });
    parts.take(MOST_REASONS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_name_the_role_and_the_part() {
        let body = br#"{"ready":false,"waiting":{"gateway":{"role":"starting","upstream product":"no endpoint"}}}"#;
        assert_eq!(reasons(body), ["gateway: starting", "gateway: upstream product: no endpoint"]);
        assert_eq!(reasons(b"<html>"), ["it isn't ready and doesn't say why"]);
    }
}
