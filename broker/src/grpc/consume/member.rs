//! The loop of a member whose handlers are elsewhere. Claims and settlements are one call in flight each; what comes up
//! meanwhile is the next batch. A bus that is away is waited for.

use std::time::Duration;

use bus::{Claim, Claimed, Error, Group, LeaseLost};
use futures_util::{FutureExt as _, future::BoxFuture};
use proto::turnpike::bus::v1 as wire;
use tokio::time::{Instant, MissedTickBehavior, sleep_until};
use tonic::Status;
use wire::consume_response::{GoAway, Message};

use super::{
    Outgoing, Said,
    session::{Session, Settling},
};
use crate::{
    departure::{Departure, Why},
    grpc::moment::wire_duration,
    metrics::Transport,
    problem::Problem,
    shared::Shared,
    work::{BYTES, IDLE},
};

const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// How long the last settlements of a stream that has ended may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// How a stream ends.
pub(super) enum End {
    /// The client has done its part.
    Done,
    /// It is gone, or takes nothing.
    Broken,
    /// It must connect anew.
    Departed(Why),
    Silent,
    Refused(Problem),
}

type Settled = Result<Vec<Result<(), LeaseLost>>, Error>;
/// A call in flight; what it was about.
type Call<A, T> = Option<(Option<A>, BoxFuture<'static, T>)>;

pub(super) struct Member {
    shared: Shared,
    name: String,
    group: Group,
    session: Session,
    claiming: Call<(), Result<Claimed, Error>>,
    claim_at: Instant,
    settling: Call<Settling, Settled>,
    settle_at: Instant,
    /// Failed calls in a row.
    failures: u32,
    declared: bool,
    /// The client can say more.
    open: bool,
    /// It was told to go, for this reason; the stream's end.
    gone: Option<(Why, Instant)>,
    /// Since when there is something that it doesn't take.
    stalled: Option<Instant>,
}

impl Member {
    /// Of a group that was declared just now.
    pub fn new(shared: &Shared, name: &str, group: Group, session: Session) -> Self {
        let now = Instant::now();
        Self {
            shared: shared.clone(),
            name: name.to_owned(),
            group,
            session,
            claiming: None,
            claim_at: now,
            settling: None,
            settle_at: now,
            failures: 0,
            declared: true,
            open: true,
            gone: None,
            stalled: None,
        }
    }

    /// Until one side ends it; gives back what it can.
    pub async fn run(mut self, said: Said, outward: &Outgoing) -> End {
        let end = self.work(said, outward).await;
        // Not what was sent: it may have been begun.
        self.session.leave();
        _ = tokio::time::timeout(FAREWELL, self.give_back()).await;
        end
    }

    async fn work(&mut self, Said { mut requests, last_word }: Said, outward: &Outgoing) -> End {
        let (shutdown, settings) = (self.shared.shutdown.clone(), self.shared.settings.clone());
        let mut departure = Departure::new(&shutdown, &settings);
        let mut claimable = self.shared.bus.claimable(&self.group.name);
        let mut tick = tokio::time::interval(self.session.beat());
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut draining = false;
        loop {
            self.call(&mut claimable);
            if let Some(end) = self.ended() {
                return end;
            }
            let now = Instant::now();
            let may_tell = self.session.has_next(&self.group);
            let stalled = *self.stalled.get_or_insert(now) + settings.stall;
            if !may_tell {
                self.stalled = None;
            }
            let may_claim = self.claiming.is_none() && self.session.room() > 0;
            let end = self.gone.map_or(now, |(_, end)| end);
            tokio::select! {
                why = departure.due(), if self.gone.is_none() => self.go_away(why),
                () = sleep_until(end), if self.gone.is_some() => {
                    return End::Departed(self.gone.map_or(Why::Drain, |(why, _)| why));
                }
                () = shutdown.dropping().cancelled() => return End::Departed(Why::Drain),
                () = shutdown.draining().cancelled(), if !draining => {
                    draining = true;
                    self.session.leave();
                }
                room = outward.room(), if may_tell => {
                    let Ok(room) = room else { return End::Broken };
                    self.stalled = None;
                    if let Some(message) = self.session.next(&self.group, Instant::now()) {
                        if let Message::Deliveries(batch) = &message {
                            Transport::Grpc.delivered(batch.deliveries.len());
                        }
                        room.say(wire::ConsumeResponse { message: Some(message) });
                    }
                }
                () = sleep_until(stalled), if may_tell => return End::Broken,
                () = outward.gone() => return End::Broken,
                said = requests.message(), if self.open && self.session.hears() => {
                    if let Some(end) = self.said(said, last_word.is_said()) {
                        return end;
                    }
                }
                (_, claimed) = over(&mut self.claiming) => {
                    if let Err(problem) = self.claimed(claimed) {
                        return End::Refused(problem);
                    }
                }
                (settling, settled) = over(&mut self.settling) => self.settled(settling, settled),
                _ = tick.tick() => {
                    if self.session.tick(&self.group, Instant::now()).is_err() {
                        return End::Silent;
                    }
                }
                Ok(()) = claimable.changed(), if may_claim && self.failures == 0 => self.claim_at = Instant::now(),
                () = sleep_until(self.claim_at), if may_claim => {}
                () = sleep_until(self.settle_at), if self.settling.is_none() && self.settle_at > now => {}
            }
        }
    }

    /// Makes the calls that are due.
    fn call(&mut self, claimable: &mut tokio::sync::watch::Receiver<u64>) {
        let now = Instant::now();
        if self.claiming.is_none() && self.claim_at <= now && self.session.room() > 0 {
            claimable.borrow_and_update();
            self.claim();
        }
        if self.settling.is_none() && self.settle_at <= now {
            self.settle();
        }
    }

    /// Whether nothing is left to be done.
    fn ended(&self) -> Option<End> {
        let done = self.session.is_done() && self.claiming.is_none() && self.settling.is_none();
        match (done, self.open, self.gone) {
            (true, false, _) => Some(End::Done),
            (true, true, Some((why, _))) => Some(End::Departed(why)),
            _ => None,
        }
    }

    fn go_away(&mut self, why: Why) {
        let within = self.shared.settings.drain;
        self.gone = Some((why, Instant::now() + within));
        self.session.leave();
        self.session.tell(Message::GoAway(GoAway {
            reason: match why {
                Why::Drain => "DRAIN".to_owned(),
                Why::Rotated => "ROTATED".to_owned(),
                Why::Overload => "OVERLOAD".to_owned(),
            },
            within: Some(wire_duration(within)),
            retry_after: Some(wire_duration(Departure::retry_after())),
        }));
    }

    fn said(&mut self, said: Result<Option<wire::ConsumeRequest>, Status>, is_last: bool) -> Option<End> {
        match said {
            Ok(Some(said)) => self.session.said(&self.group, said.message, Instant::now()).err().map(End::Refused),
            Ok(None) if !is_last => Some(End::Broken),
            Ok(None) => {
                self.open = false;
                self.session.finish();
                None
            }
            Err(status) => {
                tracing::debug!(member = self.name, %status, "a member was cut off");
                Some(End::Broken)
            }
        }
    }

    fn claim(&mut self) {
        let claim = Claim {
            group: self.group.name.clone(),
            member: self.name.clone(),
            max: self.session.room(),
            bytes: BYTES.1,
        };
        let (bus, declare) = (self.shared.bus.clone(), (!self.declared).then(|| self.group.clone()));
        let claiming = async move {
            if let Some(group) = declare {
                bus.declare_group(group).await?;
            }
            bus.claim(claim).await
        };
        self.claiming = Some((None, claiming.boxed()));
    }

    fn claimed(&mut self, claimed: Result<Claimed, Error>) -> Result<(), Problem> {
        let now = Instant::now();
        match claimed {
            Ok(Claimed { leased, more }) => {
                self.failures = 0;
                self.declared = true;
                self.claim_at = if more { now } else { now + IDLE };
                self.session.leased(leased);
                Ok(())
            }
            // It contradicts what stands, and will the next time.
            Err(error @ (Error::Invalid(_) | Error::Conflict(_))) => Err(error.into()),
            Err(error) => {
                tracing::warn!(group = self.group.name, %error, "can't claim");
                self.declared = false;
                self.claim_at = now + self.backoff();
                Ok(())
            }
        }
    }

    fn settle(&mut self) {
        let Some((settling, settlements)) = self.session.settle() else { return };
        let (bus, group) = (self.shared.bus.clone(), self.group.name.clone());
        let call = async move {
            match settlements.is_empty() {
                true => Ok(Vec::new()),
                false => bus.settle(&group, settlements).await,
            }
        };
        self.settling = Some((Some(settling), call.boxed()));
    }

    fn settled(&mut self, settling: Option<Settling>, settled: Settled) {
        let Some(settling) = settling else { return };
        match settled {
            Ok(outcomes) => {
                self.failures = 0;
                self.session.settled(settling, outcomes);
            }
            Err(Error::NoGroup(_) | Error::NoQueue(_)) => {
                // The bus was reset: the group must be declared again.
                self.declared = false;
                self.session.forgotten(settling);
            }
            Err(error) => {
                tracing::warn!(group = self.group.name, %error, "can't settle");
                self.session.unsettled(settling);
                self.settle_at = Instant::now() + self.backoff();
            }
        }
    }

    /// Settles what is left to be settled; once each, whatever becomes of it.
    async fn give_back(&mut self) {
        if let Some((_, claiming)) = self.claiming.take()
            && let Ok(claimed) = claiming.await
        {
            self.session.leased(claimed.leased);
        }
        if let Some((_, settling)) = self.settling.take() {
            _ = settling.await;
        }
        if let Some((_, settlements)) = self.session.settle() {
            _ = self.shared.bus.settle(&self.group.name, settlements).await;
        }
    }

    /// Longer after each failure in a row, with jitter.
    fn backoff(&mut self) -> Duration {
        let doubled = BACKOFF.0.saturating_mul(1 << self.failures.min(16));
        self.failures += 1;
        doubled.min(BACKOFF.1).mul_f64(0.5 + 0.5 * rand::random::<f64>())
    }
}

/// Waits for the call, if there is one; else for ever.
async fn over<A, T>(call: &mut Call<A, T>) -> (Option<A>, T) {
    let Some((_, future)) = call else { return std::future::pending().await };
    let value = future.await;
    (call.take().and_then(|(about, _)| about), value)
}
