//! Several nodes on one server: one dies with all who are connected to it, and what happens to the server itself.

use std::{
    collections::BTreeMap,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use bus::{
    Attendance, Attending, Bus, Room,
    presence::{self, Move, Scope, Step, Told},
    redis::Options,
};
use parking_lot::Mutex;
use time::OffsetDateTime;
use tokio::{runtime::Handle, sync::oneshot};
use tokio_util::sync::CancellationToken;

use super::{Manual, RedisLab, command, eventually};
use crate::conformance::Lab as _;

/// A node in a runtime of its own: killed, it does nothing any more.
struct Node {
    attendance: Attendance,
    runtime: Handle,
    kill: oneshot::Sender<()>,
    thread: thread::JoinHandle<()>,
}

impl Node {
    async fn start(url: &str) -> Self {
        Self::start_on(url, None).await
    }

    async fn start_on(url: &str, clock: Option<Manual>) -> Self {
        let (kill, killed) = oneshot::channel();
        let (started, running) = oneshot::channel();
        let url = url.to_owned();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let attendance = Attendance::new(connect_on(&url, clock).await);
                tokio::spawn(attendance.clone().run(CancellationToken::new()));
                assert!(started.send((attendance, Handle::current())).is_ok());
                let _ = killed.await;
            });
        });
        let (attendance, runtime) = running.await.unwrap();
        Self { attendance, runtime, kill, thread }
    }

    /// It stands still until the answer is dropped, as a process does that was stopped.
    fn stand_still(&self) -> mpsc::Sender<()> {
        let (goes_on, stands) = mpsc::channel();
        self.runtime.spawn(async move { stands.recv().is_ok() });
        goes_on
    }

    fn come(&self, users: &[String], device: &str) -> Vec<Attending> {
        users.iter().map(|user| self.attendance.come(user, &format!("c_{device}_{}", user.replace('/', "_")))).collect()
    }

    fn kill(self) {
        drop(self.kill);
        self.thread.join().unwrap();
    }
}

async fn connect(url: &str) -> Bus {
    connect_on(url, None).await
}

async fn connect_on(url: &str, clock: Option<Manual>) -> Bus {
    let clock = clock.map(|clock| Arc::new(clock) as Arc<dyn bus::Clock>);
    bus::redis::open_with(url, Options { clock, ..Options::default() }).await.unwrap()
}

/// How often each event was told of each user.
async fn told(bus: &Bus, event: &str) -> BTreeMap<String, usize> {
    let (mut all, mut from) = (BTreeMap::new(), 1);
    loop {
        let page = bus.read(&presence::presence(), 0, from, 1000).await.unwrap();
        let Some(last) = page.events.last() else { return all };
        from = last.position + 1;
        for logged in page.events.iter().filter(|logged| logged.envelope.event.as_str() == event) {
            *all.entry(logged.envelope.subject.clone().unwrap()).or_default() += 1;
        }
    }
}

#[tokio::test]
async fn a_node_that_is_killed_with_a_thousand_present() {
    let server = testkit::redis().await;
    let (doomed, one, other) =
        (Node::start(&server.url()).await, Node::start(&server.url()).await, Node::start(&server.url()).await);
    let bus = connect(&server.url()).await;
    let users: Vec<String> = (0..1000).map(|n| format!("users/{n}")).collect();
    let here = doomed.come(&users, "first");
    eventually("all are online", async || told(&bus, "ONLINE").await.len() == 1000).await;
    doomed.kill();
    // What is dropped in a process that is gone nobody hears.
    drop(here);
    let _moved = (one.come(&users[..100], "second"), other.come(&users[100..200], "second"));
    testkit::eventually("the others are offline", Duration::from_secs(90), || async {
        (told(&bus, "OFFLINE").await.len() == 800).then_some(())
    })
    .await;
    let offline = told(&bus, "OFFLINE").await;
    assert!(offline.values().all(|times| *times == 1), "each once, though two nodes look");
    assert!(users[..200].iter().all(|user| !offline.contains_key(user)), "and nobody who went over in time");
    assert!(told(&bus, "ONLINE").await.values().all(|times| *times == 1));
    one.kill();
    other.kill();
}

