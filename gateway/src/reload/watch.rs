//! Notices that files change.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;

/// Watches folders, not files: a file that is replaced by another would be lost.
pub fn watch(files: &[PathBuf], changed: &Arc<Notify>) -> Option<RecommendedWatcher> {
    let notify = Arc::clone(changed);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !event.kind.is_access()) {
            notify.notify_one();
        }
    })
    .inspect_err(|error| tracing::warn!(%error, "files are not watched: send SIGHUP instead"))
    .ok()?;
    for file in files {
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
            tracing::warn!(%error, folder = %folder.display(), "not watched: send SIGHUP instead");
        }
    }
    Some(watcher)
}
