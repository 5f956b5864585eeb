//! The workload: publishers, members, handlers, readers and operators on a bus's public handle, all of whom write down
//! what they do and see. What is left to chance follows from a seed, but for how tasks and machines happen to run.

mod audit;
mod handler;
mod member;
mod publisher;
mod reader;
mod traffic;
mod witness;
mod writer;

pub use audit::{audit, audit_log, audit_log_by, audit_queue, receipts};
pub use handler::{Effects, Handling};
pub use member::{Habit, Member};
pub use publisher::{Publisher, Wares};
pub use reader::follow;
pub use traffic::{Plan, Team, Traffic};
pub use witness::Witness;
pub use writer::write_behind;

/// Another sequence of chances for each purpose, from one seed.
pub fn rng(seed: u64, purpose: &str) -> rand::rngs::StdRng {
    use rand::SeedableRng as _;
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    rand::rngs::StdRng::seed_from_u64(purpose.bytes().fold(seed ^ 0xcbf2_9ce4_8422_2325, mix))
}
