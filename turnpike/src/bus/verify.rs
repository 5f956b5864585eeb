//! `turnpike bus verify`: the bus's contract, on an instance of one's own.

use anyhow::{Context as _, bail, ensure};
use async_trait::async_trait;
use bus::{Bus, redis, sqlite};
use verify::{Options, Report, Row, Site, contract::CASES};

use super::{
    args::{Verify, Way},
    screen::{Cell, Screen, Tone},
};

pub async fn run(options: Verify, way: &Way, screen: &Screen, json: bool) -> anyhow::Result<()> {
    let unknown = options.only.iter().find(|name| CASES.iter().all(|case| case.case.name != name.as_str()));
    if let Some(unknown) = unknown {
        let names: Vec<&str> = CASES.iter().map(|case| case.case.name).collect();
        bail!("there is no case {unknown}: {}", names.join(", "));
    }
    ensure!(way.url.is_none(), "a gateway has no namespaces: say --redis, or nothing for a file of its own");
    let wanted = Options { only: options.only, repeat: options.repeat, seed: options.seed, ..Options::default() };
    let report = match &way.redis {
        Some(url) => on_redis(url, &wanted).await?,
        None => on_a_file(&wanted).await?,
    };
    match json {
        true => screen.json(&report)?,
        false => show(&report, screen)?,
    }
    match report.is_good() {
        true => Ok(()),
        false => bail!("the bus broke a promise, or couldn't be asked; what it was is said above"),
    }
}

async fn on_redis(url: &str, options: &Options) -> anyhow::Result<Report> {
    let namespace = format!("verify-{}", uuid::Uuid::new_v4().simple());
    let site = Scratch { url: url.to_owned(), namespace };
    // Asked before anything is written: one that can't be reached is no broken promise.
    drop(site.node().await.context("no bus in Redis")?);
    let report = tokio::select! {
        report = verify::live(&site, options) => Ok(report),
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    let erased = redis::erase(url, &site.namespace).await;
    erased.with_context(|| format!("what it wrote could not be deleted: the keys {}:*", site.namespace))?;
    report
}

async fn on_a_file(options: &Options) -> anyhow::Result<Report> {
    let folder = tempfile::tempdir()?;
    let bus = sqlite::open(&folder.path().join("bus.db")).await?;
    Ok(verify::live(&Own(bus), options).await)
}

/// A namespace in a Redis that others use too.
struct Scratch {
    url: String,
    namespace: String,
}

#[async_trait]
impl Site for Scratch {
    fn backend(&self) -> &'static str {
        "redis"
    }

    async fn node(&self) -> anyhow::Result<Bus> {
        let options = redis::Options { namespace: self.namespace.clone(), ..redis::Options::default() };
        redis::open_with(&self.url, options).await
    }
}

/// A file that nobody else has.
struct Own(Bus);

#[async_trait]
impl Site for Own {
    fn backend(&self) -> &'static str {
        "sqlite"
    }

    async fn node(&self) -> anyhow::Result<Bus> {
        Ok(self.0.clone())
    }
}

fn show(report: &Report, screen: &Screen) -> anyhow::Result<()> {
    let row = |row: &Row| {
        let verdict = match row.violations {
            0 => Cell::text("kept").tone(Tone::Good),
            _ => Cell::text("broken").tone(Tone::Alarm),
        };
        vec![
            Cell::text(&row.case),
            verdict,
            Cell::number(row.published),
            Cell::number(row.delivered),
            Cell::text(&row.does),
        ]
    };
    let rows: Vec<_> = report.rows.iter().map(row).collect();
    screen.table(&["CASE", "", "PUBLISHED", "DELIVERED", "WHAT"], &rows)?;
    for fault in &report.faults {
        screen.line(screen.toned(fault, Tone::Alarm))?;
    }
    Ok(())
}
