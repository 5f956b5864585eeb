//! Leases that nobody holds: of a claim whose commit happened without an answer. They are given back with the keeper's next
//! commit, and cost nobody an attempt; else they would last to their end, and an event that was alone would pay for it.

use std::collections::VecDeque;

use super::{desk::Draft, state::Held};
use crate::{Claimed, Token, Verb};

/// The oldest beyond these last to their end.
const MOST: usize = 4096;
/// Milliseconds after which a command that was under way won't come any more.
const UNDER_WAY: i64 = 60_000;

#[derive(Default)]
pub(super) struct Orphans(VecDeque<Orphan>);

struct Orphan {
    token: Token,
    /// When it was claimed.
    at: i64,
    /// The version that the commit was to replace. As long as it stands, the commit may still come.
    replaces: Option<u64>,
}

impl Orphans {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `replaces`: of the state that the claim was worked out on; None: there was none.
    pub(super) fn take_in(&mut self, claimed: &Claimed, at: i64, replaces: Option<u64>) {
        for leased in &claimed.leased {
            self.0.push_back(Orphan { token: leased.token, at, replaces });
        }
        self.0.drain(..self.0.len().saturating_sub(MOST));
    }

    /// Gives those back that are in the state; the others never were, or are somebody's.
    pub(super) fn give_back(&self, held: &mut Held, draft: &mut Draft) {
        for Orphan { token, .. } in self.0.iter().filter(|orphan| orphan.token.generation == held.generation) {
            // However late: nobody has had it.
            const ANY: i64 = i64::MIN;
            if let Ok(fate) = held.ledger.settle(token.position, token.secret, Verb::Release, ANY, ANY, 0.0) {
                draft.conclude(token.position, fate);
            }
        }
    }

    /// Forgets those whose commit can't come any more, now that the state is of this version.
    pub(super) fn committed(&mut self, version: u64, now: i64) {
        self.0.retain(|orphan| orphan.replaces == Some(version) && now < orphan.at + UNDER_WAY);
    }
}
