//! Where lines go: a thread of its own, with a bounded queue before it. What doesn't fit is dropped and counted.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::AcqRel},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

use parking_lot::Mutex;

use crate::metrics::METRICS;

/// Lines waiting to be written, at most.
const WAITING: usize = 8192;

/// The way to the thread, which ends with the last of them.
#[derive(Clone)]
pub struct Writer {
    lines: SyncSender<Vec<u8>>,
    target: Arc<Target>,
}

#[derive(Default)]
struct Target {
    /// None: stdout.
    file: Mutex<Option<PathBuf>>,
    /// The next line goes to a file that is opened first.
    changed: AtomicBool,
}

impl Writer {
    /// # Errors
    /// If no thread can be had.
    pub fn start() -> io::Result<Self> {
        Self::to(io::stdout())
    }

    pub(super) fn to(out: impl Write + Send + 'static) -> io::Result<Self> {
        let (lines, waiting) = sync_channel(WAITING);
        let target = Arc::new(Target::default());
        let own = Arc::clone(&target);
        thread::Builder::new().name("access-log".to_owned()).spawn(move || run(&waiting, out, &own))?;
        Ok(Self { lines, target })
    }

    pub fn write(&self, line: Vec<u8>) {
        if self.lines.try_send(line).is_err() {
            METRICS.log_line_dropped();
        }
    }

    /// From the next line on, to this file.
    pub fn retarget(&self, file: Option<PathBuf>) {
        let mut own = self.target.file.lock();
        if *own != file {
            *own = file;
            self.target.changed.store(true, std::sync::atomic::Ordering::Release);
        }
    }

    /// Opens the file again: it may have been renamed.
    pub fn reopen(&self) {
        self.target.changed.store(true, std::sync::atomic::Ordering::Release);
    }
}

/// Writes lines as they come; flushes when none is waiting.
fn run(lines: &Receiver<Vec<u8>>, stdout: impl Write, target: &Target) {
    let mut stdout = io::BufWriter::with_capacity(64 << 10, stdout);
    let mut file = None;
    while let Ok(line) = lines.recv() {
        if target.changed.swap(false, AcqRel) {
            file = open(target);
        }
        let mut next = Some(line);
        while let Some(line) = next {
            let written = match &mut file {
                Some(file) => file.write_all(&line),
                None => stdout.write_all(&line),
            };
            // Nobody can be told that stdout is gone, or the disk full, but who counts.
            if written.is_err() {
                METRICS.log_line_dropped();
            }
            next = if target.changed.load(std::sync::atomic::Ordering::Acquire) { None } else { lines.try_recv().ok() };
        }
        _ = match &mut file {
            Some(file) => file.flush(),
            None => stdout.flush(),
        };
    }
}

fn open(target: &Target) -> Option<io::BufWriter<File>> {
    let path = target.file.lock().clone()?;
    match OpenOptions::new().create(true).append(true).open(&path) {
        Ok(file) => Some(io::BufWriter::with_capacity(64 << 10, file)),
        Err(error) => {
            tracing::error!(%error, file = %path.display(), "the access log can't be opened: it goes to stdout");
            None
        }
    }
}
