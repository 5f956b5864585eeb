//! What a case plays on.

use std::time::Duration;

use bus::{Bus, Group, Mode};
use events::{Envelope, Name};
use rand::rngs::StdRng;

use crate::{
    history::History,
    load::{self, Wares, Witness},
};

/// Names of a case's own, its history and its chances.
pub struct Stage {
    case: &'static str,
    pub history: History,
    pub seed: u64,
    /// 1: a short load, for every day; more: so many times as much.
    pub scale: u32,
}

impl Stage {
    pub fn new(case: &'static str, history: History, seed: u64, scale: u32) -> Self {
        Self { case, history, seed, scale }
    }

    pub fn case(&self) -> &'static str {
        self.case
    }

    /// The case's queue.
    ///
    /// # Errors
    /// Never: the names of cases are names.
    pub fn queue(&self) -> anyhow::Result<Name> {
        Ok(Name::new(&format!("{}-{:X}", self.case.to_uppercase(), self.seed))?)
    }

    /// A group of the case on all of its queue, with leases of a second.
    ///
    /// # Errors
    /// Never: the names of cases are names.
    pub fn group(&self, name: &str, mode: Mode) -> anyhow::Result<Group> {
        let name = format!("{}-{:x}-{name}", self.case, self.seed);
        let filter = format!("{}/*", self.queue()?).parse()?;
        Ok(Group { lease: Duration::from_secs(1), ..Group::new(&name, filter, mode) })
    }

    /// # Errors
    /// Never: the names of cases are names.
    pub fn wares(&self, keys: u64) -> anyhow::Result<Wares> {
        Wares::new(self.queue()?.as_str(), keys)
    }

    /// An event of the case's queue.
    ///
    /// # Errors
    /// Never: the names of cases are names.
    pub fn event(&self, id: &str, key: &str) -> anyhow::Result<Envelope> {
        Ok(self.wares(1)?.event(id, key, 0))
    }

    pub fn witness(&self, bus: Bus) -> Witness {
        Witness::new(bus, self.history.clone())
    }

    pub fn rng(&self, purpose: &str) -> StdRng {
        load::rng(self.seed, purpose)
    }

    /// So many times `least` as the scale says.
    pub fn times(&self, least: usize) -> usize {
        least * self.scale as usize
    }
}
