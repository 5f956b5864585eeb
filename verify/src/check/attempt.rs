//! I8: an attempt counts when it failed, and only then; nobody pays for what happened to another one.

use std::collections::HashMap;

use super::{
    Found,
    Invariant::I8,
    view::{Delivery, SLACK, View},
};
use crate::history::{Harm, Op, Settled, Verb, What};

/// The ninth failure is the last.
const MOST: u32 = 9;

pub(super) fn check(view: &View<'_>, found: &mut Found) {
    let mut claims: HashMap<(Op, &str), Vec<&Delivery<'_>>> = HashMap::new();
    for delivery in &view.deliveries {
        claims.entry((delivery.op, delivery.group)).or_default().push(delivery);
    }
    // Whoever left several of one claim unsettled left suspects, of whom none pays.
    let left = |delivery: &Delivery<'_>, by: usize| !delivery.ends().any(|end| end.asked < by);
    let innocent = |delivery: &Delivery<'_>, by: usize| {
        claims[&(delivery.op, delivery.group)].iter().filter(|other| left(other, by)).count() > 1
    };
    for deliveries in view.by_event().values() {
        for (number, delivery) in deliveries.iter().enumerate() {
            if !(1..=MOST).contains(&delivery.attempt) {
                let told = format!("{} is at its attempt {}", delivery.event.id, delivery.attempt);
                found.add(I8, told, &[delivery.entry]);
            }
            // A redriven event begins anew.
            let before: Vec<_> =
                deliveries[..number].iter().filter(|other| other.redrive == delivery.redrive).collect();
            let last = |other: &Delivery<'_>| other.settlements.last().map_or(other.entry, |last| last.asked);
            if before.iter().any(|other| view.may_be_forgotten(view.at(last(other)), view.at(delivery.entry))) {
                continue;
            }
            let failed = |other: &&&&Delivery<'_>, surely: bool| {
                other.settlements.iter().any(|settlement| {
                    matches!(settlement.verb, Verb::Nack { .. })
                        && settlement.asked < delivery.entry
                        && match settlement.settled {
                            Settled::Done => true,
                            Settled::Unknown => !surely,
                            Settled::LeaseLost => false,
                        }
                })
            };
            let charged = before.iter().filter(|other| failed(other, true)).count();
            let at_most = before
                .iter()
                .filter(|other| {
                    failed(other, false) || (left(other, delivery.entry) && !innocent(other, delivery.entry))
                })
                .count();
            // A claim whose answer was lost leases what nobody knows of.
            let hidden = || view.faults(0, view.at(delivery.entry)).count() > 0 || lost_claims(view, delivery.entry);
            let failures = delivery.attempt.saturating_sub(1) as usize;
            if failures < charged || (failures > at_most && !hidden()) {
                let told = format!(
                    "{} is at its attempt {} after {charged} to {at_most} failures",
                    delivery.event.id, delivery.attempt
                );
                let mut proof: Vec<usize> = before.iter().map(|other| other.entry).collect();
                proof.push(delivery.entry);
                found.add(I8, told, &proof);
            }
        }
    }
    pauses(view, found);
}

fn lost_claims(view: &View<'_>, before: usize) -> bool {
    view.entries[..before].iter().any(|entry| matches!(entry.what, What::ClaimFailed { .. }))
}

/// What was told to wait, waits.
fn pauses(view: &View<'_>, found: &mut Found) {
    for deliveries in view.by_event().values() {
        for pair in deliveries.windows(2) {
            let &[first, second] = pair else { continue };
            for settlement in first.ends().filter(|end| end.settled == Settled::Done) {
                let Verb::Nack { pause_ms: Some((least, _)), .. } = settlement.verb else { continue };
                let from = view.at(settlement.asked);
                let to = view.at(second.entry);
                let steps = view.faults(from, to).any(|fault| {
                    matches!(
                        fault.harm,
                        Harm::Clock { .. } | Harm::PowerLoss { .. } | Harm::Amnesia | Harm::Rollback { .. }
                    )
                });
                if second.entry > settlement.asked && to + SLACK < from + least * 1_000 && !steps {
                    let told = format!("{} came again sooner than it was told to", first.event.id);
                    found.add(I8, told, &[settlement.asked, second.entry]);
                }
            }
        }
    }
}
