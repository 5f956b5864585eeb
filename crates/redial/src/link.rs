//! A connection that many use at once, and that is made again by whoever needs it next when it broke.

use std::sync::Arc;

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use parking_lot::Mutex;
use redis::{Cmd, ErrorKind, Pipeline, RedisError, RedisResult, ServerErrorKind, Value, aio::MultiplexedConnection};

use crate::address::Host;

/// A connection, and to whom.
#[derive(Clone)]
pub(crate) struct Dialed {
    pub(crate) connection: MultiplexedConnection,
    pub(crate) host: Host,
}

type Dialing = Shared<BoxFuture<'static, RedisResult<Dialed>>>;
type Dial = Box<dyn Fn() -> BoxFuture<'static, RedisResult<Dialed>> + Send + Sync>;

/// How a connection comes to be, and the one there is or will be.
pub(crate) struct Link {
    dial: Dial,
    current: Mutex<Arc<Dialing>>,
}

/// What is sent in one piece.
#[derive(Clone, Copy)]
pub(crate) enum Request<'a> {
    Cmd(&'a Cmd),
    /// With how many answers are left out, and how many are wanted.
    Pipeline(&'a Pipeline, usize, usize),
}

/// Why something has no answer.
pub(crate) enum Failed {
    /// It was never sent.
    Unsent(RedisError),
    /// Nobody knows whether it was done, unless the server says so.
    Sent(RedisError),
}

impl Link {
    /// Nothing is dialed before it is needed.
    pub(crate) fn new(dial: impl Fn() -> BoxFuture<'static, RedisResult<Dialed>> + Send + Sync + 'static) -> Self {
        let current = Mutex::new(Arc::new(dial().shared()));
        Self { dial: Box::new(dial), current }
    }

    /// Sends something once.
    pub(crate) async fn send(&self, request: Request<'_>) -> Result<Vec<Value>, Failed> {
        let (dialing, dialed) = self.dialed().await.map_err(Failed::Unsent)?;
        let answer = request.on(dialed.connection).await;
        if let Err(error) = &answer
            && must_leave(error)
        {
            self.leave(&dialing);
        }
        answer.map_err(Failed::Sent)
    }

    /// [`Link::send`] of one command.
    pub(crate) async fn ask(&self, cmd: &Cmd) -> RedisResult<Value> {
        let (dialing, mut dialed) = self.dialed().await?;
        let answer = dialed.connection.send_packed_command(cmd).await.and_then(Value::extract_error);
        if let Err(error) = &answer
            && must_leave(error)
        {
            self.leave(&dialing);
        }
        answer
    }

    /// To whom the connection is; nobody, where there is none.
    pub(crate) fn host(&self) -> Option<Host> {
        let current = self.current.lock().clone();
        current.peek()?.as_ref().ok().map(|dialed| dialed.host.clone())
    }

    /// To whom it is, dialing if need be.
    pub(crate) async fn reach(&self) -> RedisResult<Host> {
        self.dialed().await.map(|(_, dialed)| dialed.host)
    }

    /// Leaves the connection there is, if it is to this host.
    pub(crate) fn leave_host(&self, host: &Host) {
        let current = self.current.lock().clone();
        if current.peek().is_some_and(|dialed| dialed.as_ref().is_ok_and(|dialed| dialed.host == *host)) {
            self.leave(&current);
        }
    }

    async fn dialed(&self) -> RedisResult<(Arc<Dialing>, Dialed)> {
        let dialing = self.current.lock().clone();
        match (*dialing).clone().await {
            Ok(dialed) => Ok((dialing, dialed)),
            Err(error) => {
                // Whoever asks next begins anew.
                self.leave(&dialing);
                Err(error)
            }
        }
    }

    /// The next one to ask dials, unless somebody has since.
    fn leave(&self, which: &Arc<Dialing>) {
        let mut current = self.current.lock();
        if Arc::ptr_eq(&current, which) {
            *current = Arc::new((self.dial)().shared());
        }
    }
}

impl Failed {
    pub(crate) fn into_error(self) -> RedisError {
        match self {
            Self::Unsent(error) | Self::Sent(error) => error,
        }
    }
}

impl Request<'_> {
    async fn on(self, mut connection: MultiplexedConnection) -> RedisResult<Vec<Value>> {
        match self {
            Self::Cmd(cmd) => {
                connection.send_packed_command(cmd).await.and_then(Value::extract_error).map(|value| vec![value])
            }
            Self::Pipeline(pipeline, offset, count) => connection.send_packed_commands(pipeline, offset, count).await,
        }
    }
}

/// Whether another connection is needed: this one is broken, is silent (perhaps it only looks open), or is to a server
/// that isn't, or not any more, the primary.
fn must_leave(error: &RedisError) -> bool {
    let not_the_primary = matches!(
        error.kind(),
        ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown) | ErrorKind::AuthenticationFailed
    );
    not_the_primary || error.is_unrecoverable_error() || error.is_timeout() || error.is_io_error()
}
