//! I10: what was taken is given back.

use super::{Found, Invariant::I10, view::View};
use crate::history::What;

pub(super) fn check(view: &View<'_>, found: &mut Found) {
    for (index, entry) in view.entries.iter().enumerate() {
        if let What::Level { of, before, after, slack } = &entry.what
            && *after > before.saturating_add(*slack)
        {
            found.add(I10, format!("{of}: {before} at first, {after} in the end, {slack} allowed"), &[index]);
        }
    }
}
