//! Jobs on top of the bus: work that is done later, elsewhere, and surely.
//!
//! A job is made of tasks; a task may come after others of its job and see their results. A [`Kind`] says what a task takes
//! and gives; a [`Worker`] has handlers, async functions, work on the kinds it knows; an [`Outlet`] hands them to workers that are elsewhere; [`Jobs`] creates jobs and asks for them.
//!
//! It promises: a job that was created is worked on at least once, whatever dies; a task begins after those it comes after;
//! what a task's end changes happens once; who was cut off can't end a task that is somebody else's. The database holds the
//! truth, the bus brings tasks to workers, one event a run, all of a job under one key.
//!
//! It doesn't make a handler's own effects happen once: [`Job::first`] and [`Job::step_id`] are there for that.

mod counter;
mod cron;
mod error;
mod event;
mod failure;
mod handler;
mod job;
mod jobs;
mod kind;
mod lane;
mod live;
mod machine;
mod metrics;
mod outlet;
mod plan;
mod priority;
mod retry;
mod share;
mod state;
mod status;
mod store;
mod task;
mod tend;
mod ticket;
mod work;
mod worker;

pub use cron::{MAX_MISSED, Missed, Schedule, ScheduleStatus};
pub use error::Error;
pub use failure::Failure;
pub use handler::Handler;
pub use job::Job;
pub use jobs::{Jobs, Options, Target};
pub use kind::Kind;
pub use lane::{group_of, is_group};
pub use outlet::{Alive, Ask, Ending, Handed, MAX_CLAIM, MAX_KINDS, Outcome, Outlet};
pub use plan::{MAX_DATA_BYTES, MAX_TASKS, NewJob};
pub use priority::Priority;
pub use retry::{Pace, Retry};
pub use state::State;
pub use status::{Attempt, JobDetail, JobStatus, KEEP, Listed, Listing, Place, TaskStatus};
pub use store::{Created, migrations};
pub use task::Task;
pub use ticket::{Ticket, TicketError};
pub use worker::Worker;

/// Where a test may have the process die: a task is on the bus and nobody remembers it; an attempt has begun; its handler is
/// done; its end is stored and the delivery isn't settled.
pub const ABORT_POINTS: [&str; 4] = ["jobs.published", "jobs.begun", "jobs.handled", "jobs.ended"];
