//! `turnpike traffic`: shoppers that sign up, browse, fill carts and order, at a steady rate, so that the demo lives.

use std::{
    collections::HashMap,
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Method, Request, StatusCode, header};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rand::Rng as _;
use serde_json::{Value, json};
use tokio::{
    sync::Semaphore,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until},
};

use crate::cli;

/// What one shopper may ask for in a minute stays below the shop's 100 a principal.
const REQUESTS_A_MINUTE_A_SHOPPER: u32 = 60;
/// Requests that may be open at once; a gateway that is slower than the rate is not buried.
const OPEN_REQUESTS: usize = 256;
const TIMEOUT: Duration = Duration::from_secs(10);
const LONGEST_ANSWER: usize = 1 << 20;
/// How often a shopper tries to sign up or log in, a second apart.
const TURNS: usize = 60;

pub fn main(options: cli::Traffic) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(shop(options))
}

async fn shop(options: cli::Traffic) -> anyhow::Result<()> {
    let url = match options.url {
        Some(url) => url,
        None => demo_url(&options.data_dir)?,
    };
    let shop = Arc::new(Shop {
        http: Client::builder(TokioExecutor::new()).build_http(),
        url: url.trim_end_matches('/').to_owned(),
        tally: Tally::default(),
    });
    let shoppers = usize::try_from((options.rate * 60).div_ceil(REQUESTS_A_MINUTE_A_SHOPPER))?;
    println!("{shoppers} shoppers at {} requests a second against {}", options.rate, shop.url);
    let mut sessions = Vec::with_capacity(shoppers);
    for _ in 0..shoppers {
        sessions.push(shop.sign_up().await.context("the first shoppers can't sign up")?);
    }
    let products = shop.products(&sessions[0]).await?;
    if products.is_empty() {
        bail!("the shop has nothing to sell: GET {}/products is empty", shop.url);
    }

    let end = options.duration.map(|duration| Instant::now() + duration);
    let mut beat = interval(Duration::from_secs(1) / options.rate);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut report = interval(Duration::from_secs(1));
    let open = Arc::new(Semaphore::new(OPEN_REQUESTS));
    let (sessions, products) = (Arc::new(sessions), Arc::new(products));
    let mut turn = 0;
    loop {
        tokio::select! {
            _ = beat.tick() => {
                let Ok(permit) = open.clone().try_acquire_owned() else {
                    shop.tally.skipped.fetch_add(1, Relaxed);
                    continue;
                };
                turn += 1;
                let (shop, sessions, products) = (shop.clone(), sessions.clone(), products.clone());
                tokio::spawn(async move {
                    shop.step(&sessions[turn % sessions.len()], &products).await;
                    drop(permit);
                });
            }
            _ = report.tick() => println!("{}", shop.tally.line()),
            () = at(end) => break,
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    println!("{}", shop.tally.line());
    Ok(())
}

async fn at(end: Option<Instant>) {
    match end {
        Some(end) => sleep_until(end).await,
        None => std::future::pending().await,
    }
}

fn demo_url(folder: &std::path::Path) -> anyhow::Result<String> {
    let path = folder.join("demo.env");
    let text = fs::read_to_string(&path)
        .with_context(|| format!("no --url, and {} can't be read: is `turnpike up` running?", path.display()))?;
    let entries: HashMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
    entries.get("DEMO_URL").map(|url| (*url).to_owned()).with_context(|| format!("no DEMO_URL in {}", path.display()))
}

/// Status, JSON body, and the cookie that was set.
type Answer = anyhow::Result<(StatusCode, Value, Option<String>)>;

struct Shop {
    http: Client<HttpConnector, Full<Bytes>>,
    url: String,
    tally: Tally,
}

/// What came back, by kind.
#[derive(Default)]
struct Tally {
    answered: AtomicU64,
    placed: AtomicU64,
    limited: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    /// Requests not sent because too many were open.
    skipped: AtomicU64,
}

impl Tally {
    fn count(&self, answer: &Answer) {
        let counter = match answer {
            Ok((status, ..)) if status.is_success() => &self.answered,
            Ok((StatusCode::TOO_MANY_REQUESTS, ..)) => &self.limited,
            Ok((status, ..)) if status.is_client_error() => &self.refused,
            _ => &self.failed,
        };
        counter.fetch_add(1, Relaxed);
    }

    fn line(&self) -> String {
        let value = |counter: &AtomicU64| counter.load(Relaxed);
        format!(
            "answered {} · orders {} · limited {} · refused {} · failed {} · skipped {}",
            value(&self.answered),
            value(&self.placed),
            value(&self.limited),
            value(&self.refused),
            value(&self.failed),
            value(&self.skipped),
        )
    }
}

impl Shop {
    /// One request of a shopper: mostly looks, sometimes adds to the cart, now and then orders.
    async fn step(&self, session: &str, products: &[String]) {
        let (what, which) = {
            let mut random = rand::rng();
            (random.random_range(0..100), random.random_range(0..products.len()))
        };
        let product = &products[which];
        match what {
            0..40 => drop(self.ask(Method::GET, "/products", Some(session), None).await),
            40..70 => drop(self.ask(Method::GET, &format!("/products/{product}"), Some(session), None).await),
            70..75 => drop(self.ask(Method::GET, "/orders", Some(session), None).await),
            75..90 => self.add(session, product).await,
            _ => {
                // A cart version is ordered once: what is bought now makes it a new one.
                self.add(session, product).await;
                let placed = self.ask(Method::POST, "/order/place", Some(session), Some(json!({}))).await;
                if placed.is_ok_and(|(status, ..)| status == StatusCode::CREATED) {
                    self.tally.placed.fetch_add(1, Relaxed);
                }
            }
        }
    }

    async fn add(&self, session: &str, product: &str) {
        let body = json!({"product_id": product, "quantity": 1});
        drop(self.ask(Method::POST, "/cart/add", Some(session), Some(body)).await);
    }

    /// A new account and its session's cookie.
    async fn sign_up(&self) -> anyhow::Result<String> {
        let email = format!("shopper-{}@traffic.example", uuid::Uuid::now_v7());
        let password = uuid::Uuid::new_v4().to_string();
        let account = json!({"email": email, "password": password, "name": "A Shopper"});
        let (status, answer, _) = self.present("/accounts", &account).await?;
        anyhow::ensure!(status == StatusCode::CREATED, "POST /accounts answers {status}: {answer}");
        let credentials = json!({"email": email, "password": password});
        let (status, answer, cookie) = self.present("/session", &credentials).await?;
        anyhow::ensure!(status == StatusCode::CREATED, "POST /session answers {status}: {answer}");
        cookie.context("POST /session sets no cookie")
    }

    async fn products(&self, session: &str) -> anyhow::Result<Vec<String>> {
        let (status, answer, _) = self.send(Method::GET, "/products?page_size=100", Some(session), None).await?;
        anyhow::ensure!(status.is_success(), "GET /products answers {status}: {answer}");
        let products = answer["products"].as_array().into_iter().flatten();
        Ok(products.filter_map(|product| product["id"].as_str().map(str::to_owned)).collect())
    }

    /// A request that counts.
    async fn ask(&self, method: Method, path: &str, session: Option<&str>, body: Option<Value>) -> Answer {
        let answer = self.send(method, path, session, body).await;
        self.tally.count(&answer);
        answer
    }

    /// Sends credentials; where sign-ups and log-ins are limited, it waits for its turn.
    async fn present(&self, path: &str, credentials: &Value) -> Answer {
        for _ in 0..TURNS {
            let answer = self.send(Method::POST, path, None, Some(credentials.clone())).await?;
            if answer.0 != StatusCode::TOO_MANY_REQUESTS {
                return Ok(answer);
            }
            sleep(Duration::from_secs(1)).await;
        }
        bail!("POST {path} was limited {TURNS} times")
    }

    async fn send(&self, method: Method, path: &str, session: Option<&str>, body: Option<Value>) -> Answer {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.url));
        if let Some(cookie) = session {
            request = request.header(header::COOKIE, cookie);
        }
        let body = body.map(|json| Bytes::from(json.to_string()));
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::new(body.unwrap_or_default()))?;
        let exchange = async {
            let answer = self.http.request(request).await?;
            let status = answer.status();
            let cookie = answer.headers().get(header::SET_COOKIE).and_then(|value| value.to_str().ok());
            let cookie = cookie.and_then(|value| value.split(';').next()).map(str::to_owned);
            let body = Limited::new(answer.into_body(), LONGEST_ANSWER).collect().await;
            let body = body.map_err(|error| anyhow::anyhow!("{error}"))?.to_bytes();
            Ok((status, serde_json::from_slice(&body).unwrap_or_default(), cookie))
        };
        let answer =
            tokio::time::timeout(TIMEOUT, exchange).await.unwrap_or_else(|_| bail!("no answer in {TIMEOUT:?}"));
        self.tally.count(&answer);
        answer
    }
}
