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
    peers: Peers,
}

enum Ask {
    /// A path over HTTP/1.1, with the API key or without.
    Plain { path: &'static str, key: bool },
    /// The same over HTTP/2 and TLS.
    Http2 { path: &'static str },
    /// A new TLS connection for each request.
    Handshake { path: &'static str },
}

enum Peers {
    /// The one it is measured against, and the ratio that is the goal.
    Against(&'static str, f64),
    /// None of them can do it, or is asked to.
    None,
}

const LOADS: [Load; 9] = [
    Load { name: "proxy", ask: plain("/plain"), succeeds: true, peers: Peers::Against("nginx", 1.00) },
    Load {
        name: "key + limit",
        ask: Ask::Plain { path: "/limited", key: true },
        succeeds: true,
        peers: Peers::Against("nginx", 0.95),
    },
    Load { name: "404", ask: plain("/nothing"), succeeds: false, peers: Peers::Against("nginx", 1.00) },
    Load { name: "401", ask: plain("/limited"), succeeds: false, peers: Peers::Against("nginx", 1.00) },
    Load { name: "429", ask: plain("/over"), succeeds: false, peers: Peers::Against("nginx", 1.00) },
    Load {
        name: "TLS + HTTP/2",
        ask: Ask::Http2 { path: "/plain" },
        succeeds: true,
        peers: Peers::Against("haproxy", 1.10),
    },
    Load {
        name: "TLS handshake",
        ask: Ask::Handshake { path: "/plain" },
        succeeds: true,
        peers: Peers::Against("envoy", 0.75),
    },
    Load { name: "transcode 1", ask: plain("/products/1"), succeeds: true, peers: Peers::None },
    Load { name: "transcode 50", ask: plain("/products"), succeeds: true, peers: Peers::None },
];

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
        match load.peers {
            Peers::Against(peer, goal) => {
                let ratio = ratio(&figures, peer);
                let met = if ratio <= goal { "met" } else { "missed" };
                println!("   {peer:>10} {ratio:.2}  {goal:>5.2} {met}");
            }
            Peers::None => println!(),
        }
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
        .filter(|contestant| matches!(load.peers, Peers::Against(..)) || contestant.name == "gateway")
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
            figures
                .entry(contestant.name)
                .or_default()
                .push(Figure { per_second: report.per_second, cpu_micros: spent / report.requests as f64 });
        }
        order.rotate_left(1);
    }
    Ok(figures)
}

fn ask(run: &Run, load: &Load, contestant: &Contestant, key: &str, seconds: u32) -> anyhow::Result<Report> {
    let (http, https) = (contestant.http, contestant.https);
    match load.ask {
        Ask::Plain { path, key: with_key } => {
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
