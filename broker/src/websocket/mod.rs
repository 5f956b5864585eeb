//! `GET /ws`: the client protocol over a WebSocket (RFC 6455), subprotocol `turnpike.v1`, one JSON object a text frame.
//!
//! `session.rs` is the protocol, without input or output; `socket.rs` the connection around it, `errands.rs` what
//! takes its time.

mod close;
mod credit;
mod errands;
mod frame;
mod session;
mod socket;
mod subscriptions;

use axum::{
    Router,
    extract::{State, WebSocketUpgrade, ws::rejection::WebSocketUpgradeRejection},
    response::Response,
    routing::get,
};

use self::socket::Socket;
use crate::{access::Caller, follow::Connected, metrics::Transport, problem::Problem, shared::Shared};

const SUBPROTOCOL: &str = "turnpike.v1";
/// The most bytes of a frame that comes in.
const MAX_BYTES: usize = 1 << 20;
/// An idle connection shall cost little; what is larger is read in pieces.
const READ_BUFFER: usize = 1024;
const WRITE_BUFFER: usize = 4 * 1024;

pub(crate) fn router() -> Router<Shared> {
    Router::new().route("/ws", get(upgrade))
}

async fn upgrade(
    State(shared): State<Shared>,
    caller: Caller,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let upgrade = upgrade.map_err(|rejection| Problem::invalid(rejection.body_text()))?;
    if !upgrade.requested_protocols().any(|protocol| protocol == SUBPROTOCOL) {
        return Err(Problem::invalid(format!("sec-websocket-protocol: must be {SUBPROTOCOL}")));
    }
    let probation = shared.overload.hear(caller.subject.is_some())?;
    let connected = Connected::sit(&shared, &caller, Transport::WebSocket, None)?;
    let upgrade = upgrade
        .protocols([SUBPROTOCOL])
        .max_message_size(MAX_BYTES)
        .max_frame_size(MAX_BYTES)
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER);
    // The drain waits for it.
    let token = shared.tasks.token();
    Ok(upgrade.on_upgrade(async move |socket| {
        let _token = token;
        Box::new(Socket::new(socket, shared, caller, connected, probation)).run().await;
    }))
}
