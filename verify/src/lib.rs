//! The proof of the bus: a workload that writes down everything it does and sees, and a checker that judges what it wrote.
//!
//! [`load`] drives a bus through its public handle, as publishers, members, readers and operators. All of it goes into a
//! [`history`], which can be kept in a file. [`check`] knows the history alone, nothing of the bus, and looks for what
//! must never be in one ([`Invariant`]). [`contract`] holds the cases that need no server to be killed; [`live`] runs
//! them against an instance of one's own. What is killed, cut and filled up is in this crate's tests.

pub mod check;
pub mod contract;
pub mod history;
mod live;
pub mod load;
mod report;
mod site;

pub use check::{Invariant, Violation, check};
pub use history::{Entry, History};
pub use live::{Options, live};
pub use report::{Report, Row};
pub use site::Site;
