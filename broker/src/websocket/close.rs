//! Why a socket is closed. From 4000 the client comes back, from 4500 it doesn't: it would be closed again.

use tokio_tungstenite::tungstenite::{Error, error::ProtocolError};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum CloseCode {
    /// The client said that it goes.
    Normal = 1000,
    /// This node shuts down.
    Drain = 4000,
    /// The first frame didn't come in time.
    Late = 4001,
    /// Two pings were not answered.
    Dead = 4002,
    /// Who calls can't be verified now.
    Unavailable = 4003,
    /// Its time is over; who calls is asked again.
    Rotated = 4004,
    /// This node has too much to bear.
    Overload = 4005,
    /// The client breaks the protocol.
    Protocol = 4500,
    /// The token is not valid.
    Unauthenticated = 4501,
    /// A frame is larger than is taken.
    TooLarge = 4502,
    /// Another version of the protocol.
    Version = 4503,
}

impl CloseCode {
    /// What a client is told whose bytes are no frames, or too many. None: the connection broke, and nobody listens.
    pub(super) fn of(error: &Error) -> Option<(Self, String)> {
        match error {
            Error::Capacity(_) => Some((Self::TooLarge, "a frame has at most 1 MiB".to_owned())),
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
            Error::Protocol(_) | Error::Utf8(_) => Some((Self::Protocol, error.to_string())),
            _ => None,
        }
    }
}
