//! The bus by way of a gateway: the broker's HTTP surface, as the demo's operator or with an API key.

use std::{collections::HashMap, fs, time::Duration};

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Method, Request, Response, StatusCode, body::Incoming, header, http::request::Builder};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{args::Way, stream::Stream};

/// Longer than whatever may be waited for.
const TIMEOUT: Duration = Duration::from_secs(75);
const LONGEST_ANSWER: usize = 64 << 20;
const EVENTS: &str = "text/event-stream";
/// Pages of a list that are read at most, of a thousand each.
const PAGES: usize = 100;

type Http = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// A gateway that we have been let in by.
pub struct Gateway {
    http: Http,
    url: String,
    /// None while it signs in.
    credential: Option<(header::HeaderName, String)>,
}

/// A page of what is followed.
pub struct Polled {
    /// Where to go on from.
    pub cursor: Option<String>,
    /// Null where nothing came.
    pub body: Value,
}

/// What came of asking for a stream.
pub enum Streamed {
    Open(Stream),
    Answered(Value),
}

impl Gateway {
    /// Finds the gateway and signs in.
    pub async fn open(way: &Way) -> anyhow::Result<Self> {
        let env = Environment::read(way);
        let given = way.url.clone().or_else(|| env.get("DEMO_URL"));
        let url = given.with_context(|| {
            format!(
                "no gateway: say --url or --redis, or start `turnpike up` ({} can't be read)",
                way.data_dir.join("demo.env").display()
            )
        })?;
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_webpki_roots(rustls::crypto::aws_lc_rs::default_provider())
            .context("TLS")?
            .https_or_http()
            .enable_http1()
            .build();
        let http = Client::builder(TokioExecutor::new()).build(connector);
        let mut gateway = Self { http, url: url.trim_end_matches('/').to_owned(), credential: None };
        gateway.credential = Some(match &way.api_key {
            Some(key) => (header::HeaderName::from_static("x-api-key"), key.clone()),
            None => (header::COOKIE, gateway.sign_in(&env).await?),
        });
        Ok(gateway)
    }

    async fn sign_in(&self, env: &Environment) -> anyhow::Result<String> {
        let (Some(email), Some(password)) = (env.get("DEMO_OPERATOR_EMAIL"), env.get("DEMO_OPERATOR_PASSWORD")) else {
            bail!("nobody to sign in as: say --api-key, or --data-dir of the folder with the demo.env");
        };
        let body = json!({"email": email, "password": password}).to_string().into();
        let (status, headers, body) = self.exchange(Method::POST, "/session", Some("application/json"), body).await?;
        if !status.is_success() {
            let refused = anyhow!(Refused::new(status, &headers, &body));
            return Err(refused.context(format!("{email} can't sign in at {}", self.url)));
        }
        let cookie = headers.get(header::SET_COOKIE).and_then(|value| value.to_str().ok());
        let cookie = cookie.and_then(|cookie| cookie.split(';').next());
        cookie.map(str::to_owned).with_context(|| format!("POST {}/session sets no cookie", self.url))
    }

