//! HTTP/2 to one endpoint, on h2 itself: a call costs its stream and no task or channel of its own.

mod connection;
mod pool;
mod request;
mod response;

pub(crate) use pool::Pool;
pub(crate) use response::ResponseBody;

use std::{future::poll_fn, pin::Pin, sync::Arc, task::Poll};

use http::{Request, Response, uri::Scheme};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    Body,
    error::{Cause, Failure},
    forward,
    lane::UnderWay,
};

/// One try.
pub(crate) async fn send(
    mut under_way: UnderWay,
    pool: &Arc<Pool>,
    slot: &mut Option<Request<Body>>,
) -> Result<Response<Body>, Failure> {
    let (mut sender, mut stream) = pool.open_stream(&mut under_way).await?;
    let Some(mut request) = slot.take() else {
        return Err(Failure::new(Cause::RequestBody, "the request can't be sent again"));
    };
    let connector = &under_way.lane.connector;
    let scheme = if connector.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
    forward::to_http2(&mut request, scheme, &connector.endpoint);
    let (head, body) = request.into_parts();
    let is_end = http_body::Body::is_end_stream(&body);
    let (mut response, upload) = sender
        .send_request(Request::from_parts(head, ()), is_end)
        .map_err(|error| Failure::new(Cause::Closed, format!("the connection took no request: {error}")))?;
    let mut upload = request::upload(upload, body, is_end)?;
    let response = poll_fn(|context| {
        if let Some(sending) = &mut upload
            && let Poll::Ready(sent) = Pin::new(sending).poll(context)
        {
            upload = None;
            sent?;
        }
        Pin::new(&mut response).poll(context).map_err(|error| why(&error))
    })
    .await?;
    under_way.answered(response.status(), response.headers());
    stream.answered();
    // The response began before the request ended (a two-way stream): the rest needs someone to send it.
    let upload = upload.map(|sending| AbortOnDropHandle::new(tokio::spawn(async move { drop(sending.await) })));
    let mut response = response.map(|received| ResponseBody::wrap(received, upload, stream, under_way));
    forward::from_http2(&mut response);
    Ok(response)
}

fn why(error: &h2::Error) -> Failure {
    // A remote GOAWAY fails only the streams above the last one the server promises to have looked at.
    if error.is_go_away() && error.is_remote() {
        return Failure::new(Cause::Closed, "the connection was closed before the request was read");
    }
    if error.is_remote() && error.reason() == Some(h2::Reason::REFUSED_STREAM) {
        return Failure::new(Cause::Refused, "the service refused the stream");
    }
    Failure::new(Cause::Broken, format!("the stream broke: {error}"))
}
