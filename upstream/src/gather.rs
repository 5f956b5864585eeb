//! A request's body as far as it is there already: most are small and come with their head, and one that is in memory can
//! be sent again.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use http_body::{Body as _, Frame, SizeHint};

use crate::{Body, BoxError, config::MAX_REPEATABLE};

/// Takes what of a body is there without waiting, up to 64 KiB: all of it makes a body in memory, else it goes on as it was.
pub(crate) fn gather(body: &mut Body, context: &mut Context<'_>) {
    if body.size_hint().lower() > MAX_REPEATABLE as u64 {
        return;
    }
    let mut taken = Taken::default();
    if taken.take(body, context) {
        *body = Body::from(taken.data());
    } else if !taken.is_empty() {
        let rest = std::mem::take(body);
        *body = Body::new(Resumed { taken, rest });
    }
}

#[derive(Default)]
struct Taken {
    first: Bytes,
    /// What came behind it: few bodies have that.
    more: BytesMut,
    /// What ended the taking, after the data.
    last: Option<Result<Frame<Bytes>, BoxError>>,
}

impl Taken {
    /// Whether that is all.
    fn take(&mut self, body: &mut Body, context: &mut Context<'_>) -> bool {
        while let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(context) {
            match frame {
                None => return true,
                Some(Err(error)) => self.last = Some(Err(error)),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if self.size() + data.len() <= MAX_REPEATABLE => self.push(data),
                    Ok(data) => self.last = Some(Ok(Frame::data(data))),
                    Err(frame) => self.last = Some(Ok(frame)),
                },
            }
            if self.last.is_some() {
                return false;
            }
            if body.is_end_stream() {
                return true;
            }
        }
        false
    }

    fn push(&mut self, data: Bytes) {
        if self.first.is_empty() {
            self.first = data;
        } else {
            self.more.extend_from_slice(&data);
        }
    }

    fn size(&self) -> usize {
        self.first.len() + self.more.len()
    }

    fn is_empty(&self) -> bool {
        self.size() == 0 && self.last.is_none()
    }

    fn data(&mut self) -> Bytes {
        if self.more.is_empty() {
            return std::mem::take(&mut self.first);
        }
        let mut data = BytesMut::with_capacity(self.size());
        data.extend_from_slice(&self.first);
        data.extend_from_slice(&self.more);
        self.first.clear();
        self.more.clear();
        data.freeze()
    }
}

/// A body of which some was taken.
struct Resumed {
    taken: Taken,
    rest: Body,
}

impl http_body::Body for Resumed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if this.taken.size() > 0 {
            return Poll::Ready(Some(Ok(Frame::data(this.taken.data()))));
        }
        if let Some(last) = this.taken.last.take() {
            return Poll::Ready(Some(last));
        }
        Pin::new(&mut this.rest).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.taken.is_empty() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let last = self.taken.last.as_ref().and_then(|last| last.as_ref().ok()?.data_ref());
        let taken = (self.taken.size() + last.map_or(0, Bytes::len)) as u64;
        let mut hint = self.rest.size_hint();
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + taken);
        }
        hint.set_lower(hint.lower() + taken);
        hint
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt as _, stream};
    use http_body_util::{BodyExt as _, StreamBody};

    use super::*;

    async fn gathered(mut body: Body) -> Body {
        std::future::poll_fn(|context| {
            gather(&mut body, context);
            Poll::Ready(())
        })
        .await;
        body
    }

    fn frames(frames: Vec<Result<Frame<Bytes>, BoxError>>, goes_on: bool) -> Body {
        let frames = stream::iter(frames);
        if goes_on {
            Body::new(StreamBody::new(frames.chain(stream::pending())))
        } else {
            Body::new(StreamBody::new(frames))
        }
    }

    fn data(size: usize) -> Result<Frame<Bytes>, BoxError> {
        Ok(Frame::data("x".repeat(size).into()))
    }

    #[tokio::test]
    async fn what_is_there_whole_is_in_memory() {
        for sizes in [&[5][..], &[5, 7, 0, 9], &[MAX_REPEATABLE], &[]] {
            let body = gathered(frames(sizes.iter().map(|size| data(*size)).collect(), false)).await;
            assert!(body.is_whole() && body.repeat().is_some(), "{sizes:?}");
            assert_eq!(body.collect().await.unwrap().to_bytes().len(), sizes.iter().sum::<usize>());
        }
    }

    #[tokio::test]
    async fn what_is_not_goes_on_as_it_was() {
        let trailers = || Ok(Frame::trailers([("x-sum".parse().unwrap(), "1".parse().unwrap())].into_iter().collect()));
        for all in [vec![data(MAX_REPEATABLE), data(1), data(5)], vec![data(5), trailers()]] {
            let length: usize = all.iter().flatten().filter_map(|frame| Some(frame.data_ref()?.len())).sum();
            let body = gathered(frames(all, false)).await;
            assert!(!body.is_whole());
            let collected = body.collect().await.unwrap();
            assert_eq!(collected.trailers().is_some(), length == 5);
            assert_eq!(collected.to_bytes().len(), length);
        }
        let mut slow = gathered(frames(vec![data(5)], true)).await;
        assert_eq!(slow.frame().await.unwrap().unwrap().into_data().unwrap().len(), 5);
        let mut broken = gathered(frames(vec![data(5), Err("broken".into())], false)).await;
        assert!(broken.frame().await.unwrap().is_ok() && broken.frame().await.unwrap().is_err());
    }

    #[tokio::test]
    async fn what_was_taken_counts_in_its_length() {
        let long = http_body_util::Full::new(Bytes::from("x".repeat(MAX_REPEATABLE + 1)));
        assert_eq!(gathered(Body::new(long)).await.size_hint().exact(), Some(MAX_REPEATABLE as u64 + 1));
        let mut slow = gathered(frames(vec![data(5)], true)).await;
        assert_eq!((slow.size_hint().lower(), slow.size_hint().upper()), (5, None));
        slow.frame().await.unwrap().unwrap();
        assert_eq!(slow.size_hint().lower(), 0);
    }
}
