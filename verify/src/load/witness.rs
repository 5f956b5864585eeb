//! A handle on the bus that writes down what is asked of it and what it answers.

use bus::{
    Bus, Claim, Claimed, Confirm, Error, Group, Leased, Mode, Outcome, PublishOptions, Refused, Settlement, Start,
    Token, Which,
};
use events::{Envelope, Name};

use crate::{
    check::EXCUSED,
    history::{self, Action, Answer, Begins, Filter, Harm, History, Level, Op, Place, Seen, Sent, Settled, What},
};

/// Clones witness for the same history.
#[derive(Clone)]
pub struct Witness {
    pub bus: Bus,
    pub history: History,
}

impl Witness {
    pub fn new(bus: Bus, history: History) -> Self {
        Self { bus, history }
    }

    /// Through another node.
    pub fn on(&self, bus: Bus) -> Self {
        Self { bus, history: self.history.clone() }
    }

    /// Declares a group; `effects`: by handlers, not by hand.
    ///
    /// # Errors
    /// As [`Bus::declare_group`].
    pub async fn declare(&self, group: &Group, effects: bool) -> Result<(), Error> {
        self.history.write(What::Group {
            name: group.name.clone(),
            queue: group.filter.queue.to_string(),
            filter: filter(&group.filter),
            mode: match group.mode {
                Mode::Parallel => history::Mode::Parallel,
                Mode::Keyed => history::Mode::Keyed,
                Mode::Exclusive => history::Mode::Exclusive,
            },
            lease_ms: u64::try_from(group.lease.as_millis()).unwrap_or(u64::MAX),
            begins: match group.start {
                Start::Earliest => Begins::Earliest,
                Start::Latest => Begins::Latest,
                Start::Time(_) | Start::Position(_) => Begins::Elsewhere,
            },
            effects,
        });
        self.bus.declare_group(group.clone()).await
    }

    /// # Errors
    /// As [`Bus::publish_with`].
    pub async fn publish(
        &self,
        publisher: &str,
        events: Vec<Envelope>,
        options: PublishOptions,
    ) -> Result<Vec<Outcome>, Error> {
        let op = self.history.op();
        let level = if options.confirm == Confirm::Stored { Level::Stored } else { Level::Fsynced };
        let sent = events.iter().map(|event| self.sent(event)).collect();
        self.history.write(What::PublishAsked { op, publisher: publisher.to_owned(), level, sent });
        let answered = self.bus.publish_with(events, options).await;
        self.history.write(match &answered {
            Ok(outcomes) => What::PublishAnswered { op, answers: outcomes.iter().map(answer).collect() },
            Err(error) => What::PublishFailed { op, error: error.to_string() },
        });
        answered
    }

    /// An event as it is sent.
    pub fn sent(&self, envelope: &Envelope) -> Sent {
        Sent {
            id: envelope.id.clone(),
            queue: envelope.queue.to_string(),
            event: envelope.event.to_string(),
            key: envelope.key().to_owned(),
            expires: envelope.expirytime.is_some(),
            due: envelope.deliverytime.map(|time| self.history.moment(time)),
            expects: envelope.expectedversion,
            receipt: envelope.replyto.is_some(),
        }
    }

    /// Takes back what waits for its time.
    ///
    /// # Errors
    /// As [`Bus::cancel`].
    pub async fn cancel(&self, queue: &Name, source: &str, id: &str) -> Result<bool, Error> {
        let answered = self.bus.cancel(queue, source, id).await;
        let done = answered.as_ref().ok().copied();
        self.history.write(What::Cancelled { queue: queue.to_string(), id: id.to_owned(), done });
        answered
    }

    /// # Errors
    /// As [`Bus::claim`].
    pub async fn claim(&self, group: &str, member: &str, max: usize) -> Result<Claimed, Error> {
        let op = self.history.op();
        self.history.write(What::ClaimAsked { op, group: group.to_owned(), member: member.to_owned() });
        let claim = Claim { group: group.to_owned(), member: member.to_owned(), max, bytes: 1 << 20 };
        let claimed = self.bus.claim(claim).await;
        match &claimed {
            Ok(claimed) => {
                let delivered = |leased: &Leased| delivered(op, group, member, leased);
                self.history.write_all(claimed.leased.iter().map(delivered));
            }
            Err(error) => self.history.write(What::ClaimFailed { op, error: error.to_string() }),
        }
        claimed
    }

    /// # Errors
    /// As [`Bus::settle`].
    pub async fn settle(&self, group: &str, token: Token, verb: bus::Verb) -> Result<Settled, Error> {
        let op = self.history.op();
        let told = told(&verb);
        self.history.write(What::SettleAsked { op, group: group.to_owned(), token: token.to_string(), verb: told });
        let answered = self.bus.settle(group, vec![Settlement { token, verb }]).await;
        let settled = match &answered {
            Ok(outcomes) if outcomes.first().is_some_and(Result::is_ok) => Settled::Done,
            Ok(_) => Settled::LeaseLost,
            Err(_) => Settled::Unknown,
        };
        self.history.write(What::SettleAnswered { op, settled });
        answered.map(|_| settled)
    }

