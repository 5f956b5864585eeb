//! Webhooks on a real bus and a real database, and receivers behind real sockets. Time is moved by hand.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod delivery;
mod end;
mod lab;
mod late;
mod manage;
mod outage;
mod private;
mod receiver;
mod several;
mod tls;
