use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    time::timeout,
};

use crate::{
    Error, Follow, Member, Options, Outgoing, Presence, Receipt, Subscription,
    backoff::Backoff,
    dial::Dial,
    follow::{Followed, Wish},
    publish::Publish,
    session::{Command, Question, Session},
    worker::Worker,
};

/// Commands that wait for the worker; more wait with those who give them.
const MOST_COMMANDS: usize = 64;
/// A frame has at most 1 MiB, with what is around the event.
const MOST_BYTES: usize = 1_048_000;
const MOST_CREDIT: usize = 4_096;

/// A connection to a broker that goes on by itself. Clones share it; the last one, and the last subscription, end it.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    commands: mpsc::Sender<Command>,
    wake: Arc<Notify>,
    state: watch::Receiver<State>,
    names: AtomicU64,
    publish: std::time::Duration,
}

/// How it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    Connecting,
    Open,
    /// It was lost, or not reached, for this reason.
    Reconnecting(String),
    /// For good.
    Closed(Error),
}

impl Client {
    /// Connects to `wss://host`, `ws://host:port` or the same as `https` and `http`; waits until it is welcomed, across
    /// failures that pass.
    ///
    /// # Errors
    /// If the URL or an option makes no sense, or the server sends it away for good.
    pub async fn connect(url: &str, options: Options) -> Result<Self, Error> {
        let dial = Dial::new(url, &options)?;
        let (commands, received) = mpsc::channel(MOST_COMMANDS);
        let (told, state) = watch::channel(State::Connecting);
        let wake = Arc::new(Notify::new());
        let publish = options.publish;
        let session = Session::new(Backoff { first: options.first, most: options.most });
        let worker = Worker { dial, options, commands: received, wake: wake.clone(), state: told, session };
        tokio::spawn(worker.run());
        let names = AtomicU64::new(0);
        let client = Self { inner: Arc::new(Inner { commands, wake, state, names, publish }) };
        let mut state = client.inner.state.clone();
        let state = state.wait_for(|state| matches!(state, State::Open | State::Closed(_))).await;
        match state.as_deref() {
            Ok(State::Closed(error)) => Err(error.clone()),
            Ok(_) => Ok(client.clone()),
            Err(_) => Err(Error::closed()),
        }
    }

    /// How it goes, and every change of that.
    pub fn state(&self) -> watch::Receiver<State> {
        self.inner.state.clone()
    }

    /// Follows what a filter takes, such as `DB/*`; returns once it does.
    ///
    /// # Errors
    /// If it is refused: the filter, a name that is there already, or who calls may not.
    pub async fn subscribe(&self, filter: &str, follow: Follow) -> Result<Subscription, Error> {
        let own = || format!("s{}", self.inner.names.fetch_add(1, Relaxed) + 1);
        let name = follow.name.clone().unwrap_or_else(own);
        self.follow(name, Wish::Filter(filter.to_owned()), follow).await
    }

    /// Joins a room, `namespace/room`, and follows what happens there; dropping the subscription leaves it.
    ///
    /// # Errors
    /// If it is refused.
    pub async fn join(&self, room: &str, follow: Follow) -> Result<Subscription, Error> {
        self.follow(format!("room:{room}"), Wish::Room(room.to_owned()), follow).await
    }

    async fn follow(&self, name: String, wish: Wish, follow: Follow) -> Result<Subscription, Error> {
        if !(1..=MOST_CREDIT).contains(&follow.credit) {
            return Err(Error::new("invalid", format!("credit: must be 1 to {MOST_CREDIT}")));
        }
        let credit = follow.credit;
        let (followed, ends) = Followed::new(name, wish, follow);
        self.send(Command::Follow(Box::new(followed))).await?;
        let mut subscription = Subscription::new(self.clone(), ends.items, ends.place, credit);
        let ok = ends.ready.await.map_err(|_| self.why())??;
        if let Some(members) = ok.get("members") {
            subscription.members = read(members.clone())?;
        }
        Ok(subscription)
    }

    /// Publishes; returns once the event is confirmed. What a lost connection leaves open is sent again under the same id.
    ///
    /// # Errors
    /// If it is refused, 1,024 wait already, or it isn't confirmed in time. Then it is what it was put off for last, such as
    /// `queue-full`; or `timeout`: it may be recorded or not, and the same id tells.
    pub async fn publish(&self, event: Outgoing) -> Result<Receipt, Error> {
        let body = serde_json::to_string(&event).map_err(|error| Error::new("invalid", error.to_string()))?;
        if body.len() > MOST_BYTES {
            return Err(Error::new("too-large", "an event has at most 1 MiB, its data 256 KiB"));
        }
        let put_off = Arc::new(Mutex::new(None));
        let confirmed = async {
            let (answer, answered) = oneshot::channel();
            self.send(Command::Publish(Publish { body, answer, put_off: put_off.clone() })).await?;
            answered.await.map_err(|_| self.why())?
        };
        let late = || Error::new("timeout", "not confirmed in time; it may be recorded or not: the same id tells");
        timeout(self.inner.publish, confirmed).await.unwrap_or_else(|_| Err(put_off.lock().take().unwrap_or_else(late)))
    }

    /// Who is in a room: the first 256.
    ///
    /// # Errors
    /// If it is refused, or there is no connection now.
    pub async fn members(&self, room: &str) -> Result<Vec<Member>, Error> {
        read(self.ask("members", json!({ "room": room })).await?["members"].take())
    }

    /// Which of these users, 1 to 256, are online.
    ///
    /// # Errors
    /// If it is refused, or there is no connection now.
    pub async fn presence(&self, users: &[&str]) -> Result<Vec<Presence>, Error> {
        read(self.ask("presence", json!({ "users": users })).await?["users"].take())
    }

    async fn ask(&self, verb: &'static str, body: Value) -> Result<Value, Error> {
        let (answer, answered) = oneshot::channel();
        self.send(Command::Ask(Question { verb, body, answer })).await?;
        answered.await.map_err(|_| self.why())?
    }

    /// Ends it, for all its clones and subscriptions; returns once the broker was told. What is not confirmed yet may be
    /// recorded or not.
    pub async fn close(self) {
        // Who is ended already needs not be told.
        if self.send(Command::Close).await.is_ok() {
            let mut state = self.inner.state.clone();
            let _ = state.wait_for(|state| matches!(state, State::Closed(_))).await;
        }
    }

    /// A subscription has taken something, or is gone.
    pub(crate) fn wake(&self) {
        self.inner.wake.notify_one();
    }

    async fn send(&self, command: Command) -> Result<(), Error> {
        self.inner.commands.send(command).await.map_err(|_| self.why())
    }

    fn why(&self) -> Error {
        match &*self.inner.state.borrow() {
            State::Closed(error) => error.clone(),
            _ => Error::closed(),
        }
    }
}

fn read<T: DeserializeOwned>(answer: Value) -> Result<T, Error> {
    serde_json::from_value(answer).map_err(|error| Error::new("protocol", format!("an answer can't be read: {error}")))
}
