//! Leases by name. Whoever holds one is in this process, and goes with it: nothing of them is in the file.

use std::{collections::HashMap, time::Duration};

use super::owned::{Answer, Owned};
use crate::{Fence, Refused};

/// The leases that there were, by name.
#[derive(Default)]
pub(super) struct Leads(HashMap<String, Lead>);

struct Lead {
    holder: String,
    number: u64,
    /// In milliseconds since 1970.
    until: i64,
}

impl Leads {
    /// What shuts out a publish that carries this.
    pub(super) fn shuts_out(&self, fence: Option<&Fence>) -> Option<Refused> {
        let fence = fence?;
        let current = self.0.get(&fence.name)?.number;
        (current > fence.number).then_some(Refused::Fenced { current })
    }
}

impl Owned {
    pub(super) fn lead(&mut self, name: String, holder: String, time: Duration, now: i64) -> Answer<Option<Fence>> {
        let until = now.saturating_add(i64::try_from(time.as_millis()).unwrap_or(i64::MAX));
        let known = self.leads.0.get(&name).map(|lead| (lead.holder == holder, lead.number, lead.until));
        let number = match known {
            Some((_, number, until)) if until <= now => (number + 1).max(now.unsigned_abs()),
            Some((true, number, _)) => number,
            Some((false, ..)) => return Ok(Ok(None)),
            None => now.unsigned_abs(),
        };
        self.leads.0.insert(name.clone(), Lead { holder, number, until });
        Ok(Ok(Some(Fence { name, number })))
    }

    pub(super) fn resign(&mut self, name: &str, holder: &str) -> Answer<()> {
        if let Some(lead) = self.leads.0.get_mut(name).filter(|lead| lead.holder == holder) {
            lead.until = 0;
        }
        Ok(Ok(()))
    }
}
