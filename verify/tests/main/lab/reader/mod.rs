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

/// How long something may take that should be soon.
const PATIENCE: Duration = Duration::from_secs(60);

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
}

/// A reader that runs until it is dropped.
pub(crate) struct Reader {
    pub(crate) notes: Arc<Notes>,
    running: JoinHandle<()>,
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

    /// Waits until all of them have come so far; not for ever: what they lack is judged.
    pub(crate) async fn all_have(readers: &[Self], position: u64) {
        let end = Instant::now() + PATIENCE;
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
