//! The judge: it knows a history and what the bus promises, and nothing of how the bus keeps it.
//!
//! Whatever a fault of the history excuses is no violation ([`crate::history::Harm`]); everything else is. A violation
//! names the entries that prove it. What a history doesn't show isn't judged: a run without an audit says nothing of
//! what was lost.

mod attempt;
mod endpoint;
mod keep;
mod later;
mod lease;
mod level;
mod metric;
mod order;
mod position;
mod presence;
mod reader;
mod receipt;
mod repeat;
mod rest;
mod version;
mod view;

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::history::Entry;
use view::View;

/// How long after its end a fault still excuses what is done.
pub(crate) const EXCUSED: Duration = Duration::from_micros(view::UNDER_WAY + view::SLACK);

/// What must hold of every history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Invariant {
    /// Nothing confirmed is missing, beyond what its level and the faults allow; nothing is acknowledged without its effect.
    I1,
    /// Positions are dense, and in one order for everybody; what is expected of a key and of a time holds in it.
    I2,
    /// Everything ends, for every group.
    I3,
    /// A delivery has one valid token at a time; an old one settles nothing.
    I4,
    /// What a key orders is handed out in its order, one at a time, across retries.
    I5,
    /// Nothing comes twice without a reason.
    I6,
    /// A reader's view is contiguous, or says what is missing.
    I7,
    /// Attempts are counted right, and nobody pays for another one's failure.
    I8,
    /// One final receipt each, and a true one.
    I9,
    /// What was taken is given back: memory, descriptors, keys.
    I10,
    /// What breaks moves the metric that names it.
    I11,
    /// Who comes and who goes is told once each, and truly.
    I12,
    /// What is posted to an endpoint is signed by a key of its own that is good, of now, and comes while it is enabled.
    I13,
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Something that must not be, and the entries that show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    pub invariant: Invariant,
    pub told: String,
    /// Indexes into the history, in its order.
    pub proof: Vec<usize>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} (entries {:?})", self.invariant, self.told, self.proof)
    }
}

/// Judges a history whose entries are in the order of their times.
pub fn check(entries: &[Entry]) -> Vec<Violation> {
    let view = View::of(entries);
    let mut found = Found(Vec::new());
    keep::check(&view, &mut found);
    position::check(&view, &mut found);
    rest::check(&view, &mut found);
    lease::check(&view, &mut found);
    order::check(&view, &mut found);
    repeat::check(&view, &mut found);
    reader::check(&view, &mut found);
    attempt::check(&view, &mut found);
    endpoint::check(&view, &mut found);
    receipt::check(&view, &mut found);
    level::check(&view, &mut found);
    later::check(&view, &mut found);
    version::check(&view, &mut found);
    metric::check(&view, &mut found);
    presence::check(&view, &mut found);
    found.0.sort_by(|one, other| (one.invariant, &one.proof).cmp(&(other.invariant, &other.proof)));
    found.0
}

struct Found(Vec<Violation>);

impl Found {
    fn add(&mut self, invariant: Invariant, told: impl Into<String>, proof: &[usize]) {
        let mut proof = proof.to_vec();
        proof.sort_unstable();
        proof.dedup();
        self.0.push(Violation { invariant, told: told.into(), proof });
    }
}

#[cfg(test)]
mod tests;
