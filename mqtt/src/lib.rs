//! Between an MQTT broker and the bus, both ways: messages become events (`inbound.rs`), events become messages
//! (`outbound.rs`), as a mapping says. MQTT 5 (OASIS, 2019); devices that speak 3.1.1 are the broker's business.
//!
//! A message of QoS 1 is acknowledged once its event is stored, so none is lost that the broker has; one that comes again is
//! told from a new one (`known.rs`). Several dispatchers share the work, or take turns where the order counts (`lead.rs`):
//! then one that stood still, and doesn't know that its turn is over, can write nothing any more. An event goes out at least
//! once, a key's in their order.
//!
//! Not here: a broker for devices. QoS 2 is taken as QoS 1.

mod inbound;
mod intake;
mod known;
mod lead;
mod link;
mod message;
mod metrics;
mod outbound;
mod plan;
mod receive;
mod settings;
mod subscribed;
mod topic;

use std::{net::SocketAddr, sync::Arc};

use async_trait::async_trait;
use bus::Bus;
use lifecycle::{Readiness, Role, Shutdown};

pub use plan::Fault;
pub use settings::{Form, Inbound, Order, Outbound, Same, Settings};

use crate::plan::Plan;

const NAME: &str = "mqtt";

#[derive(Clone)]
pub struct Config {
    pub bus: Bus,
    pub settings: Settings,
}

/// The role. See [`build`].
pub struct Dispatcher {
    bus: Bus,
    settings: Settings,
    plan: Plan,
    readiness: Readiness,
}

impl Settings {
    /// Everything that is wrong with them.
    pub fn faults(&self) -> Vec<Fault> {
        Plan::of(self).err().unwrap_or_default()
    }
}

/// Reads the mappings.
///
/// # Errors
/// If something is wrong with the settings.
pub fn build(config: Config) -> anyhow::Result<Dispatcher> {
    let Config { bus, settings } = config;
    let plan = Plan::of(&settings).map_err(|faults| {
        let texts: Vec<String> =
            faults.into_iter().map(|fault| format!("mqtt.{}: {}", fault.path, fault.message)).collect();
        anyhow::anyhow!(texts.join("; "))
    })?;
    Ok(Dispatcher { bus, settings, plan, readiness: Readiness::default() })
}

#[async_trait]
impl Role for Dispatcher {
    fn name(&self) -> &'static str {
        NAME
    }

    fn address(&self) -> Option<SocketAddr> {
        None
    }

    fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    async fn run(self: Box<Self>, shutdown: Shutdown) -> anyhow::Result<()> {
        let Self { bus, settings, plan, readiness } = *self;
        let holder = lead::holder();
        let source: Arc<str> = format!("/mqtt/{}", settings.client_id).into();
        let (drain, dropping) = (shutdown.draining(), shutdown.dropping());
        let inbound = inbound::Inbound { settings: &settings, plan: &plan, bus: &bus, source: &source };
        let taking = async {
            if !inbound.is_wanted(drain).await {
                return Ok(());
            }
            match settings.order {
                Order::Strict => lead::run(&inbound, &holder, drain).await,
                Order::Shared => inbound.run(None, drain).await.map(drop),
            }
        };
        let giving = outbound::run(&settings, &plan, &bus, source.clone(), &holder, (drain, dropping));
        readiness.ready("role");
        let working = async { tokio::try_join!(taking, giving).map(drop) };
        let worked = tokio::select! {
            worked = working => worked,
            // What is not recorded yet is not acknowledged: the broker sends it again.
            () = dropping.cancelled() => Ok(()),
        };
        if worked.is_ok() {
            drain.cancelled().await;
        }
        readiness.not_ready("role", "stopped");
        worked
    }
}
