//! One request and its answer.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{Method, Request, Response, StatusCode, Version, header};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    Phase, Refusal, RequestBody, Service,
    answer::{Answer, Asked, switch},
    connection::Connection,
    incoming::Incoming,
};
use crate::{
    Length,
    field::Seen,
    length,
    request::{is_persistent, says},
    upgrade::{self, Promise},
};

/// What becomes of the connection.
pub(super) enum After {
    Next,
    Close,
    /// Closes, but the client may still be sending.
    Linger,
    Upgrade(Promise),
}

pub(super) struct Exchange<S: Service> {
    asked: Asked,
    /// What was read is no request; who knows what follows.
    is_refused: bool,
    /// The request's body, where it has one.
    incoming: Option<Incoming>,
    /// Where the request asks for another protocol.
    promise: Option<Promise>,
    step: Step<S>,
}

enum Step<S: Service> {
    /// Boxed: it is large, and an idle connection has none.
    Calling(Pin<Box<S::Future>>),
    Answering(Answer<S::Body>),
    /// What is left of the request's body is read; so many bytes were.
    Discarding(u64),
    Switching(Promise),
    /// The answer is the last.
    Closing,
}

impl<S: Service> Exchange<S> {
    pub fn of<T: AsyncRead + AsyncWrite + Unpin>(
        head: Request<()>,
        seen: Seen,
        connection: &mut Connection<T>,
        service: &S,
    ) -> Self {
        let (version, headers) = (head.version(), head.headers());
        let length = match seen.has(Seen::CONTENT_LENGTH | Seen::TRANSFER_ENCODING) {
            false => Length::NONE,
            true => match length::of_request(version, headers) {
                Ok(length) => length,
                Err(error) => return Self::refusing(error.into(), connection, service),
            },
        };
        let is_http11 = version == Version::HTTP_11;
        let is_persistent = if seen.has(Seen::CONNECTION) { is_persistent(version, headers) } else { is_http11 };
        let takes_trailers = seen.has(Seen::TE) && says(headers, header::TE, "trailers");
        let asks_upgrade = is_http11
            && length == Length::NONE
            && seen.has(Seen::UPGRADE)
            && says(headers, header::CONNECTION, "upgrade");
        let expects_continue = is_http11 && seen.has(Seen::EXPECT) && says(headers, header::EXPECT, "100-continue");
        let asked = Asked { version, is_head: *head.method() == Method::HEAD, takes_trailers, is_persistent };

        let (mut incoming, mut promise) = (None, None);
        let mut request = head.map(|()| RequestBody::default());
        if let Some((own, body, fate)) = Incoming::new(length, expects_continue, &mut connection.input) {
            *request.body_mut() = body;
            request.extensions_mut().insert(fate);
            incoming = Some(own);
        } else if asks_upgrade {
            let (own, promised) = upgrade::promise();
            request.extensions_mut().insert(promised);
            promise = Some(own);
        }
        let step = Step::Calling(Box::pin(service.call(request)));
        Self { asked, is_refused: false, incoming, promise, step }
    }

    pub fn refusing<T: AsyncRead + AsyncWrite + Unpin>(
        refusal: Refusal,
        connection: &mut Connection<T>,
        service: &S,
    ) -> Self {
        connection.enter(Phase::Busy, service);
        let asked = Asked { version: Version::HTTP_11, is_head: false, takes_trailers: false, is_persistent: false };
        let step = Step::Calling(Box::pin(service.refuse(refusal)));
        Self { asked, is_refused: true, incoming: None, promise: None, step }
    }

