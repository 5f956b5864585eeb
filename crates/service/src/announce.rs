//! Telling the registry where the service is, from when it serves until it is told to leave.

use std::{fs, net::SocketAddr};

use anyhow::Context as _;
use registry::{Instance, Registry};
use tokio_util::sync::CancellationToken;

/// How an instance is announced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Announce {
    /// The host by which others reach it, with a port unless that is the one it listens on. None: the address it listens
    /// on; where that is every address of the machine, the one it has on its way to Redis.
    pub advertise: Option<String>,
}

/// An instance as it will be announced.
pub(crate) struct Presence {
    registry: Registry,
    service: &'static str,
    instance: Instance,
}

impl Presence {
    /// # Errors
    /// If it isn't known by which address others reach it.
    pub async fn new(
        registry: &Registry,
        service: &'static str,
        listens: SocketAddr,
        announce: Announce,
    ) -> anyhow::Result<Self> {
        let address = match announce.advertise {
            Some(host) => advertised(&host, listens.port()),
            None if listens.ip().is_unspecified() => {
                let ip = registry.own_ip().await.with_context(|| {
                    format!("{service} listens on {listens}, and by which address others reach it has to be advertised")
                })?;
                SocketAddr::new(ip, listens.port()).to_string()
            }
            None => listens.to_string(),
        };
        let machine = fs::read_to_string("/etc/hostname").unwrap_or_default();
        let mut instance = Instance::new(address)
            .with("version", env!("CARGO_PKG_VERSION"))
            .with("process", std::process::id().to_string());
        if !machine.trim().is_empty() {
            instance = instance.with("machine", machine.trim());
        }
        instance.check().with_context(|| format!("{service} can't be announced"))?;
        Ok(Self { registry: registry.clone(), service, instance })
    }
}

/// Announces it until `leaving`. Returns when it has left.
pub(crate) async fn attend(presence: Option<Presence>, leaving: CancellationToken) {
    let Some(Presence { registry, service, instance }) = presence else { return };
    match registry.announce(service, instance) {
        Ok(announcement) => {
            leaving.cancelled().await;
            announcement.leave().await;
        }
        Err(error) => tracing::error!(service, %error, "it can't be announced"),
    }
}

fn advertised(host: &str, port: u16) -> String {
    let has_port = host
        .rsplit_once(':')
        .is_some_and(|(before, port)| (!before.contains(':') || before.ends_with(']')) && port.parse::<u16>().is_ok());
    match (has_port, host.parse::<std::net::Ipv6Addr>()) {
        (true, _) => host.to_owned(),
        (false, Ok(v6)) => format!("[{v6}]:{port}"),
        (false, Err(_)) => format!("{host}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_advertised_has_the_port_that_is_listened_on_unless_it_names_one() {
        let cases = [
            ("10.0.0.4", "10.0.0.4:7001"),
            ("10.0.0.4:80", "10.0.0.4:80"),
            ("product-0.product", "product-0.product:7001"),
            ("2001:db8::1", "[2001:db8::1]:7001"),
            ("[2001:db8::1]:80", "[2001:db8::1]:80"),
        ];
        for (host, address) in cases {
            assert_eq!(advertised(host, 7001), address);
        }
    }

    #[tokio::test]
    async fn who_listens_everywhere_is_reached_as_redis_would_reach_it() {
        let registry = Registry::new("redis://127.0.0.1:1").unwrap();
        let everywhere = SocketAddr::from(([0, 0, 0, 0], 7001));
        let presence = Presence::new(&registry, "desk", everywhere, Announce::default()).await.unwrap();
        assert_eq!(presence.instance.address, "127.0.0.1:7001");
        let here = SocketAddr::from(([127, 0, 0, 2], 7001));
        let presence = Presence::new(&registry, "desk", here, Announce::default()).await.unwrap();
        assert_eq!(presence.instance.address, "127.0.0.2:7001");
    }
}
