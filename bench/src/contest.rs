//! Who is measured, under which loads, and the table.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use anyhow::{Context as _, ensure};

use crate::{
    Run,
    process::{Process, free_port, listening},
    wrk,
};

/// What is asked of every contestant that can do it.
struct Load {
    name: &'static str,
    path: &'static str,
    /// Whether the API key goes along.
    key: bool,
    /// Whether the answers must be 2xx; else every one must not be.
    succeeds: bool,
    /// Whether nginx, and the upstream itself, can do it.
    peers: bool,
}

const LOADS: [Load; 5] = [
    Load { name: "proxy", path: "/plain", key: false, succeeds: true, peers: true },
    Load { name: "key + limit", path: "/limited", key: true, succeeds: true, peers: true },
    Load { name: "404", path: "/nothing", key: false, succeeds: false, peers: true },
    Load { name: "transcode 1", path: "/products/1", key: false, succeeds: true, peers: false },
    Load { name: "transcode 50", path: "/products", key: false, succeeds: true, peers: false },
];

struct Contestant {
    name: &'static str,
    port: u16,
    process: Process,
}

#[derive(Clone, Copy)]
struct Figure {
    per_second: f64,
    cpu_micros: f64,
}

pub fn main(run: &Run) -> anyhow::Result<()> {
    ensure!(run.rounds > 0 && run.seconds > 0, "at least one round of one second");
    let folder = tempfile::tempdir()?;
    let (contestants, key) = start(run, folder.path())?;
    println!(
        "{} rounds of {} s, {} connections; the gateway and nginx on core 0, load and upstream on core 1\n",
        run.rounds, run.seconds, run.connections
    );
    println!(
        "{:<13} {:>12} {:>12} {:>12} {:>12} {:>12} {:>10}",
        "load", "direct /s", "gateway /s", "nginx /s", "gateway µs", "nginx µs", "ratio"
    );
    for load in LOADS.iter().filter(|load| load.name.contains(&run.only)) {
        let figures = measure(run, load, &contestants, &key)?;
        print_row(load, &figures);
    }
    println!("\nµs: CPU time of the process tree a request. ratio: gateway / nginx, median over the rounds' ratios.");
    Ok(())
}

fn start(run: &Run, folder: &Path) -> anyhow::Result<(Vec<Contestant>, String)> {
    let own = std::env::current_exe()?;
    let (http, grpc, gateway, nginx, ops) = (free_port()?, free_port()?, free_port()?, free_port()?, free_port()?);
    let log = |name: &str| folder.join(name);

    let upstream = Process::start(
        1,
        &own,
        &["upstream", "--http", &http.to_string(), "--grpc", &grpc.to_string()],
        &log("upstream.log"),
    )?;
    listening(http, "the upstream")?;
    listening(grpc, "the upstream")?;

    let keys = folder.join("keys.yaml");
    let made = Command::new(&run.turnpike)
        .args(["key", "new", "--subject", "bench", "--file"])
        .arg(&keys)
        .output()
        .with_context(|| format!("{} can't start", run.turnpike.display()))?;
    ensure!(made.status.success(), "turnpike key new: {}", String::from_utf8_lossy(&made.stderr));
    let key = String::from_utf8_lossy(&made.stdout).trim().to_owned();

    let config = folder.join("gateway.yaml");
    let text = include_str!("../gateway.yaml")
        .replace("GATEWAY_PORT", &gateway.to_string())
        .replace("HTTP_PORT", &http.to_string())
        .replace("GRPC_PORT", &grpc.to_string())
        .replace("KEYS_FILE", &keys.display().to_string());
    fs::write(&config, text)?;
    let config_text = config.display().to_string();
    let secret = folder.join("root.secret").display().to_string();
    let ops_address = format!("127.0.0.1:{ops}");
    let arguments =
        ["gateway", "--cores", "1", "--config", &config_text, "--ops", &ops_address, "--root-secret", &secret];
    let gateway_process = Process::start(0, &run.turnpike, &arguments, &log("gateway.log"))?;
    listening(gateway, "the gateway").with_context(|| fs::read_to_string(log("gateway.log")).unwrap_or_default())?;

    let nginx_config = folder.join("nginx.conf");
    let text = include_str!("../nginx.conf")
        .replace("NGINX_PORT", &nginx.to_string())
        .replace("HTTP_PORT", &http.to_string())
        .replace("API_KEY", &key)
        .replace("FOLDER", &folder.display().to_string());
    fs::write(&nginx_config, text)?;
    let nginx_process =
        Process::start(0, Path::new("nginx"), &["-c", &nginx_config.display().to_string()], &log("nginx.log"))?;
    listening(nginx, "nginx").with_context(|| fs::read_to_string(log("nginx.log")).unwrap_or_default())?;

    let contestants = vec![
        Contestant { name: "direct", port: http, process: upstream },
        Contestant { name: "gateway", port: gateway, process: gateway_process },
        Contestant { name: "nginx", port: nginx, process: nginx_process },
    ];
    Ok((contestants, key))
}

/// Every contestant's figures, a round after the other.
fn measure(
    run: &Run,
    load: &Load,
    contestants: &[Contestant],
    key: &str,
) -> anyhow::Result<BTreeMap<&'static str, Vec<Figure>>> {
    let headers = if load.key { vec![format!("X-Api-Key: {key}")] } else { Vec::new() };
    let mut figures: BTreeMap<&'static str, Vec<Figure>> = BTreeMap::new();
    let mut order: Vec<&Contestant> =
        contestants.iter().filter(|contestant| load.peers || contestant.name == "gateway").collect();
    for contestant in &order {
        wrk::run(&format!("http://127.0.0.1:{}{}", contestant.port, load.path), &headers, run.connections, 1)?;
    }
    for _ in 0..run.rounds {
        for contestant in &order {
            let url = format!("http://127.0.0.1:{}{}", contestant.port, load.path);
            let before = contestant.process.cpu_micros()?;
            let report = wrk::run(&url, &headers, run.connections, run.seconds)?;
            let spent = contestant.process.cpu_micros()? - before;
            // The upstream alone answers whatever it is asked.
            let refused = if load.succeeds || contestant.name == "direct" { 0 } else { report.requests };
            ensure!(
                report.broken == 0 && report.refused == refused,
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

fn print_row(load: &Load, figures: &BTreeMap<&'static str, Vec<Figure>>) {
    let shown = |name: &str, value: fn(&Figure) -> f64, decimals: usize| match figures.get(name) {
        Some(rounds) => format!("{:.*}", decimals, median(rounds.iter().map(value).collect())),
        None => "—".to_owned(),
    };
    let ratio = match (figures.get("gateway"), figures.get("nginx")) {
        (Some(ours), Some(theirs)) => {
            let ratios = ours.iter().zip(theirs).map(|(our, their)| our.cpu_micros / their.cpu_micros).collect();
            format!("{:.2}", median(ratios))
        }
        _ => "—".to_owned(),
    };
    println!(
        "{:<13} {:>12} {:>12} {:>12} {:>12} {:>12} {:>10}",
        load.name,
        shown("direct", |figure| figure.per_second, 0),
        shown("gateway", |figure| figure.per_second, 0),
        shown("nginx", |figure| figure.per_second, 0),
        shown("gateway", |figure| figure.cpu_micros, 1),
        shown("nginx", |figure| figure.cpu_micros, 1),
        ratio,
    );
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
