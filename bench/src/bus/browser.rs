//! An event's way through the whole system: posted to the gateway, published by the broker, read as a server-sent event by
//! a client as a browser is one. `turnpike up` on core 0, once with the embedded bus and once on Redis; the client on core 1.

use std::{
    collections::HashMap,
    fs,
    path::Path,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use futures_util::future::try_join_all;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Incoming, header};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};

use super::{
    Run,
    contestant::{IntoInnerResult as _, at_rate},
};
use crate::{
    process::{Process, free_port},
    statistics::{Latency, median},
};

/// Events a second while latency is measured.
const RATE: u32 = 200;
/// Publishers that each have one in flight while throughput is.
const IN_FLIGHT: usize = 32;

/// The shop's own configuration, without the limit that a hundred requests a minute are enough.
const GATEWAY: &str = include_str!("../../../deploy/gateway.yaml");

struct System {
    name: &'static str,
    http: Client<HttpConnector, Full<Bytes>>,
    url: String,
    cookie: String,
    _process: Process,
}

pub async fn contest(run: &Run, folder: &Path, redis: &str, time: Duration) -> anyhow::Result<()> {
    let systems =
        [System::start(run, folder, "embedded", None).await?, System::start(run, folder, "redis", Some(redis)).await?];
    println!("{:<34} {:>20} {:>20}", "POST /events → SSE, by the gateway", "embedded", "redis");
    let mut latencies: HashMap<&str, Vec<Latency>> = HashMap::new();
    let mut rates: HashMap<&str, Vec<f64>> = HashMap::new();
    for round in 0..run.rounds {
        for turn in 0..systems.len() {
            let system = &systems[(round + turn) % systems.len()];
            latencies.entry(system.name).or_default().push(system.latency(time).await.context(system.name)?);
            rates.entry(system.name).or_default().push(system.throughput(time).await.context(system.name)?);
        }
    }
    let latency = |name: &str| {
        let of = |pick: fn(&Latency) -> f64| median(latencies[name].iter().map(pick));
        format!("{:.0} / {:.0} µs", of(|latency| latency.p50), of(|latency| latency.p99))
    };
    let rate = |name: &str| format!("{:.0}/s", median(rates[name].iter().copied()));
    println!("{:<34} {:>20} {:>20}", format!("p50 / p99 at {RATE}/s"), latency("embedded"), latency("redis"));
    println!("{:<34} {:>20} {:>20}", format!("events, {IN_FLIGHT} in flight"), rate("embedded"), rate("redis"));
    Ok(())
}

impl System {
    async fn start(run: &Run, folder: &Path, name: &'static str, redis: Option<&str>) -> anyhow::Result<Self> {
        let data = folder.join(name);
        fs::create_dir(&data)?;
        let config = data.join("gateway.yaml");
        fs::write(&config, GATEWAY.replace("requests: 100, per: 1m", "requests: 100000000, per: 1m"))?;
        let (port, ops) = (free_port()?.to_string(), free_port()?.to_string());
        let (data_text, config) = (data.display().to_string(), config.display().to_string());
        let mut arguments = vec![
            "up",
            "--port",
            &port,
            "--ops-port",
            &ops,
            "--data-dir",
            &data_text,
            "--gateway-config",
            &config,
            "--cores",
            "1",
        ];
        arguments.extend(redis.into_iter().flat_map(|url| ["--redis", url]));
        let process = Process::start(0, &run.turnpike, &arguments, &data.join("log"))?;
        let http = Client::builder(TokioExecutor::new()).build_http();
        let end = Instant::now() + Duration::from_secs(60);
        let environment = loop {
            if let Ok(text) = fs::read_to_string(data.join("demo.env")) {
                break text;
            }
            ensure!(Instant::now() < end, "turnpike up doesn't start: see {}", data.join("log").display());
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let environment: HashMap<&str, &str> = environment.lines().filter_map(|line| line.split_once('=')).collect();
        let of = |name: &str| environment.get(name).copied().with_context(|| format!("no {name} in demo.env"));
        let credentials =
            serde_json::json!({"email": of("DEMO_OPERATOR_EMAIL")?, "password": of("DEMO_OPERATOR_PASSWORD")?});
        let mut system = Self { name, http, url: of("DEMO_URL")?.to_owned(), cookie: String::new(), _process: process };
        let answer = system.post("/session", credentials.to_string()).await?;
        let cookie = answer.headers().get(header::SET_COOKIE).context("no session")?.to_str()?;
        system.cookie = cookie.split(';').next().unwrap_or_default().to_owned();
        Ok(system)
    }

    async fn post(&self, path: &str, body: String) -> anyhow::Result<Response<Incoming>> {
        let request = Request::post(format!("{}{path}", self.url))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::COOKIE, &self.cookie)
            .body(Full::from(body))?;
        let answer = self.http.request(request).await?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        let text = answer.into_body().collect().await?.to_bytes();
        bail!("{path}: {status} {}", String::from_utf8_lossy(&text))
    }

