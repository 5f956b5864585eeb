//! Who is connected, in every process.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::shared::Shared;
use crate::{Connection, Error};

pub(super) async fn tell(shared: Arc<Shared>, closed: CancellationToken) {
    let _ = (shared, closed);
}

pub(super) async fn connections(shared: &Shared) -> Result<Vec<Connection>, Error> {
    Ok(shared.roster.here())
}
