//! The handshake: bounded in time and in number, and counted by how it ends.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use rustls::{AlertDescription, CertificateError, Error, HandshakeKind, ProtocolVersion};
use time::OffsetDateTime;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Duration, Instant, timeout, timeout_at},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{ClientCertificate, Terminator};
use crate::{
    error::{self, ErrorKind},
    metrics::METRICS,
    problem::{self, Occurrence},
};

/// The first byte of every TLS connection: a record of a handshake.
const HANDSHAKE: u8 = 22;
/// How long a client that spoke plain HTTP has to read that this is wrong.
const TOLD: Duration = Duration::from_secs(1);

/// How many handshakes may be under way in the process, an equal share for each core: more than clients that mean well
/// begin within a round trip, and their buffers together stay below 32 MiB.
const MOST: usize = 2_000;

/// The handshakes of a core that are under way.
#[derive(Clone)]
pub struct Handshakes {
    under_way: Arc<AtomicUsize>,
    most: usize,
}

struct UnderWay(Arc<AtomicUsize>);

impl Handshakes {
    pub fn new(cores: usize) -> Self {
        Self { under_way: Arc::default(), most: MOST.div_ceil(cores) }
    }

    fn begin(&self) -> Option<UnderWay> {
        if self.under_way.fetch_add(1, Relaxed) >= self.most {
            self.under_way.fetch_sub(1, Relaxed);
            return None;
        }
        Some(UnderWay(Arc::clone(&self.under_way)))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// A connection whose handshake is done.
pub struct Secured {
    pub stream: Box<TlsStream<TcpStream>>,
    pub certificate: Option<Arc<ClientCertificate>>,
    pub is_http2: bool,
}

/// Does the handshake, by the deadline, or closes the connection.
pub async fn accept(
    socket: TcpStream,
    terminator: &Terminator,
    handshakes: &Handshakes,
    deadline: Instant,
) -> Option<Secured> {
    let Some(_under_way) = handshakes.begin() else {
        METRICS.handshake("too_many", "");
        return None;
    };
    let handshake = async {
        let mut first = [0];
        match socket.peek(&mut first).await {
            Ok(1) if first[0] == HANDSHAKE => {}
            Ok(1) => {
                return Err(Unsecured { socket: first[0].is_ascii_uppercase().then_some(socket), because: "not_tls" });
            }
            _ => return Err("closed".into()),
        }
        let accept = TlsAcceptor::from(Arc::clone(&terminator.server)).accept(socket);
        accept.await.map_err(|error| because(&error).into())
    };
    let stream = match timeout_at(deadline, handshake).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(Unsecured { socket, because })) => {
            METRICS.handshake(because, "");
            if let Some(mut socket) = socket {
                _ = timeout(TOLD, tell(&mut socket)).await;
            }
            return None;
        }
        Err(_) => {
            METRICS.handshake("slow", "");
            return None;
        }
    };
    let (_, session) = stream.get_ref();
    let version = if session.protocol_version() == Some(ProtocolVersion::TLSv1_3) { "1.3" } else { "1.2" };
    let resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
    let certificate = session.peer_certificates().and_then(<[_]>::first).and_then(|leaf| ClientCertificate::read(leaf));
    // What a resumed session was verified by is as it was; only the time has gone on.
    if resumed && certificate.as_ref().is_some_and(|own| own.not_after < OffsetDateTime::now_utc()) {
        METRICS.handshake("client_certificate_expired", version);
        return None;
    }
    METRICS.handshake(if resumed { "resumed" } else { "ok" }, version);
    let is_http2 = session.alpn_protocol() == Some(b"h2");
    Some(Secured { stream: Box::new(stream), certificate: certificate.map(Arc::new), is_http2 })
}

/// A connection that found no TLS, with its socket if it speaks another language that could be answered.
struct Unsecured {
    socket: Option<TcpStream>,
    because: &'static str,
}

impl From<&'static str> for Unsecured {
    fn from(because: &'static str) -> Self {
        Self { socket: None, because }
    }
}

/// Why a handshake failed, in a word for the metric.
fn because(error: &io::Error) -> &'static str {
    let Some(error) = error.get_ref().and_then(|error| error.downcast_ref::<Error>()) else {
        return "closed";
    };
    match error {
        Error::PeerIncompatible(_) => "incompatible",
        Error::NoApplicationProtocol => "no_protocol",
        Error::NoCertificatesPresented => "no_client_certificate",
        Error::InvalidCertificate(error) => match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => "client_certificate_expired",
            CertificateError::Revoked => "client_certificate_revoked",
            CertificateError::UnknownIssuer => "client_certificate_unknown_issuer",
            _ => "client_certificate_invalid",
        },
        // The client doesn't like our certificate, most likely.
        Error::AlertReceived(AlertDescription::CloseNotify | AlertDescription::UserCanceled) => "closed",
        Error::AlertReceived(_) => "refused_by_client",
        Error::InvalidMessage(_) | Error::InappropriateMessage { .. } | Error::PeerMisbehaved(_) => "malformed",
        _ => "other",
    }
}

/// Tells a client in plain HTTP that it needs TLS.
async fn tell(socket: &mut TcpStream) -> io::Result<()> {
    let error = error::Error::new(ErrorKind::BadRequest, "this port speaks TLS: the address begins with https");
    let occurrence = Occurrence::of(&http::Request::new(()));
    let body = problem::document(&error, &occurrence);
    let head = format!(
        "HTTP/1.1 {}\r\ncontent-type: {}\r\ncontent-length: {}\r\ncache-control: no-store\r\nconnection: close\r\n\r\n",
        problem::status(error.kind).http,
        problem::CONTENT_TYPE,
        body.len(),
    );
    socket.write_all(&[head.as_bytes(), &body].concat()).await?;
    socket.shutdown().await?;
    // Closing with bytes unread would reset the connection, and the answer with it.
    let mut rest = [0; 1024];
    while socket.read(&mut rest).await? > 0 {}
    Ok(())
}
