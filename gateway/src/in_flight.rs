//! How many requests are being answered. Each thread counts its own, where a counter that cores share would cost every
//! request twice; whoever asks adds them up.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering::Relaxed},
};

use parking_lot::Mutex;

/// One for each thread that ever counted; what it counted stays, also when it has ended.
static THREADS: Mutex<Vec<Arc<AtomicI64>>> = Mutex::new(Vec::new());

thread_local! {
    static OWN: Arc<AtomicI64> = {
        let own = Arc::default();
        THREADS.lock().push(Arc::clone(&own));
        own
    };
}

pub fn begin() {
    add(1);
}

/// May be called on another thread than `begin`.
pub fn end() {
    add(-1);
}

fn add(change: i64) {
    // Only this thread writes: load and store need not be one.
    let own = |own: &Arc<AtomicI64>| own.store(own.load(Relaxed) + change, Relaxed);
    if OWN.try_with(own).is_err() {
        // The thread is about to end, and its own counter is gone.
        THREADS.lock().push(Arc::new(AtomicI64::new(change)));
    }
}

pub fn all() -> i64 {
    THREADS.lock().iter().map(|thread| thread.load(Relaxed)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_moves_between_threads_is_counted_once() {
        let before = all();
        begin();
        begin();
        std::thread::spawn(end).join().unwrap();
        assert_eq!(all() - before, 1);
        end();
    }
}
