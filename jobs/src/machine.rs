//! A job's tasks as a state machine: no time of its own, no input or output.
//!
//! Every change of a job is: read its tasks, call one method, write what differs. A task is *wanted* when it must be put
//! on the bus; each time it is, its `run` goes up, so that a delivery of an earlier run is known to be stale. What has
//! started carries the number of its start, so that whoever lost it can't end it.

mod step;

use time::OffsetDateTime;

pub(crate) use self::step::{Dispatch, Step, Told};
use crate::{Error, State};

/// The tasks of a job, in the order they were given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Machine {
    pub tasks: Vec<Step>,
}

/// What to do with a delivery of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begun {
    /// Handle it. `lost`: the attempt before this one has vanished.
    Started { start: u32, attempt: u32, lost: bool },
    /// The last attempt that it may have has vanished: it has failed.
    Exhausted,
    /// The attempt before this one has vanished, and there is to be no other: it was stopped, or the job has failed.
    Vanished,
    /// Nothing: it is done, or another delivery's.
    Stale,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Done,
    /// Tried again then; the caller knows that it may be.
    Retry(OffsetDateTime),
    Failed,
    /// Uncharged.
    GivenBack,
}

impl Machine {
    /// A new job's: what may begin is wanted.
    pub fn new(tasks: Vec<Step>) -> Self {
        let mut machine = Self { tasks };
        machine.want();
        machine
    }

    /// The state of the job as a whole, which follows from its tasks.
    pub fn state(&self) -> State {
        let any = |state| self.tasks.iter().any(|task| task.state == state);
        if self.tasks.iter().all(|task| task.state.is_final()) {
            return match () {
                () if any(State::Failed) => State::Failed,
                () if any(State::Cancelled) => State::Cancelled,
                () => State::Completed,
            };
        }
        let ready = |at: &usize| self.tasks[*at].state == State::Pending && self.is_ready(*at);
        if any(State::Running) {
            State::Running
        } else if (0..self.tasks.len()).any(|at| ready(&at)) {
            let begun = self.tasks.iter().any(|task| task.state == State::Completed);
            if begun { State::Running } else { State::Pending }
        } else if any(State::Retrying) {
            State::Retrying
        } else if any(State::Scheduled) {
            State::Scheduled
        } else {
            State::Stopped
        }
    }

    /// A delivery of the run has come to a worker; the task may be tried `most` times.
    pub fn begin(&mut self, at: usize, run: u32, most: u32) -> Begun {
        let failed = self.has_failed();
        let Some(task) = self.tasks.get_mut(at).filter(|task| task.is_out(run)) else { return Begun::Stale };
        let lost = task.state == State::Running;
        // Its last one: also where it was told to stop, since there is none left to resume with.
        if lost && task.attempts >= most {
            self.fail(at);
            return Begun::Exhausted;
        }
        if lost && task.told == Some(Told::Stop) {
            // Nobody is there who could stop.
            task.end(State::Stopped);
            return Begun::Vanished;
        }
        if lost && failed {
            task.end(State::Cancelled);
            return Begun::Vanished;
        }
        (task.state, task.told, task.dispatch) = (State::Running, None, Dispatch::Out);
        task.starts += 1;
        task.attempts += 1;
        Begun::Started { start: task.starts, attempt: task.attempts, lost }
    }

    /// The attempt of that start has ended. False: the task isn't its any more, and nothing changed.
    pub fn end(&mut self, at: usize, start: u32, end: End) -> bool {
        let Some(task) = self.tasks.get_mut(at).filter(|t| t.state == State::Running && t.starts == start) else {
            return false;
        };
        let stopped = task.told == Some(Told::Stop);
        match end {
            End::Done => task.end(State::Completed),
            End::Failed => self.fail(at),
            End::Retry(_) if stopped => task.end(State::Stopped),
            End::Retry(due) => {
                task.end(State::Retrying);
                task.due = Some(due);
            }
            End::GivenBack => {
                task.attempts -= 1;
                // Where it wasn't stopped the bus has it still, and delivers it again.
                if stopped { task.end(State::Stopped) } else { task.state = State::Pending }
            }
        }
        self.want();
        true
    }

