//! I9: whoever asked for a receipt gets one final one.

use std::collections::HashMap;

use super::{Found, Invariant::I9, view::View};
use crate::history::What;

pub(super) fn check(view: &View<'_>, found: &mut Found) {
    let mut receipts: HashMap<&str, Vec<usize>> = HashMap::new();
    for (index, entry) in view.entries.iter().enumerate() {
        if let What::Receipt { of, .. } = &entry.what {
            receipts.entry(of).or_default().push(index);
        }
    }
    for (id, receipts) in receipts.iter().filter(|(_, receipts)| receipts.len() > 1) {
        found.add(I9, format!("{id} has {} receipts", receipts.len()), receipts);
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
