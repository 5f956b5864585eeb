//! Server-sent events of a gateway, as they come.

use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::Value;

/// A stream says three times as often that it lives.
const SILENCE: Duration = Duration::from_secs(45);
const LONGEST_EVENT: usize = 4 << 20;

pub struct Stream {
    body: Incoming,
    /// What came and is no whole event yet.
    read: Vec<u8>,
}

/// One of them.
#[derive(Debug, PartialEq)]
pub struct Told {
    pub name: String,
    pub data: Value,
}

impl Stream {
    pub fn new(body: Incoming) -> Self {
        Self { body, read: Vec::new() }
    }

    /// The next one; None: the stream has ended.
    pub async fn next(&mut self) -> anyhow::Result<Option<Told>> {
        loop {
            while let Some(block) = block(&mut self.read) {
                if let Some(told) = Told::read(&block)? {
                    return Ok(Some(told));
                }
            }
            let frame = tokio::time::timeout(SILENCE, self.body.frame()).await;
            match frame.map_err(|_| anyhow!("nothing was heard for {SILENCE:?}"))? {
                None => return Ok(None),
                Some(Ok(frame)) => self.read.extend(frame.into_data().unwrap_or_default()),
                Some(Err(error)) => bail!("the stream broke off: {error}"),
            }
            ensure!(self.read.len() <= LONGEST_EVENT, "the gateway sends what is no stream of events");
        }
    }
}

/// What stands before the first empty line.
fn block(read: &mut Vec<u8>) -> Option<String> {
    let end = read.windows(2).position(|two| two == b"\n\n")?;
    let block: Vec<u8> = read.drain(..end + 2).collect();
    Some(String::from_utf8_lossy(&block).into_owned())
}

impl Told {
    /// None: it only says that the stream lives, or when to come back.
    fn read(block: &str) -> anyhow::Result<Option<Self>> {
        let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let (Some(name), Some(data)) = (field("event"), field("data")) else { return Ok(None) };
        let data = serde_json::from_str(data).context("the gateway's stream holds something else than JSON")?;
        Ok(Some(Self { name: name.to_owned(), data }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_however_they_are_cut() {
        let text = ": alive\n\nevent: status\ndata: {\"delivery\":\"pending\"}\n\nretry: 500\n\n\
                    id: settled\nevent: settled\ndata: {}\n\n";
        for size in [1, 7, text.len()] {
            let (mut read, mut told) = (Vec::new(), Vec::new());
            for piece in text.as_bytes().chunks(size) {
                read.extend_from_slice(piece);
                while let Some(block) = block(&mut read) {
                    told.extend(Told::read(&block).unwrap());
                }
            }
            let pending = Told { name: "status".to_owned(), data: serde_json::json!({"delivery": "pending"}) };
            let settled = Told { name: "settled".to_owned(), data: serde_json::json!({}) };
            assert_eq!((told, read.len()), (vec![pending, settled], 0));
        }
        assert!(Told::read("event: status\ndata: {\n").is_err());
    }
}
