//! Following a queue of the bus for what every gateway must hear of: revocations, purges. One loop for all of them: it opens
//! the bus when it can be had, reads, and tells its reader what comes, what is missing, and when the bus is away. It only
//! ever reads.

use std::time::Duration;

use bus::{Bus, Gap, Tail, TailFrom, Tailed};
use events::{Envelope, Filter};
use redial::Address;
use tokio_util::sync::CancellationToken;

/// How long after a failure the bus is asked again, at most twice as much each time.
const RETRY: Duration = Duration::from_millis(250);
const LONGEST_RETRY: Duration = Duration::from_secs(5);

/// The way to the bus.
#[derive(Clone)]
pub enum Way {
    Open(Bus),
    /// Where its Redis is, which need not answer yet.
    Redis(Address),
}

impl Way {
    /// What a section itself names goes first, then the bus that is at hand, then what gateways share.
    pub fn of(own: Option<Address>, at_hand: Option<Bus>, shared: Option<Address>) -> Option<Self> {
        own.map(Self::Redis).or_else(|| at_hand.map(Self::Open)).or_else(|| shared.map(Self::Redis))
    }
}

/// How it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// From where it is.
    GoOn,
    /// From where it began.
    Anew,
}

/// Who wants to hear.
pub trait Reader: Send {
    /// Reading begins, or begins again.
    fn opened(&mut self);
    fn event(&mut self, envelope: &Envelope);
    /// All that was there has been read, and the bus answers.
    fn caught_up(&mut self);
    /// Something can't be read any more.
    fn missing(&mut self, gap: &Gap) -> After;
    /// The bus is away. Reading begins anew when it is back.
    fn lost(&mut self, error: &str);
}

/// Reads until `stop`. `from` is where it begins, each time that it does.
pub async fn follow(way: Way, filter: Filter, from: TailFrom, mut reader: impl Reader, stop: CancellationToken) {
    let mut follower = Follower { way, filter, from };
    tokio::select! {
        () = stop.cancelled() => {}
        () = follower.run(&mut reader) => {}
    }
}

struct Follower {
    way: Way,
    filter: Filter,
    from: TailFrom,
}

impl Follower {
    async fn run(&mut self, reader: &mut impl Reader) {
        let mut retry = RETRY;
        loop {
            match self.open().await {
                Ok(tail) => {
                    retry = RETRY;
                    reader.opened();
                    read(tail, reader).await;
                }
                Err(error) => {
                    reader.lost(&error);
                    tokio::time::sleep(retry).await;
                    retry = (retry * 2).min(LONGEST_RETRY);
                }
            }
        }
    }

    async fn open(&mut self) -> Result<Tail, String> {
        let bus = match &self.way {
            Way::Open(bus) => bus.clone(),
            Way::Redis(address) => {
                let bus = bus::redis::open(address.clone()).await.map_err(|error| format!("{error:#}"))?;
                self.way = Way::Open(bus.clone());
                bus
            }
        };
        bus.tail(self.filter.clone(), self.from.clone()).await.map_err(|error| error.to_string())
    }
}

/// Until it is to begin anew.
async fn read(mut tail: Tail, reader: &mut impl Reader) {
    loop {
        match tail.next().await {
            Ok(Tailed::Event { envelope, .. }) => reader.event(&envelope),
            Ok(Tailed::CaughtUp) => reader.caught_up(),
            Ok(Tailed::Gap(gap)) => {
                if reader.missing(&gap) == After::Anew {
                    return;
                }
            }
            Err(error) => {
                reader.lost(&error.to_string());
                tokio::time::sleep(RETRY).await;
                // What a reader says of itself must be true again, which beginning anew finds out.
                return;
            }
        }
    }
}
