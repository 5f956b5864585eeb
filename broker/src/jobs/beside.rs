//! A claim of tasks goes on beside the call that asked for it: one that is cut off in between leaves tasks begun until their
//! leases end. Whoever hangs up just when it got some has them given back.

use std::{future::Future, time::Duration};

use futures_util::{FutureExt as _, future::BoxFuture};
use jobs::{Error, Handed};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::{problem::Problem, shared::Shared};

/// How long who asked a node that shuts down shall wait.
const ELSEWHERE: Duration = Duration::from_secs(1);

/// Ends when nobody waits any more: the wait is over, the caller has hung up, or the node drains.
pub(super) type Over = BoxFuture<'static, ()>;

/// What the claim got, unless the caller has gone: then that is given back.
pub(super) async fn beside<C, G>(
    shared: &Shared,
    wait: Duration,
    claim: impl FnOnce(Over) -> C,
    give_back: impl FnOnce(Vec<Handed>) -> G + Send + 'static,
) -> Result<Vec<Handed>, Problem>
where
    C: Future<Output = Result<Vec<Handed>, Error>> + Send + 'static,
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
