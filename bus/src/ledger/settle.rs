//! Settling: by the member, or by time.

use super::{Fate, Ledger, Record, State};
use crate::{
    Failed, LeaseLost, Mode, Verb,
    broken::{Promise, is_broken},
    retry,
};

/// Bytes of an error that a dead letter keeps, and that a failure in the history keeps.
const LAST_ERROR: usize = 4096;
const PAST_ERROR: usize = 256;

impl Ledger {
    /// Settles a delivery by its lease.
    pub(crate) fn settle(
        &mut self,
        position: u64,
        secret: u64,
        verb: Verb,
        now: i64,
        until: i64,
        jitter: f64,
    ) -> Result<Fate, LeaseLost> {
        let is_holder = |valid: u64| valid == secret || is_broken(Promise::TokensAreChecked);
        match self.records.get(&position).map(|record| &record.state) {
            Some(State::Leased { secret: valid, until, .. }) if is_holder(*valid) && *until > now => {}
            _ => return Err(LeaseLost),
        }
        Ok(match verb {
            Verb::Ack => {
                self.remove(position);
                Fate::Acked
            }
            Verb::Extend => {
                self.update(position, |record| {
                    if let State::Leased { until: end, .. } = &mut record.state {
                        *end = until;
                    }
                });
                Fate::Extended
            }
            Verb::Release => {
                self.give_back(position);
                Fate::Released
            }
            Verb::Defer { delay } => {
                let delay = i64::try_from(delay.min(retry::MAX_DELAY).as_millis()).unwrap_or(i64::MAX);
                self.update(position, |record| {
                    // A handler has lived through it.
                    record.suspect = false;
                    record.state = State::Retrying { at: now.saturating_add(delay) };
                });
                self.give_back_behind(position);
                Fate::Deferred
            }
            Verb::Dead { reason } => self.die(position, "refused", reason, now),
            Verb::Nack { reason, retryable: false, .. } => self.die(position, "refused", reason, now),
            Verb::Nack { delay, reason, retryable: true } => {
                self.update(position, |record| record.suspect = false);
                let delay = delay.map(|delay| delay.min(retry::MAX_DELAY));
                self.fail(position, reason, now, delay, jitter)
            }
        })
    }

    /// Ends the leases and the delays whose time has come. An expiry is charged to the event only where its member held
    /// nothing else (`held` counts over the group's partitions); otherwise nobody knows which event the member died
    /// of: all of them become suspects, are leased alone from now on, and pay nothing.
    pub(crate) fn expire(
        &mut self,
        now: i64,
        held: impl Fn(&str) -> usize,
        mut jitter: impl FnMut() -> f64,
    ) -> Vec<(u64, Fate)> {
        let over: Vec<(u64, bool)> = self
            .due
            .range(..=(now, u64::MAX))
            .filter_map(|(_, position)| {
                let record = self.records.get(position)?;
                match &record.state {
                    State::Leased { member, .. } => Some((*position, held(member) == 1)),
                    _ => Some((*position, false)),
                }
            })
            .collect();
        let mut fates = Vec::new();
        for (position, alone) in over {
            let Some(record) = self.records.get(&position) else { continue };
            match record.state {
                State::Retrying { .. } => self.set_state(position, State::Ready),
                State::Leased { .. } if alone => fates.push((position, self.expire_alone(position, now, jitter()))),
                State::Leased { .. } => {
                    self.update(position, |record| record.suspect = true);
                    self.give_back(position);
                    fates.push((position, Fate::Released));
                }
                // An exclusive group's later lease, given back by an earlier one's end.
                State::Ready | State::Parked | State::Dead => {}
            }
        }
        fates
    }

    /// Ends every lease, whatever its time: the process that held them is gone.
    pub(crate) fn expire_all(&mut self) {
        let leased: Vec<u64> = self
            .records
            .iter()
            .filter(|(_, record)| matches!(record.state, State::Leased { .. }))
            .map(|(position, _)| *position)
            .collect();
        for position in leased {
            self.update(position, |record| {
                if let State::Leased { until, .. } = &mut record.state {
                    *until = i64::MIN;
                }
            });
        }
    }

