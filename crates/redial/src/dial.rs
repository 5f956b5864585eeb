//! A new connection to one server.

use std::time::Duration;

use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo as _, ProtocolVersion, RedisConnectionInfo,
    RedisResult,
    aio::MultiplexedConnection,
    io::tcp::{TcpSettings, socket2::TcpKeepalive},
};
use secrecy::ExposeSecret as _;

use crate::{
    Address,
    address::{Host, Login},
};

/// How often a silent connection is probed; after two it is given up.
const PROBE: Duration = Duration::from_secs(5);

impl Address {
    /// A client of a server that the address leads to.
    pub(crate) fn client(&self, host: &Host, protocol: ProtocolVersion) -> RedisResult<Client> {
        self.client_as(host, &self.login, self.database, protocol)
    }

    /// A client of a sentinel.
    pub(crate) fn sentinel(&self, host: &Host, login: &Login) -> RedisResult<Client> {
        self.client_as(host, login, 0, ProtocolVersion::RESP2)
    }

    fn client_as(&self, host: &Host, login: &Login, database: i64, protocol: ProtocolVersion) -> RedisResult<Client> {
        let (host, port) = (host.name.clone(), host.port);
        let at = match &self.tls {
            None => ConnectionAddr::Tcp(host, port),
            Some(_) => {
                // Whoever runs us may have chosen one already.
                let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
                ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
            }
        };
        let mut redis = RedisConnectionInfo::default().set_db(database).set_protocol(protocol);
        if let Some(user) = &login.user {
            redis = redis.set_username(user);
        }
        if let Some(password) = &login.password {
            redis = redis.set_password(password.expose_secret());
        }
        let info = at.into_connection_info()?.set_tcp_settings(tcp()).set_redis_settings(redis);
        match &self.tls {
            // Without certificates of one's own, those of the system are trusted.
            Some(tls) if tls.client_tls.is_some() || tls.root_cert.is_some() => {
                Client::build_with_tls(info, tls.clone())
            }
            _ => Client::open(info),
        }
    }
}

pub(crate) async fn connect(client: &Client, config: &AsyncConnectionConfig) -> RedisResult<MultiplexedConnection> {
    client.get_multiplexed_async_connection_with_config(config).await
}

fn tcp() -> TcpSettings {
    // A machine that is gone answers nothing, not even that: without probes its connections would stay for long.
    let probes = TcpKeepalive::new().with_time(PROBE).with_interval(PROBE);
    // A small command mustn't wait for a bigger packet.
    let tcp = TcpSettings::default().set_nodelay(true).set_keepalive(probes);
    #[cfg(target_os = "linux")]
    let tcp = tcp.set_user_timeout(2 * PROBE);
    tcp
}
