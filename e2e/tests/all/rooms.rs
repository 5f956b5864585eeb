//! A room on two broker processes that share nothing but Redis, of which one is killed while its people speak.

use std::{
    fs,
    net::SocketAddr,
    ops::Range,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use client::{Client, Event, Follow, Options, Outgoing, StreamExt as _, Subscription, Told};
use principal::{Principal, RootSecret, Signer};
use serde_json::json;
use testkit::eventually;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

const SOON: Duration = Duration::from_secs(90);
const ROOM: &str = "chat/lobby";
const SCOPES: [&str; 3] = ["rooms:join:chat/*", "rooms:write:chat/*", "presence:read"];

/// `turnpike broker` as a process; it ends with the handle.
struct Node {
    process: Child,
    address: SocketAddr,
}

impl Node {
    async fn start(redis: &str, folder: &Path, number: usize) -> Self {
        let free = || SocketAddr::from(([127, 0, 0, 1], testkit::free_port()));
        let (address, ops, log) = (free(), free(), folder.join(format!("broker-{number}.log")));
        let written = fs::File::create(&log).unwrap();
        let process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(e2e::binary())
            .arg("broker")
            .env("TURNPIKE__LISTEN", address.to_string())
            .env("TURNPIKE__OPS", ops.to_string())
            .env("TURNPIKE__BUS__REDIS", redis)
            .env("TURNPIKE__ROOT_SECRET", folder.join("root.secret"))
            // What it keeps there, rooms don't use.
            .env("TURNPIKE__DATABASE", format!("sqlite:{}", folder.join(format!("broker-{number}.db")).display()))
            .stdin(Stdio::null())
            .stdout(written.try_clone().unwrap())
            .stderr(written)
            .spawn()
            .unwrap();
        let mut node = Self { process, address };
        let ready = e2e::Client::new(&format!("http://{ops}"));
        eventually("the broker is ready", SOON, || {
            let ended = node.process.try_wait().unwrap();
            assert!(ended.is_none(), "it ended: {}", fs::read_to_string(&log).unwrap());
            let asked = ready.try_send(hyper::Method::GET, "/readyz", None);
            async move { asked.await.is_ok_and(|answer| answer.status.is_success()).then_some(()) }
        })
        .await;
        node
    }

    /// As `kill -9` does.
    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// One address for whichever node it leads new connections to.
struct Door {
    address: SocketAddr,
    node: watch::Sender<SocketAddr>,
}

impl Door {
    async fn to(node: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (node, leads) = watch::channel(node);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let node = *leads.borrow();
                tokio::spawn(async move {
                    if let Ok(mut node) = TcpStream::connect(node).await {
                        let _ = tokio::io::copy_bidirectional(&mut client, &mut node).await;
                    }
                });
            }
        });
        Self { address, node }
    }
}

/// What a subscription told so far: the events, and anything that must not be.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<(Vec<Event>, Vec<Told>)>>);

impl Heard {
    /// Listens until the task is ended.
    fn by(mut subscription: Subscription) -> (Self, JoinHandle<()>) {
        let heard = Self::default();
        let told = heard.0.clone();
        let listening = tokio::spawn(async move {
            while let Some(next) = subscription.next().await {
                let mut told = told.lock().unwrap();
                match next {
                    Told::Event(next) => told.0.push(next.event),
                    Told::CaughtUp { .. } => {}
                    fault => told.1.push(fault),
                }
            }
        });
        (heard, listening)
    }

    fn events(&self) -> Vec<Event> {
        let told = self.0.lock().unwrap();
        assert!(told.1.is_empty(), "{:?}", told.1);
        told.0.clone()
    }

    /// Who came or went, and why, in order.
    fn of(&self, name: &str) -> Vec<String> {
        let events = self.events().into_iter().filter(|event| event.event == name);
        let text = |event: &Event, field| event.data[field].as_str().unwrap_or_default().to_owned();
        events
            .map(|event| format!("{} {}", text(&event, "user"), text(&event, "reason")).trim_end().to_owned())
            .collect()
    }

    /// What somebody said.
    fn said_by(&self, who: &str) -> Vec<u64> {
        let events = self.events().into_iter().filter(|event| event.event == "MESSAGE" && event.data["from"] == who);
        events.map(|event| event.data["number"].as_u64().unwrap()).collect()
    }

    async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        eventually(what, SOON, async || holds(self).then_some(())).await;
    }
}