    async fn publish(&self, data: String) -> anyhow::Result<()> {
        self.post("/events/BENCH/PING", data).await?.into_body().collect().await?;
        Ok(())
    }

    async fn latency(&self, time: Duration) -> anyhow::Result<Latency> {
        let mut reader = Reader::open(self).await?;
        let zero = Instant::now();
        let count = u64::from(RATE) * time.as_secs();
        let reading = async {
            let mut all = Vec::new();
            while (all.len() as u64) < count {
                for sent in reader.next().await? {
                    all.push(zero.elapsed().saturating_sub(Duration::from_nanos(sent)));
                }
            }
            anyhow::Ok(all)
        };
        let publishing = at_rate(RATE, count, |_| self.publish(format!("{{\"sent\":{}}}", zero.elapsed().as_nanos())));
        let (all, ()) = tokio::try_join!(tokio::time::timeout(time * 10, reading).into_inner_result(), publishing)?;
        Latency::of(all)
    }

    async fn throughput(&self, time: Duration) -> anyhow::Result<f64> {
        let mut reader = Reader::open(self).await?;
        let (began, published) = (Instant::now(), AtomicU64::new(0));
        let publishers = (0..IN_FLIGHT).map(|_| async {
            while began.elapsed() < time {
                self.publish("{\"sent\":0}".to_owned()).await?;
                published.fetch_add(1, Relaxed);
            }
            anyhow::Ok(())
        });
        let publishing = async {
            try_join_all(publishers).await?;
            anyhow::Ok(published.load(Relaxed))
        };
        let mut read = 0;
        let mut publishing = std::pin::pin!(publishing);
        let total = loop {
            tokio::select! {
                total = &mut publishing => break total?,
                events = reader.next() => read += events?.len() as u64,
            }
        };
        let rest = async {
            while read < total {
                read += reader.next().await?.len() as u64;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(time * 5, rest).into_inner_result().await?;
        Ok(total as f64 / began.elapsed().as_secs_f64())
    }
}

/// Reads server-sent events.
struct Reader {
    body: Incoming,
    rest: Vec<u8>,
}

impl Reader {
    /// From now on: it is there once it was told so.
    async fn open(system: &System) -> anyhow::Result<Self> {
        let request = Request::get(format!("{}/events?filter=BENCH/*&from=latest", system.url))
            .header(header::ACCEPT, "text/event-stream")
            .header(header::COOKIE, &system.cookie)
            .body(Full::default())?;
        let answer = system.http.request(request).await?;
        ensure!(answer.status().is_success(), "GET /events: {}", answer.status());
        let mut reader = Self { body: answer.into_body(), rest: Vec::new() };
        while !reader.lines().await?.iter().any(|line| line.contains("caught_up")) {}
        Ok(reader)
    }

    /// When each of the next events was sent, in nanoseconds.
    async fn next(&mut self) -> anyhow::Result<Vec<u64>> {
        let sent = |line: String| {
            let digits = line.split_once("\"sent\":")?.1;
            digits[..digits.find(|c: char| !c.is_ascii_digit())?].parse().ok()
        };
        Ok(self.lines().await?.into_iter().filter_map(sent).collect())
    }

    async fn lines(&mut self) -> anyhow::Result<Vec<String>> {
        let frame = self.body.frame().await.context("the stream ended")??;
        self.rest.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else { return Ok(Vec::new()) };
        let whole: Vec<u8> = self.rest.drain(..=end).collect();
        Ok(String::from_utf8_lossy(&whole).lines().map(str::to_owned).collect())
    }
}
