//! What a job is to be: checked whole before anything is stored.

use std::{collections::BTreeMap, time::Duration};

use telemetry::TraceContext;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{Error, Priority, Task, machine::Step};

/// The most tasks of a job.
pub const MAX_TASKS: usize = 256;
/// The most bytes of a task's input, or of its result, as JSON.
pub const MAX_DATA_BYTES: usize = 256 * 1024;
/// How far ahead a job may lie.
const FURTHEST: time::Duration = time::Duration::days(366);
const NAME_BYTES: usize = 128;

/// A job that is to be created. [`crate::Kind::job`] makes one of a single task.
#[derive(Clone, Debug)]
pub struct NewJob {
    pub(crate) name: String,
    pub(crate) id: Option<Uuid>,
    pub(crate) priority: Priority,
    pub(crate) begin: Begin,
    pub(crate) key: Option<String>,
    pub(crate) owner: Option<String>,
    pub(crate) cron: Option<String>,
    pub(crate) trace: Option<TraceContext>,
    pub(crate) tasks: Vec<(String, Task)>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Begin {
    Now,
    After(Duration),
    At(OffsetDateTime),
}

impl NewJob {
    /// A job of several tasks: 1 to 256, added by [`Self::task`]. `name`: at most 128 bytes.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            id: None,
            priority: Priority::Normal,
            begin: Begin::Now,
            key: None,
            owner: None,
            cron: None,
            // Whoever creates it within a request has its attempts in the request's trace.
            trace: telemetry::current(),
            tasks: Vec::new(),
        }
    }

    /// Adds a task; `name` is its own within the job.
    #[must_use]
    pub fn task(mut self, name: &str, task: Task) -> Self {
        self.tasks.push((name.to_owned(), task));
        self
    }

    /// The job's id; a random one otherwise. A job of this id that is there already is answered instead.
    #[must_use]
    pub fn id(mut self, id: Uuid) -> Self {
        self.id = Some(id);
        self
    }

    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// Begins so much later; at most 366 days.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.begin = Begin::After(delay);
        self
    }

    /// Begins then, or at once where that is past.
    #[must_use]
    pub fn run_at(mut self, time: OffsetDateTime) -> Self {
        self.begin = Begin::At(time);
        self
    }

    /// While a job of this name and key has not ended, creating another answers that one. At most 128 bytes.
    #[must_use]
    pub fn unique(mut self, key: &str) -> Self {
        self.key = Some(key.to_owned());
        self
    }

    /// The principal whose job it is; at most 128 bytes.
    #[must_use]
    pub fn owner(mut self, owner: &str) -> Self {
        self.owner = Some(owner.to_owned());
        self
    }

    /// The trace that its attempts belong to, instead of the current one.
    #[must_use]
    pub fn trace(mut self, trace: TraceContext) -> Self {
        self.trace = Some(trace);
        self
    }

    /// When it begins, where that lies ahead.
    pub(crate) fn due(&self, now: OffsetDateTime) -> Option<OffsetDateTime> {
        match self.begin {
            Begin::Now => None,
            Begin::After(delay) => Some(now + delay),
            Begin::At(time) => Some(time),
        }
        .filter(|due| *due > now)
    }

    /// Checks all of it; the tasks as the state machine has them.
    pub(crate) fn check(&self, now: OffsetDateTime) -> Result<Vec<Step>, Error> {
        let short = |field: &str, text: Option<&str>| match text {
            Some(text) if text.is_empty() || text.len() > NAME_BYTES => invalid(field, "must be 1 to 128 bytes"),
            Some(text) if text.chars().any(char::is_control) => invalid(field, "must not contain control characters"),
            _ => Ok(()),
        };
        short("name", Some(&self.name))?;
        short("unique", self.key.as_deref())?;
        short("owner", self.owner.as_deref())?;
        if let Begin::After(delay) = self.begin
            && delay > FURTHEST
        {
            return invalid("delay", "must be at most 366 days");
        }
        let due = self.due(now);
        if due.is_some_and(|due| due > now + FURTHEST) {
            return invalid("run_at", "must be within 366 days");
        }
        if self.tasks.is_empty() || self.tasks.len() > MAX_TASKS {
            return invalid("tasks", &format!("{} are not within 1 to {MAX_TASKS}", self.tasks.len()));
        }
        let mut places = BTreeMap::new();
        for (at, (name, task)) in self.tasks.iter().enumerate() {
            short("tasks.name", Some(name))?;
            if places.insert(name.as_str(), at).is_some() {
                return invalid(&format!("tasks.{name}"), "there are two of this name");
            }
            task.check(name)?;
        }
        self.in_order(&places, due)
    }

    /// A task comes after earlier ones, so that there is no cycle.
    fn in_order(&self, places: &BTreeMap<&str, usize>, due: Option<OffsetDateTime>) -> Result<Vec<Step>, Error> {
        let mut steps = Vec::with_capacity(self.tasks.len());
        for (at, (name, task)) in self.tasks.iter().enumerate() {
            let mut needs = Vec::new();
            for before in &task.after {
                match places.get(before.as_str()) {
                    Some(place) if *place < at => needs.push(*place),
                    Some(_) => {
                        let reason =
                            format!("{before:?} doesn't stand before it; a task comes after earlier ones only");
                        return invalid(&format!("tasks.{name}.after"), &reason);
                    }
                    None => return invalid(&format!("tasks.{name}.after"), &format!("no task {before:?}")),
                }
            }
            needs.sort_unstable();
            needs.dedup();
            steps.push(Step::new(needs, due));
        }
        Ok(steps)
    }
}

