//! The gateway as its own process. It needs no bus; where revocations come by one, it opens that itself.

use lifecycle::{Ops, Shutdown};

use super::{attend, stop_on_signal};
use crate::{cli::Gateway, secret, shop};

pub fn main(options: Gateway) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(options))
}

async fn run(options: Gateway) -> anyhow::Result<()> {
    let telemetry = telemetry::init(&telemetry::Config {
        log: options.log,
        otlp_endpoint: options.otlp,
        sample_ratio: options.sample_ratio,
        service: "turnpike-gateway".to_owned(),
    })?;
    let ops = Ops::bind(options.ops).await?;
    let properties = std::env::vars().collect();
    let source = match options.config {
        Some(path) => gateway::ConfigSource::File { path, properties },
        None => gateway::ConfigSource::Text { text: shop::GATEWAY.to_owned(), properties },
    };
    let gateway = gateway::build(gateway::Options {
        source,
        descriptors: shop::built_in(),
        root: secret::read_or_make(&options.root_secret)?,
        // Where revocations come by a bus, the configuration says so.
        bus: None,
        cores: options.cores,
    })
    .await?;
    let shutdown = Shutdown::new();
    tokio::spawn(stop_on_signal(shutdown.clone(), options.serve_on, options.drain));
    let done = attend(Box::new(gateway), ops, &shutdown).await;
    tokio::task::spawn_blocking(|| telemetry.shutdown()).await?;
    done
}
