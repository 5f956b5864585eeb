//! Handing out tasks: each is a delivery of its kind's group, and an attempt that has begun in the database.

use bus::{Claim, Leased, Verb};
use futures_util::future::select_all;
use rand::seq::SliceRandom as _;

use super::{Ask, Handed, MAX_CLAIM, MAX_KINDS, Outcome, Outlet};
use crate::{
    Error, Priority, Retry, Ticket,
    counter::IDLE,
    event::{self, Run},
    kind::{self, TIMEOUT},
    lane::group,
    share::WEIGHTS,
    store::Started,
    work::DEFER,
    worker::LEASE,
};

impl Outlet {
    /// Hands out tasks of these kinds, 16 : 4 : 1 by priority where all wait; waits for the first until `over`.
    ///
    /// Call it to its end, and give back what nobody is there for any more: cut off in between, a task stays begun until its
    /// lease ends.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the field; [`Error::Unavailable`].
    pub async fn claim(&self, ask: &Ask, over: impl Future<Output = ()>) -> Result<Vec<Handed>, Error> {
        ask.check()?;
        let bus = self.jobs.bus();
        let groups = ask.kinds.iter().flat_map(|kind| Priority::ALL.map(|priority| event::group(kind, priority)));
        let mut claimable: Vec<_> = groups.map(|group| bus.claimable(&group)).collect();
        let mut over = std::pin::pin!(over);
        loop {
            claimable.iter_mut().for_each(|group| _ = group.borrow_and_update());
            let handed = self.claim_now(ask).await?;
            if !handed.is_empty() {
                return Ok(handed);
            }
            let woken = select_all(claimable.iter_mut().map(|group| {
                Box::pin(async move {
                    // Without a sender it is looked at in its time.
                    if group.changed().await.is_err() {
                        std::future::pending().await
                    }
                })
            }));
            tokio::select! {
                () = over.as_mut() => return Ok(handed),
                _ = woken => {}
                () = tokio::time::sleep(IDLE) => {}
            }
        }
    }

