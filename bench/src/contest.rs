//! CPU time a request under each load, side by side, and the table.

use std::collections::BTreeMap;

use anyhow::ensure;

use crate::{
    Run, h2load,
    peers::{Contestant, Field},
    wrk::{self, Report},
};

/// What is asked of every contestant that can do it.
struct Load {
    name: &'static str,
    ask: Ask,
    /// Whether the answers must be 2xx; else every one must not be.
    succeeds: bool,
    /// Who can do it beside the gateway.
    peers: &'static [&'static str],
    /// The one it is measured against, and the ratio that is the goal.
    against: (&'static str, f64),
    /// What peers are asked instead, and how many of these requests do the same work.
    instead: Option<(&'static str, f64)>,
}

enum Ask {
    /// A path over HTTP/1.1, with the API key or without.
    Plain { path: &'static str, key: bool },
    /// The same over HTTP/2 and TLS.
    Http2 { path: &'static str },
    /// A new TLS connection for each request.
    Handshake { path: &'static str },
}

const ALL: &[&str] = &["nginx", "haproxy", "envoy"];

const LOADS: [Load; 11] = [
    load("proxy", plain("/plain"), ALL, ("nginx", 1.00)),
    load("key + limit", Ask::Plain { path: "/limited", key: true }, ALL, ("nginx", 0.95)),
    Load { succeeds: false, ..load("404", plain("/nothing"), ALL, ("nginx", 1.00)) },
    Load { succeeds: false, ..load("401", plain("/limited"), ALL, ("nginx", 1.00)) },
    Load { succeeds: false, ..load("429", plain("/over"), ALL, ("nginx", 1.00)) },
    load("cache hit", plain("/cached"), ALL, ("haproxy", 0.80)),
    load("TLS + HTTP/2", Ask::Http2 { path: "/plain" }, ALL, ("haproxy", 1.10)),
    load("TLS handshake", Ask::Handshake { path: "/plain" }, ALL, ("envoy", 0.75)),
    load("transcode 1", plain("/products/1"), &["envoy"], ("envoy", 0.30)),
    load("transcode 50", plain("/products"), &["envoy"], ("envoy", 0.25)),
    // Envoy has no aggregate: its client asks twice.
    Load { instead: Some(("/products/1", 2.0)), ..load("aggregate", plain("/pages/1"), &["envoy"], ("envoy", 0.40)) },
];

const fn load(name: &'static str, ask: Ask, peers: &'static [&'static str], against: (&'static str, f64)) -> Load {
    Load { name, ask, succeeds: true, peers, against, instead: None }
}

const fn plain(path: &'static str) -> Ask {
    Ask::Plain { path, key: false }
}

#[derive(Clone, Copy)]
struct Figure {
    per_second: f64,
    cpu_micros: f64,
}

type Figures = BTreeMap<&'static str, Vec<Figure>>;

pub fn run(run: &Run, field: &Field) -> anyhow::Result<()> {
    let names: Vec<_> = field.contestants.iter().map(|contestant| contestant.name).collect();
    println!(
        "CPU µs a request (utime + stime of the process tree), median of {} rounds of {} s\n",
        run.rounds, run.seconds
    );
    print!("{:<14} {:>10}", "load", "gateway/s");
    names.iter().for_each(|name| print!(" {name:>9}"));
    println!("   {:>15}  {:>5}", "gateway against", "goal");
    for load in LOADS.iter().filter(|load| load.name.contains(&run.only)) {
        let figures = measure(run, load, field)?;
        let micros = |name: &str| figures.get(name).map(|rounds| median(rounds.iter().map(|round| round.cpu_micros)));
        let rate =
            figures.get("gateway").map_or(f64::NAN, |rounds| median(rounds.iter().map(|round| round.per_second)));
        print!("{:<14} {rate:>10.0}", load.name);
        names.iter().for_each(|name| match micros(name) {
            Some(micros) => print!(" {micros:>9.1}"),
            None => print!(" {:>9}", "—"),
        });
        let (peer, goal) = load.against;
        let ratio = ratio(&figures, peer);
        let met = if ratio <= goal { "met" } else { "missed" };
        println!("   {peer:>10} {ratio:.2}  {goal:>5.2} {met}");
    }
    Ok(())
}

/// The median over the rounds' ratios.
fn ratio(figures: &Figures, peer: &str) -> f64 {
    match (figures.get("gateway"), figures.get(peer)) {
        (Some(ours), Some(theirs)) => {
            median(ours.iter().zip(theirs).map(|(our, their)| our.cpu_micros / their.cpu_micros))
        }
        _ => f64::NAN,
    }
}

/// Every contestant's figures, a round after the other.
fn measure(run: &Run, load: &Load, field: &Field) -> anyhow::Result<Figures> {
    let mut figures = Figures::new();
    let mut order: Vec<&Contestant> = field
        .contestants
        .iter()
        .filter(|contestant| contestant.name == "gateway" || load.peers.contains(&contestant.name))
        .collect();
    for contestant in &order {
        ask(run, load, contestant, &field.key, 1)?;
    }
    for _ in 0..run.rounds {
        for contestant in &order {
            let before = contestant.process.cpu_micros()?;
            let report = ask(run, load, contestant, &field.key, run.seconds)?;
            let spent = contestant.process.cpu_micros()? - before;
            let wrong = if load.succeeds { report.refused } else { report.requests - report.refused };
            // nginx's slowest limit lets a request pass each minute.
            ensure!(
                report.broken == 0 && wrong <= u64::from(!load.succeeds),
                "{} under {}: wrong answers: {report:?}",
                contestant.name,
                load.name
            );
            let times = load.instead.filter(|_| contestant.name != "gateway").map_or(1.0, |(_, times)| times);
            figures.entry(contestant.name).or_default().push(Figure {
                per_second: report.per_second / times,
                cpu_micros: spent * times / report.requests as f64,
            });
        }
        order.rotate_left(1);
    }
    Ok(figures)
}

fn ask(run: &Run, load: &Load, contestant: &Contestant, key: &str, seconds: u32) -> anyhow::Result<Report> {
    let (http, https) = (contestant.http, contestant.https);
    match load.ask {
        Ask::Plain { path, key: with_key } => {
            let path = load.instead.filter(|_| contestant.name != "gateway").map_or(path, |(path, _)| path);
            let headers = if with_key { vec![format!("X-Api-Key: {key}")] } else { Vec::new() };
            wrk::run(&format!("http://127.0.0.1:{http}{path}"), &headers, run.connections, seconds)
        }
        Ask::Http2 { path } => h2load::run(&format!("https://127.0.0.1:{https}{path}"), seconds),
        Ask::Handshake { path } => {
            let headers = ["Connection: close".to_owned()];
            wrk::run(&format!("https://127.0.0.1:{https}{path}"), &headers, run.connections, seconds)
        }
    }
}

fn median(figures: impl Iterator<Item = f64>) -> f64 {
    crate::statistics::median(figures)
}
