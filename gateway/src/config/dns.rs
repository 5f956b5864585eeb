//! `dns:` who is asked about names.

use std::net::{IpAddr, SocketAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de::Error as _};

const PORT: u16 = 53;
/// The most servers.
const SERVERS: usize = 8;

/// `dns: { servers: [10.0.0.2, "127.0.0.1:5353"] }`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dns {
    /// The name servers that are asked about `dns://` and `srv://` endpoints, by UDP and TCP: addresses, with a port unless
    /// that is 53; 8 at most. By default those of `/etc/resolv.conf`. The hosts file and search domains hold in any case.
    #[serde(default, deserialize_with = "servers")]
    #[schemars(with = "Vec<Option<String>>")]
    pub servers: Vec<SocketAddr>,
}

fn servers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SocketAddr>, D::Error> {
    let written = Vec::<Option<String>>::deserialize(deserializer)?;
    let server = |text: String| {
        let bare = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, PORT));
        bare.or_else(|_| text.parse())
            .map_err(|_| D::Error::custom(format!("`{text}` is no address such as 10.0.0.2:53")))
    };
    let servers: Vec<_> =
        written.into_iter().flatten().filter(|text| !text.is_empty()).map(server).collect::<Result<_, _>>()?;
    if servers.len() > SERVERS {
        return Err(D::Error::custom(format!("more than {SERVERS} name servers")));
    }
    Ok(servers)
}

#[cfg(test)]
mod tests {
    use crate::{Config, Properties};

    fn read(servers: &str) -> Result<Vec<String>, String> {
        let text = format!("listeners: [{{address: '127.0.0.1:0'}}]\ndns: {{ servers: {servers} }}\n");
        match Config::parse(&text, &Properties::new()) {
            Ok(config) => Ok(config.dns.servers.iter().map(ToString::to_string).collect()),
            Err(errors) => Err(errors[0].to_string()),
        }
    }

    #[test]
    fn a_server_is_an_address() {
        assert_eq!(
            read("[10.0.0.2, '127.0.0.1:5353', '::1', '']").unwrap(),
            ["10.0.0.2:53", "127.0.0.1:5353", "[::1]:53"]
        );
        assert!(read("[ns.internal]").unwrap_err().contains("ns.internal"));
        assert!(
            read("[10.0.0.1, 10.0.0.1, 10.0.0.1, 10.0.0.1, 10.0.0.1, 10.0.0.1, 10.0.0.1, 10.0.0.1, 10.0.0.1]").is_err()
        );
    }
}
