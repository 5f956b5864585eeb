//! A core: its runtime, its listeners, and how both end.

use std::{
    net::{SocketAddr, TcpListener as Socket},
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use futures_util::{FutureExt as _, future::join_all};
use lifecycle::Shutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;
use tower::Service;

use super::{
    Shared, connection,
    handler::{Handler, Requests},
    open::Open,
    watchdog::Watchdog,
};
use crate::{
    layers::{Request, Response, request_id::Peer},
    pipeline::{Surroundings, pipeline},
    snapshot::Snapshot,
    worker::Worker,
};

/// What a core's thread is given.
pub struct Core {
    pub shared: Arc<Shared>,
    /// Its socket of each listener, with the connections that all cores have open there.
    pub sockets: Vec<(SocketAddr, Socket, Arc<AtomicUsize>)>,
    pub shutdown: Shutdown,
}

/// Runs a core on this thread until the shutdown is over.
///
/// # Errors
/// If the runtime or its sockets can't be had.
pub fn run(core: Core) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(serve(core));
    // What is still open was told to end long ago.
    runtime.shutdown_background();
    result
}

async fn serve(core: Core) -> anyhow::Result<()> {
    let Core { shared, sockets, shutdown } = core;
    let around = Surroundings {
        authority: Arc::clone(&shared.authority),
        records: Arc::clone(&shared.records),
        access_log: shared.access_log.clone(),
        in_flight: Arc::default(),
        cores: shared.cores,
        draining: Arc::new(shutdown.draining().clone()),
    };
    let build = move |snapshot: &Snapshot, worker: &Arc<Worker>| pipeline(snapshot, worker, &around);
    let handler = Arc::new(Handler::new(shared, build));
    let watchdog = Arc::new(Watchdog::default());
    let connections = TaskTracker::new();
    let accepting = sockets
        .into_iter()
        .map(|(address, socket, open)| {
            let listener = TcpListener::from_std(socket)?;
            let loopback = address.ip().is_loopback();
            Ok(Acceptor { listener, loopback, open, handler: &handler, watchdog: &watchdog, connections: &connections })
        })
        .collect::<std::io::Result<Vec<_>>>()?;
    {
        let accepting = join_all(accepting.into_iter().map(|acceptor| acceptor.run(&shutdown)));
        tokio::select! {
            _ = accepting => {}
            () = watchdog.run() => {}
            () = handler.follow() => {}
        }
    }
    watchdog.drain();
    connections.close();
    tokio::select! {
        () = connections.wait() => {}
        () = watchdog.run() => {}
        () = shutdown.dropping().cancelled() => {}
    }
    Ok(())
}

/// Takes in the connections of one listener.
struct Acceptor<'a, P, B> {
    listener: TcpListener,
    loopback: bool,
    open: Arc<AtomicUsize>,
    handler: &'a Arc<Handler<P, B>>,
    watchdog: &'a Watchdog,
    connections: &'a TaskTracker,
}

impl<P, B> Acceptor<'_, P, B>
where
    P: Service<Request, Response = Response, Error = std::convert::Infallible> + Send + 'static,
    P::Future: Send + 'static,
    B: Fn(&Snapshot, &Arc<Worker>) -> P + Send + Sync + 'static,
{
    /// Until the drain begins.
    async fn run(self, shutdown: &Shutdown) {
        loop {
            tokio::select! {
                () = shutdown.draining().cancelled() => break,
                accepted = self.listener.accept() => match accepted {
                    Ok((socket, client)) => self.take(socket, client),
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        // Out of file descriptors, most likely: trying at once again would only burn the core.
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                },
            }
        }
        // Closing the socket would reset what the kernel has already accepted for us.
        while let Some(Ok((socket, client))) = self.listener.accept().now_or_never() {
            self.take(socket, client);
        }
    }

    fn take(&self, socket: TcpStream, client: SocketAddr) {
        let limits = Arc::clone(&self.handler.snapshot().edge.limits);
        let Some(open) = Open::admit(&self.open, limits.connections, self.connections) else { return };
        let activity = self.watchdog.activity();
        let requests = Requests {
            handler: Arc::clone(self.handler),
            peer: Peer::new(client, self.loopback),
            activity: Arc::clone(&activity),
        };
        let noted = Arc::clone(&activity);
        let task = self.connections.spawn(async move {
            connection::serve(socket, requests, noted, &limits, open).await;
        });
        self.watchdog.watch(activity, task.abort_handle());
    }
}
