//! I11: what breaks moves the metric that names it, in one process or another.

use std::collections::BTreeMap;

use super::{Found, Invariant::I11, view::View};
use crate::history::What;

pub(super) fn check(view: &View<'_>, found: &mut Found) {
    let mut metrics: BTreeMap<&str, (bool, Vec<usize>)> = BTreeMap::new();
    for (index, entry) in view.entries.iter().enumerate() {
        if let What::Metric { of, before, after } = &entry.what {
            let (moved, proof) = metrics.entry(of).or_default();
            *moved |= after > before;
            proof.push(index);
        }
    }
    for (of, (_, proof)) in metrics.iter().filter(|(_, (moved, _))| !moved) {
        found.add(I11, format!("{of} stood still"), proof);
    }
}
