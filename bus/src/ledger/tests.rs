use std::sync::Arc;

use super::{Fate, Ledger, Lessee, Record, Room, State};
use crate::{LeaseLost, Mode, Verb};

const UNTIL: i64 = 30_000;

/// Leases everything that may be leased of `keys`, one event a key, to a member; their positions.
fn lease_all(ledger: &mut Ledger, member: &Arc<str>, now: i64) -> Vec<u64> {
    let mut leased = Vec::new();
    let lessee = Lessee { held: ledger.held(member), holds_suspect: ledger.holds_suspect(member), of_this_claim: 0 };
    match ledger.room(&lessee) {
        Room::Nothing => {}
        Room::Suspect(position) => {
            ledger.lease(position, member, 7, now, now + UNTIL);
            leased.push(position);
        }
        Room::Events(_) => {
            while let Some(position) = ledger.first_ready() {
                ledger.lease(position, member, 7, now, now + UNTIL);
                leased.push(position);
            }
        }
    }
    leased
}

fn ledger(mode: Mode, keys: &[u64]) -> Ledger {
    let mut ledger = Ledger::new(mode, 1);
    for key in keys {
        ledger.take(*key);
    }
    ledger
}

fn expire(ledger: &mut Ledger, now: i64) -> Vec<(u64, Fate)> {
    let held: std::collections::HashMap<String, usize> =
        ledger.holders().map(|(member, leases)| (member.to_owned(), leases)).collect();
    ledger.expire(now, |member| held.get(member).copied().unwrap_or(0), || 0.5)
}

#[test]
fn a_log_that_was_cut_takes_its_records_along() {
    let mut ledger = ledger(Mode::Keyed, &[1, 2, 1, 2]);
    ledger.rewind(3);
    assert_eq!((ledger.next(), ledger.unsettled(), ledger.lowest()), (3, 2, 1));
    // The keys are free for what is recorded now.
    for (position, key) in [(3, 1), (4, 3)] {
        assert_eq!(ledger.take(key), position == 4, "{position}");
    }
    assert!(!ledger.rewind(5), "nothing was known of it");
    assert_eq!(ledger.next(), 5);
}

#[test]
fn what_is_skipped_is_not_told_as_settled() {
    let mut back = ledger(Mode::Parallel, &[1, 2, 3]);
    while let Some(position) = back.first_ready() {
        back.drop_expired(position);
    }
    back.seek(2);
    assert_eq!((back.start(), back.next()), (1, 2), "what came before is settled");
    let mut skipping = ledger(Mode::Parallel, &[1, 2, 3]);
    assert_eq!(skipping.sought(2).skipped, 1);
    skipping.seek(2);
    assert_eq!((skipping.start(), skipping.next()), (2, 2), "the first one never was");
    assert_eq!(skipping.take_changes().0.len(), 3, "every record goes");
}

#[test]
fn only_what_changed_is_stored_and_only_once() {
    let mut ledger = ledger(Mode::Parallel, &[1, 2]);
    let (records, next) = ledger.take_changes();
    assert_eq!((records.len(), next), (2, Some(3)));
    assert!(!ledger.has_changes());
    let member = "m".into();
    lease_all(&mut ledger, &member, 0);
    ledger.settle(1, 7, Verb::Ack, 10, UNTIL, 0.5).unwrap();
    let (records, next) = ledger.take_changes();
    assert_eq!(next, None);
    assert!(matches!(records[..], [(1, None), (2, Some(_))]));
}

#[test]
fn a_restored_ledger_is_the_one_that_was_stored() {
    let mut original = ledger(Mode::Keyed, &[1, 2, 1, 1]);
    let member = "m".into();
    assert_eq!(lease_all(&mut original, &member, 0), [1, 2]);
    original.settle(2, 7, Verb::Nack { delay: None, reason: "no".into(), retryable: true }, 5, 0, 0.5).unwrap();
    let stored: Vec<(u64, Record)> =
        original.take_changes().0.into_iter().filter_map(|(at, record)| Some((at, record?.clone()))).collect();
    let mut restored = Ledger::restore(Mode::Keyed, original.start(), original.next(), stored.clone());
    for (position, record) in &stored {
        assert_eq!(restored.record(*position), Some(record));
    }
    assert!(!restored.has_changes());
    assert_eq!(restored.next_due(), original.next_due());
    restored.settle(1, 7, Verb::Ack, 10, UNTIL, 0.5).unwrap();
    assert_eq!(restored.first_ready(), Some(3), "the next of its key");
}

#[test]
fn an_expiry_counts_only_where_the_member_held_nothing_else() {
    let mut ledger = ledger(Mode::Parallel, &[1, 2]);
    let member = "m".into();
    assert_eq!(lease_all(&mut ledger, &member, 0), [1, 2]);
    assert_eq!(expire(&mut ledger, UNTIL), [(1, Fate::Released), (2, Fate::Released)]);
    assert_eq!(lease_all(&mut ledger, &member, UNTIL), [1], "a suspect is leased alone");
    assert!(lease_all(&mut ledger, &member, UNTIL).is_empty());
    assert_eq!(expire(&mut ledger, 2 * UNTIL), [(1, Fate::Retrying)]);
    assert_eq!(ledger.record(1).map(|record| (record.failures, record.expiries)), Some((1, 1)));
    assert_eq!(ledger.record(2).map(|record| record.failures), Some(0));
}

#[test]
fn a_lease_that_is_over_settles_nothing_even_before_it_is_swept() {
    let mut ledger = ledger(Mode::Parallel, &[1]);
    lease_all(&mut ledger, &"m".into(), 0);
    assert_eq!(ledger.settle(1, 8, Verb::Ack, 10, UNTIL, 0.5), Err(LeaseLost), "another secret");
    assert_eq!(ledger.settle(1, 7, Verb::Ack, UNTIL, UNTIL, 0.5), Err(LeaseLost));
}

#[test]
fn an_exclusive_group_gets_past_suspects_in_order() {
    let mut ledger = ledger(Mode::Exclusive, &[1, 2, 3]);
    let member = "m".into();
    assert_eq!(lease_all(&mut ledger, &member, 0), [1, 2, 3]);
    expire(&mut ledger, UNTIL);
    let mut now = UNTIL;
    let mut order = Vec::new();
    while ledger.unsettled() > 0 && now < 100 * UNTIL {
        for position in lease_all(&mut ledger, &member, now) {
            ledger.settle(position, 7, Verb::Ack, now, now, 0.5).unwrap();
            order.push(position);
        }
        now += UNTIL;
        expire(&mut ledger, now);
    }
    assert_eq!(order, [1, 2, 3]);
}

#[test]
fn a_redriven_event_waits_for_its_key() {
    let mut ledger = ledger(Mode::Keyed, &[1, 1]);
    let member = "m".into();
    lease_all(&mut ledger, &member, 0);
    let fate = ledger.settle(1, 7, Verb::Dead { reason: "no".into() }, 1, 0, 0.5).unwrap();
    assert!(matches!(fate, Fate::Dead { reason: "refused", .. }));
    assert_eq!(lease_all(&mut ledger, &member, 1), [2]);
    ledger.redrive(1, 1, 1, 1);
    assert_eq!(ledger.record(1).map(|record| record.state.clone()), Some(State::Parked));
    ledger.settle(2, 7, Verb::Ack, 2, 0, 0.5).unwrap();
    assert_eq!(ledger.first_ready(), Some(1));
}
