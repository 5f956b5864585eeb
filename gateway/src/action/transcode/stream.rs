//! A server-streaming call as an HTTP response that is written as the messages come, no faster than the client reads.
//! A client that leaves cancels the call.
//!
//! A call that fails before its first message may still be a plain error. After that the status is sent, and a failure is
//! told within the stream: as `event: error` of an event stream, as a last line `{"error": …}` of NDJSON, each with the
//! problem document. A JSON array has no place for it, nor have bytes: they are cut off, an array without its closing
//! bracket, and the connection is broken: nobody can take the part for the whole.
//!
//! An event stream that ends well says so by `event: end`, since a browser can't tell the end from a break, and would call
//! again. While the service is silent it gets a comment now and then, so that nothing on the way takes it for dead.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use http_body::Frame;
use http_body_util::StreamBody;
use tokio::time::{self, timeout, timeout_at};
use upstream::{Body, BoxError, grpc::Streaming};

use super::{super::status, accept::Format, response, upload};
use crate::{
    error::{Error, ErrorKind},
    problem::{self, Occurrence},
};

/// How long a service may be silent within a stream.
const IDLE: Duration = Duration::from_secs(300);
/// How long an event stream is silent at most.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// A comment, which clients pass over.
const COMMENT: &[u8] = b":\n\n";

/// How a stream is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Of(Format),
    /// Bytes, one message's behind the other's.
    Raw,
}

/// The response that the messages of a call make.
pub async fn respond(
    mut messages: Streaming,
    plan: &Arc<response::Plan>,
    form: Form,
    occurrence: Occurrence,
    fault: upload::Fault,
    deadline: Instant,
) -> Result<Response<Body>, Error> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = plan.status();
    let mut first = None;
    match form {
        Form::Of(format) => {
            response.headers_mut().insert(header::CONTENT_TYPE, format.content_type());
        }
        // Only the first message says what it is.
        Form::Raw => {
            let silent = || Error::new(ErrorKind::Timeout, "the service took too long");
            let message = timeout_at(deadline.into(), messages.next()).await.map_err(|_| silent())?;
            if let Some(message) = message.transpose().map_err(|status| fault.or(|| status::error(&status)))? {
                let raw = plan.raw(&message)?.unwrap_or_default();
                raw.label(response.headers_mut());
                first = Some(raw.data);
            }
        }
    }
    if form == Form::Of(Format::Sse) {
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    let plan = Arc::clone(plan);
    let (state, heard) = (State::Beginning, time::Instant::now());
    let writer = Writer { messages, plan, form, occurrence, fault, first, state, heard };
    let frames = futures_util::stream::unfold(writer, |mut writer| async move {
        let frame = writer.next().await?;
        Some((frame.map(Frame::data), writer))
    });
    *response.body_mut() = Body::new(StreamBody::new(frames));
    Ok(response)
}

struct Writer {
    messages: Streaming,
    plan: Arc<response::Plan>,
    form: Form,
    occurrence: Occurrence,
    fault: upload::Fault,
    /// What of bytes has been read ahead.
    first: Option<Bytes>,
    state: State,
    /// When the service was last heard of.
    heard: time::Instant,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing is written.
    Beginning,
    /// The last message is written, and another may come.
    Open,
    Ended,
}

/// What came of waiting.
enum Next {
    Message(Bytes),
    Silence,
    End,
}

impl Writer {
    async fn next(&mut self) -> Option<Result<Bytes, BoxError>> {
        if self.state == State::Ended {
            return None;
        }
        match self.written().await {
            Ok(Some(piece)) => Some(Ok(piece)),
            Ok(None) => self.end(),
            Err(error) => Some(self.fail(&error)),
        }
    }

    async fn written(&mut self) -> Result<Option<Bytes>, Error> {
        if let Some(first) = self.first.take().filter(|first| !first.is_empty()) {
            return Ok(Some(first));
        }
        loop {
            let message = match self.wait().await? {
                Next::Message(message) => message,
                Next::Silence => return Ok(Some(Bytes::from_static(COMMENT))),
                Next::End => return Ok(None),
            };
            let Form::Of(format) = self.form else {
                let data = self.plan.raw(&message)?.unwrap_or_default().data;
                if data.is_empty() {
                    continue;
                }
                return Ok(Some(data));
            };
            return self.element(format, &message).map(Some);
        }
    }

    async fn wait(&mut self) -> Result<Next, Error> {
        let left = IDLE.saturating_sub(self.heard.elapsed());
        let beats = self.form == Form::Of(Format::Sse) && left > HEARTBEAT;
        let Ok(message) = timeout(if beats { HEARTBEAT } else { left }, self.messages.next()).await else {
            let silent = || Error::new(ErrorKind::Timeout, "the service was silent for too long");
            return if beats { Ok(Next::Silence) } else { Err(silent()) };
        };
        self.heard = time::Instant::now();
        let message = message.transpose().map_err(|status| self.fault.or(|| status::error(&status)))?;
        Ok(message.map_or(Next::End, Next::Message))
    }

    fn element(&mut self, format: Format, message: &[u8]) -> Result<Bytes, Error> {
        let (before, after): (&[u8], &[u8]) = match (format, self.state) {
            (Format::Json, State::Beginning) => (b"[", b""),
            (Format::Json, _) => (b",", b""),
            (Format::NdJson, _) => (b"", b"\n"),
            (Format::Sse, _) => (b"data: ", b"\n\n"),
        };
        let mut buffer = Vec::with_capacity(message.len() * 2 + 64);
        buffer.extend_from_slice(before);
        self.plan.write(message, &mut buffer)?;
        buffer.extend_from_slice(after);
        self.state = State::Open;
        Ok(buffer.into())
    }

    fn end(&mut self) -> Option<Result<Bytes, BoxError>> {
        let was = std::mem::replace(&mut self.state, State::Ended);
        let last: &[u8] = match (self.form, was) {
            (Form::Of(Format::Json), State::Beginning) => b"[]",
            (Form::Of(Format::Json), _) => b"]",
            (Form::Of(Format::Sse), _) => b"event: end\ndata: {}\n\n",
            (Form::Of(Format::NdJson) | Form::Raw, _) => return None,
        };
        Some(Ok(Bytes::from_static(last)))
    }

    fn fail(&mut self, error: &Error) -> Result<Bytes, BoxError> {
        self.state = State::Ended;
        tracing::warn!(
            request.id = %self.occurrence.request_id,
            error.kind = ?error.kind,
            error.cause = error.cause.as_deref().unwrap_or_default(),
            "a stream failed after it had begun"
        );
        let (before, after): (&[u8], &[u8]) = match self.form {
            Form::Of(Format::Json) | Form::Raw => return Err("the stream of messages failed".into()),
            Form::Of(Format::NdJson) => (b"{\"error\":", b"}\n"),
            Form::Of(Format::Sse) => (b"event: error\ndata: ", b"\n\n"),
        };
        Ok([before, &problem::document(error, &self.occurrence), after].concat().into())
    }
}