pub(crate) fn invalid<T>(field: &str, reason: &str) -> Result<T, Error> {
    Err(Error::Invalid(format!("{field}: {reason}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    const KIND: Kind<u32, u32> = Kind::new("count");

    fn refused(job: NewJob) -> String {
        job.check(OffsetDateTime::UNIX_EPOCH).unwrap_err().to_string()
    }

    #[test]
    fn what_contradicts_itself_is_refused_by_name() {
        let job = || NewJob::new("import");
        assert!(refused(job()).starts_with("tasks: 0"));
        assert!(refused(job().task("a", KIND.task(&1)).task("a", KIND.task(&1))).starts_with("tasks.a: "));
        let cycle = job().task("a", KIND.task(&1).after(["b"])).task("b", KIND.task(&1).after(["a"]));
        assert!(refused(cycle).starts_with("tasks.a.after: \"b\" doesn't stand before it"));
        assert!(refused(job().task("a", KIND.task(&1).after(["a"]))).starts_with("tasks.a.after"));
        assert_eq!(refused(job().task("a", KIND.task(&1).after(["z"]))), "tasks.a.after: no task \"z\"");
        let many = (0..=MAX_TASKS).fold(job(), |job, at| job.task(&at.to_string(), KIND.task(&1)));
        assert!(refused(many).starts_with("tasks: 257"));
        assert!(refused(KIND.job(&1).delay(Duration::from_secs(367 * 86_400))).starts_with("delay"));
        assert!(refused(KIND.job(&1).unique("")).starts_with("unique"));
        assert!(refused(Kind::<u32, u32>::new("Two Words").job(&1)).starts_with("kind"));
        let large = Kind::<String, ()>::new("large").job(&"x".repeat(MAX_DATA_BYTES));
        assert_eq!(refused(large), "tasks.large.input: must be at most 256 KiB");
        let hasty = NewJob::new("hasty").task("a", KIND.task(&1).timeout(Duration::ZERO));
        assert!(refused(hasty).starts_with("tasks.a.timeout"));
    }

    #[test]
    fn a_time_that_is_past_is_now() {
        let now = OffsetDateTime::UNIX_EPOCH;
        let job = KIND.job(&1).run_at(now - time::Duration::seconds(1));
        assert_eq!(job.due(now), None);
        assert_eq!(KIND.job(&1).delay(Duration::from_secs(5)).due(now), Some(now + time::Duration::seconds(5)));
    }
}
