//! What works on tasks of a kind: an async function, or something that implements [`Handler`].

use std::{future::Future, sync::Arc};

use futures_util::future::BoxFuture;
use serde::{Serialize, de::DeserializeOwned};

use crate::{Failure, Job, plan::MAX_DATA_BYTES};

/// Works on tasks of a kind. It may be called again for the same task ([`Job::first`], [`Job::step_id`]); a panic counts as
/// a failure. Every `async fn(Job<I>) -> Result<O, Failure>` is one, and every closure that returns such a future.
pub trait Handler<I, O>: Send + Sync + 'static {
    fn handle(&self, job: Job<I>) -> impl Future<Output = Result<O, Failure>> + Send;
}

impl<I, O, F, Fut> Handler<I, O> for F
where
    F: Fn(Job<I>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<O, Failure>> + Send,
{
    fn handle(&self, job: Job<I>) -> impl Future<Output = Result<O, Failure>> + Send {
        self(job)
    }
}

/// A handler that takes and gives JSON.
pub(crate) type Untyped = Arc<dyn Fn(Job<String>) -> BoxFuture<'static, Result<String, Failure>> + Send + Sync>;

pub(crate) fn untyped<I, O, H>(handler: H) -> Untyped
where
    I: DeserializeOwned + Send + 'static,
    O: Serialize + Send + 'static,
    H: Handler<I, O>,
{
    let handler = Arc::new(handler);
    Arc::new(move |job: Job<String>| {
        let handler = handler.clone();
        Box::pin(async move {
            // Another attempt wouldn't read it otherwise.
            let input = serde_json::from_str(&job.input).map_err(|error| Failure::fatal(format!("input: {error}")))?;
            let Job { id, name, task, attempt, owner, line, .. } = job;
            let output = handler.handle(Job { id, name, task, attempt, owner, input, line }).await?;
            let output = serde_json::to_string(&output).map_err(|error| Failure::fatal(format!("result: {error}")))?;
            if output.len() > MAX_DATA_BYTES {
                return Err(Failure::fatal(format!("result: {} bytes, {MAX_DATA_BYTES} allowed", output.len())));
            }
            Ok(output)
        })
    })
}
