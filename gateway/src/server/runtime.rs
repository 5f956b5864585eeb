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
    Shared,
    connection::{self, Front, Taken},
    handler::{Handler, Requests},
    open::Open,
    watchdog::Watchdog,
};
use crate::{
    coding::Slots,
    layers::{Request, Response, request_id::Peer},
    metrics::METRICS,
    overload,
    pipeline::{Surroundings, pipeline},
    snapshot::Snapshot,
    tls::Handshakes,
    worker::Worker,
};

/// What a core's thread is given.
pub struct Core {
    pub number: usize,
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
    let Core { number, shared, sockets, shutdown } = core;
    let own = shared.overload.core(number);
    let around = Surroundings {
        authority: Arc::clone(&shared.authority),
        records: Arc::clone(&shared.records),
        cache: Arc::clone(&shared.cache),
        access_log: shared.access_log.clone(),
        analytics: shared.analytics.core(),
        in_flight: Arc::default(),
        overload: Arc::clone(&own),
        compressing: Slots::default(),
        decompressing: Slots::default(),
        cores: shared.cores,
        draining: Arc::new(shutdown.draining().clone()),
    };
    let cores = shared.cores;
    let build = move |snapshot: &Snapshot, worker: &Arc<Worker>| pipeline(snapshot, worker, &around);
    let handler = Arc::new(Handler::new(Arc::clone(&shared), Arc::clone(&own), build));
    let (measured, core) = (Arc::clone(&shared), Arc::clone(&own));
    tokio::spawn(async move {
        measured.overload.measure(&core, || measured.snapshot().edge.overload.clone()).await;
    });
    let watchdog = Arc::new(Watchdog::default());
    handler.shared().connections.add(&watchdog);
    let connections = TaskTracker::new();
    let handshakes = Handshakes::new(cores);
    let accepting = sockets
        .into_iter()
        .enumerate()
        .map(|(at, (address, socket, open))| {
            let listener = TcpListener::from_std(socket)?;
            let loopback = address.ip().is_loopback();
            let (handler, watchdog, connections) = (&handler, &watchdog, &connections);
            let (shared, handshakes) = (&*shared, &handshakes);
            Ok(Acceptor { listener, at, loopback, open, handshakes, shared, handler, watchdog, connections })
        })
        .collect::<std::io::Result<Vec<_>>>()?;
    {
        let accepting = join_all(accepting.into_iter().map(|acceptor| acceptor.run(&shutdown)));
        tokio::select! {
            _ = accepting => {}
            () = watchdog.run() => {}
            () = handler.follow() => {}
            () = relieve(&own, &watchdog) => {}
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

/// Where memory is scarce, ends connections that are open for nothing. Those on which something is under way are closed
/// when that is done.
async fn relieve(core: &overload::Core, watchdog: &Watchdog) {
    const EVERY: Duration = Duration::from_secs(2);
    loop {
        tokio::time::sleep(EVERY).await;
        if core.closes_connections() {
            watchdog.drain();
        }
    }
}

/// Takes in the connections of one listener.
struct Acceptor<'a, P, B> {
    listener: TcpListener,
    /// Its place in the configuration.
    at: usize,
    loopback: bool,
    open: Arc<AtomicUsize>,
    handshakes: &'a Handshakes,
    shared: &'a Shared,
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
                accepted = self.accept() => match accepted {
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

    /// Where there is too much already, the next one waits, the kernel holds on to a few more, and turns others away.
    async fn accept(&self) -> std::io::Result<(TcpStream, SocketAddr)> {
        let accepted = self.listener.accept().await?;
        self.shared.overload.accepting().await;
        Ok(accepted)
    }

    fn take(&self, socket: TcpStream, client: SocketAddr) {
        let snapshot = self.handler.snapshot();
        let limits = Arc::clone(&snapshot.edge.limits);
        let listener = snapshot.listeners.get(self.at);
        let front = listener
            .is_some_and(|listener| listener.proxy_protocol.contains(client.ip()))
            .then(|| Front { admission: Arc::clone(&self.shared.admission), snapshot: Arc::clone(&snapshot) });
        let seat = match &front {
            // Who it is for, is not known yet.
            Some(_) => None,
            None => match self.shared.admission.admit(client.ip(), &snapshot.edge) {
                Ok(seat) => seat,
                Err(reason) => return METRICS.connection_refused(reason),
            },
        };
        let Some(open) = Open::admit(&self.open, limits.connections, seat, self.connections) else { return };
        let activity = self.watchdog.activity(&limits);
        let tls = snapshot.tls.get(self.at).cloned().flatten();
        let (loopback, secure) = (self.loopback, tls.is_some());
        let https_port = listener.and_then(|listener| listener.redirect_https);
        let tls = tls.map(|terminator| (terminator, self.handshakes.clone()));
        let (handler, noted) = (Arc::clone(self.handler), Arc::clone(&activity));
        let requests = move |client, certificate| {
            let peer = Peer { secure, https_port, certificate, ..Peer::new(client, loopback) };
            Requests { handler, peer, activity: noted }
        };
        let taken = Taken { socket, client, open, activity: Arc::clone(&activity), limits, front, tls };
        let task = self.connections.spawn(connection::serve(taken, requests));
        self.watchdog.watch(activity, task.abort_handle());
    }
}
