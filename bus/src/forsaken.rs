//! A claim whose caller goes before it is answered: it is seen to its end all the same, and what it got is given back, which
//! costs nobody an attempt. Left to their end, its leases would hold up whoever waits, and an event that was alone would pay.
//!
//! A claim that is waited for costs nothing more. What is given back while the bus is away lasts to the lease's end.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::{runtime::Handle, sync::Semaphore};

use crate::{Backend, Claim, Claimed, Error, Settlement, Verb};

/// Claims that a process sees to their end for nobody, at once; the leases of more last to their end.
const MOST: usize = 1024;
/// How often it is tried to give back; the first pause, which doubles.
const ATTEMPTS: u32 = 6;
const PAUSE: Duration = Duration::from_millis(200);

static PLACES: Semaphore = Semaphore::const_new(MOST);

/// A claim under way.
pub(crate) struct UnderWay {
    backend: Arc<dyn Backend>,
    group: String,
    /// None: it was answered.
    work: Option<BoxFuture<'static, Result<Claimed, Error>>>,
}

impl UnderWay {
    pub(crate) fn new(backend: Arc<dyn Backend>, claim: Claim) -> Self {
        let group = claim.group.clone();
        let work = {
            let backend = backend.clone();
            async move { backend.claim(claim).await }.boxed()
        };
        Self { backend, group, work: Some(work) }
    }
}

impl Future for UnderWay {
    type Output = Result<Claimed, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(work) = &mut self.work else { return Poll::Pending };
        let answer = std::task::ready!(work.as_mut().poll(cx));
        self.work = None;
        Poll::Ready(answer)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let Some(work) = self.work.take() else { return };
        let (Ok(runtime), Ok(place)) = (Handle::try_current(), PLACES.try_acquire()) else {
            tracing::warn!(group = self.group, "a claim is left alone: what it leases comes again when the lease ends");
            return;
        };
        let (backend, group) = (self.backend.clone(), std::mem::take(&mut self.group));
        runtime.spawn(async move {
            if let Ok(claimed) = work.await {
                give_back(&*backend, &group, &claimed).await;
            }
            drop(place);
        });
    }
}

async fn give_back(backend: &dyn Backend, group: &str, claimed: &Claimed) {
    let released = |token| Settlement { token, verb: Verb::Release };
    let settlements: Vec<Settlement> = claimed.leased.iter().map(|leased| released(leased.token)).collect();
    let mut pause = PAUSE;
    for _ in 0..ATTEMPTS {
        // What is somebody's by now needn't be.
        if settlements.is_empty()
            || !matches!(backend.settle(group, settlements.clone()).await, Err(Error::Unavailable(_)))
        {
            return;
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    tracing::warn!(group, events = settlements.len(), "leases of nobody can't be given back: they last to their end");
}
