//! Calls with messages already encoded: one answer, or a stream of them.

use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, Version, header::CONTENT_TYPE};
use http_body_util::BodyExt as _;
use tokio::time::timeout_at;

use super::{
    message::{Deframer, frame},
    status::{Code, STATUS, Status},
};
use crate::{Body, Options, client::Shared, stack};

const ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");

/// The answer to a unary call.
#[derive(Debug)]
pub struct Reply {
    pub metadata: HeaderMap,
    pub message: Bytes,
    pub trailers: HeaderMap,
}

/// The answers of a server-streaming call. Dropped before its end, it cancels the call.
pub struct Streaming {
    pub metadata: HeaderMap,
    answers: Answers,
    deadline: Option<Instant>,
}

impl Streaming {
    /// The next message; None after an OK status. An error is the last thing that comes.
    pub async fn next(&mut self) -> Option<Result<Bytes, Status>> {
        let next = match self.deadline {
            None => self.answers.next().await,
            Some(deadline) => {
                let next = timeout_at(deadline.into(), self.answers.next()).await;
                next.unwrap_or_else(|_| Some(Err(Status::deadline())))
            }
        };
        if !matches!(next, Some(Ok(_))) {
            self.answers.end();
        }
        next
    }

    /// The only message there is: the answer to a call that has one.
    ///
    /// # Errors
    /// Any status but OK, and INTERNAL where there is no message or more than one.
    pub async fn only(self) -> Result<Reply, Status> {
        let Self { metadata, mut answers, deadline } = self;
        let rest = async {
            let message = match answers.next().await {
                Some(message) => message?,
                None => return Err(Status::new(Code::Internal, "the service answered OK without a message")),
            };
            match answers.next().await {
                None => Ok(Reply { metadata, message, trailers: answers.trailers }),
                Some(Err(status)) => Err(status),
                Some(Ok(_)) => Err(Status::new(Code::Internal, "the service answered a unary call more than once")),
            }
        };
        // Usually all of it is there with the head, and no timer is set.
        match deadline {
            None => rest.await,
            Some(deadline) => timeout_at(deadline.into(), rest).await.unwrap_or_else(|_| Err(Status::deadline())),
        }
    }
}

pub(crate) async fn unary(
    client: &Shared,
    path: &str,
    metadata: HeaderMap,
    message: Bytes,
    options: Options,
) -> Result<Reply, Status> {
    streaming(client, path, metadata, message, options).await?.only().await
}

pub(crate) async fn streaming(
    client: &Shared,
    path: &str,
    metadata: HeaderMap,
    message: Bytes,
    options: Options,
) -> Result<Streaming, Status> {
    call(client, path, metadata, frame(&message)?.into(), options).await
}

/// A call with messages that are framed already.
pub(crate) async fn call(
    client: &Shared,
    path: &str,
    metadata: HeaderMap,
    messages: Body,
    options: Options,
) -> Result<Streaming, Status> {
    let request = request(path, metadata, messages)?;
    let (head, body) = stack::send(client, request, options).await?.into_parts();
    let is_grpc = head
        .headers
        .get(CONTENT_TYPE)
        .is_some_and(|content_type| content_type.as_bytes().starts_with(b"application/grpc"));
    // A response whose head is all there is of it.
    if head.headers.contains_key(STATUS) {
        return match Status::read(head.headers) {
            Some(status) if !status.is_ok() => Err(status),
            status => {
                let metadata = status.map(|status| status.metadata).unwrap_or_default();
                Ok(Streaming { metadata, answers: Answers::new(Body::empty(), 0, true), deadline: options.deadline })
            }
        };
    }
    if head.status != StatusCode::OK || !is_grpc {
        return Err(Status::from_http(head.status, head.headers));
    }
    let answers = Answers::new(body, client.upstream.config.max_message, false);
    Ok(Streaming { metadata: head.headers, answers, deadline: options.deadline })
}

/// The messages of a response's body, then its status.
struct Answers {
    body: Body,
    deframer: Deframer,
    /// The largest message, in bytes.
    limit: usize,
    is_over: bool,
    /// What came with an OK status.
    trailers: HeaderMap,
}

impl Answers {
    fn new(body: Body, limit: usize, is_over: bool) -> Self {
        Self { body, deframer: Deframer::default(), limit, is_over, trailers: HeaderMap::new() }
    }

    async fn next(&mut self) -> Option<Result<Bytes, Status>> {
        if self.is_over {
            return None;
        }
        loop {
            match self.deframer.take(self.limit) {
                Ok(None) => {}
                taken => return taken.transpose(),
            }
            match self.body.frame().await {
                None => return Some(Err(Status::new(Code::Unknown, "the service sent no status"))),
                Some(Err(error)) => return Some(Err(Status::from_body(&error))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.deframer.push(data),
                    Err(frame) => return self.finish(frame.into_trailers().unwrap_or_default()).map(Err),
                },
            }
        }
    }

    fn finish(&mut self, trailers: HeaderMap) -> Option<Status> {
        match Status::read(trailers) {
            None => Some(Status::new(Code::Unknown, "the service sent no status")),
            Some(status) if !status.is_ok() => Some(status),
            Some(_) if !self.deframer.is_empty() => {
                Some(Status::new(Code::Internal, "the service ended within a message"))
            }
            Some(status) => {
                self.trailers = status.metadata;
                self.is_over = true;
                None
            }
        }
    }

    /// Nothing more is taken: the stream is given up if it hasn't ended.
    fn end(&mut self) {
        self.is_over = true;
        self.body = Body::empty();
    }
}

fn request(path: &str, metadata: HeaderMap, messages: Body) -> Result<Request<Body>, Status> {
    let path: Uri = path.parse().map_err(|_| Status::new(Code::Internal, format!("`{path}` is not a path")))?;
    let mut request = Request::new(messages);
    *request.method_mut() = Method::POST;
    *request.uri_mut() = path;
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = metadata;
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    request.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    Ok(request)
}
