//! `turnpike up`: every role in one process, on embedded databases, with demo data.

mod plan;
mod supervisor;

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use lifecycle::{Ops, Shutdown};
use tempfile::TempDir;

use self::supervisor::Supervisor;
use crate::{
    cli,
    demo::{self, Credentials},
    role, secret,
    settings::{self, Up as Settings},
};

/// From Ctrl-C to the end of the process, at most: half for the gateway to finish what is open, half for the rest.
const PATIENCE: Duration = Duration::from_secs(4);

pub fn main(options: cli::Up) -> anyhow::Result<()> {
    let settings = settings::load::<Settings>(options.config.as_deref())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(up(options, settings));
    // What still runs has had its time.
    runtime.shutdown_timeout(Duration::from_millis(200));
    done
}

async fn up(options: cli::Up, settings: Settings) -> anyhow::Result<()> {
    let telemetry = telemetry::init(&settings.telemetry)?;
    let gateway_address = SocketAddr::from(([127, 0, 0, 1], options.port));
    probe(gateway_address)?;
    let ops = Ops::bind(SocketAddr::from(([127, 0, 0, 1], options.ops_port))).await?;
    let ops_address = ops.address();
    let folder = Folder::open(&options)?;
    let root = secret::read_or_make(&folder.path().join("root.secret"))?;
    let credentials = Credentials::derive(&root);
    let bus = match &options.redis {
        Some(url) => bus::redis::open(url).await.context("--redis")?,
        None => bus::sqlite::open(&folder.path().join("bus.db")).await.context("the bus can't open its log")?,
    };

    let mut telling = role::Telling::default();
    if settings.tell_subscriptions {
        telling.start(&bus);
    }
    let supervisor = Supervisor::new(ops.board());
    let shutdown = Shutdown::new();
    let serving = tokio::spawn(ops.run(shutdown.child()));
    tokio::spawn(role::stop_on_signal(shutdown.clone(), Duration::ZERO, PATIENCE));

    let plan =
        plan::Plan { options, settings, folder: folder.path().to_owned(), root, bus, credentials, ops: ops_address };
    let started = async {
        let started = plan.start(&supervisor, gateway_address).await?;
        demo::write_env(folder.path(), started.gateway, ops_address, &started.api_key, &plan.credentials)?;
        anyhow::Ok(started)
    };
    // Ctrl-C counts while the roles still start, too.
    let started = tokio::select! {
        started = started => Some(started),
        () = shutdown.draining().cancelled() => None,
    };
    let done = match started {
        Some(Ok(started)) => {
            println!("{}", demo::banner(folder.path(), started.gateway, ops_address, &plan.credentials));
            shutdown.draining().cancelled().await;
            Ok(())
        }
        Some(Err(error)) => Err(error),
        None => Ok(()),
    };
    tokio::select! {
        () = supervisor.stop_all(PATIENCE) => {}
        () = shutdown.dropping().cancelled() => {}
    }
    telling.end().await;
    shutdown.escalate();
    serving.await??;
    tokio::task::spawn_blocking(|| telemetry.shutdown()).await?;
    done
}

/// The data plane shares its port among cores by SO_REUSEPORT, which would share it with another process too, in
/// silence: so it is tried alone first.
fn probe(address: SocketAddr) -> anyhow::Result<()> {
    if address.port() != 0 {
        TcpListener::bind(address)
            .with_context(|| format!("the gateway can't have {address}: is another process on it? See --port"))?;
    }
    Ok(())
}

/// Where everything is kept.
enum Folder {
    Kept(PathBuf),
    Ephemeral(TempDir),
}

impl Folder {
    fn open(options: &cli::Up) -> anyhow::Result<Self> {
        if options.ephemeral {
            return Ok(Self::Ephemeral(tempfile::Builder::new().prefix("turnpike-").tempdir()?));
        }
        let path = &options.data_dir;
        // It holds the root secret and, in SQLite files, everything else.
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .with_context(|| format!("the data folder {} can't be made", path.display()))?;
        // Whole, since the gateway reads paths relative to its configuration's folder.
        Ok(Self::Kept(path.canonicalize()?))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Ephemeral(folder) => folder.path(),
        }
    }
}
