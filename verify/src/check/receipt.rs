//! I9: whoever asked for a receipt gets one final one, and it says what became of the event.

use std::collections::HashMap;

use super::{Found, Invariant::I9, view::View};
use crate::history::{Action, What};

pub(super) fn check(view: &View<'_>, found: &mut Found) {
    let mut receipts: HashMap<&str, Vec<usize>> = HashMap::new();
    for (index, entry) in view.entries.iter().enumerate() {
        if let What::Receipt { of, says } = &entry.what {
            receipts.entry(of).or_default().push(index);
            is_true(view, index, of, says, found);
        }
    }
    for (id, receipts) in receipts.iter().filter(|(_, receipts)| receipts.len() > 1) {
        found.add(I9, format!("{id} has {} receipts", receipts.len()), receipts);
    }
    let wanted = |id: &str| {
        let mut sent = view.publishes.iter().flat_map(|publish| publish.sent);
        sent.any(|sent| sent.id == id && sent.receipt)
    };
    for (id, receipts) in receipts.iter().filter(|(id, _)| !wanted(id)) {
        found.add(I9, format!("{id} has a receipt that nobody asked for"), receipts);
    }
    if !view.entries.iter().any(|entry| entry.what == What::Rest) {
        return;
    }
    for recorded in view.recorded().filter(|recorded| recorded.sent.receipt && !recorded.duplicate) {
        let lost = view.may_be_lost(view.at(recorded.entry), u64::MAX, recorded.level);
        if !receipts.contains_key(recorded.sent.id.as_str()) && !lost {
            found.add(I9, format!("{} has no receipt", recorded.sent.id), &[recorded.entry]);
        }
    }
}

/// What it says is where the event stands with the groups, unless somebody moved it there afterwards.
fn is_true(view: &View<'_>, entry: usize, of: &str, says: &str, found: &mut Found) {
    let groups = || view.standings.iter().filter(|((_, id), _)| *id == of);
    let moved = |group: &str| {
        let actions = [Action::Redrive, Action::Discard, Action::Seek];
        actions.iter().any(|action| view.operated(group, *action, 0, u64::MAX))
    };
    if view.may_be_forgotten(0, u64::MAX) || groups().any(|((group, _), _)| moved(group)) {
        return;
    }
    let stands = |as_: &[&str]| groups().any(|(_, (_, standing))| as_.contains(standing));
    let is_so = match says {
        "COMPLETED" => !stands(&["pending", "leased", "retrying", "parked", "dead", "lost", "expired"]),
        "FAILED" => stands(&["dead", "lost", "unknown"]),
        "EXPIRED" => view.publishes.iter().flat_map(|publish| publish.sent).any(|sent| sent.id == of && sent.expires),
        _ => false,
    };
    if !is_so {
        let standings: Vec<_> = groups().map(|((group, _), (_, standing))| (*group, *standing)).collect();
        found.add(I9, format!("{of} is said to be {says}, and stands so: {standings:?}"), &[entry]);
    }
}