    /// Acknowledges what a claim gave, in one call.
    ///
    /// # Errors
    /// As [`Bus::settle`].
    pub async fn acknowledge(&self, group: &str, leased: &[Leased]) -> Result<(), Error> {
        let asked: Vec<(Op, Token)> = leased.iter().map(|leased| (self.history.op(), leased.token)).collect();
        self.history.write_all(asked.iter().map(|(op, token)| What::SettleAsked {
            op: *op,
            group: group.to_owned(),
            token: token.to_string(),
            verb: history::Verb::Ack,
        }));
        let settlements = asked.iter().map(|(_, token)| Settlement { token: *token, verb: bus::Verb::Ack }).collect();
        let answered = self.bus.settle(group, settlements).await;
        self.history.write_all(asked.iter().enumerate().map(|(at, (op, _))| {
            let settled = match answered.as_ref().map(|outcomes| outcomes.get(at)) {
                Ok(Some(Ok(()))) => Settled::Done,
                Ok(_) => Settled::LeaseLost,
                Err(_) => Settled::Unknown,
            };
            What::SettleAnswered { op: *op, settled }
        }));
        answered.map(drop)
    }

    /// # Errors
    /// As [`Bus::redrive`].
    pub async fn redrive(&self, group: &str, which: Which) -> Result<u64, Error> {
        self.operate(group, Action::Redrive, self.bus.redrive(group, which)).await
    }

    /// # Errors
    /// As [`Bus::discard`].
    pub async fn discard(&self, group: &str, which: Which) -> Result<u64, Error> {
        self.operate(group, Action::Discard, self.bus.discard(group, which)).await
    }

    /// # Errors
    /// As [`Bus::seek`].
    pub async fn seek(&self, group: &str, to: Start) -> Result<bus::Sought, Error> {
        self.operate(group, Action::Seek, self.bus.seek(group, to, false)).await
    }

    /// Before and after: what comes of it may come before its answer.
    async fn operate<T>(
        &self,
        group: &str,
        action: Action,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        self.operated(group, action);
        let answer = call.await;
        self.operated(group, action);
        answer
    }

    pub fn operated(&self, group: &str, action: Action) {
        self.history.write(What::Operated { group: group.to_owned(), action });
    }

    pub fn harmed(&self, by: &str, harm: Harm) {
        self.history.write(What::Harmed { by: by.to_owned(), harm });
    }

    pub fn healed(&self, by: &str) {
        self.history.write(What::Healed { by: by.to_owned() });
    }

    /// Returns when what has healed by now excuses nothing any more.
    pub async fn excused_no_more(&self) {
        tokio::time::sleep(EXCUSED).await;
    }
}

pub(super) fn seen(envelope: &Envelope, partition: u32, position: u64) -> Seen {
    Seen {
        id: envelope.id.clone(),
        event: envelope.event.to_string(),
        key: envelope.key().to_owned(),
        place: Place { queue: envelope.queue.to_string(), partition, position },
    }
}

pub(super) fn filter(filter: &events::Filter) -> Filter {
    Filter(filter.events.as_ref().map(|names| names.iter().map(ToString::to_string).collect()))
}

fn answer(outcome: &Outcome) -> Answer {
    match outcome {
        Ok(recorded) => Answer::Recorded {
            partition: recorded.partition,
            position: recorded.position,
            duplicate: recorded.duplicate,
        },
        Err(Refused::VersionConflict { current }) => Answer::Stale { current: *current },
        Err(refused) => Answer::Refused(refused.to_string()),
    }
}

fn delivered(op: Op, group: &str, member: &str, leased: &Leased) -> What {
    What::Delivered {
        op,
        group: group.to_owned(),
        member: member.to_owned(),
        event: seen(&leased.envelope, leased.partition, leased.position),
        token: leased.token.to_string(),
        attempt: leased.attempt,
        redrive: leased.redrive,
    }
}

fn told(verb: &bus::Verb) -> history::Verb {
    match verb {
        bus::Verb::Ack => history::Verb::Ack,
        bus::Verb::Nack { delay, retryable, .. } => {
            let ms = |delay: std::time::Duration| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
            history::Verb::Nack { retryable: *retryable, pause_ms: delay.map(|delay| (ms(delay), ms(delay))) }
        }
        bus::Verb::Release => history::Verb::Release,
        bus::Verb::Defer { .. } => history::Verb::Defer,
        bus::Verb::Dead { .. } => history::Verb::Dead,
        bus::Verb::Extend => history::Verb::Extend,
    }
}