async fn guest(signer: &Arc<Signer>, subject: &'static str, address: SocketAddr) -> Client {
    let signer = signer.clone();
    let principal = move || Principal {
        subject: subject.to_owned(),
        scopes: SCOPES.map(str::to_owned).to_vec(),
        ..Principal::default()
    };
    let options = Options::default().name("e2e").token(move || signer.sign(&principal()));
    let options = options.backoff(Duration::from_millis(20), Duration::from_millis(500));
    Client::connect(&format!("http://{address}"), options).await.unwrap()
}

async fn speak(client: Client, from: &'static str, numbers: Range<u64>) {
    for number in numbers {
        let message = Outgoing::new("ROOMS", "MESSAGE").subject(ROOM).data(json!({ "from": from, "number": number }));
        client.publish(message).await.unwrap();
    }
}

#[tokio::test]
async fn a_conversation_outlives_the_process_of_who_speaks() {
    let redis = testkit::redis().await;
    let folder = tempfile::tempdir().unwrap();
    let root = RootSecret::generate();
    fs::write(folder.path().join("root.secret"), root.encode()).unwrap();
    let signer = Arc::new(Signer::new("gateway", &root));
    let url = redis.url();
    let (mut one, two) = tokio::join!(Node::start(&url, folder.path(), 1), Node::start(&url, folder.path(), 2));
    let door = Door::to(one.address).await;

    let bob = guest(&signer, "bob", two.address).await;
    let online = bob.subscribe("PRESENCE/*", Follow::default().from("earliest")).await.unwrap();
    let (online, _watching) = Heard::by(online);
    let (his, _listening) = Heard::by(bob.join(ROOM, Follow::default()).await.unwrap());
    // She finds another node when hers is gone; Carol doesn't.
    let alice = guest(&signer, "alice", door.address).await;
    let (hers, listening) = Heard::by(alice.join(ROOM, Follow::default()).await.unwrap());
    let carol = guest(&signer, "carol", one.address).await;
    let _carols = carol.join(ROOM, Follow::default()).await.unwrap();

    let talking = tokio::spawn({
        let (alice, bob) = (alice.clone(), bob.clone());
        async move { tokio::join!(speak(alice, "alice", 0..60), speak(bob, "bob", 0..60)) }
    });
    his.until("they talk", |his| his.said_by("alice").len() >= 20).await;
    one.kill();
    door.node.send_replace(two.address);
    talking.await.unwrap();

    let all_said = |heard: &Heard| ["alice", "bob"].iter().all(|who| heard.said_by(who).len() >= 60);
    his.until("Carol is missed", |his| all_said(his) && his.of("LEFT").len() == 1).await;
    hers.until("by Alice, too", |hers| all_said(hers) && hers.of("LEFT").len() == 1).await;
    assert_eq!(his.of("LEFT"), ["carol lost"], "and who came back in time never was");
    let members = bob.members(ROOM).await.unwrap();
    let members: Vec<(&str, usize)> = members.iter().map(|each| (each.user.as_str(), each.connections)).collect();
    assert_eq!(members, [("alice", 1), ("bob", 1)]);
    // From when she came on they were told the same, each once and in one order, across the death of her node.
    let (his_events, her_events) = (his.events(), hers.events());
    let ids = |events: &[Event]| -> Vec<String> { events.iter().map(|event| event.id.clone()).collect() };
    let (his_ids, her_ids) = (ids(&his_events), ids(&her_events));
    let begin = his_ids.iter().position(|id| *id == her_ids[0]).unwrap();
    assert_eq!(her_ids, his_ids[begin..]);
    for who in ["alice", "bob"] {
        assert_eq!(his.said_by(who), (0..60).collect::<Vec<_>>(), "of {who}");
    }

    // She leaves the room, and then altogether.
    listening.abort();
    his.until("she left", |his| his.of("LEFT").len() == 2).await;
    assert_eq!(his.of("LEFT"), ["carol lost", "alice bye"]);
    alice.close().await;
    online.until("she is offline", |online| online.of("OFFLINE").len() == 2).await;
    speak(bob.clone(), "bob", 60..61).await;
    his.until("he is alone", |his| his.said_by("bob").len() == 61).await;
    assert_eq!(his.of("JOINED"), ["bob", "alice", "carol"]);
    assert_eq!(his.of("LEFT").len(), 2, "once each");
    let mut came = online.of("ONLINE");
    came.sort();
    assert_eq!(
        (came, online.of("OFFLINE")),
        (
            ["alice", "bob", "carol"].map(str::to_owned).to_vec(),
            ["carol lost", "alice bye"].map(str::to_owned).to_vec(),
        )
    );
}
