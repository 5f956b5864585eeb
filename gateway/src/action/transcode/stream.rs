//! A server-streaming call as an HTTP response that is written as the messages come, no faster than the client reads.
//!
//! A call that fails before its first message may still be a plain error. After that the status is sent, and a failure is
//! told within the stream: as `event: error` of an event stream, as a last line `{"error": …}` of NDJSON, each with the
//! problem document. A JSON array has no place for it, so it is cut off without its closing bracket and the connection is
//! broken: nobody can take the part for the whole.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, Response, header};
use http_body::Frame;
use http_body_util::StreamBody;
use upstream::{Body, BoxError, Client, Options, grpc::Streaming};

use super::{super::status, Transcode, accept::Format, response};
use crate::{
    error::{Error, ErrorKind},
    problem::{self, Occurrence},
};

/// How long a service may be silent within a stream.
const IDLE: Duration = Duration::from_secs(300);

/// Starts the call and the response.
pub async fn open(
    action: &Transcode,
    client: &Client,
    metadata: HeaderMap,
    message: Bytes,
    format: Format,
    deadline: Instant,
    occurrence: Occurrence,
) -> Result<Response<Body>, Error> {
    // The deadline is for the beginning; how long the stream goes on is for its two ends to decide.
    let options = Options { deadline: None, idempotent: action.idempotent, ..Options::default() };
    let call = client.streaming(&action.path, metadata, message, options);
    let messages = match tokio::time::timeout_at(deadline.into(), call).await {
        Ok(Ok(messages)) => messages,
        Ok(Err(status)) => return Err(status::error(&status)),
        Err(_) => return Err(Error::new(ErrorKind::Timeout, "the service took too long")),
    };
    let writer = Writer { messages, plan: Arc::clone(&action.response), format, occurrence, state: State::Beginning };
    let frames = futures_util::stream::unfold(writer, |mut writer| async move {
        let frame = writer.next().await?;
        Some((frame.map(Frame::data), writer))
    });
    let mut response = Response::new(Body::new(StreamBody::new(frames)));
    *response.status_mut() = action.response.status();
    response.headers_mut().insert(header::CONTENT_TYPE, format.content_type());
    if format == Format::Sse {
        response.headers_mut().insert(header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    }
    Ok(response)
}

struct Writer {
    messages: Streaming,
    plan: Arc<response::Plan>,
    format: Format,
    occurrence: Occurrence,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing is written.
    Beginning,
    /// The last message is written, and another may come.
    Open,
    Ended,
}

impl Writer {
    async fn next(&mut self) -> Option<Result<Bytes, BoxError>> {
        if self.state == State::Ended {
            return None;
        }
        match self.message().await {
            Ok(Some(message)) => Some(Ok(message)),
            Ok(None) => self.end(),
            Err(error) => Some(self.fail(&error)),
        }
    }

    async fn message(&mut self) -> Result<Option<Bytes>, Error> {
        let message = tokio::time::timeout(IDLE, self.messages.next()).await;
        let message = message.map_err(|_| Error::new(ErrorKind::Timeout, "the service was silent for too long"))?;
        let Some(message) = message.transpose().map_err(|status| status::error(&status))? else { return Ok(None) };
        let mut buffer = Vec::with_capacity(512);
        buffer.extend_from_slice(match (self.format, self.state) {
            (Format::Json, State::Beginning) => b"[",
            (Format::Json, _) => b",",
            (Format::NdJson, _) => b"",
            (Format::Sse, _) => b"data: ",
        });
        self.plan.write_encoded(message, &mut buffer)?;
        buffer.extend_from_slice(self.separator());
        self.state = State::Open;
        Ok(Some(buffer.into()))
    }

    fn end(&mut self) -> Option<Result<Bytes, BoxError>> {
        let was = std::mem::replace(&mut self.state, State::Ended);
        match (self.format, was) {
            (Format::Json, State::Beginning) => Some(Ok(Bytes::from_static(b"[]"))),
            (Format::Json, _) => Some(Ok(Bytes::from_static(b"]"))),
            _ => None,
        }
    }

    fn fail(&mut self, error: &Error) -> Result<Bytes, BoxError> {
        self.state = State::Ended;
        tracing::warn!(
            request.id = %self.occurrence.request_id,
            error.kind = ?error.kind,
            error.cause = error.cause.as_deref().unwrap_or_default(),
            "a stream failed after it had begun"
        );
        let (before, after): (&[u8], &[u8]) = match self.format {
            Format::Json => return Err("the stream of messages failed".into()),
            Format::NdJson => (b"{\"error\":", b"}\n"),
            Format::Sse => (b"event: error\ndata: ", b"\n\n"),
        };
        Ok([before, &problem::document(error, &self.occurrence), after].concat().into())
    }

    fn separator(&self) -> &'static [u8] {
        match self.format {
            Format::Json => b"",
            Format::NdJson => b"\n",
            Format::Sse => b"\n\n",
        }
    }
}
