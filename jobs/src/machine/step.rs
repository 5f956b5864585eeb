//! One task of a job, as far as its state goes.

use time::OffsetDateTime;

use crate::State;

/// A task, as far as its state goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub state: State,
    /// The tasks it comes after, by their place.
    pub needs: Vec<usize>,
    /// When what is scheduled or retrying becomes pending.
    pub due: Option<OffsetDateTime>,
    /// What its running handler is to be told.
    pub told: Option<Told>,
    pub dispatch: Dispatch,
    /// How often it was put on the bus.
    pub run: u32,
    /// How often it was started; what was given back counts here alone.
    pub starts: u32,
    /// How often it was tried.
    pub attempts: u32,
}

/// What a running handler is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Stop,
    Cancel,
}

/// Whether the bus has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dispatch {
    Idle,
    /// To be published.
    Wanted,
    /// Published, and not done with.
    Out,
}

impl Step {
    pub fn new(needs: Vec<usize>, due: Option<OffsetDateTime>) -> Self {
        let state = if due.is_some() && needs.is_empty() { State::Scheduled } else { State::Pending };
        let due = due.filter(|_| state == State::Scheduled);
        Self { state, needs, due, told: None, dispatch: Dispatch::Idle, run: 0, starts: 0, attempts: 0 }
    }

    /// Waits for a worker, under a run of its own.
    pub(super) fn pend(&mut self) {
        (self.state, self.due, self.dispatch) = (State::Pending, None, Dispatch::Idle);
    }

    pub(super) fn end(&mut self, state: State) {
        (self.state, self.due, self.dispatch) = (state, None, Dispatch::Idle);
        self.told = self.told.filter(|_| state == State::Cancelled);
    }

    pub(super) fn cancel(&mut self) {
        // Its handler is told, and nothing it says counts any more.
        self.told = (self.state == State::Running).then_some(Told::Cancel);
        self.end(State::Cancelled);
    }

    pub(super) fn stop(&mut self, now: OffsetDateTime) {
        match self.state {
            State::Running => self.told = Some(Told::Stop),
            State::Stopped => {}
            _ => {
                // A time that lies ahead counts when it is resumed; the wait for another attempt doesn't.
                self.due = self.due.filter(|due| self.state == State::Scheduled && *due > now);
                (self.state, self.dispatch) = (State::Stopped, Dispatch::Idle);
            }
        }
    }

    pub(super) fn resume(&mut self, now: OffsetDateTime) {
        match (self.state, self.due) {
            (State::Running, _) => self.told = None,
            (State::Stopped, Some(due)) if due > now => self.state = State::Scheduled,
            (State::Stopped, _) => self.pend(),
            _ => {}
        }
    }

    /// Whether this run of it is, or will be, on the bus and isn't done with.
    pub(super) fn is_out(&self, run: u32) -> bool {
        self.run == run && self.dispatch != Dispatch::Idle && matches!(self.state, State::Pending | State::Running)
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.state == State::Stopped || (self.state == State::Running && self.told == Some(Told::Stop))
    }
}
