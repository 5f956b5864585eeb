//! Who follows a queue over the wire, on each transport, and writes down what it is told. It knows nothing but its cursor:
//! cut off, it comes again, and goes on from there.

mod http;
mod notes;
mod socket;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use events::Name;
use tokio::{task::JoinHandle, time::Instant};
use verify::History;

use super::Caller;
pub(crate) use notes::Notes;

/// How long something may take that should be soon, and for each reader besides.
const PATIENCE: Duration = Duration::from_secs(60);
const EACH: Duration = Duration::from_millis(20);

/// Longer than a heartbeat, and than a poll waits: who hears nothing for so long comes again.
const SILENCE: Duration = Duration::from_millis(1_500);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// By the crate `client`.
    WebSocket,
    Sse,
    LongPoll,
}

pub(crate) const TRANSPORTS: [Transport; 3] = [Transport::WebSocket, Transport::Sse, Transport::LongPoll];

/// What it follows, from the beginning, where and as whom.
#[derive(Clone)]
pub(crate) struct Following {
    pub(crate) queue: Name,
    pub(crate) at: SocketAddr,
    pub(crate) caller: Caller,
    silence: Duration,
}

/// A reader that runs until it is dropped.
pub(crate) struct Reader {
    pub(crate) notes: Arc<Notes>,
    running: JoinHandle<()>,
}

impl Following {
    pub(crate) fn new(queue: Name, at: SocketAddr, caller: Caller) -> Self {
        Self { queue, at, caller, silence: SILENCE }
    }

    /// One of many, who ask seldom; that a node dies they find out by its connection's end.
    pub(crate) fn patient(self) -> Self {
        Self { silence: 30 * SILENCE, ..self }
    }
}

impl Reader {
    /// `name`: its own in the history.
    pub(crate) fn start(history: &History, name: &str, transport: Transport, following: Following) -> Self {
        let notes = Arc::new(Notes::begin(history, name, &following.queue));
        let noting = notes.clone();
        let running = tokio::spawn(async move {
            match transport {
                Transport::WebSocket => socket::follow(&noting, &following).await,
                Transport::Sse => http::stream(&noting, &following).await,
                Transport::LongPoll => http::poll(&noting, &following).await,
            }
        });
        Self { notes, running }
    }

    /// How long so many may take for what should be soon.
    pub(crate) fn patience(count: usize) -> Duration {
        PATIENCE + EACH * u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Waits until all of them have come so far; not for ever: what they lack is judged.
    pub(crate) async fn all_have(readers: &[Self], position: u64) {
        let end = Instant::now() + Self::patience(readers.len());
        while Instant::now() < end && readers.iter().any(|reader| reader.notes.position() < position) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.running.abort();
    }
}
