//! Asks every gateway the same, and puts the answers together.

use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use gateway::analytics::{By, Clients, Routes, Sort, Statuses};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Request, Uri};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Analytics;

const TIMEOUT: Duration = Duration::from_secs(20);
const LONGEST_ANSWER: usize = 64 << 20;
/// Rows that are asked for of each gateway: what is few on one may be many on all.
const ROWS: usize = 1_000;

pub async fn routes(options: &Analytics, sort: Sort) -> anyhow::Result<Routes> {
    let answers = of_all::<Routes>(options, "routes", &[]).await?;
    let together = answers.into_iter().reduce(|mut one, other| {
        one.merge(other, sort, usize::MAX);
        one
    });
    let mut answer = together.context("no gateway to ask")?;
    answer.sort(sort, options.limit);
    Ok(answer)
}

pub async fn clients(options: &Analytics, by: By) -> anyhow::Result<Clients> {
    let by = match by {
        By::Requests => "requests",
        By::Errors => "errors",
    };
    let answers = of_all::<Clients>(options, "clients", &[("by", by)]).await?;
    let together = answers.into_iter().reduce(|mut one, other| {
        one.merge(other, usize::MAX);
        one
    });
    let mut answer = together.context("no gateway to ask")?;
    answer.sort(options.limit);
    Ok(answer)
}

pub async fn statuses(options: &Analytics, step: &str) -> anyhow::Result<Statuses> {
    let answers = of_all::<Statuses>(options, "statuses", &[("step", step)]).await?;
    let together = answers.into_iter().reduce(|mut one, other| {
        one.merge(other);
        one
    });
    together.context("no gateway to ask")
}

async fn of_all<T: DeserializeOwned>(options: &Analytics, what: &str, more: &[(&str, &str)]) -> anyhow::Result<Vec<T>> {
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let mut query = format!("from={}&limit={ROWS}", encoded(&options.since));
    let route = options.route.as_deref().map(|route| ("route", route));
    for (name, value) in more.iter().copied().chain(route) {
        query.push_str(&format!("&{name}={}", encoded(value)));
    }
    let mut answers = Vec::new();
    for url in &options.url {
        let url = format!("{}/analytics/{what}?{query}", url.trim_end_matches('/'));
        answers.push(get(&url).await?);
    }
    Ok(answers)
}

async fn get<T: DeserializeOwned>(url: &str) -> anyhow::Result<T> {
    let uri: Uri = url.parse().with_context(|| format!("{url} is not a URL"))?;
    let place = uri.authority().map(ToString::to_string).unwrap_or_default();
    let request = Request::get(uri).body(Empty::<Bytes>::new())?;
    let client = Client::builder(TokioExecutor::new()).build_http();
    let exchange = async {
        let answer = client.request(request).await.map_err(|_| {
            anyhow!("nobody answers at {place}: is that the ops listener of a gateway that runs? (--url)")
        })?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), LONGEST_ANSWER).collect().await;
        let body = body.map_err(|error| anyhow!("the answer of {place} ended early: {error}"))?.to_bytes();
        if !status.is_success() {
            let told: Value = serde_json::from_slice(&body).unwrap_or_default();
            bail!("{}", told["errors"][0].as_str().map_or_else(|| format!("{place} answers {status}"), str::to_owned));
        }
        serde_json::from_slice(&body).with_context(|| format!("{place}: is this a gateway of this version?"))
    };
    tokio::time::timeout(TIMEOUT, exchange).await.unwrap_or_else(|_| bail!("no answer of {place} in {TIMEOUT:?}"))
}
