//! The operator's live page: what happens on the bus and in front of it, while one watches.
//!
//! It reads every queue from the log and folds the events into counts ([`tally`]), which it keeps in its own database
//! together with the cursor they are true of: after a restart it goes on there, and no event is counted twice or left
//! out. What it can't count any more it shows as missing. Pages are fed from one board in memory ([`board`]), by a
//! snapshot and then what changes.
//!
//! It changes nothing on the bus: it is a tail reader, no group, and holds nothing up. It doesn't sign anybody in: a
//! gateway in front of it does, and vouches for the principal.

mod board;
mod exposition;
mod follow;
mod gateways;
mod guard;
mod history;
mod http;
mod metrics;
mod page;
mod problem;
mod queue_line;
mod recents;
mod scrape;
mod store;
mod stream;
mod survey;
mod tally;
mod view;
mod window;
mod work;

use std::net::SocketAddr;

use anyhow::Context as _;
use async_trait::async_trait;
use bus::Bus;
use database::Url;
use lifecycle::{Readiness, Role, Shutdown};
use principal::{Issuer, Verifier};
use tokio::net::TcpListener;

use crate::{board::Board, http::Sources, store::Store, stream::Streams, work::Work};

const NAME: &str = "dashboard";

/// What there is to see, as OpenAPI: for the document of a gateway in front.
pub const OPENAPI: &[u8] = include_bytes!("../openapi.yaml");

/// Where it listens, what it watches, and whose principals it believes.
#[derive(Clone)]
pub struct Config {
    /// Port 0 takes a free one.
    pub listen: SocketAddr,
    pub bus: Bus,
    /// Where the counts are kept, with the position they are true of.
    pub database: Url,
    pub issuers: Vec<Issuer>,
    /// The gateways to show: `http://host:port` of each one's ops listener.
    pub gateways: Vec<String>,
}

/// The role. See [`build`].
pub struct Dashboard {
    listener: TcpListener,
    address: SocketAddr,
    verifier: Verifier,
    work: Work,
}

/// Opens the database and binds the listener.
///
/// # Errors
/// If the address is taken or the database can't be opened.
pub async fn build(config: Config) -> anyhow::Result<Dashboard> {
    for gateway in &config.gateways {
        let uri: ::http::Uri = gateway.parse().with_context(|| format!("dashboard.gateways: {gateway}"))?;
        anyhow::ensure!(
            uri.scheme_str() == Some("http") && uri.authority().is_some(),
            "dashboard.gateways: {gateway}: must be http://host:port of an ops listener"
        );
    }
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("dashboard.listen: {} can't be had: is another process on it?", config.listen))?;
    let address = listener.local_addr()?;
    let store = Store::open(&config.database).await.context("dashboard.database")?;
    let board = Board::new(store.load().await.context("dashboard.database")?);
    let work = Work { bus: config.bus, board, store, gateways: config.gateways, readiness: Readiness::default() };
    Ok(Dashboard { listener, address, verifier: Verifier::new(config.issuers), work })
}

#[async_trait]
impl Role for Dashboard {
    fn name(&self) -> &'static str {
        NAME
    }

    fn address(&self) -> Option<SocketAddr> {
        Some(self.address)
    }

    fn readiness(&self) -> Readiness {
        self.work.readiness.clone()
    }

    async fn run(self: Box<Self>, shutdown: Shutdown) -> anyhow::Result<()> {
        let (bus, board) = (self.work.bus.clone(), self.work.board.clone());
        let streams = Streams::new(board.clone(), shutdown.draining().clone());
        let router = http::router(Sources { bus, board, streams }, self.verifier);
        let draining = shutdown.draining().clone().cancelled_owned();
        let serving = axum::serve(self.listener, router).with_graceful_shutdown(draining);
        let (served, ()) = tokio::join!(
            async {
                tokio::select! {
                    served = async { serving.await } => served.context("dashboard"),
                    () = shutdown.dropping().cancelled() => Ok(()),
                }
            },
            self.work.run(shutdown.draining().clone()),
        );
        served
    }
}
