//! Turnpike from Rust, by the broker's client protocol (docs/broker.md): follow events, publish them, share rooms.
//!
//! A client goes on by itself. Whatever breaks, it comes back after a pause with full jitter, or when the server says; each
//! subscription is resumed after what it was told last, on whichever node answers; each publish is sent again under the same
//! id until it is answered. That nothing is missing is checked by the chain of cursors. What can't be had any more is told
//! as a gap. Every queue is bounded: a subscription that isn't read rests, and goes on where it was.
//!
//! ```no_run
//! # async fn example() -> Result<(), client::Error> {
//! use client::{Client, Follow, Options, Outgoing, StreamExt as _, Told};
//!
//! let client = Client::connect("wss://shop.example", Options::default().header("x-api-key", "tk_…")).await?;
//! client.publish(Outgoing::new("NOTES", "WRITTEN").subject("notes/1").data("hello")).await?;
//! let mut notes = client.subscribe("NOTES/*", Follow::default().from("earliest")).await?;
//! while let Some(told) = notes.next().await {
//!     match told {
//!         Told::Event(told) => println!("{} {}", told.event.event, told.event.data),
//!         Told::Gap(gap) => println!("{:?} events are gone: {}", gap.lost, gap.reason),
//!         Told::Ended(error) => return Err(error),
//!         Told::CaughtUp { .. } | Told::Missed { .. } => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Not here: SSE and long-polling, which are for those whose network lets no WebSocket pass; and the work of groups, which
//! is gRPC's (docs/bus-api.md).

mod backoff;
mod client;
mod dial;
mod error;
mod follow;
mod frame;
mod link;
mod options;
mod publish;
mod session;
mod subscription;
mod told;
mod worker;

pub use futures_util::{Stream, StreamExt};

pub use client::{Client, State};
pub use error::Error;
pub use options::{Follow, Options, Outgoing};
pub use subscription::Subscription;
pub use told::{Event, EventTold, Gap, Member, Presence, Receipt, Told};
