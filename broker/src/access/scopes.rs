//! The scopes that decide something here, as a principal has them.

use events::Pattern;

use super::rooms::Rooms;
use crate::filter::Filter;

pub(super) const READ: &str = "events:read:";
pub(super) const OWN: &str = "own:";
pub(super) const WRITE: &str = "events:write:";
pub(super) const CONSUME: &str = "events:consume:";
pub(super) const READ_JOBS: &str = "jobs:read";
pub(super) const WRITE_JOBS: &str = "jobs:write";
pub(super) const SEE_WEBHOOKS: &str = "webhooks:read";
pub(super) const CHANGE_WEBHOOKS: &str = "webhooks:write";
pub(super) const OPERATE: &str = "bus:admin";
pub(super) const LOOK: &str = "bus:read";
pub(super) const JOIN: &str = "rooms:join:";
pub(super) const WRITE_ROOM: &str = "rooms:write:";
pub(super) const SEE: &str = "presence:read";

#[derive(Clone, Debug, Default)]
pub(super) struct Scopes {
    pub read: Vec<Pattern>,
    pub read_own: Vec<Pattern>,
    pub write: Vec<Pattern>,
    /// Groups, by name, or by how it begins and a star.
    pub consume: Vec<String>,
    pub read_jobs: bool,
    pub write_jobs: bool,
    pub see_webhooks: bool,
    pub change_webhooks: bool,
    pub join: Vec<Rooms>,
    pub write_rooms: Vec<Rooms>,
    pub see: bool,
    pub look: bool,
    pub operate: bool,
}

impl Scopes {
    pub fn of(given: &[String]) -> Self {
        let mut scopes = Self::default();
        // A scope that is none of ours, or no filter, allows nothing here.
        let terms = |text: &str| text.parse().map(|filter: Filter| filter.terms).unwrap_or_default();
        for scope in given {
            if let Some(pattern) = scope.strip_prefix(READ) {
                match pattern.strip_prefix(OWN) {
                    Some(own) => scopes.read_own.extend(terms(own)),
                    None => scopes.read.extend(terms(pattern)),
                }
            } else if let Some(pattern) = scope.strip_prefix(WRITE) {
                scopes.write.extend(terms(pattern));
            } else if let Some(pattern) = scope.strip_prefix(CONSUME) {
                if !pattern.is_empty() {
                    scopes.consume.push(pattern.to_owned());
                }
            } else if scope == READ_JOBS {
                scopes.read_jobs = true;
            } else if scope == WRITE_JOBS {
                scopes.write_jobs = true;
            } else if scope == SEE_WEBHOOKS {
                scopes.see_webhooks = true;
            } else if scope == CHANGE_WEBHOOKS {
                scopes.change_webhooks = true;
            } else if let Some(rooms) = scope.strip_prefix(JOIN) {
                scopes.join.extend(Rooms::parse(rooms));
            } else if let Some(rooms) = scope.strip_prefix(WRITE_ROOM) {
                scopes.write_rooms.extend(Rooms::parse(rooms));
            } else if scope == SEE {
                scopes.see = true;
            } else if scope == LOOK {
                scopes.look = true;
            } else if scope == OPERATE {
                scopes.operate = true;
            }
        }
        scopes
    }
}
