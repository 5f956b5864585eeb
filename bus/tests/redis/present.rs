//! Several nodes on one server: one dies with all who are connected to it, and what happens to the server itself.

use std::{collections::BTreeMap, thread, time::Duration};

use bus::{Attendance, Attending, Bus, Room, presence, redis::Options};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{command, eventually};

/// A node in a runtime of its own: killed, it does nothing any more.
struct Node {
    attendance: Attendance,
    kill: oneshot::Sender<()>,
    thread: thread::JoinHandle<()>,
}

impl Node {
    async fn start(url: &str) -> Self {
        let (kill, killed) = oneshot::channel();
        let (started, attendance) = oneshot::channel();
        let url = url.to_owned();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let attendance = Attendance::new(connect(&url).await);
                tokio::spawn(attendance.clone().run(CancellationToken::new()));
                assert!(started.send(attendance).is_ok());
                let _ = killed.await;
            });
        });
        Self { attendance: attendance.await.unwrap(), kill, thread }
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
    bus::redis::open_with(url, Options::default()).await.unwrap()
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
