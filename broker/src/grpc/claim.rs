//! Claim: a lease on what there is, or on what comes while the caller waits.

use std::time::Duration;

use bus::{Bus, Claim, Claimed, Leased};
use proto::turnpike::bus::v1 as wire;
use tokio::sync::oneshot;

use super::{event, moment, settlement::released};
use crate::{access::Caller, follow::Connected, metrics::Transport, problem::Problem, query::refuse, shared::Shared};

/// The most events and bytes of a claim, and those unless it says.
const EVENTS: (usize, usize) = (1000, 64);
pub(super) const BYTES: (usize, usize) = (2 << 20, 1 << 20);
const LONGEST_MEMBER: usize = 64;
/// Claims again after this long without a wake-up: a bus that was reset tells nobody.
pub(super) const IDLE: Duration = Duration::from_secs(5);

pub(super) async fn claim(
    shared: &Shared,
    caller: &Caller,
    request: wire::ClaimRequest,
) -> Result<wire::ClaimResponse, Problem> {
    caller.may_consume(&request.group)?;
    let longest = shared.settings.longest_wait;
    let wait = request.wait.map(|wait| moment::duration("wait", wait, longest)).transpose()?;
    let claim = Claim {
        max: bounded("max", request.max, EVENTS)?,
        bytes: bounded("max_bytes", request.max_bytes, BYTES)?,
        member: member(request.member)?,
        group: request.group,
    };
    let claimed = match wait.filter(|wait| !wait.is_zero()) {
        None => shared.bus.claim(claim).await?,
        Some(wait) => waited(shared, caller, claim, wait).await?,
    };
    Transport::Grpc.delivered(claimed.leased.len());
    let deliveries = claimed.leased.iter().map(delivery).collect();
    Ok(wire::ClaimResponse { deliveries, more: claimed.more })
}

/// A delivery as it is told.
pub(super) fn delivery(leased: &Leased) -> wire::Delivery {
    wire::Delivery {
        token: leased.token.to_string(),
        event: Some(event::told(&leased.envelope, None)),
        attempt: leased.attempt,
        redrive: leased.redrive,
        first_delivered: Some(moment::timestamp(leased.first_delivered)),
        lease_until: Some(moment::timestamp(leased.until)),
        partition: leased.partition,
    }
}

/// Claims until there is something. Goes on beside the call: whoever hangs up just when something was leased has it
/// released, instead of leaving it to the lease's end.
async fn waited(shared: &Shared, caller: &Caller, claim: Claim, wait: Duration) -> Result<Claimed, Problem> {
    let connected = Connected::join(shared, caller, Transport::Grpc, None)?;
    let (mut answer, answered) = oneshot::channel();
    let (bus, draining, group) = (shared.bus.clone(), shared.shutdown.draining().clone(), claim.group.clone());
    shared.tasks.spawn(async move {
        let over = async {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = answer.closed() => {}
                // Whoever waits is answered, and asks another node.
                () = draining.cancelled() => {}
            }
        };
        let claimed = until_some(&bus, claim, over).await;
        drop(connected);
        if let Err(Ok(Claimed { leased, .. })) = answer.send(claimed)
            && !leased.is_empty()
        {
            let settlements = leased.into_iter().map(|leased| released(leased.token)).collect();
            // What can't be given back comes again when its lease ends.
            _ = bus.settle(&group, settlements).await;
        }
    });
    let claimed = answered.await.map_err(|_| Problem::unavailable("this node is shutting down", IDLE))?;
    Ok(claimed?)
}

/// Between two claims it may be over; within one it isn't, since what was leased would be forgotten.
async fn until_some(bus: &Bus, claim: Claim, over: impl Future<Output = ()>) -> Result<Claimed, bus::Error> {
    let mut over = std::pin::pin!(over);
    let mut claimable = bus.claimable(&claim.group);
    loop {
        claimable.borrow_and_update();
        let claimed = bus.claim(claim.clone()).await?;
        if !claimed.leased.is_empty() {
            return Ok(claimed);
        }
        tokio::select! {
            () = over.as_mut() => return Ok(claimed),
            Ok(()) = claimable.changed(), if !claimed.more => {}
            () = tokio::time::sleep(if claimed.more { Duration::ZERO } else { IDLE }) => {}
        }
    }
}

fn bounded(field: &str, given: u32, (most, default): (usize, usize)) -> Result<usize, Problem> {
    match usize::try_from(given) {
        Ok(0) => Ok(default),
        Ok(given) if given <= most => Ok(given),
        _ => Err(refuse(field, format!("must be 1 to {most}"))),
    }
}

fn member(member: String) -> Result<String, Problem> {
    let printable = member.bytes().all(|byte| byte.is_ascii_graphic());
    if printable && (1..=LONGEST_MEMBER).contains(&member.len()) {
        return Ok(member);
    }
    Err(refuse("member", format!("must be 1 to {LONGEST_MEMBER} printable characters, without spaces")))
}
