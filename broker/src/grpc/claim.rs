//! Claim: a lease on what there is, or on what comes while the caller waits.

use std::time::Duration;

use bus::{Claim, Leased};
use proto::turnpike::bus::v1 as wire;

use super::{event, moment};
use crate::{
    access::Caller,
    metrics::Transport,
    problem::Problem,
    shared::Shared,
    work::{self, BYTES, EVENTS, bounded, member},
};

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
    let claimed = work::lease(shared, caller, claim, wait.unwrap_or(Duration::ZERO), Transport::Grpc).await?;
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
