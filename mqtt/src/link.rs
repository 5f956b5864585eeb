//! How the MQTT broker is reached.

use std::{fs, pin::Pin, sync::Arc, time::Duration};

use anyhow::Context as _;
use rumqttc::{
    AckMode, AsyncClient, ConnectionError, EventLoop, MqttOptions, PersistedAckMode, PersistedSession, SessionStore,
    SessionStoreError, SessionStoreKey, TlsConfiguration, Transport,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use secrecy::ExposeSecret as _;
use tokio::time::Instant;

use crate::settings::Settings;

/// How often the broker hears of an idle client, in seconds.
const KEEP_ALIVE: u16 = 15;
const CONNECT: Duration = Duration::from_secs(5);
/// How long the broker keeps what it has for a client that is away, in seconds: as long as a queue keeps its events.
const KEPT: u32 = 7 * 24 * 3600;
/// Messages that the broker may have on the way at once; and those that wait to be sent.
pub(crate) const IN_FLIGHT: u16 = 256;
/// The largest message: an event's data, and its topic and properties.
const MAX_PACKET: u32 = 512 * 1024;
const PORT: u16 = 1883;
const TLS_PORT: u16 = 8883;

/// How long a connection that fails is left alone, at first and at most; a random part of it.
const PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A connection that lasted for so long was a good one.
const GOOD: Duration = Duration::from_secs(10);

/// Where a broker listens.
pub(crate) struct Address {
    host: String,
    port: u16,
    tls: bool,
}

impl Address {
    pub(crate) fn of(url: &str) -> Result<Self, String> {
        let uri: http::Uri = url.parse().map_err(|error| format!("{error}"))?;
        let tls = match uri.scheme_str() {
            Some("mqtt") => false,
            Some("mqtts") => true,
            _ => return Err("must begin with mqtt:// or mqtts://".to_owned()),
        };
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@'))
            || uri.path() != "/"
            || uri.query().is_some()
        {
            return Err("has a host and a port alone; `username` and `password` are settings of their own".to_owned());
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or("has no host")?;
        let port = uri.port_u16().unwrap_or(if tls { TLS_PORT } else { PORT });
        Ok(Self { host: host.trim_matches(['[', ']']).to_owned(), port, tls })
    }
}

/// What the broker knows a client by, and for how long.
pub(crate) enum Session {
    /// It keeps what it has for the client while that is away.
    Kept,
    /// It ends with the connection.
    Passing,
}

/// Connections that fail, one after the other.
#[derive(Default)]
pub(crate) struct Trouble {
    times: u32,
    connected: Option<Instant>,
}

impl Trouble {
    /// There is a connection; for how long will show.
    pub(crate) fn is_over(&mut self) {
        self.connected = Some(Instant::now());
    }

    /// How long the broker is left alone. The first failure is told of, and not each of an hour's.
    pub(crate) fn pause(&mut self, error: &ConnectionError) -> Duration {
        if self.connected.take().is_some_and(|since| since.elapsed() >= GOOD) {
            self.times = 0;
        }
        match self.times {
            0 => tracing::warn!(%error, "the connection to the MQTT broker broke"),
            times => tracing::debug!(%error, times, "there is no connection to the MQTT broker"),
        }
        let longest = PAUSE.saturating_mul(1 << self.times.min(8)).min(LONGEST_PAUSE);
        self.times += 1;
        longest.mul_f64(rand::random_range(0.2..1.0))
    }
}

/// What a process has of a session that an earlier one began: nothing, since nothing is published by it, and what was on its way
/// here is known from the log (`known.rs`). The library wants to be told so; else it takes no subscription.
#[derive(Debug)]
struct Nothing;

type Asked<'a, T> = Pin<Box<dyn Future<Output = Result<T, SessionStoreError>> + Send + 'a>>;

impl SessionStore for Nothing {
    fn load<'a>(&'a self, key: &'a SessionStoreKey) -> Asked<'a, Option<PersistedSession>> {
        let session = PersistedSession {
            format_version: 1,
            client_id: key.client_id().to_owned(),
            clean_start: false,
            session_expiry_interval: Some(KEPT),
            outgoing_inflight_upper_limit: None,
            ack_mode: PersistedAckMode::Manual,
            last_pkid: 0,
            last_puback: 0,
            replay: Vec::new(),
            incoming_qos2: Vec::new(),
        };
        Box::pin(async { Ok(Some(session)) })
    }

    fn save<'a>(&'a self, _: &'a SessionStoreKey, _: &'a PersistedSession) -> Asked<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn clear<'a>(&'a self, _: &'a SessionStoreKey) -> Asked<'a, ()> {
        Box::pin(async { Ok(()) })
    }
}

/// A client that isn't connected yet.
///
/// # Errors
/// If the settings contradict, or the certificates can't be read.
pub(crate) fn client(settings: &Settings, id: &str, session: &Session) -> anyhow::Result<(AsyncClient, EventLoop)> {
    let Address { host, port, tls } = Address::of(&settings.url).map_err(anyhow::Error::msg).context("mqtt.url")?;
    let mut options = MqttOptions::new(id, (host, port));
    options.set_keep_alive(KEEP_ALIVE);
    options.set_connect_timeout(CONNECT);
    options.set_receive_maximum(Some(IN_FLIGHT));
    options.set_max_packet_size(Some(MAX_PACKET));
    options.set_ack_mode(AckMode::Manual);
    let kept = matches!(session, Session::Kept);
    options.set_clean_start(!kept);
    options.set_session_expiry_interval(Some(if kept { KEPT } else { 0 }));
    if kept {
        options.set_session_store(Nothing);
    }
    if let Some(username) = &settings.username {
        let password = settings.password.as_ref().map(|password| password.expose_secret().to_owned());
        options.set_credentials(username.clone(), password.unwrap_or_default());
    }
    if tls {
        options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::new(trust(settings)?))));
    }
    Ok(AsyncClient::builder(options).capacity(2 * usize::from(IN_FLIGHT)).build())
}

