//! Where nothing is sent: into networks that the public can't reach. An endpoint is an address that a stranger chose, and what
//! sends to it stands inside.
//!
//! Addresses are checked, not names: each that a name resolves to, right before it is connected to, and it is these that are
//! connected to. A name with one address that isn't allowed is refused whole.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::Uri;

const MOST_URL_BYTES: usize = 2048;

/// What is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Guard {
    /// Loopback and private networks too, and HTTP without TLS.
    pub private_networks: bool,
}

/// Not of the public Internet (IANA's registries of special-purpose addresses): from, and how many leading bits count.
const SPECIAL_V4: [(Ipv4Addr, u32); 12] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
];

/// Where clouds keep what their machines may know, besides the link-local 169.254.169.254: never, whatever is allowed.
const METADATA_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(192, 0, 0, 192)];
const METADATA_V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)];

/// Within 2000::/3, and yet not of the public Internet.
const SPECIAL_V6: [(Ipv6Addr, u32); 3] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

impl Guard {
    /// Whether an address may be connected to.
    pub fn allows(self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.allows_v4(address),
            IpAddr::V6(address) => match embedded(address) {
                Some(inner) => self.allows_v4(inner),
                None => self.allows_v6(address),
            },
        }
    }

    fn allows_v4(self, address: Ipv4Addr) -> bool {
        // Link-local is where clouds keep their metadata: never, whatever is allowed. From 224 on: multicast, reserved.
        if address.is_link_local()
            || address.octets()[0] >= 224
            || address.is_unspecified()
            || METADATA_V4.contains(&address)
        {
            return false;
        }
        self.private_networks || !SPECIAL_V4.iter().any(|(from, bits)| shares_v4(address, *from, *bits))
    }

    fn allows_v6(self, address: Ipv6Addr) -> bool {
        // 64:ff9b:1::/48 is translated into IPv4 in ways of its network's own (RFC 8215): nobody knows where that leads.
        if address.is_multicast()
            || address.is_unspecified()
            || shares_v6(address, Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10)
            || shares_v6(address, Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48)
            || METADATA_V6.contains(&address)
        {
            return false;
        }
        let is_global = shares_v6(address, Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3)
            && !SPECIAL_V6.iter().any(|(from, bits)| shares_v6(address, *from, *bits));
        is_global || self.private_networks
    }

    /// The address of an endpoint, as far as it can be judged before its name is resolved.
    ///
    /// # Errors
    /// Says what it must be.
    pub fn read(self, text: &str) -> Result<Uri, &'static str> {
        if text.len() > MOST_URL_BYTES {
            return Err("must be at most 2048 bytes");
        }
        let uri: Uri = text.parse().map_err(|_| "must be an https: address")?;
        let authority = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
        if authority.contains('@') {
            return Err("must not hold a password");
        }
        if text.contains('#') {
            return Err("must not have a fragment");
        }
        match (uri.scheme_str(), uri.host()) {
            (Some("https"), Some(host)) if !host.is_empty() => {}
            (Some("http"), Some(host)) if !host.is_empty() && self.private_networks => {}
            _ => return Err("must be an https: address"),
        }
        // A port that is none would be taken for the scheme's own.
        let after = authority.rsplit_once(']').map_or(authority, |(_, after)| after);
        if after.contains(':') && !matches!(uri.port_u16(), Some(1..)) {
            return Err("must have a port from 1 to 65535");
        }
        match literal(&uri) {
            Some(address) if !self.allows(address) => Err("is not an address of the public Internet"),
            _ => Ok(uri),
        }
    }
}

