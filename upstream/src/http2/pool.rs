//! The HTTP/2 connections of one client to one endpoint: one, and up to three more while its streams are all in use.
//! Streams go to the first connection with room, so that the later ones fall idle again.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use h2::client::SendRequest;
use parking_lot::Mutex;

use super::connection::{Connection, Stream};
use crate::{
    config::IDLE,
    connect::Connector,
    error::{Cause, Failure},
    lane::{Lane, UnderWay},
};

const MAX_CONNECTIONS: usize = 4;
/// Streams that any service is expected to allow (RFC 9113, 6.5.2, recommends no fewer).
const MAX_STREAMS: usize = 100;
/// How often a request waits for a connection that others then fill, or that is closed before its turn.
const MAX_WAITS: usize = 2 * MAX_CONNECTIONS;

#[derive(Default)]
pub(crate) struct Pool {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    open: Vec<Connection>,
    /// The connection that is being made; whoever needs one waits for it.
    opening: Option<Opening>,
}

type Opening = Shared<BoxFuture<'static, Result<(), Failure>>>;

impl Pool {
    /// A stream on an open connection, opening one where there is none with room.
    pub async fn open_stream(
        self: &Arc<Self>,
        under_way: &mut UnderWay,
    ) -> Result<(SendRequest<Bytes>, Stream), Failure> {
        for _ in 0..MAX_WAITS {
            let opening = {
                let mut state = self.state.lock();
                if let Some(connection) = state.with_room() {
                    return Ok(connection.take(None));
                }
                if state.opening.is_none()
                    && state.open.len() >= MAX_CONNECTIONS
                    && let Some(connection) = state.roomiest()
                {
                    return Ok(connection.take(Some(under_way.lane.connector.wait()?)));
                }
                // What another connection was told likely holds for the next.
                let max_streams = state.open.first().map_or(MAX_STREAMS, Connection::max_streams);
                state.opening.get_or_insert_with(|| self.open(&under_way.lane, max_streams)).clone()
            };
            let waiting = under_way.lane.connector.wait()?;
            if let Err(failure) = opening.await {
                let state = self.state.lock();
                let others = state.roomiest().filter(|_| matches!(failure.cause, Cause::Limit(_)));
                // One more may not be opened: those that are have to do.
                return others.map(|connection| connection.take(Some(waiting))).ok_or(failure);
            }
            under_way.connected();
        }
        Err(Failure::new(Cause::Closed, "connections are full or closed as soon as they are made"))
    }

    /// Opens a connection for whoever waits. A task, so that it doesn't depend on the request that came first.
    fn open(self: &Arc<Self>, lane: &Arc<Lane>, max_streams: usize) -> Opening {
        lane.keep_swept();
        let (pool, connector): (_, Connector) = (Arc::clone(self), lane.connector.clone());
        let opened = tokio::spawn(async move {
            let opened = Connection::open(&connector, max_streams).await;
            let mut state = pool.state.lock();
            state.opening = None;
            opened.map(|connection| state.open.push(connection))
        });
        let gone = || Failure::new(Cause::Connect, "the runtime is shutting down");
        async move { opened.await.unwrap_or_else(|_| Err(gone())) }.boxed().shared()
    }

    /// Closes each connection when its last stream has ended: at once where there is none. One that is being made for
    /// somebody ends with the lane.
    pub fn retire(&self) {
        self.state.lock().open.clear();
    }

    /// Closes what has been idle for long, but for one.
    pub fn sweep(&self, now: Instant) {
        let mut state = self.state.lock();
        state.open.retain_mut(Connection::is_open);
        let mut index = 1;
        while index < state.open.len() {
            if state.open[index].vitals.idle_for(now).is_some_and(|idle| idle > IDLE) {
                state.open.remove(index);
            } else {
                index += 1;
            }
        }
    }
}

impl State {
    fn with_room(&mut self) -> Option<&Connection> {
        let mut index = 0;
        while index < self.open.len() {
            if !self.open[index].is_open() {
                // Streams still on it go on; it gets no new ones.
                self.open.remove(index);
            } else if self.open[index].free_streams() > 0 {
                return self.open.get(index);
            } else {
                index += 1;
            }
        }
        None
    }

    /// Where all are full: the one with the shortest queue.
    fn roomiest(&self) -> Option<&Connection> {
        self.open.iter().min_by_key(|connection| connection.vitals.streams.load(std::sync::atomic::Ordering::Relaxed))
    }
}
