//! Events that wait for their time: published with a `deliverytime`, recorded only then.

use std::{sync::Arc, time::Duration};

use events::Envelope;
use time::OffsetDateTime;

/// How far ahead an event may be scheduled.
pub(crate) const LONGEST: Duration = Duration::from_secs(366 * 86_400);
/// Events of a partition that are recorded at once when they are due, and their bytes: what is published meanwhile comes
/// between such pieces.
pub(crate) const PIECE: usize = 256;
pub(crate) const PIECE_BYTES: usize = 1 << 20;
/// The most events of a page.
pub(crate) const PAGE: usize = 1000;

/// An event that waits for its time.
#[derive(Clone, Debug)]
pub struct Scheduled {
    pub turn: Turn,
    pub due: OffsetDateTime,
    pub envelope: Arc<Envelope>,
}

/// When an event's turn comes in its partition: by time, then by arrival.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Turn {
    pub partition: u32,
    /// Milliseconds since 1970.
    pub due: i64,
    /// Rises with each event that is scheduled in the partition.
    pub arrival: u64,
}
