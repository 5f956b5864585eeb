//! Leasing events to a member of a group: what there is, or what comes while the caller waits.

use std::time::Duration;

use bus::{Bus, Claim, Claimed, Settlement, Token, Verb};
use tokio::time::timeout;

use crate::{access::Caller, follow::Connected, metrics::Transport, problem::Problem, query::refuse, shared::Shared};

/// The most events and bytes of a claim, and those unless it says.
pub(crate) const EVENTS: (usize, usize) = (1000, 64);
pub(crate) const BYTES: (usize, usize) = (2 << 20, 1 << 20);
const LONGEST_MEMBER: usize = 64;
/// Claims again after this long without a wake-up: a bus that was reset tells nobody.
pub(crate) const IDLE: Duration = Duration::from_secs(5);

/// Leases what there is; with a wait the first that comes. Who waits takes a place among the node's clients, and who hangs up
/// has leased nothing: [`Bus::claim`] gives it back.
pub(crate) async fn lease(
    shared: &Shared,
    caller: &Caller,
    claim: Claim,
    wait: Duration,
    transport: Transport,
) -> Result<Claimed, Problem> {
    of_jobs(&claim.group)?;
    let connected = (!wait.is_zero()).then(|| Connected::join(shared, caller, transport, None)).transpose()?;
    let over = async {
        // Whoever waits when the node drains is answered, and asks another one.
        _ = timeout(wait, shared.shutdown.draining().cancelled()).await;
    };
    let claimed = until_some(&shared.bus, claim, over).await?;
    // Off the roster before the caller knows.
    drop(connected);
    transport.delivered(claimed.leased.len());
    Ok(claimed)
}

/// A lease that ends without anybody's fault.
pub(crate) fn released(token: Token) -> Settlement {
    Settlement { token, verb: Verb::Release }
}

/// Refuses the groups of jobs' workers: a task that is settled past the database that keeps it would never end.
pub(crate) fn of_jobs(group: &str) -> Result<(), Problem> {
    if jobs::is_group(group) {
        return Err(Problem::forbidden(format!("the group {group} is for tasks, which are claimed at /jobs/claim")));
    }
    Ok(())
}

/// Claims until there is something, or it is over.
async fn until_some(bus: &Bus, claim: Claim, over: impl Future<Output = ()>) -> Result<Claimed, bus::Error> {
    let mut claimable = bus.claimable(&claim.group);
    let mut over = std::pin::pin!(over);
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

/// A number of 1 to the most; 0 says nothing.
pub(crate) fn bounded(field: &str, given: u32, (most, default): (usize, usize)) -> Result<usize, Problem> {
    match usize::try_from(given) {
        Ok(0) => Ok(default),
        Ok(given) if given <= most => Ok(given),
        _ => Err(refuse(field, format!("must be 1 to {most}"))),
    }
}

pub(crate) fn member(member: String) -> Result<String, Problem> {
    let printable = member.bytes().all(|byte| byte.is_ascii_graphic());
    if printable && (1..=LONGEST_MEMBER).contains(&member.len()) {
        return Ok(member);
    }
    Err(refuse("member", format!("must be 1 to {LONGEST_MEMBER} printable characters, without spaces")))
}
