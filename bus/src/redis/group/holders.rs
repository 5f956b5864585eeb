//! Who holds what of a group, over its partitions, as far as this node knows: the ledgers know of one partition each.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::ledger::Ledger;

#[derive(Default)]
pub(super) struct Holders(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// Leases by member, of each partition: how many, and of how many suspects.
    leases: HashMap<u32, HashMap<String, (usize, usize)>>,
    /// Members whose leases of a partition ended by time, and when. What they held of the others ends about then, but not
    /// at once: each partition is another task's.
    ended: HashMap<(u32, String), i64>,
}

impl Holders {
    /// Takes in how a partition is held.
    pub(super) fn tell(&self, partition: u32, ledger: &Ledger) {
        let holders = ledger
            .holders()
            .map(|(member, leases)| (member.to_owned(), (leases, usize::from(ledger.holds_suspect(member)))));
        self.0.lock().leases.insert(partition, holders.collect());
    }

    /// What a member holds of the other partitions: leases, and whether one is of a suspect.
    pub(super) fn elsewhere(&self, partition: u32, member: &str) -> (usize, bool) {
        let known = self.0.lock();
        let others = known.leases.iter().filter(|(other, _)| **other != partition);
        let held = others.filter_map(|(_, members)| members.get(member));
        held.fold((0, false), |(leases, suspects), (more, suspect)| (leases + more, suspects || *suspect > 0))
    }

    /// How many leases each member holds of the group, those that ended elsewhere within the time of a lease included:
    /// they ended together with those that end here. Of `partitions`, those that this node hasn't seen yet may hold one
    /// more, but nothing beside a suspect.
    pub(super) fn before_the_end(
        &self,
        partition: u32,
        partitions: usize,
        ledger: &Ledger,
        now: i64,
        lease: i64,
    ) -> HashMap<String, usize> {
        let mut known = self.0.lock();
        known.ended.retain(|_, at| now - *at < lease);
        let seen = known.leases.keys().filter(|other| **other != partition).count();
        let mut held = HashMap::new();
        for (member, leases) in ledger.holders() {
            let unseen = usize::from(seen + 1 < partitions && !ledger.holds_suspect(member));
            let elsewhere = known.leases.iter().filter(|(other, _)| **other != partition);
            let elsewhere: usize = elsewhere.filter_map(|(_, members)| Some(members.get(member)?.0)).sum();
            let ended = known.ended.keys().filter(|(other, of)| *other != partition && of == member).count();
            held.insert(member.to_owned(), leases + elsewhere + ended + unseen);
        }
        held
    }

    /// Leases of a partition ended by time: those who held them before and no longer do.
    pub(super) fn end(&self, partition: u32, before: &[(String, usize)], ledger: &Ledger, now: i64) {
        let over = before.iter().filter(|(member, leases)| ledger.held(member) < *leases);
        self.0.lock().ended.extend(over.map(|(member, _)| ((partition, member.clone()), now)));
    }
}