    /// What is there, as one type.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let answer = self.ask(Method::GET, path, None, Bytes::new()).await?;
        serde_json::from_value(answer).with_context(|| format!("GET {path}: is this a gateway of this version?"))
    }

    /// A list, all of its pages.
    pub async fn list<T: DeserializeOwned>(&self, path: &str, name: &str, most: usize) -> anyhow::Result<Vec<T>> {
        let mut items = Vec::new();
        let mut after = String::new();
        for _ in 0..PAGES {
            let limit = (most - items.len()).min(1000);
            let mut page: Value = self.get(&format!("{path}?limit={limit}{after}")).await?;
            let part = page.get_mut(name).map(Value::take).unwrap_or_default();
            items.extend(serde_json::from_value::<Vec<T>>(part).with_context(|| format!("GET {path}"))?);
            match page["next"].as_str() {
                Some(next) if items.len() < most => after = format!("&after={}", encoded(next)),
                _ => break,
            }
        }
        Ok(items)
    }

    /// One look at what goes on for ever. The status says whether it makes sense to look again; None: nobody answered.
    pub async fn poll(&self, method: Method, path: &str) -> Result<Polled, (Option<StatusCode>, anyhow::Error)> {
        let exchange = self.exchange(method, path, None, Bytes::new()).await;
        let (status, headers, body) = exchange.map_err(|error| (None, error))?;
        if !status.is_success() {
            return Err((Some(status), anyhow!(Refused::new(status, &headers, &body))));
        }
        let cursor = headers.get("turnpike-cursor").and_then(|value| value.to_str().ok()).map(str::to_owned);
        let body = if body.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(&body) };
        Ok(Polled { cursor, body: body.map_err(|error| (Some(status), error.into()))? })
    }

    pub async fn post(&self, path: &str, media: &str, body: Bytes) -> anyhow::Result<Value> {
        self.ask(Method::POST, path, Some(media), body).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.ask(Method::PUT, path, Some("application/json"), body.to_string().into()).await
    }

    pub async fn delete(&self, path: &str) -> anyhow::Result<Value> {
        self.ask(Method::DELETE, path, None, Bytes::new()).await
    }

    async fn ask(&self, method: Method, path: &str, media: Option<&str>, body: Bytes) -> anyhow::Result<Value> {
        let (status, headers, body) = self.exchange(method.clone(), path, media, body).await?;
        if !status.is_success() {
            let refused = anyhow!(Refused::new(status, &headers, &body));
            return Err(refused.context(format!("{method} {}{path}", self.url)));
        }
        Ok(if body.is_empty() { Value::Null } else { serde_json::from_slice(&body)? })
    }

    /// Server-sent events, or what is answered where there are none to come.
    pub async fn stream(&self, path: &str) -> anyhow::Result<Streamed> {
        let request = self.request(Method::GET, path).header(header::ACCEPT, EVENTS);
        let open = async {
            let (parts, body) = self.send(request, Bytes::new()).await?.into_parts();
            let media = parts.headers.get(header::CONTENT_TYPE).and_then(|media| media.to_str().ok());
            if parts.status.is_success() && media.is_some_and(|media| media.starts_with(EVENTS)) {
                return Ok(Streamed::Open(Stream::new(body)));
            }
            let body = self.whole(body).await?;
            match parts.status.is_success() {
                true => Ok(Streamed::Answered(serde_json::from_slice(&body)?)),
                false => {
                    let refused = anyhow!(Refused::new(parts.status, &parts.headers, &body));
                    Err(refused.context(format!("GET {}{path}", self.url)))
                }
            }
        };
        tokio::time::timeout(TIMEOUT, open).await.unwrap_or_else(|_| bail!("no answer in {TIMEOUT:?}"))
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        media: Option<&str>,
        body: Bytes,
    ) -> anyhow::Result<(StatusCode, header::HeaderMap, Bytes)> {
        let mut request = self.request(method, path);
        if let Some(media) = media {
            request = request.header(header::CONTENT_TYPE, media);
        }
        let exchange = async {
            let (parts, body) = self.send(request, body).await?.into_parts();
            Ok((parts.status, parts.headers, self.whole(body).await?))
        };
        tokio::time::timeout(TIMEOUT, exchange).await.unwrap_or_else(|_| bail!("no answer in {TIMEOUT:?}"))
    }

    fn request(&self, method: Method, path: &str) -> Builder {
        let request = Request::builder().method(method).uri(format!("{}{path}", self.url));
        match &self.credential {
            Some((name, value)) => request.header(name, value),
            None => request,
        }
    }

    async fn send(&self, request: Builder, body: Bytes) -> anyhow::Result<Response<Incoming>> {
        let request = request.body(Full::new(body)).with_context(|| format!("{} is not a URL", self.url))?;
        self.http.request(request).await.map_err(|error| {
            anyhow!("nobody answers at {}: is the gateway running there? ({})", self.url, root(&error))
        })
    }

    async fn whole(&self, body: Incoming) -> anyhow::Result<Bytes> {
        let body = Limited::new(body, LONGEST_ANSWER).collect().await;
        Ok(body.map_err(|error| anyhow!("the answer of {} ended early: {error}", self.url))?.to_bytes())
    }
}

fn root(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

/// A refusal as its problem says it.
#[derive(Debug, thiserror::Error)]
#[error("{said}")]
pub struct Refused {
    said: String,
    /// There is too much now; after so long there may not be.
    pub later: Option<Duration>,
}

impl Refused {
    fn new(status: StatusCode, headers: &header::HeaderMap, body: &[u8]) -> Self {
        let problem: Value = serde_json::from_slice(body).unwrap_or_default();
        let said = match (problem["title"].as_str(), problem["detail"].as_str()) {
            (Some(title), Some(detail)) => format!("{title} ({}): {detail}", status.as_u16()),
            _ => format!("answered {status}"),
        };
        let after = headers.get(header::RETRY_AFTER).and_then(|after| after.to_str().ok()?.parse().ok());
        Self { said, later: after.filter(|_| status == StatusCode::TOO_MANY_REQUESTS).map(Duration::from_secs) }
    }
}

/// A part of a URL.
pub fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// The process's environment, then `demo.env`.
struct Environment(HashMap<String, String>);

impl Environment {
    fn read(way: &Way) -> Self {
        let text = fs::read_to_string(way.data_dir.join("demo.env")).unwrap_or_default();
        let entries = text.lines().filter_map(|line| line.split_once('='));
        Self(entries.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    fn get(&self, name: &str) -> Option<String> {
        std::env::var(name).ok().filter(|value| !value.is_empty()).or_else(|| self.0.get(name).cloned())
    }
}
