//! The access log: a JSON line on stdout for each request. Requests never wait for it: lines go through a bounded queue to
//! a thread of their own, and what doesn't fit is dropped and counted.

use std::{
    io::{self, Write as _},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
    time::{Duration, SystemTime},
};

use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{context::RequestContext, metrics::METRICS};

/// Lines waiting for stdout, at most.
const WAITING: usize = 8192;

#[derive(Clone)]
pub struct AccessLog(SyncSender<Vec<u8>>);

/// What is told of a request.
pub struct Line<'a> {
    pub method: &'a str,
    /// Without the query, which may hold secrets.
    pub path: &'a str,
    pub status: u16,
    pub elapsed: Duration,
    pub route: &'a str,
    pub upstream: Option<&'a str>,
    pub principal: Option<&'a str>,
    pub context: &'a RequestContext,
}

#[derive(Serialize)]
struct Record<'a> {
    timestamp: String,
    message: &'static str,
    #[serde(rename = "http.request.method")]
    method: &'a str,
    #[serde(rename = "url.path")]
    path: &'a str,
    #[serde(rename = "http.response.status_code")]
    status: u16,
    #[serde(rename = "duration.ms")]
    milliseconds: f64,
    #[serde(rename = "http.route")]
    route: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    principal: Option<&'a str>,
    #[serde(rename = "client.address")]
    client: String,
    #[serde(rename = "request.id")]
    request_id: &'a str,
    #[serde(rename = "trace.id")]
    trace_id: String,
}

impl AccessLog {
    /// Starts the thread that writes. It ends when the last handle is dropped.
    ///
    /// # Errors
    /// If no thread can be had.
    pub fn start() -> io::Result<Self> {
        Self::to(io::stdout())
    }

    fn to(out: impl io::Write + Send + 'static) -> io::Result<Self> {
        let (sender, lines) = sync_channel(WAITING);
        thread::Builder::new().name("access-log".to_owned()).spawn(move || write(&lines, out))?;
        Ok(Self(sender))
    }

    pub fn write(&self, line: &Line<'_>) {
        if line.to_json().is_none_or(|json| self.0.try_send(json).is_err()) {
            METRICS.log_line_dropped();
        }
    }
}

/// Writes lines as they come; flushes when none is waiting.
fn write(lines: &Receiver<Vec<u8>>, out: impl io::Write) {
    let mut out = io::BufWriter::with_capacity(64 << 10, out);
    while let Ok(line) = lines.recv() {
        let mut next = Some(line);
        while let Some(line) = next {
            // Nobody can be told that stdout is gone.
            _ = out.write_all(&line);
            next = lines.try_recv().ok();
        }
        _ = out.flush();
    }
}

impl Line<'_> {
    fn to_json(&self) -> Option<Vec<u8>> {
        let record = Record {
            timestamp: OffsetDateTime::from(SystemTime::now()).format(&Rfc3339).ok()?,
            message: "request",
            method: self.method,
            path: self.path,
            status: self.status,
            milliseconds: self.elapsed.as_micros() as f64 / 1000.0,
            route: self.route,
            upstream: self.upstream,
            principal: self.principal,
            client: self.context.client.ip().to_string(),
            request_id: &self.context.request_id,
            trace_id: format!("{:032x}", self.context.trace.trace_id),
        };
        let mut json = serde_json::to_vec(&record).ok()?;
        json.push(b'\n');
        Some(json)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};

    use super::*;

    struct Out(mpsc::Sender<Vec<u8>>);

    impl io::Write for Out {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_request_is_one_line_of_json() {
        let (sender, written) = mpsc::channel();
        let log = AccessLog::to(Out(sender)).unwrap();
        let context =
            RequestContext::new(Arc::from("r1"), telemetry::TraceContext::unsampled(), "10.0.0.1:1".parse().unwrap());
        log.write(&Line {
            method: "GET",
            path: "/a\"b",
            status: 200,
            elapsed: Duration::from_micros(1500),
            route: "GET /{id}",
            upstream: None,
            principal: Some("customers/1"),
            context: &context,
        });
        let line = written.recv_timeout(Duration::from_secs(5)).unwrap();
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        let line: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(line["url.path"], "/a\"b");
        assert_eq!(line["duration.ms"], 1.5);
        assert_eq!(line["request.id"], "r1");
        assert_eq!(line.get("upstream"), None);
    }
}
