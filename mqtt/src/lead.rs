//! One dispatcher at a time takes messages in order. It has a lease of the bus; one that stood still past its end is not
//! heard any more, whatever it still sends.

use std::{sync::Arc, time::Duration};

use bus::{Bus, Fence};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    inbound::{Ended, Inbound},
    metrics,
};

/// How long a dispatcher that died is waited for.
const LEASE: Duration = Duration::from_secs(6);
/// How often it is asked for.
const BEAT: Duration = Duration::from_secs(1);

/// Takes messages whenever nobody else does, until `stop`.
pub(crate) async fn run(inbound: &Inbound<'_>, holder: &str, stop: &CancellationToken) -> anyhow::Result<()> {
    let name = format!("mqtt.{}", inbound.settings.client_id);
    while !stop.is_cancelled() {
        let asked = Instant::now();
        match inbound.bus.lead(&name, holder, LEASE).await {
            Ok(Some(fence)) => term(inbound, (&name, holder), fence, asked + LEASE, stop).await?,
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "nobody knows whose turn it is to take messages"),
        }
        stop.run_until_cancelled(tokio::time::sleep(BEAT)).await;
    }
    Ok(())
}

/// Takes messages for as long as the lease can be had.
async fn term(
    inbound: &Inbound<'_>,
    (name, holder): (&str, &str),
    fence: Fence,
    until: Instant,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    for queue in inbound.writes() {
        match inbound.bus.shut_out(queue, &fence).await {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(error) => {
                tracing::warn!(%error, "who had the turn before can't be shut out now");
                return Ok(());
            }
        }
    }
    tracing::info!(number = fence.number, "this dispatcher takes the messages now");
    metrics::leading(true);
    let over = stop.child_token();
    let number = fence.number;
    let taking = inbound.run(Some(fence), &over);
    let holding = hold(inbound.bus, (name, holder), number, until);
    let ended = tokio::select! {
        ended = taking => ended?,
        () = holding => Ended::Outlived,
    };
    metrics::leading(false);
    match ended {
        Ended::Stopped => {
            // The next one needn't wait for the lease's end.
            if let Err(error) = inbound.bus.resign(name, holder).await {
                tracing::debug!(%error, "the turn ends by itself");
            }
        }
        Ended::Outlived => tracing::warn!("somebody else takes the messages now"),
    }
    Ok(())
}

/// Keeps the lease; returns once it is lost, or can't be told from lost.
async fn hold(bus: &Bus, (name, holder): (&str, &str), number: u64, mut until: Instant) {
    let mut beat = tokio::time::interval(BEAT);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        let asked = Instant::now();
        if asked >= until {
            return;
        }
        match tokio::time::timeout_at(until, bus.lead(name, holder, LEASE)).await {
            Ok(Ok(Some(fence))) if fence.number == number => until = asked + LEASE,
            Ok(Ok(_)) | Err(_) => return,
            Ok(Err(error)) => tracing::debug!(%error, "the turn can't be extended now"),
        }
    }
}

/// What tells this process from others.
pub(crate) fn holder() -> Arc<str> {
    uuid::Uuid::new_v4().simple().to_string().into()
}
