//! Routes that stand in each other's way: said when the configuration loads, not found out by requests.

use super::ends::{Ends, Entry};

/// A route that another one keeps from being taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The one that goes later, or stands later, by its place among all.
    pub route: usize,
    pub with: usize,
    pub kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No request can tell the two apart.
    Same,
    /// The other one takes all of its requests.
    Shadowed,
    /// Some request could be meant for both, and nothing says which goes first.
    Ambiguous,
}

/// The conflicts among routes with one path.
pub fn within<T>(ends: &Ends<T>) -> Vec<Conflict> {
    let mut conflicts = Vec::new();
    for entry in ends.entries() {
        for other in ends.beside(entry) {
            let same_host = entry.conditions.host == other.conditions.host;
            // Two of one host meet twice.
            if (same_host && other.number >= entry.number) || entry.number == other.number {
                continue;
            }
            let (first, later) =
                if (entry.rank, entry.number) < (other.rank, other.number) { (entry, other) } else { (other, entry) };
            match between(first, later) {
                // Neither goes first: the later one of the file is to say more.
                Some(kind @ Kind::Ambiguous) => {
                    let (with, route) = (first.number.min(later.number), first.number.max(later.number));
                    conflicts.push(Conflict { route, with, kind });
                }
                Some(kind) => conflicts.push(Conflict { route: later.number, with: first.number, kind }),
                None => {}
            }
        }
    }
    conflicts
}

fn between<T>(first: &Entry<T>, later: &Entry<T>) -> Option<Kind> {
    let (one, other) = (&first.conditions, &later.conditions);
    let is_narrower = other.cover(one);
    match one.cover(other) {
        true if is_narrower && first.rank == later.rank => Some(Kind::Same),
        true => Some(Kind::Shadowed),
        false if !is_narrower && first.rank.ties(later.rank) && one.overlap(other) => Some(Kind::Ambiguous),
        false => None,
    }
}
