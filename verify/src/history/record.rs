//! Writing it down, from many tasks at once.

use std::{
    fs::File,
    io::{self, Write as _},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;

use super::{Entry, Op, What};

/// A history that is being written. Clones write the same one.
#[derive(Clone)]
pub struct History(Arc<Inner>);

struct Inner {
    began: Instant,
    /// Microseconds since 1970, when it began: another process's history joins this one by it.
    began_at: u64,
    ops: AtomicU64,
    written: Mutex<Written>,
}

struct Written {
    entries: Vec<Entry>,
    /// Each entry is in the file before the call that wrote it returns, whatever becomes of the process.
    file: Option<File>,
}

impl Default for History {
    fn default() -> Self {
        Self::new()
    }
}

impl History {
    pub fn new() -> Self {
        Self::since(micros(SystemTime::now()), 0, None)
    }

    /// The part of a history that another process writes, from what [`History::began_at`] said there. `ops` keeps the
    /// numbers of its calls apart from others'.
    ///
    /// # Errors
    /// If the file can't be made.
    pub fn joining(began_at: u64, ops: Op, file: &std::path::Path) -> io::Result<Self> {
        Ok(Self::since(began_at, ops, Some(File::create(file)?)))
    }

    fn since(began_at: u64, ops: Op, file: Option<File>) -> Self {
        let elapsed = Duration::from_micros(micros(SystemTime::now()).saturating_sub(began_at));
        let began = Instant::now().checked_sub(elapsed).unwrap_or_else(Instant::now);
        let written = Mutex::new(Written { entries: Vec::new(), file });
        Self(Arc::new(Inner { began, began_at, ops: AtomicU64::new(ops), written }))
    }

    pub fn began_at(&self) -> u64 {
        self.0.began_at
    }

    /// Microseconds since it began.
    pub fn now(&self) -> u64 {
        u64::try_from(self.0.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// When a moment is, told by the system's clock; 0 where that was before it began.
    pub fn moment(&self, time: impl Into<SystemTime>) -> u64 {
        micros(time.into()).saturating_sub(self.0.began_at)
    }

    /// A number for a call and its answer.
    pub fn op(&self) -> Op {
        self.0.ops.fetch_add(1, Relaxed)
    }

    pub fn write(&self, what: What) {
        self.write_all([what]);
    }

    /// Several things at one moment.
    pub fn write_all(&self, whats: impl IntoIterator<Item = What>) {
        let mut written = self.0.written.lock();
        let at = self.now();
        for what in whats {
            let entry = Entry { at, what };
            if let Some(file) = &mut written.file {
                // A full disk is one of the faults.
                _ = serde_json::to_vec(&entry).map(|mut line| {
                    line.push(b'\n');
                    file.write_all(&line)
                });
            }
            written.entries.push(entry);
        }
    }

    /// Takes in what another process wrote.
    pub fn join(&self, others: Vec<Entry>) {
        let mut written = self.0.written.lock();
        written.entries.extend(others);
        written.entries.sort_by_key(|entry| entry.at);
    }

    /// What was written so far.
    pub fn entries(&self) -> Vec<Entry> {
        self.0.written.lock().entries.clone()
    }

    /// How many entries of a kind there are so far.
    pub fn count(&self, is: impl Fn(&What) -> bool) -> usize {
        self.0.written.lock().entries.iter().filter(|entry| is(&entry.what)).count()
    }
}

fn micros(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