    pub fn poll<T: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        context: &mut Context<'_>,
        connection: &mut Connection<T>,
        service: &S,
    ) -> Poll<io::Result<After>> {
        loop {
            let next = match &mut self.step {
                Step::Calling(_) => ready!(self.poll_call(context, connection, service))?,
                Step::Answering(_) => ready!(self.poll_answer(context, connection, service))?,
                Step::Discarding(discarded) => {
                    let Some(incoming) = &mut self.incoming else { return Poll::Ready(Ok(After::Next)) };
                    let is_passed = ready!(incoming.poll_discard(context, connection, service, discarded))?;
                    return Poll::Ready(Ok(if is_passed { After::Next } else { After::Linger }));
                }
                Step::Switching(_) => {
                    ready!(connection.poll_write(context))?;
                    Step::Closing
                }
                Step::Closing => {
                    let is_read = !self.is_refused
                        && self.incoming.as_ref().is_none_or(Incoming::is_over)
                        && connection.input.is_empty();
                    return Poll::Ready(Ok(if is_read { After::Close } else { After::Linger }));
                }
            };
            if let Step::Switching(promise) = std::mem::replace(&mut self.step, next) {
                return Poll::Ready(Ok(After::Upgrade(promise)));
            }
        }
    }

    /// The service has the request.
    fn poll_call<T: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        context: &mut Context<'_>,
        connection: &mut Connection<T>,
        service: &S,
    ) -> Poll<io::Result<Step<S>>> {
        let Step::Calling(call) = &mut self.step else { return Poll::Pending };
        loop {
            if let Some(incoming) = &self.incoming {
                incoming.attend(context);
            }
            let answer = call.as_mut().poll(context);
            if let Poll::Ready(response) = answer {
                return Poll::Ready(self.begin(response, connection, service));
            }
            if !feed(&mut self.incoming, context, connection, service, false)? {
                break;
            }
        }
        poll_gone(&self.incoming, context, connection)
    }

    fn begin<T: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        response: Response<S::Body>,
        connection: &mut Connection<T>,
        service: &S,
    ) -> io::Result<Step<S>> {
        let promise = self.promise.take();
        if response.status() == StatusCode::SWITCHING_PROTOCOLS
            && let Some(promise) = promise
        {
            switch(connection.output(), response.headers());
            return Ok(Step::Switching(promise));
        }
        if response.status().is_informational() {
            return Err(io::Error::other("an answer that is none"));
        }
        let can_go_on = self.incoming.as_ref().is_none_or(Incoming::can_be_passed) && !service.is_draining();
        self.asked.is_persistent &= can_go_on;
        connection.enter(Phase::Busy, service);
        Ok(Step::Answering(Answer::begin(response, &mut self.asked, connection.output())))
    }

    /// The answer goes out; the request's body may still be coming in.
    fn poll_answer<T: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        context: &mut Context<'_>,
        connection: &mut Connection<T>,
        service: &S,
    ) -> Poll<io::Result<Step<S>>> {
        let Step::Answering(answer) = &mut self.step else { return Poll::Pending };
        loop {
            if let Some(incoming) = &self.incoming {
                incoming.attend(context);
            }
            let waits = match answer.poll_body(context, connection) {
                Poll::Ready(Ok(())) => false,
                Poll::Ready(Err(error)) => {
                    // The client is to see that it breaks off, and where.
                    _ = connection.poll_write(context);
                    return Poll::Ready(Err(error));
                }
                Poll::Pending => true,
            };
            if connection.poll_write(context)?.is_pending() {
                connection.enter(Phase::Sending, service);
                feed(&mut self.incoming, context, connection, service, true)?;
                return Poll::Pending;
            }
            connection.enter(Phase::Busy, service);
            if answer.is_whole() {
                return Poll::Ready(Ok(if self.asked.is_persistent { Step::Discarding(0) } else { Step::Closing }));
            }
            if !feed(&mut self.incoming, context, connection, service, true)? && waits {
                return poll_gone(&self.incoming, context, connection);
            }
        }
    }
}

fn feed<T: AsyncRead + AsyncWrite + Unpin>(
    incoming: &mut Option<Incoming>,
    context: &mut Context<'_>,
    connection: &mut Connection<T>,
    service: &impl Service,
    is_answered: bool,
) -> io::Result<bool> {
    incoming.as_mut().map_or(Ok(false), |incoming| incoming.feed(context, connection, service, is_answered))
}

/// Ready if the client went away, which nobody else would notice while nothing is read or written.
fn poll_gone<T: AsyncRead + AsyncWrite + Unpin, R>(
    incoming: &Option<Incoming>,
    context: &mut Context<'_>,
    connection: &mut Connection<T>,
) -> Poll<io::Result<R>> {
    if incoming.as_ref().is_none_or(Incoming::is_over) {
        ready!(connection.poll_gone(context))?;
    }
    Poll::Pending
}
