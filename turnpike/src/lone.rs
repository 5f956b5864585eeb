//! One role as its own process.

use std::path::Path;

use anyhow::{Context as _, bail};
use lifecycle::{Ops, Role as _, Shutdown};
use principal::RootSecret;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{Gateway, Lone};

/// The gateway: it needs no bus.
pub fn gateway(options: Gateway) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let telemetry = telemetry::init(&telemetry::Config {
            log: options.log,
            otlp_endpoint: options.otlp,
            sample_ratio: options.sample_ratio,
        })?;
        let ops = Ops::bind(options.ops).await?;
        let gateway = gateway::build(gateway::Options {
            source: gateway::ConfigSource::File { path: options.config, properties: std::env::vars().collect() },
            descriptors: crate::up::built_in_descriptors(),
            root: root_secret(&options.root_secret)?,
            cores: options.cores,
        })
        .await?;
        let board = ops.board();
        board.watch("gateway", gateway.readiness());
        board.mount("gateway", gateway.ops());
        let shutdown = Shutdown::new();
        let serving = tokio::spawn(ops.run(shutdown.child()));
        tokio::spawn(stop_on_signal(shutdown.clone(), PATIENCE));
        let done = Box::new(gateway).run(shutdown.clone()).await;
        shutdown.escalate();
        serving.await??;
        tokio::task::spawn_blocking(|| telemetry.shutdown()).await?;
        done
    })
}

/// How long open requests may take to finish once the process was told to stop.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// A service or consumer shares its bus with others; the embedded one belongs to `up` alone.
pub fn needs_a_bus(_: Lone) -> anyhow::Result<()> {
    bail!(
        "this role needs a bus that several processes share. The embedded bus is a file that one process owns: run \
         `turnpike up`, which has every role"
    )
}

/// Reads the root secret, or makes one that only the owner can read.
pub fn root_secret(path: &Path) -> anyhow::Result<RootSecret> {
    use std::{fs, io::Write as _, os::unix::fs::OpenOptionsExt as _};
    match fs::read_to_string(path) {
        Ok(text) => RootSecret::decode(text.trim()).with_context(|| format!("the root secret in {}", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            let root = RootSecret::generate();
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)
                .with_context(|| format!("the root secret can't be written to {}", path.display()))?;
            writeln!(file, "{}", root.encode())?;
            Ok(root)
        }
        Err(error) => Err(error).with_context(|| format!("the root secret in {}", path.display())),
    }
}

/// Begins the drain at the first SIGINT or SIGTERM, drops everything at the second.
pub async fn stop_on_signal(shutdown: Shutdown, patience: std::time::Duration) {
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        tracing::error!("signals can't be received: stop the process by kill -9");
        return;
    };
    tokio::select! { _ = interrupt.recv() => {} _ = terminate.recv() => {} }
    tracing::info!("stopping: finishing what is open; a second signal drops it");
    shutdown.begin(patience);
    tokio::select! { _ = interrupt.recv() => {} _ = terminate.recv() => {} }
    shutdown.escalate();
}
