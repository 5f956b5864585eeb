use events::{Envelope, Filter};
use std::{sync::Arc, time::Duration};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

/// How competing deliveries of a group relate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Any order, as many at once as members take.
    Parallel,
    /// At most one unsettled delivery a key; the next only when the former is settled.
    Keyed,
    /// One member a partition, in order.
    Exclusive,
}

/// A group of competing consumers, declared by them. Public fields, so that it reads as a declaration.
#[derive(Clone, Debug)]
pub struct Group {
    pub name: String,
    pub filter: Filter,
    pub mode: Mode,
    pub start: Start,
    /// How long a lease lasts without being extended; 1 s to 12 h.
    pub lease: Duration,
    /// The longest a handler may take; must not be shorter than the lease.
    pub max_processing: Duration,
    /// The most handlers at once in this member.
    pub concurrency: usize,
}

impl Group {
    /// Defaults: earliest, lease 30 s, max_processing 15 min, 64 at once.
    pub fn new(name: &str, filter: Filter, mode: Mode) -> Self {
        Self {
            name: name.to_owned(),
            filter,
            mode,
            start: Start::Earliest,
            lease: Duration::from_secs(30),
            max_processing: Duration::from_secs(900),
            concurrency: 64,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    Earliest,
    Latest,
    Time(OffsetDateTime),
    Position(u64),
}

/// An event handed to a member of a group.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub envelope: Arc<Envelope>,
    pub partition: u32,
    pub position: u64,
    /// 1 for the first.
    pub attempt: u32,
    /// Cancelled when the lease is lost or the member must stop: what the handler does after it may be done again elsewhere.
    pub cancelled: CancellationToken,
}
