//! Settle, and how settlements are read and answered wherever they come from.

use bus::{LeaseLost, Settlement, TokenError, Verb};
use proto::turnpike::bus::v1 as wire;
use wire::settlement::Verb as Said;

use super::{moment::duration, refusal::lease_lost};
use crate::{
    access::Caller,
    problem::Problem,
    query::refuse,
    shared::Shared,
    work::{LONGEST_DELAY, MOST_SETTLEMENTS, of_jobs},
};

/// Settlements as a client sent them; those that are none keep their place among the others.
pub(super) struct Batch(Vec<(String, Result<Settlement, Problem>)>);

impl Batch {
    pub fn read(settlements: Vec<wire::Settlement>) -> Result<Self, Problem> {
        if !(1..=MOST_SETTLEMENTS).contains(&settlements.len()) {
            return Err(refuse("settlements", format!("must be 1 to {MOST_SETTLEMENTS}, not {}", settlements.len())));
        }
        let read = |settlement: wire::Settlement| {
            let settled = settlement.token.parse().map_err(|error: TokenError| refuse("token", error));
            let verb = settled.and_then(|token| Ok(Settlement { token, verb: verb(settlement.verb)? }));
            (settlement.token, verb)
        };
        Ok(Self(settlements.into_iter().map(read).collect()))
    }

    /// What the bus is to be told.
    pub fn settlements(&self) -> impl Iterator<Item = &Settlement> {
        self.0.iter().filter_map(|(_, settlement)| settlement.as_ref().ok())
    }

    /// An outcome each, where `settled` gives those of [`Batch::settlements`] in their order.
    pub fn outcomes(self, mut settled: impl Iterator<Item = Result<(), LeaseLost>>) -> Vec<wire::SettleOutcome> {
        let outcome = |(token, settlement): (String, Result<Settlement, Problem>)| {
            let refusal = match settlement {
                Ok(_) => settled.next().unwrap_or(Err(LeaseLost)).err().map(|_| lease_lost()),
                Err(problem) => Some(problem.into()),
            };
            wire::SettleOutcome { token, refusal }
        };
        self.0.into_iter().map(outcome).collect()
    }
}

pub(super) async fn settle(
    shared: &Shared,
    caller: &Caller,
    request: wire::SettleRequest,
) -> Result<wire::SettleResponse, Problem> {
    caller.may_consume(&request.group)?;
    of_jobs(&request.group)?;
    let batch = Batch::read(request.settlements)?;
    let settlements = batch.settlements().cloned().collect();
    let settled = shared.bus.settle(&request.group, settlements).await?;
    Ok(wire::SettleResponse { outcomes: batch.outcomes(settled.into_iter()) })
}

fn verb(said: Option<Said>) -> Result<Verb, Problem> {
    Ok(match said {
        Some(Said::Ack(_)) => Verb::Ack,
        Some(Said::Nack(nack)) => Verb::Nack {
            delay: nack.delay.map(|delay| duration("nack.delay", delay, LONGEST_DELAY)).transpose()?,
            reason: nack.reason,
            retryable: !nack.permanent,
        },
        Some(Said::Release(_)) => Verb::Release,
        Some(Said::Defer(defer)) => {
            Verb::Defer { delay: duration("defer.delay", defer.delay.unwrap_or_default(), LONGEST_DELAY)? }
        }
        Some(Said::Dead(dead)) => Verb::Dead { reason: dead.reason },
        Some(Said::Extend(_)) => Verb::Extend,
        None => return Err(refuse("verb", "say one of ack, nack, release, defer, dead and extend")),
    })
}
