//! The event bus: one partitioned log a queue; groups lease, settle and retry its events; tail readers follow it.
//!
//! It promises order a key even across retries, confirmed publishes, at-least-once delivery with leases that a stale
//! member can't settle, and that what is lost is told. Effects happen once where the handler uses the [`Inbox`].
//!
//! [`Bus`] is a handle on a [`Backend`]; [`sqlite`] is the one for one process,
//! [`redis`] the one for many. [`Consumer`] runs a member of a group.

mod backend;
mod batch;
mod bookmark;
mod broken;
mod bus;
mod claiming;
mod clock;
mod comings;
mod confirm;
mod consumer;
mod consumers;
mod copy;
mod cursor;
mod delivered;
mod error;
mod follow_up;
mod forsaken;
mod group;
mod handling;
mod inbox;
mod lead;
mod lease;
mod ledger;
mod member;
mod metrics;
mod observe;
mod policy;
pub mod presence;
mod publish;
mod queue;
mod receipt;
pub mod redis;
mod retry;
mod roster;
mod schedule;
pub mod sqlite;
mod status;
mod sys;
mod tail;
mod wakes;

pub use backend::Backend;
pub use bookmark::{Bookmark, Move, Moved, Opened};
pub use bus::Bus;
pub use clock::{Clock, SystemClock};
pub use confirm::{Confirm, ConfirmError};
pub use consumer::{Consumer, Failure, Handler};
pub use consumers::Consumers;
pub use copy::{Copied, CopiedGroup, CopiedQueue, CopyOptions, Copying, copy};
pub use cursor::{Cursor, CursorError};
pub use delivered::{Delivered, Place, Progress};
pub use error::{Error, LeaseLost, Refused};
pub use group::{Delivery, Group, Mode, OnDead, Pace, Start};
pub use inbox::Inbox;
pub use lead::Fence;
pub use lease::{Claim, Claimed, Leased, Settlement, Token, TokenError, Verb};
pub use presence::{Attendance, Attended, Attending, Member, Members, NotJoined, Presence, Room};
pub use publish::{Lineage, Lineages, Outcome, Partition, Producer, PublishOptions, Recorded};
pub use queue::{Overflow, Queue};
pub use receipt::Receipts;
pub use retry::{Retry, delay as retry_delay};
pub use roster::{Connection, Joined, Roster, Subscription, Transport};
pub use schedule::{Scheduled, Turn};
pub use status::{
    DeadLetter, Failed, GroupStatus, Logged, LostRange, Page, PartitionStatus, QueueStatus, Sought, Standing, Which,
};
pub use tail::{Ahead, Gap, GapReason, Tail, TailFrom, Tailed};
