//! `GET /ws`: the client protocol over a WebSocket (RFC 6455), subprotocol `turnpike.v1`, one JSON object a text frame.
//!
//! `session.rs` is the protocol, without input or output; `socket.rs` the connection around it, `wire.rs` its framing, `errands.rs`
//! what takes its time.

mod close;
mod credit;
mod errands;
mod frame;
mod session;
mod socket;
mod subscriptions;
mod wire;

use axum::{
    Extension, Router,
    extract::{State, WebSocketUpgrade, ws::rejection::WebSocketUpgradeRejection},
    response::Response,
    routing::get,
};
use http::HeaderMap;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use self::{socket::Socket, wire::Wire};
use crate::{
    access::Caller,
    follow::{Connected, place},
    metrics::Transport,
    problem::Problem,
    shared::Shared,
};

const SUBPROTOCOL: &str = "turnpike.v1";
/// The most bytes of a frame that comes in.
const MAX_BYTES: usize = 1 << 20;

pub(crate) fn router() -> Router<Shared> {
    Router::new().route("/ws", get(upgrade))
}

async fn upgrade(
    State(shared): State<Shared>,
    caller: Caller,
    connection: Option<Extension<OnUpgrade>>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let upgrade = upgrade.or_else(|rejection| {
        // A page isn't told why it gets no WebSocket: it asks so, and learns whether it would be let in.
        drop((shared.overload.hear(caller.subject.is_some())?, place(&shared)?));
        Err(Problem::invalid(rejection.body_text()))
    })?;
    if !upgrade.requested_protocols().any(|protocol| protocol == SUBPROTOCOL) {
        return Err(Problem::invalid(format!("sec-websocket-protocol: must be {SUBPROTOCOL}")));
    }
    let (Some(Extension(connection)), Some(answer)) = (connection, wire::accepted(&headers, SUBPROTOCOL)) else {
        return Err(Problem::invalid("this connection can't become a socket"));
    };
    let probation = shared.overload.hear(caller.subject.is_some())?;
    let connected = Connected::sit(&shared, &caller, Transport::WebSocket, None)?;
    // The drain waits for it.
    shared.tasks.clone().spawn(async move {
        // Otherwise its client has gone.
        if let Ok(upgraded) = connection.await {
            let wire = Wire::new(TokioIo::new(upgraded), MAX_BYTES);
            Box::new(Socket::new(wire, shared, caller, connected, probation)).run().await;
        }
    });
    Ok(answer)
}