/// The address that stands where a name might: nobody resolves it.
pub(crate) fn literal(uri: &Uri) -> Option<IpAddr> {
    uri.host()?.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// The IPv4 address that an IPv6 one stands for: mapped, compatible, translated (RFC 2765), NAT64 (RFC 6052), 6to4
/// (RFC 3056).
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let segments = address.segments();
    let v4 = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match segments {
        [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(v4(high, low)),
        [0, 0, 0, 0, 0, 0, high, low] if high > 0 => Some(v4(high, low)),
        [0x2002, high, low, ..] => Some(v4(high, low)),
        _ => None,
    }
}

fn shares_v4(address: Ipv4Addr, from: Ipv4Addr, bits: u32) -> bool {
    (u32::from(address) ^ u32::from(from)).leading_zeros() >= bits
}

fn shares_v6(address: Ipv6Addr, from: Ipv6Addr, bits: u32) -> bool {
    (u128::from(address) ^ u128::from(from)).leading_zeros() >= bits
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRICT: Guard = Guard { private_networks: false };
    const OPEN: Guard = Guard { private_networks: true };

    fn allows(guard: Guard, address: &str) -> bool {
        guard.allows(address.parse().unwrap())
    }

    #[test]
    fn what_the_public_can_not_reach_is_refused() {
        for public in ["1.1.1.1", "8.8.8.8", "172.15.0.1", "172.32.0.1", "100.63.0.1", "100.128.0.1", "2606:4700::1111"]
        {
            assert!(allows(STRICT, public), "{public}");
        }
        for private in [
            "127.0.0.1",
            "127.255.255.254",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "100.127.255.255",
            "0.1.2.3",
            "192.0.0.170",
            "198.18.0.1",
            "192.0.2.1",
            "203.0.113.9",
            "::1",
            "fc00::1",
            "fd12:3456::1",
            "fec0::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "::ffff:0:10.0.0.1",
            "64:ff9b::10.0.0.1",
            "2002:0a00:0001::1",
            "2001::1",
            "2001:db8::1",
        ] {
            assert!(!allows(STRICT, private), "{private}");
        }
        assert!(allows(STRICT, "::ffff:1.1.1.1"), "it is what it stands for");
    }

    #[test]
    fn private_networks_are_allowed_by_a_setting_and_metadata_never() {
        for private in ["127.0.0.1", "10.1.2.3", "192.168.1.1", "::1", "fd12:3456::1", "::ffff:127.0.0.1"] {
            assert!(allows(OPEN, private), "{private}");
        }
        for never in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "fe80::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "::ffff:0:169.254.169.254",
            "0.0.0.0",
            "::",
            "224.0.0.1",
            "255.255.255.255",
            "ff02::1",
        ] {
            assert!(!allows(OPEN, never) && !allows(STRICT, never), "{never}");
        }
    }

    #[test]
    fn an_address_is_of_https_and_holds_no_password() {
        for fine in [
            "https://example.com/hook?a=b",
            "https://example.com:8443",
            "https://1.1.1.1/x",
            "https://[2606:4700::1111]/",
        ] {
            assert!(STRICT.read(fine).is_ok(), "{fine}");
        }
        for wrong in [
            "",
            "/hook",
            "example.com",
            "ftp://example.com",
            "http://example.com",
            "https://user:pw@example.com",
            "https://example.com/#x",
            "https://127.0.0.1/",
            "https://[::1]/",
            "https://169.254.169.254/latest/meta-data",
            "https://[::ffff:10.0.0.1]/",
            "https://0.0.0.0/",
            "https://example.com:0/",
            "https://example.com:65536/",
            "https://example.com:443:1/",
            "https://example.com:/",
            "https://@example.com/",
            "https://exa mple.com/",
            "https://example.com\\@127.0.0.1/",
        ] {
            assert!(STRICT.read(wrong).is_err(), "{wrong}");
        }
        assert!(STRICT.read(&format!("https://example.com/{}", "x".repeat(MOST_URL_BYTES))).is_err());
        for fine in ["http://127.0.0.1:9000/hook", "http://localhost/", "https://10.0.0.1/"] {
            assert!(OPEN.read(fine).is_ok(), "{fine}");
        }
        assert!(OPEN.read("http://169.254.169.254/").is_err());
    }
}
