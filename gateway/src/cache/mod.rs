//! A shared cache by RFC 9111, purged by events of the bus.
//!
//! key.rs          what an answer is found by            store.rs    what is kept, within so many bytes
//! directives.rs   Cache-Control                         marks.rs    purging, by tag and by target
//! freshness.rs    how old, how long good, how stale     flight.rs   one fetches, the others wait
//! vary.rs         which answer is for which request     purging.rs  which events purge what
//! storing.rs      what may be kept, and for whom        following.rs whether events are heard
//! answering.rs    304, ranges, Age, Cache-Status        tags.rs     what answers and events are tagged with
//!
//! What happens to a request is up to `layers::cache`. The promises: no answer reaches another principal unless it is
//! public; what was purged is not given again, nor is what was on its way then; no more bytes are taken up than allowed;
//! and nobody waits for another for longer than he would have waited for the service.

mod answer;
pub mod answering;
mod config;
mod directives;
pub mod fetching;
mod filling;
mod flight;
mod following;
mod freshness;
mod key;
mod marks;
mod moment;
#[cfg(test)]
mod oracle;
mod policy;
pub mod purging;
pub mod sought;
mod store;
mod storing;
mod tags;
mod vary;

pub use answer::Stored;
pub use config::{Config, Per, Section};
pub use directives::{Asked, Said};
pub use filling::part;
pub use flight::{Lead, Turn, landed};
pub use freshness::{Freshness, Use};
pub use key::Key;
pub use marks::{Mark, Stamp};
pub use moment::Moment;
pub use policy::{Policy, Rules};
pub use sought::{Seen, Sought};
pub use store::{Landed, Part, Room, Store};
pub use vary::Selected;

/// How much is kept, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub size: u64,
    pub object: u64,
}

impl From<&Section> for Bounds {
    fn from(section: &Section) -> Self {
        Self { size: section.size.0, object: section.object.0 }
    }
}
