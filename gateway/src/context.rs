//! What the pipeline has learnt of a request so far; travels in its extensions.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use principal::Principal;

use crate::{
    address::Said,
    auth::Kind,
    error::{Error, ErrorKind},
    route::Local,
};

pub(crate) use crate::outcome::Outcome;

/// Set by the first layers, read by the later ones and by the action.
#[derive(Clone)]
pub struct RequestContext {
    pub request_id: Arc<str>,
    pub trace: telemetry::TraceContext,
    pub client: SocketAddr,
    /// What its deadline and its duration count from.
    pub arrived: Instant,
    /// The moment after which nobody waits for the answer.
    pub deadline: Instant,
    pub principal: Option<Arc<Authenticated>>,
    /// Variables of the matched path template, decoded: (`product_id`, `42`).
    pub variables: Variables,
    /// It came in by a listener that is bound to a loopback address, and from no proxy's client elsewhere.
    pub(crate) loopback: bool,
    /// It came by https.
    pub(crate) secure: bool,
    /// Its caller named no trace that it belongs to.
    pub(crate) begins_trace: bool,
    /// What proxies in front say of it, where they are trusted; `client` and `secure` are as they say.
    pub(crate) said: Option<Arc<Said>>,
    /// What the request was authenticated with.
    pub(crate) kind: Option<Kind>,
    /// The id of the API key the request was authenticated with.
    pub(crate) api_key: Option<Arc<str>>,
    /// The matched route; set by the route layer.
    pub(crate) route: Option<Arc<Local>>,
    /// What the outer layers read when the answer passes them on its way out.
    pub(crate) outcome: Arc<Outcome>,
}

/// Variables with their values.
pub type Variables = Arc<[(Arc<str>, String)]>;

/// A principal with its signed token for upstreams (made once, reused while it is fresh).
#[derive(Debug)]
pub struct Authenticated {
    pub principal: Principal,
    /// The JWS for the `turnpike-principal` metadata.
    pub token: http::HeaderValue,
}

impl RequestContext {
    /// The context of a request that has just arrived: nobody is authenticated, nothing is matched.
    pub fn new(request_id: Arc<str>, trace: telemetry::TraceContext, client: SocketAddr) -> Self {
        let arrived = Instant::now();
        Self {
            request_id,
            trace,
            client,
            arrived,
            deadline: arrived + Duration::from_secs(15),
            principal: None,
            variables: Arc::default(),
            loopback: false,
            secure: false,
            begins_trace: true,
            said: None,
            kind: None,
            api_key: None,
            route: None,
            outcome: Arc::default(),
        }
    }

    /// Takes over what trusted proxies say.
    pub(crate) fn behind(&mut self, said: Said) {
        if said.client != self.client.ip() {
            // Its port nobody tells.
            self.client = SocketAddr::new(said.client, 0);
        }
        // The listener may be, but who is behind the proxy is not on this machine.
        self.loopback &= said.client.is_loopback();
        self.secure = said.secure.unwrap_or(self.secure);
        self.said = Some(Arc::new(said));
    }

    /// The context that travels with a request.
    ///
    /// # Errors
    /// If the request did not come through the pipeline, which sets it first of all.
    pub(crate) fn of<B>(request: &http::Request<B>) -> Result<&Self, Error> {
        request.extensions().get().ok_or_else(missing)
    }

    pub(crate) fn of_mut<B>(request: &mut http::Request<B>) -> Result<&mut Self, Error> {
        request.extensions_mut().get_mut().ok_or_else(missing)
    }

    /// `http` or `https`, as the client sees it.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }

    /// The matched route.
    ///
    /// # Errors
    /// Outside the route layer.
    pub(crate) fn route(&self) -> Result<&Arc<Local>, Error> {
        self.route.as_ref().ok_or_else(missing)
    }
}

fn missing() -> Error {
    Error::new(ErrorKind::Internal, "the gateway made a mistake").cause("a layer ran outside its place in the pipeline")
}
