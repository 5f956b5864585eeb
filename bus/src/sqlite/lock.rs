//! One process owns the file: a lock on another file beside it, which the system lifts when the process ends.

use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Context as _;

/// How long a former owner in the same process, which is closing just now, is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Waits a moment for the lock.
pub(super) fn acquire(database: &Path) -> anyhow::Result<File> {
    let path = beside(database);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("{} can't be opened", path.display()))?;
    let give_up = Instant::now() + PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < give_up => std::thread::sleep(Duration::from_millis(10)),
            Err(TryLockError::WouldBlock) => anyhow::bail!(
                "{} is open in another process: one process owns an embedded bus, the others ask it",
                database.display()
            ),
            Err(TryLockError::Error(error)) => {
                return Err(error).context(format!("{} can't be locked", path.display()));
            }
        }
    }
}

fn beside(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}
