use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bus::{
    Attended, Backend, Bookmark, Bus, Claim, Claimed, Connection, DeadLetter, Error, Fence, Group, GroupStatus,
    LeaseLost, Lineages, Logged, Move, Moved, Opened, Outcome, Page, Partition, PublishOptions, Queue, QueueStatus,
    Recorded, Roster, Scheduled, Settlement, Sought, Standing, Start, Turn, Which,
    presence::{Attendee, Members, Room, Scope, Told},
    sqlite::{Options, Sqlite},
};
use events::{Envelope, Name};
use outbox::Relay;
use testkit::eventually;
use time::OffsetDateTime;
use tokio::sync::{Semaphore, watch};

use crate::{SOON, SOURCE, Shop, Working, all_sent, logged, update, versions};

/// A bus behind a network that can fail.
pub struct Network {
    bus: Box<dyn Backend>,
    weather: Arc<Weather>,
}

/// Whoever publishes next stands still, as a process that is paused does.
pub struct Pause {
    /// Before the bus hears of it, or else before its answer is heard.
    pub before: bool,
    pub reached: Arc<Semaphore>,
    pub resume: Arc<Semaphore>,
}

impl Pause {
    async fn stand(self) {
        self.reached.add_permits(1);
        drop(self.resume.acquire_owned().await);
    }
}

#[derive(Default)]
pub struct Weather {
    pub pause: Mutex<Option<Pause>>,
    /// Nothing gets through.
    cut: AtomicBool,
    /// Every second answer to a publish is lost, after the bus has recorded it.
    loses_answers: AtomicBool,
    publishes: AtomicUsize,
}

impl Network {
    pub async fn to_the_bus_of(shop: &Shop) -> (Bus, Arc<Weather>) {
        let weather = Arc::new(Weather::default());
        let bus = Sqlite::open(&shop.bus_file(), Options::default()).await.unwrap();
        (Self::to(bus, &weather), weather)
    }

    pub fn to(bus: impl Backend, weather: &Arc<Weather>) -> Bus {
        Bus::new(Self { bus: Box::new(bus), weather: weather.clone() })
    }

    fn passes(&self) -> Result<(), Error> {
        let cut = self.weather.cut.load(Ordering::SeqCst);
        if cut { Err(Error::Unavailable("no route".to_owned())) } else { Ok(()) }
    }
}

#[async_trait]
impl Backend for Network {
    async fn publish(&self, events: Vec<Envelope>, options: PublishOptions) -> Result<Vec<Outcome>, Error> {
        let nth = self.weather.publishes.fetch_add(1, Ordering::SeqCst);
        self.passes()?;
        let pause = self.weather.pause.lock().unwrap().take();
        let (before, after) = match pause {
            Some(pause) if pause.before => (Some(pause), None),
            pause => (None, pause),
        };
        if let Some(pause) = before {
            pause.stand().await;
        }
        let answer = self.bus.publish(events, options).await;
        if let Some(pause) = after {
            pause.stand().await;
        }
        if self.weather.loses_answers.load(Ordering::SeqCst) && nth.is_multiple_of(2) {
            return Err(Error::Unavailable("connection reset".to_owned()));
        }
        answer
    }
    async fn partition(&self, queue: &Name, key: &str) -> Result<Partition, Error> {
        self.passes()?;
        self.bus.partition(queue, key).await
    }
    async fn lineages(&self, queue: &Name, partition: u32) -> Result<Arc<Lineages>, Error> {
        self.passes()?;
        self.bus.lineages(queue, partition).await
    }
    async fn read(&self, queue: &Name, partition: u32, from: u64, limit: usize) -> Result<Page, Error> {
        self.bus.read(queue, partition, from, limit).await
    }

