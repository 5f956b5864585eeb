//! Which coding a client wants (RFC 9110, section 12.5.3).

use http::{HeaderMap, header};

use super::{Coding, Level};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// As it is.
    Plain,
    /// In this coding; `plain`: or as it is.
    Coded { level: Level, plain: bool },
    /// Neither plain nor in any coding there is.
    Nothing,
}

/// Thousandths.
type Quality = u16;

#[derive(Default)]
struct Wishes {
    /// As [`Coding`] numbers them.
    codings: [Option<Quality>; 3],
    identity: Option<Quality>,
    any: Option<Quality>,
}

/// What is to be done for a client, where `offered` stands in the order of our own preference.
pub fn negotiate(headers: &HeaderMap, offered: &[Level]) -> Accepted {
    let mut values = headers.get_all(header::ACCEPT_ENCODING).iter().peekable();
    if values.peek().is_none() {
        // It would take anything; whoever doesn't say so most often can't read it.
        return Accepted::Plain;
    }
    let mut wishes = Wishes::default();
    values.for_each(|value| wishes.read(value.as_bytes()));
    wishes.choose(offered)
}

impl Wishes {
    fn read(&mut self, list: &[u8]) {
        for item in list.split(|byte| *byte == b',') {
            let mut parts = item.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
            let name = parts.next().unwrap_or_default();
            let Some(quality) = parts.next().map_or(Some(1000), quality) else { continue };
            if name == b"*" {
                self.any = Some(quality);
            } else if name.eq_ignore_ascii_case(b"identity") {
                self.identity = Some(quality);
            } else if let Some(coding) = Coding::named(name) {
                self.codings[coding as usize] = Some(quality);
            }
        }
    }

    fn choose(&self, offered: &[Level]) -> Accepted {
        let mut best: Option<(Level, Quality)> = None;
        for level in offered {
            let quality = self.codings[level.coding as usize].or(self.any).unwrap_or(0);
            if quality > best.map_or(0, |(_, best)| best) {
                best = Some((*level, quality));
            }
        }
        // Plain is always good, unless it is refused; it is wanted more only where that is said.
        let plain = self.identity.or(self.any) != Some(0);
        match best {
            Some((_, quality)) if plain && self.identity.is_some_and(|identity| identity > quality) => Accepted::Plain,
            Some((level, _)) => Accepted::Coded { level, plain },
            None if plain => Accepted::Plain,
            None => Accepted::Nothing,
        }
    }
}

/// `q=0.5`; None for what is none.
fn quality(parameter: &[u8]) -> Option<Quality> {
    let value = parameter.strip_prefix(b"q=").or_else(|| parameter.strip_prefix(b"Q="))?;
    let (whole, decimals) = match value {
        [whole] => (whole, &[][..]),
        [whole, b'.', decimals @ ..] if decimals.len() <= 3 => (whole, decimals),
        _ => return None,
    };
    let mut quality: Quality = match whole {
        b'0' => 0,
        b'1' => 1000,
        _ => return None,
    };
    for (decimal, weight) in decimals.iter().zip([100, 10, 1]) {
        quality += decimal.is_ascii_digit().then(|| Quality::from(decimal - b'0') * weight)?;
    }
    (quality <= 1000).then_some(quality)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const OFFERED: [Level; 3] = [
        Level { coding: Coding::Br, level: 4 },
        Level { coding: Coding::Zstd, level: 3 },
        Level { coding: Coding::Gzip, level: 5 },
    ];

    fn wanted(accept: &'static str) -> Accepted {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(accept));
        negotiate(&headers, &OFFERED)
    }

    #[test]
    fn the_most_wanted_coding_is_taken_and_ours_goes_first_where_all_are_equal() {
        let coded = |at: usize, plain| Accepted::Coded { level: OFFERED[at], plain };
        for (accept, outcome) in [
            ("gzip, deflate, br, zstd", coded(0, true)),
            ("gzip, zstd", coded(1, true)),
            ("X-GZIP", coded(2, true)),
            ("br;q=0.2, gzip;q=0.8", coded(2, true)),
            ("br;q=0, *", coded(1, true)),
            ("*;q=0.1", coded(0, true)),
            ("gzip, identity;q=0", coded(2, false)),
            ("gzip, *;q=0", coded(2, false)),
            ("gzip;q=0.5, identity", Accepted::Plain),
            ("identity", Accepted::Plain),
            ("deflate", Accepted::Plain),
            ("", Accepted::Plain),
            ("gzip;q=0", Accepted::Plain),
            ("gzip;q=2, br;q=x, zstd;q=0.0001", Accepted::Plain),
            ("identity;q=0", Accepted::Nothing),
            ("*;q=0", Accepted::Nothing),
            ("deflate, identity;q=0.0", Accepted::Nothing),
        ] {
            assert_eq!(wanted(accept), outcome, "{accept}");
        }
        assert_eq!(negotiate(&HeaderMap::new(), &OFFERED), Accepted::Plain);
    }
}
