//! A WebSocket that was welcomed: frames out, frames in, and why it ended.

use std::{
    collections::VecDeque,
    future::poll_fn,
    ops::RangeInclusive,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::{self, Message, protocol::CloseFrame};

use crate::{
    Error,
    dial::{Dial, Socket},
    frame::{Frame, Goaway},
};

/// How often a server may ask whether somebody is there.
const PINGS: RangeInclusive<u64> = 100..=300_000;
/// How long a farewell may take.
const FAREWELL: Duration = Duration::from_secs(2);

pub(crate) struct Link {
    socket: Socket,
    flushed: bool,
    goaway: Option<Goaway>,
    /// How often the server asks whether somebody is there.
    ping: Duration,
    last_heard: Instant,
    /// How long one may stay that was sent away.
    parting: Duration,
}

/// What came.
pub(crate) enum Heard {
    Frame(Box<Frame>),
    /// Only that somebody is there.
    Life,
}

/// Why there is no link any more.
#[derive(Debug)]
pub(crate) enum Ended {
    /// Nobody wants one.
    Done,
    /// Whoever comes again is sent away again.
    Refused(Error),
    /// It isn't the broker that answers: at first that is a mistake, later somebody on the way, or a certificate that ran out.
    Astray(Error),
    /// Another one goes on: after so many milliseconds, if the server said so.
    Lost { reason: String, after: Option<[u64; 2]> },
}

impl Ended {
    pub(crate) fn lost(reason: impl Into<String>) -> Self {
        Self::Lost { reason: reason.into(), after: None }
    }
}

impl Link {
    /// Connects, and is welcomed, within so long.
    pub(crate) async fn open(dial: Dial, hello: String, within: Duration) -> Result<Self, Ended> {
        let opening = async {
            let socket = dial.dial().await?;
            let (ping, last_heard) = (Duration::ZERO, Instant::now());
            let mut link = Self { socket, flushed: true, goaway: None, ping, last_heard, parting: within };
            let mut out = VecDeque::from([hello]);
            loop {
                let Heard::Frame(frame) = link.next(&mut out).await? else { continue };
                if let Some(welcome) = frame.welcome {
                    link.ping = Duration::from_millis(welcome.ping_ms.clamp(*PINGS.start(), *PINGS.end()));
                    return Ok(link);
                }
            }
        };
        timeout(within, opening).await.unwrap_or_else(|_| Err(Ended::lost("no welcome in time")))
    }

    /// When it is dead unless something is heard: after two pings, and what they may be late. One that was sent away has to
    /// be closed soon, whatever it is told.
    pub(crate) fn dies(&self) -> Instant {
        self.last_heard + if self.goaway.is_some() { self.parting } else { self.ping * 5 / 2 }
    }

    /// Writes what waits, and gives what comes. May be cancelled and called again.
    pub(crate) async fn next(&mut self, out: &mut VecDeque<String>) -> Result<Heard, Ended> {
        poll_fn(|cx| self.poll(out, cx)).await
    }

    fn poll(&mut self, out: &mut VecDeque<String>, cx: &mut Context<'_>) -> Poll<Result<Heard, Ended>> {
        self.poll_write(out, cx).map_err(|error| self.broken(&error))?;
        let Poll::Ready(came) = self.socket.poll_next_unpin(cx) else { return Poll::Pending };
        if self.goaway.is_none() {
            self.last_heard = Instant::now();
        }
        let heard = match came {
            Some(Ok(Message::Text(text))) => match serde_json::from_str(&text) {
                Ok(frame) => self.heard(frame),
                Err(error) => Err(Ended::lost(format!("a frame can't be read: {error}"))),
            },
            Some(Ok(Message::Binary(_))) => Err(Ended::lost("a frame came that is no text")),
            Some(Ok(Message::Close(frame))) => Err(self.closed(frame)),
            Some(Ok(_)) => Ok(Heard::Life),
            Some(Err(error)) => Err(self.broken(&error)),
            None => Err(self.gone("the connection has ended")),
        };
        Poll::Ready(heard)
    }

    fn poll_write(&mut self, out: &mut VecDeque<String>, cx: &mut Context<'_>) -> Result<(), tungstenite::Error> {
        while !out.is_empty() {
            match self.socket.poll_ready_unpin(cx)? {
                Poll::Pending => return Ok(()),
                Poll::Ready(()) => {}
            }
            if let Some(text) = out.pop_front() {
                self.socket.start_send_unpin(Message::text(text))?;
                self.flushed = false;
            }
        }
        if !self.flushed {
            self.flushed = self.socket.poll_flush_unpin(cx)?.is_ready();
        }
        Ok(())
    }

    fn heard(&mut self, frame: Frame) -> Result<Heard, Ended> {
        if frame.goaway.is_some() {
            self.goaway = frame.goaway;
            return Ok(Heard::Life);
        }
        Ok(Heard::Frame(Box::new(frame)))
    }

    /// From 4500 to 4999 whoever came again would be closed again.
    fn closed(&self, frame: Option<CloseFrame>) -> Ended {
        let Some(CloseFrame { code, reason }) = frame else { return self.gone("it was closed") };
        let code = u16::from(code);
        let kind = match code {
            4501 => "unauthenticated",
            4502 => "too-large",
            4503 => "version",
            4500..=4999 => "protocol",
            _ => return self.gone(&format!("it was closed with {code}: {reason}")),
        };
        Ended::Refused(Error::new(kind, reason.to_string()))
    }

    fn broken(&self, error: &tungstenite::Error) -> Ended {
        self.gone(&error.to_string())
    }

    fn gone(&self, reason: &str) -> Ended {
        match &self.goaway {
            Some(Goaway { retry: false, reason, .. }) => Ended::Refused(Error::new("goaway", reason.clone())),
            Some(Goaway { after_ms, .. }) => Ended::Lost { reason: reason.to_owned(), after: *after_ms },
            None => Ended::lost(reason),
        }
    }

    /// Nothing was heard for too long.
    pub(crate) fn died(&self) -> Ended {
        self.gone("nothing was heard")
    }

    /// Says what waits, and goodbye.
    pub(crate) async fn close(mut self, out: VecDeque<String>) {
        let farewell = async {
            for text in out.into_iter().chain([r#"{"bye":{}}"#.to_owned()]) {
                self.socket.send(Message::text(text)).await?;
            }
            while self.socket.next().await.transpose()?.is_some() {}
            Ok::<(), tungstenite::Error>(())
        };
        // Who doesn't hear it finds out by itself.
        let _ = timeout(FAREWELL, farewell).await;
    }
}
