//! The access log: a line of JSON for each request, when its answer has ended. Requests never wait for it (`writer`).
//! Which are told of is decided then: a share of all, and all that failed or took long. Never a credential: a path without
//! its query, unless asked for, and then without what looks like a secret, and without a token that stands in it.

mod config;
mod writer;

pub use config::Section;
pub use writer::Writer;

use std::{
    collections::BTreeSet,
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{HeaderValue, Uri, Version, header::USER_AGENT};
use serde::Serialize;
use telemetry::TraceContext;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{context::RequestContext, layers::Request};

/// Everything that a line may hold.
pub const FIELDS: [&str; 20] = [
    "timestamp",
    "message",
    "http.request.method",
    "url.path",
    "url.query",
    "http.response.status_code",
    "http.request.body.size",
    "http.response.body.size",
    "duration.ms",
    "begin.ms",
    "upstream.ms",
    "complete",
    "http.route",
    "upstream",
    "principal",
    "client.address",
    "request.id",
    "trace.id",
    "network.protocol.version",
    "user_agent.original",
];

/// A snapshot's access log: what its configuration says, and the way to the writer.
#[derive(Clone)]
pub struct AccessLog(Arc<Rules>);

struct Rules {
    writer: Writer,
    section: Section,
    without: BTreeSet<String>,
}

/// What a line needs of a request that is gone when it is written.
pub struct Entry {
    log: AccessLog,
    uri: Uri,
    request_id: Arc<str>,
    trace: TraceContext,
    version: Version,
    user_agent: Option<HeaderValue>,
}

/// What became of it.
pub struct Line<'a> {
    pub method: &'a str,
    pub client: IpAddr,
    pub status: u16,
    /// Bytes of the two bodies.
    pub received: u64,
    pub sent: u64,
    /// From its arrival until the answer began, and until it had ended.
    pub begun: Duration,
    pub elapsed: Duration,
    /// How long the action took to begin its answer; None if it never came to that.
    pub upstream: Option<Duration>,
    /// The client took all of the answer.
    pub whole: bool,
    pub route: &'a str,
    pub called: Option<&'a str>,
    pub principal: Option<&'a str>,
}

impl AccessLog {
    pub fn new(writer: Writer, section: Section) -> Self {
        let without = section.without.iter().cloned().collect();
        Self(Arc::new(Rules { writer, section, without }))
    }

    pub fn entry(&self, request: &Request, context: &RequestContext) -> Entry {
        Entry {
            log: self.clone(),
            uri: request.uri().clone(),
            request_id: Arc::clone(&context.request_id),
            trace: context.trace.clone(),
            version: request.version(),
            user_agent: request.headers().get(USER_AGENT).cloned(),
        }
    }
}

impl Rules {
    fn wants(&self, line: &Line<'_>) -> bool {
        let section = &self.section;
        (section.errors && line.status >= 400)
            || section.slower_than.is_some_and(|slow| line.begun > slow)
            || section.sample >= 1.0
            || rand::random::<f64>() < section.sample
    }
}

impl Entry {
    pub fn write(&self, line: &Line<'_>) {
        let rules = &self.log.0;
        if rules.wants(line) {
            rules.writer.write(self.to_json(line));
        }
    }

    fn to_json(&self, line: &Line<'_>) -> Vec<u8> {
        let now = OffsetDateTime::from(SystemTime::now()).format(&Rfc3339).unwrap_or_default();
        let query = self.uri.query().filter(|_| self.log.0.section.query).map(redacted);
        let user_agent = self.user_agent.as_ref().map(|value| String::from_utf8_lossy(value.as_bytes()));
        let version = match self.version {
            Version::HTTP_2 => "2",
            Version::HTTP_10 => "1.0",
            _ => "1.1",
        };
        let mut object = Object { json: vec![b'{'], without: &self.log.0.without };
        object.field("timestamp", &now);
        object.field("message", "request");
        object.field("http.request.method", line.method);
        object.field("url.path", &*telemetry::path(self.uri.path()));
        object.maybe("url.query", query);
        object.field("http.response.status_code", &line.status);
        object.field("http.request.body.size", &line.received);
        object.field("http.response.body.size", &line.sent);
        object.field("duration.ms", &milliseconds(line.elapsed));
        object.field("begin.ms", &milliseconds(line.begun));
        object.maybe("upstream.ms", line.upstream.map(milliseconds));
        object.maybe("complete", (!line.whole).then_some(false));
        object.field("http.route", line.route);
        object.maybe("upstream", line.called);
        object.maybe("principal", line.principal);
        object.field("client.address", &line.client);
        object.field("request.id", &*self.request_id);
        object.field("trace.id", &format!("{:032x}", self.trace.trace_id));
        object.field("network.protocol.version", version);
        object.maybe("user_agent.original", user_agent);
        object.json.extend_from_slice(b"}\n");
        object.json
    }
}

struct Object<'a> {
    json: Vec<u8>,
    without: &'a BTreeSet<String>,
}

