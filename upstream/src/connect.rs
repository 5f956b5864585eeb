//! Making a connection: resolves, connects, shakes hands, counts. The limits are the upstream's, all cores together, and are only
//! touched here, never by a request that finds a connection.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    net::{TcpStream, lookup_host},
    sync::OwnedSemaphorePermit,
    time::timeout,
};

use socket2::{SockRef, TcpKeepalive};

use crate::{
    caps::Limits,
    endpoint::Shared,
    error::{Cause, Failure},
    stream::Stream,
    tls::Encryption,
};

/// A connection that is silent for so long is asked whether anybody is there, three times and every so often.
const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(30)).with_interval(Duration::from_secs(10)).with_retries(3);

/// The way to one endpoint.
#[derive(Clone)]
pub(crate) struct Connector {
    pub endpoint: Arc<Shared>,
    pub limits: Arc<Limits>,
    /// Of connecting and of the handshake together.
    pub timeout: Duration,
    /// None: in clear text.
    pub tls: Option<Arc<Encryption>>,
}

impl Connector {
    /// A place among the requests that wait. Held while one waits.
    pub fn wait(&self) -> Result<OwnedSemaphorePermit, Failure> {
        self.limits.wait()
    }

    /// A connection, and the permit to be held as long as it is open.
    pub async fn connect(&self) -> Result<(Stream, OwnedSemaphorePermit), Failure> {
        let permit = self.limits.connect()?;
        let connected = timeout(self.timeout, self.open()).await;
        let why = match connected {
            Ok(Ok(stream)) => return Ok((self.endpoint.track(stream), permit)),
            Ok(Err(why)) => why,
            Err(_) => format!("can't connect to {} within {:?}", self.endpoint.address, self.timeout),
        };
        Err(Failure::new(Cause::Connect, why))
    }

    async fn open(&self) -> Result<Stream, String> {
        let address = &self.endpoint.address;
        let socket = connect(address).await.map_err(|error| format!("can't connect to {address}: {error}"))?;
        let Some(tls) = &self.tls else { return Ok(Stream::Plain(socket)) };
        let secured = tls.begin(socket, self.endpoint.known_as()).await;
        secured.map(Stream::from).map_err(|why| format!("no TLS with {address}: {why}"))
    }
}

async fn connect(address: &str) -> io::Result<TcpStream> {
    let mut last = None;
    for address in lookup_host(address).await? {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                SockRef::from(&stream).set_tcp_keepalive(&KEEPALIVE)?;
                return Ok(stream);
            }
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Caps, error::Cap};

    fn connector(limits: &Arc<Limits>) -> Connector {
        let endpoint = Arc::new(Shared::new("test", "127.0.0.1:1").unwrap());
        Connector { endpoint, limits: Arc::clone(limits), timeout: Duration::from_secs(1), tls: None }
    }

    #[tokio::test]
    async fn one_connection_too_many_is_refused_at_once() {
        let limits = Arc::new(Limits::new(&Caps { connections: 1, ..Caps::default() }));
        let connector = connector(&limits);
        let open = limits.connect().unwrap();
        assert_eq!(connector.connect().await.unwrap_err().cause, Cause::Limit(Cap::Connections));
        drop(open);
        assert_eq!(connector.connect().await.unwrap_err().cause, Cause::Connect, "nobody listens there");
    }
}