    /// The bus has given up on the run: whoever started it died of it.
    pub fn poison(&mut self, at: usize, run: u32) -> bool {
        if !self.tasks.get(at).is_some_and(|task| task.is_out(run)) {
            return false;
        }
        self.fail(at);
        true
    }

    /// The bus has lost the run: it is put there again, under another one.
    pub fn republish(&mut self, at: usize, run: u32) -> bool {
        let Some(task) = self.tasks.get_mut(at).filter(|task| task.is_out(run)) else { return false };
        task.run += 1;
        task.dispatch = Dispatch::Wanted;
        true
    }

    /// What is due becomes pending.
    pub fn due(&mut self, now: OffsetDateTime) {
        let waits = |task: &&mut Step| matches!(task.state, State::Scheduled | State::Retrying);
        for task in self.tasks.iter_mut().filter(waits) {
            if task.due.is_none_or(|due| due <= now) {
                task.pend();
            }
        }
        self.want();
    }

    /// Stops a task, or all. What runs is told, and may end, or be given back.
    pub fn stop(&mut self, which: Option<usize>, now: OffsetDateTime) -> Result<(), Error> {
        self.open(which)?.into_iter().for_each(|at| self.tasks[at].stop(now));
        Ok(())
    }

    /// Lets a task, or all, go on.
    pub fn resume(&mut self, which: Option<usize>, now: OffsetDateTime) -> Result<(), Error> {
        let stopped: Vec<usize> = self.open(which)?.into_iter().filter(|at| self.tasks[*at].is_stopped()).collect();
        if stopped.is_empty() {
            return Err(Error::NotStopped(self.state_of(which)));
        }
        stopped.into_iter().for_each(|at| self.tasks[at].resume(now));
        self.want();
        Ok(())
    }

    /// Ends a task and what comes after it, or all.
    pub fn cancel(&mut self, which: Option<usize>) -> Result<(), Error> {
        if self.state_of(which) == State::Cancelled {
            return Ok(());
        }
        self.open(which)?.into_iter().for_each(|at| self.tasks[at].cancel());
        self.cancel_what_follows();
        Ok(())
    }

    fn state_of(&self, which: Option<usize>) -> State {
        which.map_or_else(|| self.state(), |at| self.tasks[at].state)
    }

    /// Those of the asked that have not ended; an error if the asked has.
    fn open(&self, which: Option<usize>) -> Result<Vec<usize>, Error> {
        let state = self.state_of(which);
        if state.is_final() {
            return Err(Error::Ended(state));
        }
        let asked = which.map_or(0..self.tasks.len(), |at| at..at + 1);
        Ok(asked.filter(|at| !self.tasks[*at].state.is_final()).collect())
    }

    /// A task has failed for good: what has not begun never will. What runs may end.
    fn fail(&mut self, at: usize) {
        self.tasks[at].end(State::Failed);
        for task in &mut self.tasks {
            if !task.state.is_final() && task.state != State::Running {
                task.cancel();
            }
        }
    }

    fn cancel_what_follows(&mut self) {
        // A task comes after earlier ones only, so one pass reaches all.
        for at in 0..self.tasks.len() {
            let dead = self.tasks[at].needs.iter().any(|need| self.tasks[*need].state == State::Cancelled);
            if dead && !self.tasks[at].state.is_final() {
                self.tasks[at].cancel();
            }
        }
    }

    fn is_ready(&self, at: usize) -> bool {
        self.tasks[at].needs.iter().all(|need| self.tasks[*need].state == State::Completed)
    }

    fn has_failed(&self) -> bool {
        self.tasks.iter().any(|task| task.state == State::Failed)
    }

    /// Wants what may begin. Where a task has failed, nothing does any more.
    fn want(&mut self) {
        let failed = self.has_failed();
        for at in 0..self.tasks.len() {
            let open = !self.tasks[at].state.is_final() && self.tasks[at].state != State::Running;
            if failed && open {
                self.tasks[at].cancel();
            } else if self.tasks[at].state == State::Pending
                && self.tasks[at].dispatch == Dispatch::Idle
                && self.is_ready(at)
            {
                self.tasks[at].dispatch = Dispatch::Wanted;
                self.tasks[at].run += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests;