    /// What waits for another attempt comes now; how many.
    pub(crate) fn hurry(&mut self, which: impl Fn(u64) -> bool) -> u64 {
        let waits = |(position, record): (&u64, &Record)| {
            (matches!(record.state, State::Retrying { .. }) && which(*position)).then_some(*position)
        };
        let waiting: Vec<u64> = self.records.iter().filter_map(waits).collect();
        waiting.iter().for_each(|position| self.set_state(*position, State::Ready));
        waiting.len() as u64
    }

    /// Puts a dead letter back, to be delivered from `at` on: before those that wait for it, or for its key.
    pub(crate) fn redrive(&mut self, position: u64, key: u64, redrive: u32, at: i64) {
        if self.is_blocking(position) {
            self.update(position, |record| record.redrive = redrive);
            self.set_state(position, State::Retrying { at });
            return;
        }
        self.insert(position, Record { redrive, ..Record::new(key) });
        if self.record(position).is_some_and(|record| record.state == State::Ready) {
            self.set_state(position, State::Retrying { at });
        }
    }

    /// A dead letter is discarded: if it blocked, it doesn't any more.
    pub(crate) fn discard(&mut self, position: u64) {
        if self.is_blocking(position) {
            self.remove(position);
        }
    }

    fn expire_alone(&mut self, position: u64, now: i64, jitter: f64) -> Fate {
        self.update(position, |record| {
            record.suspect = true;
            record.expiries += 1;
        });
        let error = "the lease expired: the member died, or was away too long".to_owned();
        if self.record(position).is_some_and(|record| record.expiries >= retry::MAX_EXPIRIES) {
            return self.die(position, "crash_loop", error, now);
        }
        self.fail(position, error, now, None, jitter)
    }

    fn fail(
        &mut self,
        position: u64,
        error: String,
        now: i64,
        delay: Option<std::time::Duration>,
        jitter: f64,
    ) -> Fate {
        let failures = self.record(position).map_or(0, |record| record.failures) + 1;
        let Some(scheduled) = self.retry.delay(failures, jitter) else {
            return self.die(position, "exhausted", error, now);
        };
        let delay = i64::try_from(delay.unwrap_or(scheduled).as_millis()).unwrap_or(i64::MAX);
        self.update(position, |record| {
            charge(record, &error, now);
            record.state = State::Retrying { at: now.saturating_add(delay) };
        });
        self.give_back_behind(position);
        if is_broken(Promise::KeysKeepTheirOrder)
            && let Some(key) = self.records.get(&position).and_then(|record| self.keys.get_mut(&record.key))
            && let Some(next) = key.waiting.pop_first()
        {
            key.active = next;
            self.set_state(next, State::Ready);
        }
        Fate::Retrying
    }

    fn die(&mut self, position: u64, reason: &'static str, error: String, now: i64) -> Fate {
        let blocks = self.blocks();
        let died = match blocks {
            true => self.records.get(&position).cloned(),
            false => self.remove(position),
        };
        let Some(mut record) = died else { return Fate::Acked };
        if blocks {
            self.update(position, |record| {
                *record = Record { state: State::Dead, redrive: record.redrive, ..Record::new(record.key) };
            });
            self.give_back_behind(position);
        }
        charge(&mut record, &error, now);
        Fate::Dead { reason, error: cut(error, LAST_ERROR), record }
    }

    fn give_back(&mut self, position: u64) {
        self.set_state(position, State::Ready);
        self.give_back_behind(position);
    }

    /// An exclusive group's order: what was leased behind an event that comes again must come again after it.
    fn give_back_behind(&mut self, position: u64) {
        if self.mode != Mode::Exclusive {
            return;
        }
        let behind: Vec<u64> = self
            .records
            .range(position + 1..)
            .filter(|(_, record)| matches!(record.state, State::Leased { .. }))
            .map(|(position, _)| *position)
            .collect();
        for position in behind {
            self.set_state(position, State::Ready);
        }
    }
}

fn charge(record: &mut Record, error: &str, now: i64) {
    record.failures += 1;
    record.history.push(Failed { at: now, error: cut(error.to_owned(), PAST_ERROR) });
}

/// At most `limit` bytes of a text, whole characters.
fn cut(mut text: String, limit: usize) -> String {
    if text.len() > limit {
        let end = (0..=limit).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
    }
    text
}
