//! The PROXY protocol, versions 1 and 2: how a proxy that passes bytes on unread (HAProxy, a network load balancer) says
//! for whom it connects, before the first byte of the client's. It is read of proxies that the listener names alone; what
//! it holds beside the client's address is not looked at.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use tokio::{io::AsyncReadExt as _, net::TcpStream};

/// How a header of version 2 begins. Nothing in HTTP or TLS begins so.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// The longest line of version 1, and what all its lines begin with.
const LINE: usize = 107;
const PROXY: &[u8] = b"PROXY ";
/// Of version 2, with what else it may say (names, certificates).
const REST: usize = 2048;

/// Reads the header; None where the proxy speaks for itself (its health checks), or doesn't know for whom.
///
/// # Errors
/// If there is none, or it is not good.
pub async fn read(socket: &mut TcpStream) -> io::Result<Option<SocketAddr>> {
    let mut begun = [0; SIGNATURE.len()];
    socket.read_exact(&mut begun).await?;
    if begun == SIGNATURE {
        let [version, kind, length @ ..] = {
            let mut head = [0; 4];
            socket.read_exact(&mut head).await?;
            head
        };
        let length = usize::from(u16::from_be_bytes(length));
        if length > REST {
            return Err(invalid());
        }
        let mut rest = vec![0; length];
        socket.read_exact(&mut rest).await?;
        return binary(version, kind, &rest);
    }
    if !begun.starts_with(PROXY) {
        return Err(invalid());
    }
    let mut line = begun.to_vec();
    // A byte at a time: what follows the line is the client's.
    while line.last() != Some(&b'\n') {
        if line.len() == LINE {
            return Err(invalid());
        }
        line.push(socket.read_u8().await?);
    }
    text(&line)
}

fn binary(version: u8, kind: u8, rest: &[u8]) -> io::Result<Option<SocketAddr>> {
    const LOCAL: u8 = 0x20;
    const ON_BEHALF: u8 = 0x21;
    match (version, kind, rest) {
        (LOCAL, ..) | (ON_BEHALF, 0, _) => Ok(None),
        (ON_BEHALF, 0x11, [a, b, c, d, _, _, _, _, high, low, _, _, ..]) => {
            Ok(Some(SocketAddr::from(([*a, *b, *c, *d], u16::from_be_bytes([*high, *low])))))
        }
        (ON_BEHALF, 0x21, _) if rest.len() >= 36 => {
            let octets: [u8; 16] = rest[..16].try_into().map_err(|_| invalid())?;
            Ok(Some(SocketAddr::from((octets, u16::from_be_bytes([rest[32], rest[33]])))))
        }
        _ => Err(invalid()),
    }
}

fn text(line: &[u8]) -> io::Result<Option<SocketAddr>> {
    let line = std::str::from_utf8(line).ok().and_then(|line| line.strip_suffix("\r\n")).ok_or_else(invalid)?;
    let parts: Vec<_> = line.split(' ').collect();
    match parts[..] {
        ["PROXY", "UNKNOWN", ..] => Ok(None),
        ["PROXY", family @ ("TCP4" | "TCP6"), source, destination, from, to] => {
            let address = |text: &str| text.parse::<IpAddr>().ok().filter(|own| own.is_ipv4() == (family == "TCP4"));
            let port = |text: &str| text.parse::<u16>().ok();
            match (address(source), address(destination), port(from), port(to)) {
                (Some(source), Some(_), Some(port), Some(_)) => Ok(Some(SocketAddr::new(source, port))),
                _ => Err(invalid()),
            }
        }
        _ => Err(invalid()),
    }
}

fn invalid() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "no good header of the PROXY protocol")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Result<Option<SocketAddr>, ()> {
        super::text(text.as_bytes()).map_err(drop)
    }

    #[test]
    fn a_line_names_the_client() {
        let client = "192.0.2.7:4711".parse().unwrap();
        assert_eq!(line("PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n"), Ok(Some(client)));
        let client = "[2001:db8::7]:4711".parse().unwrap();
        assert_eq!(line("PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\n"), Ok(Some(client)));
        assert_eq!(line("PROXY UNKNOWN\r\n"), Ok(None));
        assert_eq!(line("PROXY UNKNOWN anything at all\r\n"), Ok(None));
        for wrong in [
            "PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\n",
            "PROXY TCP4 2001:db8::7 2001:db8::1 4711 443\r\n",
            "PROXY TCP4 192.0.2.7 192.0.2.1 4711\r\n",
            "PROXY TCP4 192.0.2.7 192.0.2.1 70000 443\r\n",
            "PROXY TCP4 192.0.2.7  192.0.2.1 4711 443\r\n",
            "PROXY UDP4 192.0.2.7 192.0.2.1 4711 443\r\n",
            "GET / HTTP/1.1\r\n",
        ] {
            assert_eq!(line(wrong), Err(()), "{wrong}");
        }
    }

    #[test]
    fn so_does_the_binary_form() {
        let four = [192, 0, 2, 7, 192, 0, 2, 1, 0x12, 0x67, 1, 187];
        let client: SocketAddr = "192.0.2.7:4711".parse().unwrap();
        assert_eq!(binary(0x21, 0x11, &four).unwrap(), Some(client));
        assert_eq!(binary(0x21, 0x11, &[&four[..], &[4, 0, 1, 7]].concat()).unwrap(), Some(client), "and says more");
        let mut six = [0; 36];
        six[15] = 1;
        six[33] = 80;
        assert_eq!(binary(0x21, 0x21, &six).unwrap(), Some("[::1]:80".parse().unwrap()));
        assert_eq!(binary(0x20, 0, &[]).unwrap(), None, "a health check");
        assert_eq!(binary(0x21, 0, &[]).unwrap(), None);
        for (version, kind, rest) in
            [(0x21, 0x11, &four[..11]), (0x21, 0x21, &six[..35]), (0x11, 0x11, &four), (0x21, 0x31, &six)]
        {
            assert!(binary(version, kind, rest).is_err(), "{version:x} {kind:x}");
        }
    }
}
