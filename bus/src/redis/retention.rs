//! Trimming.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::shared::Shared;
use crate::Error;

pub(super) async fn run(shared: Arc<Shared>, closed: CancellationToken) {
    let _ = (shared, closed);
}

pub(super) async fn pass(shared: &Shared) -> Result<(), Error> {
    let _ = shared;
    Ok(())
}
