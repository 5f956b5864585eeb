//! How a role starts, reports and stops: the [`Role`] trait, the two-step [`Shutdown`], the ops listener and the points
//! at which a test may kill the process.

mod abort;
mod descriptors;
mod ops;
mod other_sites;
mod readiness;
mod role;
mod shutdown;

pub use abort::abort_point;
pub use descriptors::raise_open_files;
pub use ops::{Ops, OpsBoard, OpsIndex};
pub use readiness::Readiness;
pub use role::Role;
pub use shutdown::Shutdown;
