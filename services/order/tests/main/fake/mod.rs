//! The services that the order service calls, each doing what its `.proto` promises, in memory, with faults on demand.

mod cart;
mod invoice;
mod product;

use std::{
    collections::VecDeque,
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use http::{Request as HttpRequest, Response as HttpResponse};
use principal::{METADATA, Verifier};
use stage::ORDER;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, body::Body, server::NamedService, transport::Server};

pub use cart::Cart;
pub use invoice::Invoice;
pub use product::Product;

/// What goes wrong with a call.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// Nothing is done.
    Refuse,
    /// It is done, but the answer is lost.
    Lose,
    /// An answer that nobody expects: nothing is done.
    Blame,
}

/// An RPC that can fail, and knows who calls it.
pub struct Rpc {
    verifier: Verifier,
    away: AtomicBool,
    faults: Mutex<VecDeque<Fault>>,
    calls: AtomicUsize,
}

impl Rpc {
    pub fn new(verifier: &Verifier) -> Self {
        Self { verifier: verifier.clone(), away: false.into(), faults: Mutex::default(), calls: 0.into() }
    }

    /// Every call is UNAVAILABLE while it is away.
    pub fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    /// What goes wrong with the next call that has no fault yet.
    pub fn fail_next(&self, fault: Fault) {
        self.faults.lock().unwrap().push_back(fault);
    }

    /// How often it was called, failed calls included.
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    async fn serve<Q, A>(
        &self,
        request: Request<Q>,
        effect: impl FnOnce(String, Q) -> Result<A, Status>,
    ) -> Result<Response<A>, Status> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if self.away.load(Ordering::SeqCst) {
            return Err(Status::unavailable("away"));
        }
        let token = request.metadata().get(METADATA).ok_or_else(|| Status::unauthenticated("no principal"))?;
        let verified = self.verifier.verify(token.to_str().unwrap_or_default()).await;
        let caller = verified.map_err(|error| Status::unauthenticated(error.to_string()))?;
        let fault = self.faults.lock().unwrap().pop_front();
        match fault {
            Some(Fault::Refuse) => return Err(Status::unavailable("refused")),
            Some(Fault::Blame) => return Err(Status::invalid_argument("a secret of the callee's")),
            Some(Fault::Lose) | None => {}
        }
        let answer = effect(caller.subject, request.into_inner())?;
        match fault {
            Some(Fault::Lose) => Err(Status::unavailable("the answer was lost")),
            _ => Ok(Response::new(answer)),
        }
    }
}

fn only_order(caller: &str) -> Result<(), Status> {
    if caller == ORDER { Ok(()) } else { Err(Status::permission_denied(format!("{caller} is not {ORDER}"))) }
}

/// Binds port 0, or the port of `address`, and serves there until `stop`.
pub async fn serve<S>(address: SocketAddr, server: S, stop: CancellationToken) -> SocketAddr
where
    S: tower::Service<HttpRequest<Body>, Response = HttpResponse<Body>, Error = Infallible>
        + NamedService
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
{
    let listener = TcpListener::bind(address).await.unwrap();
    let bound = listener.local_addr().unwrap();
    let serving = Server::builder()
        .add_service(server)
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stop.cancelled_owned());
    tokio::spawn(serving);
    bound
}

/// A port where nobody listens yet.
pub fn closed_port() -> SocketAddr {
    let probe = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    probe.local_addr().unwrap()
}
