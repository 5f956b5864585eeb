//! One role as its own process: its settings, its ops listener, the bus, the role, and an end in order.

mod build;
mod gateway;
mod telling;

use std::time::Duration;

use ::bus::Bus;
use anyhow::Context as _;
use lifecycle::{Ops, Role, Shutdown};
use principal::RootSecret;
use tokio::signal::unix::{SignalKind, signal};

use self::build::Build;
pub use self::{gateway::main as gateway, telling::Telling};
use crate::{
    cli::Lone,
    secret,
    settings::{
        self,
        role::{Broker, Cart, Customer, Dashboard, Invoice, Logger, Mqtt, Notifier, Order, Process, Product, Review},
    },
};

pub fn product(options: Lone) -> anyhow::Result<()> {
    main::<Product>(options)
}

pub fn review(options: Lone) -> anyhow::Result<()> {
    main::<Review>(options)
}

pub fn customer(options: Lone) -> anyhow::Result<()> {
    main::<Customer>(options)
}

pub fn cart(options: Lone) -> anyhow::Result<()> {
    main::<Cart>(options)
}

pub fn order(options: Lone) -> anyhow::Result<()> {
    main::<Order>(options)
}

pub fn invoice(options: Lone) -> anyhow::Result<()> {
    main::<Invoice>(options)
}

pub fn logger(options: Lone) -> anyhow::Result<()> {
    main::<Logger>(options)
}

pub fn notifier(options: Lone) -> anyhow::Result<()> {
    main::<Notifier>(options)
}

pub fn broker(options: Lone) -> anyhow::Result<()> {
    main::<Broker>(options)
}

pub fn dashboard(options: Lone) -> anyhow::Result<()> {
    main::<Dashboard>(options)
}

pub fn mqtt(options: Lone) -> anyhow::Result<()> {
    main::<Mqtt>(options)
}

fn main<T: Build>(options: Lone) -> anyhow::Result<()> {
    let settings: T = settings::load(options.config.as_deref())?;
    let process = settings.process();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(T::NAME, &process, async |bus, root| settings.build(bus, root).await))
}

/// Runs the role that `build` makes.
async fn run<B>(name: &'static str, process: &Process, build: B) -> anyhow::Result<()>
where
    B: AsyncFnOnce(Bus, RootSecret) -> anyhow::Result<Box<dyn Role>>,
{
    let telemetry = telemetry::init(&process.telemetry)?;
    let ops = Ops::bind(process.ops).await?;
    let root = secret::read_or_make(&process.root_secret)?;
    let shutdown = Shutdown::new();
    tokio::spawn(stop_on_signal(shutdown.clone(), Duration::ZERO, process.drain));
    let mut telling = Telling::default();
    // Until the role is there, the ops listener says that it isn't ready, and a signal ends the wait.
    let starting = async {
        let address = process.bus.redis.address().context("bus.redis")?;
        let bus = ::bus::redis::open(address).await.with_context(|| {
            "bus.redis: no bus that processes can share (`turnpike up` needs none: it has every role in one process)"
        })?;
        let (reported, drain) = (bus.clone(), shutdown.draining().clone());
        tokio::spawn(async move { reported.report(drain).await });
        if process.bus.tell_subscriptions {
            telling.start(&bus);
        }
        build(bus, root).await.with_context(|| format!("{name} can't start"))
    };
    let role = tokio::select! {
        role = starting => role?,
        () = shutdown.draining().cancelled() => return Ok(()),
    };
    attend(role, ops, &shutdown).await?;
    telling.end().await;
    tokio::task::spawn_blocking(|| telemetry.shutdown()).await?;
    Ok(())
}

/// Runs a role beside its ops listener, which goes last: it tells of the drain until the end.
async fn attend(role: Box<dyn Role>, ops: Ops, shutdown: &Shutdown) -> anyhow::Result<()> {
    let board = ops.board();
    board.watch(role.name(), role.readiness());
    board.mount(role.name(), role.ops());
    board.list(role.name(), role.ops_index());
    tracing::info!(role = role.name(), address = role.address().map(tracing::field::display), ops = %ops.address(), "started");
    let serving = tokio::spawn(ops.run(shutdown.child()));
    let done = role.run(shutdown.clone()).await;
    shutdown.escalate();
    serving.await??;
    done
}

/// Stops at the first SIGINT or SIGTERM, drops everything at the second. SIGTERM comes from whoever runs many of us: for
/// `notice`, the process serves on while it says that it isn't ready. A person who presses Ctrl-C doesn't wait for that.
pub async fn stop_on_signal(shutdown: Shutdown, notice: Duration, patience: Duration) {
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        tracing::error!("signals can't be received: stop the process by kill -9");
        return;
    };
    let notice = tokio::select! { _ = interrupt.recv() => Duration::ZERO, _ = terminate.recv() => notice };
    tracing::info!(?notice, "stopping: finishing what is open; a second signal drops it");
    if notice.is_zero() {
        shutdown.begin(patience);
    } else {
        shutdown.leave(notice, patience);
    }
    tokio::select! { _ = interrupt.recv() => {} _ = terminate.recv() => {} }
    shutdown.escalate();
}