#[tokio::test]
async fn who_is_there_is_told_again_after_a_flush() {
    let server = testkit::redis().await;
    let node = Node::start(&server.url()).await;
    let bus = connect(&server.url()).await;
    let lobby: Room = "chat/lobby".parse().unwrap();
    let _here = node.come(&["alice".to_owned()], "first");
    node.attendance.join("c_first_alice", &lobby).await.unwrap();
    let online = async || bus.online(&["alice".to_owned()]).await.is_ok_and(|shown| shown[0].connections == 1);
    let members = async || bus.members(&lobby, None, 10).await.map_or(0, |members| members.count);
    eventually("she is online", online).await;
    command(&server, &["FLUSHALL"]).await;
    eventually("she is online again", online).await;
    eventually("and in the room", async || members().await == 1).await;
    for lost in ["tp:{PRESENCE:0}:a:in:", "tp:{PRESENCE:0}:a:heard", "tp:{PRESENCE:0}:m"] {
        command(&server, &["DEL", lost]).await;
        eventually("whatever is lost is told again", online).await;
    }
    node.kill();
}

#[tokio::test]
async fn a_node_that_stood_still_tells_of_everybody_again() {
    let server = testkit::redis().await;
    let clock = Manual(Arc::new(Mutex::new(OffsetDateTime::now_utc())));
    let sleeper = Node::start_on(&server.url(), Some(clock.clone())).await;
    let watcher = Node::start_on(&server.url(), Some(clock.clone())).await;
    let bus = connect_on(&server.url(), Some(clock.clone())).await;
    let users: Vec<String> = (0..200).map(|n| format!("users/{n}")).collect();
    let _here = sleeper.come(&users, "first");
    let connected = async |count: usize| {
        bus.online(&users).await.is_ok_and(|shown| shown.iter().all(|shown| shown.connections == count))
    };
    eventually("all are online", async || connected(1).await).await;
    let goes_on = sleeper.stand_still();
    eventually("it is noticed", async || {
        *clock.0.lock() += Duration::from_secs(1);
        connected(0).await
    })
    .await;
    drop(goes_on);
    eventually("all are there again", async || connected(1).await).await;
    assert!(told(&bus, "OFFLINE").await.is_empty());
    assert!(told(&bus, "ONLINE").await.values().all(|times| *times == 1), "nobody was away");
    sleeper.kill();
    watcher.kill();
}

#[tokio::test]
async fn a_grace_ends_though_its_clock_was_deleted() {
    let lab = RedisLab::open().await;
    let bus = lab.bus();
    let tell = async |what: &[(Move, &str)]| {
        let step = |(what, user): &(Move, &str)| Step {
            what: *what,
            scope: Scope::Bus,
            user: (*user).to_owned(),
            connection: format!("c_{user}"),
        };
        let told = Told { node: "node.0".to_owned(), steps: what.iter().map(step).collect() };
        bus.attend(&presence::presence(), 0, told).await.unwrap();
    };
    let pass = async |count: u64| {
        for _ in 0..count {
            lab.let_pass(Duration::from_secs(1));
            tell(&[]).await;
        }
    };
    tell(&[(Move::Enter, "alice"), (Move::Enter, "bob")]).await;
    pass(100).await;
    tell(&[(Move::Cut, "alice")]).await;
    command(&lab.server, &["DEL", "tp:{PRESENCE:0}:a:heard"]).await;
    pass(14).await;
    assert!(told(&bus, "OFFLINE").await.is_empty());
    pass(3).await;
    assert_eq!(told(&bus, "OFFLINE").await.keys().collect::<Vec<_>>(), ["alice"]);
}

#[tokio::test]
async fn who_is_there_outlives_a_restart_of_the_server() {
    let mut server = testkit::redis().await;
    let node = Node::start(&server.url()).await;
    let bus = connect(&server.url()).await;
    let mut here = node.come(&["alice".to_owned(), "bob".to_owned()], "first");
    let shown = async |user: &str| {
        let shown = bus.online(&[user.to_owned()]).await.ok()?.pop()?;
        Some((shown.online, shown.connections))
    };
    eventually("both are online", async || shown("bob").await == Some((true, 1)) && shown("alice").await.is_some())
        .await;
    server.kill();
    // Said while nobody hears it.
    here.pop().unwrap().bye();
    server.restart().await;
    eventually("she still is", async || shown("alice").await == Some((true, 1))).await;
    eventually("he is no more", async || shown("bob").await == Some((false, 0))).await;
    assert_eq!(told(&bus, "OFFLINE").await.keys().collect::<Vec<_>>(), ["bob"]);
    assert_eq!(told(&bus, "ONLINE").await.len(), 2);
    node.kill();
}
