//! A request body as the messages of a call that streams requests, sent as they come: elements of a JSON array, JSON
//! values a line each (NDJSON), or, for `google.api.HttpBody`, pieces of any bytes.
//!
//! Path and query belong to the first message. No message may be larger than a body that is read whole; how many there are
//! is bounded by what the route lets a body be. The service is not sent more than it takes.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use parking_lot::Mutex;
use upstream::{Body, BoxError, grpc};

use super::{
    request,
    values::{Stop, Values},
};
use crate::{
    action::body,
    context::RequestContext,
    error::{Error, ErrorKind},
};

/// What went wrong on the client's side, where the call ended for it.
#[derive(Clone, Default)]
pub struct Fault(Arc<Mutex<Option<Error>>>);

impl Fault {
    /// What is to be told of a call that failed.
    pub fn or(&self, error: impl FnOnce() -> Error) -> Error {
        self.0.lock().take().unwrap_or_else(error)
    }
}

/// The messages of a request, framed for the call.
///
/// # Errors
/// What is wrong with path and query, and a type that can't be read.
pub fn messages(
    plan: &Arc<request::Plan>,
    given: &request::Given<'_>,
    body: Body,
    context: &RequestContext,
) -> Result<(Body, Fault), Error> {
    let head = plan.head(given)?;
    let limit = usize::try_from(body::whole(context)).unwrap_or(usize::MAX);
    let form = if plan.takes_raw() {
        Form::Raw(given.headers.get(header::CONTENT_TYPE).cloned())
    } else {
        body::check_coding(given.headers)?;
        is_list(given.headers)?;
        Form::Values(Values::new(limit))
    };
    let fault = Fault::default();
    let upload = Upload { plan: Arc::clone(plan), body, form, head, count: 0, has_ended: false, fault: fault.clone() };
    let frames = futures_util::stream::unfold(Some(upload), |upload| async {
        let mut upload = upload?;
        match upload.next().await {
            Ok(Some(message)) => Some((Ok(Frame::data(message)), Some(upload))),
            Ok(None) => None,
            Err(error) => {
                *upload.fault.0.lock() = Some(error);
                Some((Err(BoxError::from("the request is not good")), None))
            }
        }
    });
    Ok((Body::new(StreamBody::new(frames)), fault))
}

struct Upload {
    plan: Arc<request::Plan>,
    body: Body,
    form: Form,
    /// What path and query say of the first message; empty from then on.
    head: Vec<u8>,
    count: usize,
    has_ended: bool,
    fault: Fault,
}

enum Form {
    Values(Values),
    /// With the type, until the first message has it.
    Raw(Option<HeaderValue>),
}

impl Upload {
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(Some(message));
            }
            if self.has_ended {
                return Ok(None);
            }
            match self.body.frame().await {
                None => self.has_ended = true,
                Some(Err(error)) => {
                    return Err(Error::new(ErrorKind::BadRequest, "the request body could not be read").cause(error));
                }
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else { continue };
                    match &mut self.form {
                        Form::Values(values) => values.push(&data),
                        Form::Raw(content_type) => {
                            let content_type = content_type.take();
                            let mut message = std::mem::take(&mut self.head);
                            self.plan.piece(content_type.as_ref(), &data, &mut message);
                            self.count += 1;
                            return framed(&message).map(Some);
                        }
                    }
                }
            }
        }
    }

    /// The next message, if all of it is here.
    fn take(&mut self) -> Result<Option<Bytes>, Error> {
        let Form::Values(values) = &mut self.form else { return Ok(None) };
        let Some(json) = values.take(self.has_ended).map_err(|stop| refused(stop, self.count))? else {
            return Ok(None);
        };
        let mut message = std::mem::take(&mut self.head);
        self.plan.element(&json, &mut message).map_err(|error| within(error, self.count))?;
        self.count += 1;
        framed(&message).map(Some)
    }
}

fn framed(message: &[u8]) -> Result<Bytes, Error> {
    grpc::frame(message).map_err(|status| Error::new(ErrorKind::BodyTooLarge, "a message is too large").cause(status))
}

fn refused(stop: Stop, count: usize) -> Error {
    let kind = if stop == Stop::TooLarge { ErrorKind::BodyTooLarge } else { ErrorKind::BadRequest };
    Error::new(kind, format!("message {count} of the body: {stop}"))
}

/// Says which of the messages it is.
fn within(mut error: Error, count: usize) -> Error {
    for violation in &mut error.violations {
        let dot = if violation.field.is_empty() || violation.field.starts_with('[') { "" } else { "." };
        violation.field = format!("[{count}]{dot}{}", violation.field);
    }
    if error.violations.is_empty() {
        error.detail = format!("message {count} of the body: {}", error.detail).into();
    }
    error
}

fn is_list(headers: &HeaderMap) -> Result<(), Error> {
    const NAMES: [&str; 4] = ["application/json", "application/x-ndjson", "application/ndjson", "application/jsonl"];
    let media_type = body::media_type(headers).unwrap_or_default();
    if NAMES.iter().any(|name| media_type.eq_ignore_ascii_case(name)) {
        return Ok(());
    }
    let detail = "the body must be application/json, an array, or application/x-ndjson, a message a line";
    Err(Error::new(ErrorKind::UnsupportedMediaType, detail))
}