fn trust(settings: &Settings) -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    match &settings.ca {
        Some(path) => {
            let text = fs::read(path).with_context(|| format!("mqtt.ca: {}", path.display()))?;
            for certificate in CertificateDer::pem_slice_iter(&text) {
                roots.add(certificate.context("mqtt.ca")?).context("mqtt.ca")?;
            }
        }
        None => {
            let system = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(system.certs);
        }
    }
    anyhow::ensure!(!roots.is_empty(), "mqtt.ca: there is no certificate to trust");
    Ok(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_broker_that_is_away_is_asked_ever_less_often() {
        let mut trouble = Trouble::default();
        let pauses = |trouble: &mut Trouble| trouble.pause(&ConnectionError::RequestsDone);
        assert!(pauses(&mut trouble) <= PAUSE);
        for _ in 0..20 {
            // One that is cut at once is no better than none.
            trouble.is_over();
            assert!(pauses(&mut trouble) <= LONGEST_PAUSE);
        }
        assert!(pauses(&mut trouble) >= LONGEST_PAUSE / 5);
        trouble.is_over();
        tokio::time::advance(GOOD).await;
        assert!(pauses(&mut trouble) <= PAUSE, "it was well in between");
    }

    #[test]
    fn a_url_is_a_host_and_a_port() {
        let of = |url| Address::of(url).map(|Address { host, port, tls }| (host, port, tls));
        assert_eq!(of("mqtt://broker"), Ok(("broker".to_owned(), 1883, false)));
        assert_eq!(of("mqtts://broker:99"), Ok(("broker".to_owned(), 99, true)));
        assert_eq!(of("mqtts://[::1]"), Ok(("::1".to_owned(), 8883, true)));
        for wrong in ["broker:1883", "http://broker", "mqtt://u:p@broker", "mqtt://broker/path", "mqtt://", ""] {
            assert!(of(wrong).is_err(), "{wrong:?}");
        }
    }
}
