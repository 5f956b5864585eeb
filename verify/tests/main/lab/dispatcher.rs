//! A dispatcher between MQTT and the bus, which may stand still with all that it has: a process of its own where several may
//! have the bus, else a thread.

use std::{sync::mpsc, thread, time::Duration};

use bus::Bus;
use lifecycle::{Role as _, Shutdown};
use mqtt::{Config, Settings};
use nix::sys::signal::Signal;
use tokio::runtime::{Builder, Handle};
use verify::{Site as _, contract::Stage};

use super::{Child, Lab, Role};

/// How long it may take to end.
const SOON: Duration = Duration::from_secs(30);

pub(crate) enum Dispatcher {
    Process(Child),
    Thread(Thread),
}

/// Everything that it does is done by one thread, which waits for nothing else while it stands still.
pub(crate) struct Thread {
    runtime: Handle,
    shutdown: Shutdown,
    /// Dropped, it goes on.
    stands: Option<mpsc::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Dispatcher {
    pub(crate) async fn start(lab: &Lab, stage: &Stage, settings: &str, number: u64) -> anyhow::Result<Self> {
        if lab.backend() == "redis" {
            let role = Role::Dispatches { settings: settings.to_owned() };
            return Ok(Self::Process(Child::start(stage, ("redis", lab.address().await), role, number, None)));
        }
        Self::beside(lab, settings).await
    }

    /// One in this process, which sees the lab's clock.
    pub(crate) async fn beside(lab: &Lab, settings: &str) -> anyhow::Result<Self> {
        Ok(Self::Thread(Thread::start(lab.node().await?, settings)?))
    }

    pub(crate) fn stand_still(&mut self) {
        match self {
            Self::Process(child) => child.signal(Signal::SIGSTOP),
            Self::Thread(thread) => thread.stand_still(),
        }
    }

    pub(crate) fn go_on(&mut self) {
        match self {
            Self::Process(child) => child.signal(Signal::SIGCONT),
            Self::Thread(thread) => thread.stands = None,
        }
    }

    /// Ends it in order; what a process wrote goes into the case's history.
    pub(crate) async fn end(self, stage: &Stage) {
        match self {
            Self::Process(mut child) => {
                child.signal(Signal::SIGTERM);
                child.ended().await;
                child.tell(stage);
            }
            Self::Thread(mut thread) => {
                thread.shutdown.begin(SOON);
                let ending = thread.thread.take().unwrap();
                tokio::task::spawn_blocking(move || ending.join()).await.unwrap().unwrap();
            }
        }
    }
}

impl Thread {
    fn start(bus: Bus, settings: &str) -> anyhow::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let dispatcher = mqtt::build(Config { bus, settings: read(settings) })?;
        let (handle, shutdown) = (runtime.handle().clone(), Shutdown::new());
        let until = shutdown.clone();
        let thread = thread::spawn(move || runtime.block_on(Box::new(dispatcher).run(until)).unwrap());
        Ok(Self { runtime: handle, shutdown, stands: None, thread: Some(thread) })
    }

    /// Returns once it does nothing any more.
    fn stand_still(&mut self) {
        let ((stands, until), (stood, stood_still)) = (mpsc::channel::<()>(), mpsc::channel());
        self.runtime.spawn(async move {
            stood.send(()).unwrap();
            _ = until.recv();
        });
        stood_still.recv().unwrap();
        self.stands = Some(stands);
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.stands = None;
        self.shutdown.escalate();
    }
}

fn read(settings: &str) -> Settings {
    serde_json::from_str(settings).unwrap()
}

/// Works as a child, until it is told to end.
pub(super) async fn dispatch(bus: Bus, settings: &str) {
    let dispatcher = mqtt::build(Config { bus, settings: read(settings) }).unwrap();
    let shutdown = Shutdown::new();
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
    let until = shutdown.clone();
    tokio::spawn(async move {
        terminate.recv().await;
        until.begin(SOON);
    });
    Box::new(dispatcher).run(shutdown).await.unwrap();
}