impl Object<'_> {
    fn maybe(&mut self, name: &'static str, value: Option<impl Serialize>) {
        if let Some(value) = value {
            self.field(name, &value);
        }
    }

    fn field(&mut self, name: &'static str, value: &(impl Serialize + ?Sized)) {
        if !self.without.is_empty() && self.without.contains(name) {
            return;
        }
        if self.json.len() > 1 {
            self.json.push(b',');
        }
        self.json.push(b'"');
        self.json.extend_from_slice(name.as_bytes());
        self.json.extend_from_slice(b"\":");
        let before = self.json.len();
        if serde_json::to_writer(&mut self.json, value).is_err() {
            self.json.truncate(before);
            self.json.extend_from_slice(b"null");
        }
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}

/// A query whose values are hidden where their names look like those of secrets.
fn redacted(query: &str) -> String {
    const SECRET: [&str; 9] = ["token", "key", "secret", "password", "signature", "sig", "code", "session", "auth"];
    let hidden = |pair: &str| match pair.split_once('=') {
        Some((name, _)) if SECRET.iter().any(|part| name.to_ascii_lowercase().contains(part)) => format!("{name}=***"),
        _ => pair.to_owned(),
    };
    query.split('&').map(hidden).collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use std::{io, sync::mpsc};

    use upstream::Body;

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

    fn entry(section: Section) -> (Entry, mpsc::Receiver<Vec<u8>>) {
        let (sender, written) = mpsc::channel();
        let log = AccessLog::new(Writer::to(Out(sender)).unwrap(), section);
        let context = RequestContext::new(Arc::from("r1"), TraceContext::unsampled(), "10.0.0.1:1".parse().unwrap());
        let request = http::Request::get("/a\"b?page=2&api_key=hunter2").header(USER_AGENT, "curl/8");
        (log.entry(&request.body(Body::empty()).unwrap(), &context), written)
    }

    fn line(status: u16) -> Line<'static> {
        Line {
            method: "GET",
            client: IpAddr::from([10, 0, 0, 1]),
            status,
            received: 0,
            sent: 42,
            begun: Duration::from_micros(1500),
            elapsed: Duration::from_millis(20),
            upstream: Some(Duration::from_millis(1)),
            whole: true,
            route: "GET /{id}",
            called: None,
            principal: Some("customers/1"),
        }
    }

    #[test]
    fn a_request_is_one_line_of_json() {
        let (entry, written) = entry(Section::default());
        entry.write(&line(200));
        let line = written.recv_timeout(Duration::from_secs(5)).unwrap();
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        let line: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&line).unwrap();
        assert_eq!(line["url.path"], "/a\"b");
        assert_eq!(
            (&line["duration.ms"], &line["begin.ms"], &line["upstream.ms"]),
            (&20.0.into(), &1.5.into(), &1.0.into())
        );
        assert_eq!((&line["request.id"], &line["user_agent.original"]), (&"r1".into(), &"curl/8".into()));
        assert_eq!(line["http.response.body.size"], 42);
        assert!(["upstream", "url.query", "complete"].iter().all(|name| !line.contains_key(*name)));
        assert!(line.keys().all(|name| FIELDS.contains(&name.as_str())));
    }

    #[test]
    fn a_query_is_told_if_asked_for_and_its_secrets_never() {
        let (entry, _written) =
            entry(Section { query: true, without: vec!["client.address".to_owned()], ..Section::default() });
        let line = String::from_utf8(entry.to_json(&line(200))).unwrap();
        assert!(line.contains(r#""url.query":"page=2&api_key=***""#), "{line}");
        assert!(!line.contains("10.0.0.1"), "{line}");
    }

    #[test]
    fn what_a_path_lets_its_holder_do_is_not_told() {
        let (mut entry, _written) = entry(Section::default());
        entry.uri = Uri::from_static("/deliveries/billing:0.0.2a.00c0ffee00c0ffee/ack");
        let line = String::from_utf8(entry.to_json(&line(204))).unwrap();
        assert!(line.contains(r#""url.path":"/deliveries/***/ack""#) && !line.contains("c0ffee"), "{line}");
    }

    #[test]
    fn what_failed_or_took_long_is_told_whatever_the_share() {
        let slow = Some(Duration::from_millis(1));
        for (section, status, told) in [
            (Section { sample: 0.0, ..Section::default() }, 200, false),
            (Section { sample: 0.0, ..Section::default() }, 404, true),
            (Section { sample: 0.0, errors: false, ..Section::default() }, 500, false),
            (Section { sample: 0.0, slower_than: slow, ..Section::default() }, 200, true),
        ] {
            assert_eq!(entry(section.clone()).0.log.0.wants(&line(status)), told, "{section:?} {status}");
        }
    }

    #[test]
    fn a_file_that_was_renamed_is_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        let (path, old) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
        let writer = Writer::to(io::sink()).unwrap();
        writer.retarget(Some(path.clone()));
        let wait = |path: &std::path::Path, wanted: &str| {
            let end = std::time::Instant::now() + Duration::from_secs(10);
            while std::fs::read_to_string(path).unwrap_or_default() != wanted {
                assert!(std::time::Instant::now() < end, "{} never became {wanted:?}", path.display());
                std::thread::sleep(Duration::from_millis(5));
            }
        };
        writer.write(b"one\n".to_vec());
        wait(&path, "one\n");
        std::fs::rename(&path, &old).unwrap();
        writer.reopen();
        writer.write(b"two\n".to_vec());
        wait(&path, "two\n");
        wait(&old, "one\n");
    }
}
