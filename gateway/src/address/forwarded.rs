//! The entries of `X-Forwarded-For` and its companions, and of `Forwarded` (RFC 7239), from the right.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName, HeaderValue};

use super::proxies::{FORWARDED_FOR, FORWARDED_HOST, FORWARDED_PROTO};

/// What one proxy wrote down of the request it got.
#[derive(Default)]
pub struct Entry {
    /// Who sent it; None where that can't be read, or is hidden.
    pub address: Option<IpAddr>,
    pub secure: Option<bool>,
    pub host: Option<HeaderValue>,
}

/// The companions have an entry for each hop, too, or fewer where a proxy replaces them.
pub fn x_forwarded(headers: &HeaderMap, most: usize) -> Vec<Entry> {
    let (protos, hosts) = (list(headers, &FORWARDED_PROTO, most), list(headers, &FORWARDED_HOST, most));
    let at = |list: &[HeaderValue], hop: usize| list.get(hop.min(list.len().saturating_sub(1))).cloned();
    let entry = |(hop, text): (usize, &HeaderValue)| Entry {
        address: address(text.as_bytes()),
        secure: at(&protos, hop).and_then(|proto| secure(proto.as_bytes())),
        host: at(&hosts, hop),
    };
    list(headers, &FORWARDED_FOR, most).iter().enumerate().map(entry).collect()
}

pub fn forwarded(headers: &HeaderMap, most: usize) -> Vec<Entry> {
    let values = headers.get_all(http::header::FORWARDED).iter().rev();
    values.flat_map(|value| split(value.as_bytes(), b',').into_iter().rev().map(element)).take(most).collect()
}

/// One element: `for=192.0.2.43;proto=https`.
fn element(text: &[u8]) -> Entry {
    let mut entry = Entry::default();
    let mut said = 0;
    for pair in split(text, b';') {
        let Some(equals) = pair.iter().position(|byte| *byte == b'=') else { return Entry::default() };
        let (name, value) =
            (pair[..equals].trim_ascii().to_ascii_lowercase(), unquoted(pair[equals + 1..].trim_ascii()));
        let Some(value) = value else { return Entry::default() };
        match name.as_slice() {
            b"for" => {
                said += 1;
                entry.address = address(&value);
            }
            b"proto" => entry.secure = secure(&value),
            b"host" => entry.host = HeaderValue::from_bytes(&value).ok(),
            _ => {}
        }
    }
    // Two of them contradict each other.
    if said == 1 { entry } else { Entry::default() }
}

/// The items of a list, the last first.
fn list(headers: &HeaderMap, name: &HeaderName, most: usize) -> Vec<HeaderValue> {
    let values = headers.get_all(name).iter().rev();
    let items = values.flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b',').map(<[u8]>::trim_ascii));
    items.take(most).filter_map(|item| HeaderValue::from_bytes(item).ok()).collect()
}

/// Splits outside of quoted strings. Where a quote is left open, all that follows is one piece, and no good one.
fn split(text: &[u8], separator: u8) -> Vec<&[u8]> {
    let (mut pieces, mut begin, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            byte if *byte == separator && !quoted => {
                pieces.push(&text[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    pieces.push(&text[begin..]);
    pieces
}

/// A token as it is, or what a quoted string says.
fn unquoted(text: &[u8]) -> Option<Vec<u8>> {
    let [b'"', inner @ ..] = text else { return (!text.contains(&b'"')).then(|| text.to_vec()) };
    let [inner @ .., b'"'] = inner else { return None };
    let (mut said, mut escaped) = (Vec::with_capacity(inner.len()), false);
    for byte in inner {
        match byte {
            b'\\' if !escaped => escaped = true,
            b'"' if !escaped => return None,
            byte => {
                said.push(*byte);
                escaped = false;
            }
        }
    }
    (!escaped).then_some(said)
}

/// An address, with or without a port, an IPv6 one with or without brackets.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse::<IpAddr>().or_else(|_| text.parse::<SocketAddr>().map(|with_port| with_port.ip()));
    address.ok().map(|address| address.to_canonical())
}

fn secure(text: &[u8]) -> Option<bool> {
    match text {
        text if text.eq_ignore_ascii_case(b"https") => Some(true),
        text if text.eq_ignore_ascii_case(b"http") => Some(false),
        _ => None,
    }
}
