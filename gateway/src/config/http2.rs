//! `limits.http2:` what one HTTP/2 connection may do.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{ConfigError, Size};

/// The bounds of an HTTP/2 connection. One that goes beyond is told to calm down (GOAWAY) and closed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Http2 {
    /// Requests at once; 1 to 10,000; 100.
    pub streams: u32,
    /// Bytes of one request body that may be under way; 64KiB to 16MiB; 64 KiB.
    pub stream_window: Size,
    /// Bytes of all request bodies together; not below `stream_window`, up to 64MiB; 1 MiB.
    pub connection_window: Size,
    /// Bytes of an answer that are kept while the client doesn't take them; 16KiB to 16MiB; 64 KiB.
    pub send_buffer: Size,
    /// CONTINUATION frames of one header block; 1 to 100; 16.
    pub continuations: u32,
    /// Requests that the client takes back (RST_STREAM: rapid reset, CVE-2023-44487).
    pub resets: Budget,
    /// Requests that the gateway has to break off for the client's mistakes (MadeYouReset, CVE-2025-8671).
    pub mistakes: Budget,
    pub settings: Budget,
    /// Beside one for each frame of an answer.
    pub pings: Budget,
    /// PRIORITY, PRIORITY_UPDATE and frames of unknown types, beside one for each request.
    pub priorities: Budget,
    /// DATA frames with nothing in them that end nothing.
    pub empty_data: Budget,
    /// WINDOW_UPDATE frames, beside ten for each request and each frame of an answer.
    pub window_updates: Budget,
}

/// How many may come: `{ per_second: 100, burst: 500 }`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// In the long run; 1 to 1,000,000.
    pub per_second: u32,
    /// At once; 1 to 1,000,000.
    pub burst: u32,
}

impl Default for Http2 {
    fn default() -> Self {
        let budget = |per_second, burst| Budget { per_second, burst };
        Self {
            streams: 100,
            stream_window: Size::kib(64),
            connection_window: Size::mib(1),
            send_buffer: Size::kib(64),
            continuations: 16,
            resets: budget(100, 500),
            mistakes: budget(10, 100),
            settings: budget(5, 50),
            pings: budget(10, 100),
            priorities: budget(50, 500),
            empty_data: budget(10, 100),
            window_updates: budget(100, 1_000),
        }
    }
}

impl Http2 {
    /// What is out of bounds, with its path below the section.
    pub fn faults(&self) -> Vec<ConfigError> {
        const MOST: u32 = 1_000_000;
        let mut faults = Vec::new();
        let mut within = |name: &str, good: bool, bounds: &str| {
            if !good {
                faults.push(ConfigError::new(name, format!("must be within {bounds}")));
            }
        };
        within("streams", (1..=10_000).contains(&self.streams), "1 to 10000");
        within("stream_window", (Size::kib(64)..=Size::mib(16)).contains(&self.stream_window), "64KiB to 16MiB");
        let window = (self.stream_window..=Size::mib(64)).contains(&self.connection_window);
        within("connection_window", window, "`stream_window` to 64MiB");
        within("send_buffer", (Size::kib(16)..=Size::mib(16)).contains(&self.send_buffer), "16KiB to 16MiB");
        within("continuations", (1..=100).contains(&self.continuations), "1 to 100");
        for (name, budget) in [
            ("resets", self.resets),
            ("mistakes", self.mistakes),
            ("settings", self.settings),
            ("pings", self.pings),
            ("priorities", self.priorities),
            ("empty_data", self.empty_data),
            ("window_updates", self.window_updates),
        ] {
            within(&format!("{name}.per_second"), (1..=MOST).contains(&budget.per_second), "1 to 1000000");
            within(&format!("{name}.burst"), (1..=MOST).contains(&budget.burst), "1 to 1000000");
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_within_bounds_and_what_is_not_is_named() {
        assert_eq!(Http2::default().faults(), []);
        let own = Http2 { streams: 0, connection_window: Size::kib(1), ..Http2::default() };
        let paths: Vec<_> = own.faults().into_iter().map(|fault| fault.path).collect();
        assert_eq!(paths, ["streams", "connection_window"]);
        let own = Http2 { pings: Budget { per_second: 0, burst: 0 }, ..Http2::default() };
        let paths: Vec<_> = own.faults().into_iter().map(|fault| fault.path).collect();
        assert_eq!(paths, ["pings.per_second", "pings.burst"]);
    }
}
