//! What a caller may do, beside reading: a refusal names the scope that is missing.

use bus::{Room, presence};
use events::{Envelope, Name};

use super::{
    Caller,
    scopes::{
        CHANGE_WEBHOOKS, CONSUME, JOIN, LOOK, OPERATE, READ_JOBS, SEE, SEE_WEBHOOKS, WRITE, WRITE_JOBS, WRITE_ROOM,
    },
    sight::{PRESENCE, ROOMS},
};
use crate::{problem::Problem, query::refuse};

/// The queues that only the bus itself writes.
pub(super) const RESERVED: [&str; 4] = ["SYS", PRESENCE, "RECEIPT", ROOMS];
/// The queues of jobs: their tasks come from the database that keeps the jobs, and a client's event would be none.
pub(super) const OF_JOBS: [&str; 3] = ["JOBS_HIGH", "JOBS", "JOBS_LOW"];

impl Caller {
    /// Whether it may see webhooks of its own.
    pub(crate) fn may_see_webhooks(&self) -> Result<(), Problem> {
        self.needs(self.scopes.see_webhooks || self.scopes.change_webhooks, SEE_WEBHOOKS)
    }

    /// Whether it may register and change webhooks of its own.
    pub(crate) fn may_change_webhooks(&self) -> Result<(), Problem> {
        self.needs(self.scopes.change_webhooks, CHANGE_WEBHOOKS)
    }

    /// Whether what belongs to this subject is its to look after.
    pub(crate) fn owns(&self, owner: Option<&str>) -> bool {
        self.scopes.operate || (owner.is_some() && owner == self.subject.as_deref())
    }

    /// Whether it looks after everybody's.
    pub(crate) fn operates(&self) -> bool {
        self.scopes.operate
    }

    /// Whether it may work for the group: claim and settle what is the group's, which whoever declared it might read.
    pub(crate) fn may_consume(&self, group: &str) -> Result<(), Problem> {
        let covers = |pattern: &String| match pattern.strip_suffix('*') {
            Some(beginning) => group.starts_with(beginning),
            None => group == pattern,
        };
        if self.scopes.operate || self.scopes.consume.iter().any(covers) {
            return Ok(());
        }
        Err(self.refused(format!("working for the group {group} needs the scope {CONSUME}{group}")))
    }

    /// Whether it may go into the room, and see what happens there and who is in it.
    pub(crate) fn may_join(&self, room: &Room) -> Result<(), Problem> {
        if self.scopes.join.iter().any(|rooms| rooms.have(room)) {
            return Ok(());
        }
        Err(self.refused(format!("the room {room} needs the scope {JOIN}{room}")))
    }

    /// Whether it may see who is online.
    pub(crate) fn may_see(&self) -> Result<(), Problem> {
        self.needs(self.scopes.see, SEE)
    }

    /// Whether only the bus itself writes the queue.
    pub(crate) fn is_reserved(queue: &Name) -> bool {
        RESERVED.contains(&queue.as_str())
    }

    /// Whether only jobs write the queue: their tasks.
    pub(crate) fn is_of_jobs(queue: &Name) -> bool {
        OF_JOBS.contains(&queue.as_str())
    }

    /// Whose the queue is alone, where it is nobody's to write who comes from outside.
    pub(crate) fn whose_alone(queue: &Name) -> Option<&'static str> {
        if Self::is_reserved(queue) {
            return Some("the bus's own");
        }
        Self::is_of_jobs(queue).then_some("for the tasks of jobs")
    }

    /// Whether it may publish the event.
    pub(crate) fn may_publish(&self, event: &Envelope) -> Result<(), Problem> {
        if event.queue != presence::rooms() {
            return self.may_write(&event.queue, &event.event);
        }
        if self.scopes.write_rooms.is_empty() {
            return Err(self.refused(format!("publishing in rooms needs the scope {WRITE_ROOM}NAMESPACE/ROOM")));
        }
        if presence::is_transition(&event.event) {
            return Err(Problem::forbidden(format!("{} is what the bus tells of a room", event.event)));
        }
        let room: Room =
            event.subject.as_deref().unwrap_or_default().parse().map_err(|error| refuse("subject", error))?;
        if event.partitionkey.as_deref().is_some_and(|key| key != room.as_str()) {
            return Err(refuse("partitionkey", "of a room's event is the room"));
        }
        if self.scopes.write_rooms.iter().any(|rooms| rooms.have(&room)) {
            return Ok(());
        }
        Err(self.refused(format!("publishing in the room {room} needs the scope {WRITE_ROOM}{room}")))
    }

    /// Whether it may publish such events to this queue; into rooms see [`Caller::may_publish`].
    pub(crate) fn may_write(&self, queue: &Name, event: &Name) -> Result<(), Problem> {
        if let Some(whose) = Self::whose_alone(queue) {
            return Err(Problem::forbidden(format!("the queue {queue} is {whose}")));
        }
        // What an event says isn't looked at here: a scope with conditions allows nothing.
        if self.scopes.write.iter().any(|term| term.conditions.is_empty() && term.takes(queue, event)) {
            return Ok(());
        }
        Err(self.refused(format!("publishing {queue}/{event} needs the scope {WRITE}{queue}/{event}")))
    }

    /// Whether it may see the job or schedule of this owner: its own, or any. `None`: all of them.
    pub(crate) fn may_read_jobs(&self, owner: Option<&str>) -> Result<(), Problem> {
        let owns = self.subject.is_some() && self.subject.as_deref() == owner;
        self.needs(owns || self.scopes.read_jobs, READ_JOBS)
    }

    /// Whether it may create jobs and schedules.
    pub(crate) fn may_write_jobs(&self) -> Result<(), Problem> {
        self.needs(self.scopes.write_jobs, WRITE_JOBS)
    }

    /// Whether it may change the job or schedule of this owner: what it may see.
    pub(crate) fn may_change_jobs(&self, owner: Option<&str>) -> Result<(), Problem> {
        self.may_write_jobs()?;
        self.may_read_jobs(owner)
    }

    /// Whether it may see how queues and groups are.
    pub(crate) fn may_look(&self) -> Result<(), Problem> {
        self.needs(self.scopes.look, LOOK)
    }

    /// Whether it may see and change queues, groups and connections.
    pub(crate) fn may_operate(&self) -> Result<(), Problem> {
        self.needs(self.scopes.operate, OPERATE)
    }

    /// Whoever operates needs no other scope.
    fn needs(&self, has: bool, scope: &str) -> Result<(), Problem> {
        if has || self.scopes.operate {
            return Ok(());
        }
        Err(self.refused(format!("this needs the scope {scope}")))
    }
}