    async fn claim_now(&self, ask: &Ask) -> Result<Vec<Handed>, Error> {
        let mut handed = Vec::new();
        let mut hungry = [true; 3];
        while handed.len() < ask.max
            && let Some(at) = draw(hungry, self.jobs.jitter())
        {
            let begun = match self.claim_one(ask, Priority::ALL[at]).await {
                Ok(None) => {
                    hungry[at] = false;
                    Ok(None)
                }
                Ok(Some((group, leased))) => self.begin(ask, group, leased).await,
                Err(error) => Err(error),
            };
            match begun {
                Ok(begun) => handed.extend(begun),
                // What it has it is to get.
                Err(_) if !handed.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(handed)
    }

    /// A delivery of one of the kinds, in an order that favours none.
    async fn claim_one(&self, ask: &Ask, priority: Priority) -> Result<Option<(String, Leased)>, Error> {
        let away = |error: bus::Error| Error::Unavailable(error.to_string());
        let mut kinds: Vec<&String> = ask.kinds.iter().collect();
        kinds.shuffle(&mut rand::rng());
        let bus = self.jobs.bus();
        for kind in kinds {
            let group = group(kind, priority, LEASE);
            let claim = Claim { group: group.name.clone(), member: ask.worker.clone(), max: 1, bytes: 1 << 20 };
            let claimed = match bus.claim(claim.clone()).await {
                // Nobody has worked on the kind yet, or the bus was reset.
                Err(bus::Error::NoGroup(_) | bus::Error::NoQueue(_)) => {
                    bus.declare_group(group).await.map_err(away)?;
                    bus.claim(claim.clone()).await
                }
                claimed => claimed,
            };
            if let Some(leased) = claimed.map_err(away)?.leased.pop() {
                return Ok(Some((claim.group, leased)));
            }
        }
        Ok(None)
    }

    /// None: there is nothing to do for the delivery, or it can't begin now and comes again.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: no other one would begin now either.
    async fn begin(&self, ask: &Ask, group: String, leased: Leased) -> Result<Option<Handed>, Error> {
        let jobs = &self.jobs;
        let mut away = None;
        let verb = match Run::of(&leased.envelope) {
            None => Verb::Dead { reason: "it is no task".to_owned() },
            Some(run) => match jobs.store().begin(run, Retry::SCHEDULE, &ask.worker, jobs.now()).await {
                Ok(Some(started)) => {
                    let ticket = Ticket { group, token: leased.token, run, start: started.start };
                    match self.handed(&ticket, started, &leased) {
                        Ok(handed) => return Ok(Some(handed)),
                        Err(error) => {
                            let reason = error.to_string();
                            _ = self.end(&ticket, Outcome::Failed { reason }).await;
                            return Ok(None);
                        }
                    }
                }
                Ok(None) => Verb::Ack,
                Err(error) => {
                    tracing::warn!(%error, "a task can't begin");
                    away = Some(error).filter(|error| matches!(error, Error::Unavailable(_)));
                    Verb::Defer { delay: DEFER }
                }
            },
        };
        self.settle(&group, leased.token, verb).await;
        away.map_or(Ok(None), Err)
    }

    fn handed(&self, ticket: &Ticket, started: Started, leased: &Leased) -> Result<Handed, Error> {
        let read = |json: &str| serde_json::from_str(json).map_err(|error| Error::Stored(error.to_string()));
        let kind = event::of_group(&ticket.group).map(|(kind, _)| kind.to_owned()).unwrap_or_default();
        let results = started.results.iter().map(|(task, result)| Ok((task.clone(), read(result)?)));
        Ok(Handed {
            ticket: ticket.clone(),
            job: started.run.job,
            name: started.name,
            task: started.task,
            kind,
            attempt: started.attempt,
            owner: started.owner,
            input: read(&started.input)?,
            results: results.collect::<Result<_, Error>>()?,
            lease_until: leased.until,
            timeout_at: self.jobs.now() + started.timeout.unwrap_or(TIMEOUT),
            traceparent: leased.envelope.traceparent.clone(),
            tracestate: leased.envelope.tracestate.clone(),
        })
    }
}

impl Ask {
    fn check(&self) -> Result<(), Error> {
        if !(1..=MAX_KINDS).contains(&self.kinds.len()) {
            return Err(Error::Invalid(format!("kinds: {} are not within 1 to {MAX_KINDS}", self.kinds.len())));
        }
        if !(1..=MAX_CLAIM).contains(&self.max) {
            return Err(Error::Invalid(format!("max: {} is not within 1 to {MAX_CLAIM}", self.max)));
        }
        let printable = self.worker.bytes().all(|byte| byte.is_ascii_graphic());
        if !printable || !(1..=64).contains(&self.worker.len()) {
            return Err(Error::Invalid("worker: must be 1 to 64 printable characters, without spaces".to_owned()));
        }
        self.kinds.iter().try_for_each(|kind| kind::check(kind))
    }
}

/// One of those that may have something, by its weight: who asks keeps no turn of its own, so chance shares them out.
fn draw(hungry: [bool; 3], random: f64) -> Option<usize> {
    let weight = |at: &usize| if hungry[*at] { WEIGHTS[*at] } else { 0 };
    let total: i64 = (0..3).map(|at| weight(&at)).sum();
    let mut rest = random * total as f64;
    (0..3).filter(|at| hungry[*at]).find(|at| {
        rest -= weight(at) as f64;
        rest < 0.0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_full_queues_share_chance_16_to_4_to_1() {
        let mut drawn = [0; 3];
        for turn in 0..2100 {
            drawn[draw([true; 3], f64::from(turn) / 2100.0).unwrap()] += 1;
        }
        assert_eq!(drawn, [1600, 400, 100]);
        assert_eq!(draw([false, false, true], 0.999), Some(2));
        assert_eq!(draw([false; 3], 0.5), None);
    }
}
