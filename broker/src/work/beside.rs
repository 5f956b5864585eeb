//! A claim goes on beside the call that asked for it: whoever hangs up just when something was leased has it given back,
//! instead of leaving it to the lease's end.

use std::{future::Future, time::Duration};

use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::{problem::Problem, shared::Shared};

/// How long who asked a node that shuts down shall wait.
const ELSEWHERE: Duration = Duration::from_secs(1);

/// Ends when nobody waits any more: the wait is over, the caller has hung up, or the node drains.
pub(crate) type Over = BoxFuture<'static, ()>;

/// What the claim got, unless the caller has gone: then that is given back.
pub(crate) async fn beside<T, E, C, G>(
    shared: &Shared,
    wait: Duration,
    claim: impl FnOnce(Over) -> C,
    give_back: impl FnOnce(T) -> G + Send + 'static,
) -> Result<T, Problem>
where
    T: Send + 'static,
    E: Send + 'static,
    Problem: From<E>,
    C: Future<Output = Result<T, E>> + Send + 'static,
    G: Future<Output = ()> + Send,
{
    let gone = CancellationToken::new();
    let _hung_up = gone.clone().drop_guard();
    let draining = shared.shutdown.draining().clone();
    let over = async move {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = gone.cancelled() => {}
            // Whoever waits is answered, and asks another node.
            () = draining.cancelled() => {}
        }
    };
    let (answer, answered) = oneshot::channel();
    let claiming = claim(over.boxed());
    shared.tasks.spawn(async move {
        if let Err(Ok(claimed)) = answer.send(claiming.await) {
            give_back(claimed).await;
        }
    });
    let claimed = answered.await.map_err(|_| Problem::unavailable("this node is shutting down", ELSEWHERE))?;
    Ok(claimed?)
}