    async fn declare_queue(&self, _: Queue) -> Result<(), Error> {
        unreachable!("a relay only publishes")
    }
    async fn declare_group(&self, _: Group) -> Result<(), Error> {
        unreachable!("a relay only publishes")
    }
    async fn delete_group(&self, _: &str) -> Result<(), Error> {
        unreachable!("a relay only publishes")
    }
    async fn hurry(&self, _: &str, _: Which) -> Result<u64, Error> {
        unreachable!("a relay only publishes")
    }
    async fn claim(&self, _: Claim) -> Result<Claimed, Error> {
        unreachable!("a relay only publishes")
    }
    async fn settle(&self, _: &str, _: Vec<Settlement>) -> Result<Vec<Result<(), LeaseLost>>, Error> {
        unreachable!("a relay only publishes")
    }
    fn claimable(&self, _: &str) -> watch::Receiver<u64> {
        unreachable!("a relay only publishes")
    }
    fn appended(&self, _: &Name) -> watch::Receiver<u64> {
        unreachable!("a relay only publishes")
    }
    async fn position_at(&self, _: &Name, _: u32, _: Start) -> Result<u64, Error> {
        unreachable!("a relay only publishes")
    }
    async fn queue(&self, _: &Name) -> Result<Option<Queue>, Error> {
        unreachable!("a relay only publishes")
    }
    async fn open_bookmark(&self, _: &str, _: &str, _: &str) -> Result<Opened, Error> {
        unreachable!("a relay only publishes")
    }
    async fn move_bookmarks(&self, _: Vec<Move>) -> Result<Vec<Moved>, Error> {
        unreachable!("a relay only publishes")
    }
    async fn bookmarks(&self, _: &str) -> Result<Vec<Bookmark>, Error> {
        unreachable!("a relay only publishes")
    }
    async fn remove_bookmark(&self, _: &str, _: &str) -> Result<bool, Error> {
        unreachable!("a relay only publishes")
    }
    async fn bookmark_holders(&self, _: Vec<(String, String)>) -> Result<Vec<Option<u64>>, Error> {
        unreachable!("a relay only publishes")
    }
    fn now(&self) -> OffsetDateTime {
        self.bus.now()
    }
    async fn standing(&self, _: &Name, _: u32, _: u64) -> Result<BTreeMap<String, Standing>, Error> {
        unreachable!("a relay only publishes")
    }
    fn settled(&self, _: &Name) -> watch::Receiver<u64> {
        unreachable!("a relay only publishes")
    }
    fn roster(&self) -> &Roster {
        unreachable!("a relay only publishes")
    }
    async fn connections(&self) -> Result<Vec<Connection>, Error> {
        unreachable!("a relay only publishes")
    }
    async fn attend(&self, _: &Name, _: u32, _: Told) -> Result<Attended, Error> {
        unreachable!("a relay only publishes")
    }
    async fn attending(&self, _: &Scope, _: &[String]) -> Result<Vec<Option<Attendee>>, Error> {
        unreachable!("a relay only publishes")
    }
    async fn members(&self, _: &Room, _: Option<&str>, _: usize) -> Result<Members, Error> {
        unreachable!("a relay only publishes")
    }
    async fn queues(&self) -> Result<Vec<QueueStatus>, Error> {
        unreachable!("a relay only publishes")
    }
    async fn groups(&self) -> Result<Vec<GroupStatus>, Error> {
        unreachable!("a relay only publishes")
    }
    async fn latest(&self, _: &Name, _: &str) -> Result<Option<Logged>, Error> {
        unreachable!("a relay only publishes")
    }
    async fn latest_page(&self, _: &Name, _: u32, _: u64, _: usize) -> Result<Page, Error> {
        unreachable!("a relay only publishes")
    }
    async fn find(&self, _: &Name, _: &str, _: &str) -> Result<Option<Recorded>, Error> {
        unreachable!("a relay only publishes")
    }
    async fn cancel(&self, _: &Name, _: &str, _: &str) -> Result<bool, Error> {
        unreachable!("a relay only publishes")
    }
    async fn scheduled(&self, _: &Name, _: Option<Turn>, _: usize) -> Result<Vec<Scheduled>, Error> {
        unreachable!("a relay only publishes")
    }
    async fn dead_letters(&self, _: &str, _: (u32, u64), _: usize) -> Result<Vec<DeadLetter>, Error> {
        unreachable!("a relay only publishes")
    }
    async fn redrive(&self, _: &str, _: Which) -> Result<u64, Error> {
        unreachable!("a relay only publishes")
    }
    async fn discard(&self, _: &str, _: Which) -> Result<u64, Error> {
        unreachable!("a relay only publishes")
    }
    async fn seek(&self, _: &str, _: Start, _: bool) -> Result<Sought, Error> {
        unreachable!("a relay only publishes")
    }
    async fn lead(&self, _: &str, _: &str, _: Duration) -> Result<Option<Fence>, Error> {
        unreachable!("a relay only publishes")
    }
    async fn resign(&self, _: &str, _: &str) -> Result<(), Error> {
        unreachable!("a relay only publishes")
    }
    async fn shut_out(&self, _: &Name, _: &Fence) -> Result<bool, Error> {
        unreachable!("a relay only publishes")
    }
}

#[tokio::test]
async fn what_is_appended_while_the_bus_is_away_waits_for_it() {
    for shop in Shop::every().await {
        let database = shop.database().await;
        let (bus, weather) = Network::to_the_bus_of(&shop).await;
        let relay = Working::start(Relay::new(database.clone(), bus.clone(), SOURCE));
        update(&database, "lamp").await;
        all_sent(&database).await;
        weather.cut.store(true, Ordering::SeqCst);
        for _ in 0..10 {
            update(&database, "lamp").await;
        }
        eventually("its age is told", SOON, async || (oldest_seconds() > 0.3).then_some(())).await;
        weather.cut.store(false, Ordering::SeqCst);
        let log = logged(&bus, 11).await;
        assert!(versions(&log, "lamp").into_iter().eq(1..=11));
        all_sent(&database).await;
        eventually("nothing is old", SOON, async || (oldest_seconds() == 0.0).then_some(())).await;
        relay.drain().await;
    }
}

#[tokio::test]
async fn an_answer_that_is_lost_makes_no_second_event() {
    for shop in Shop::every().await {
        let database = shop.database().await;
        let (bus, weather) = Network::to_the_bus_of(&shop).await;
        weather.loses_answers.store(true, Ordering::SeqCst);
        let relay = Working::start(Relay::new(database.clone(), bus.clone(), SOURCE));
        for _ in 0..5 {
            update(&database, "lamp").await;
            all_sent(&database).await;
        }
        let log = logged(&bus, 5).await;
        assert_eq!(versions(&log, "lamp"), [1, 2, 3, 4, 5]);
        assert!(weather.publishes.load(Ordering::SeqCst) >= 6, "no answer was lost");
        relay.drain().await;
    }
}

/// What the metric says of this test's process, which has one relay.
fn oldest_seconds() -> f64 {
    let text = telemetry::render();
    let line = text.lines().find(|line| line.starts_with("turnpike_outbox_oldest_seconds{"));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(f64::NAN)
}
