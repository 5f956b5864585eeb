//! Files without a bus: SQLite inserting the same row, group-committed by one thread, and a file that is flushed to disk.

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use async_trait::async_trait;
use futures_util::future::try_join_all;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::{
    DATA,
    contestant::{Contestant, FILLING, Publishing},
};
use crate::statistics::Latency;

/// Rows of a page, when a reader catches up.
const PAGE: usize = 256;
/// Bytes of an envelope as the bus stores it, beside its data.
const ENVELOPE: usize = 280;

/// A thread that inserts whatever waits in one transaction.
pub struct Sqlite {
    stored: mpsc::Sender<Insert>,
    fsynced: mpsc::Sender<Insert>,
    path: PathBuf,
}

struct Insert {
    rows: usize,
    done: oneshot::Sender<rusqlite::Result<()>>,
}

impl Sqlite {
    pub fn open(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join("bare.db");
        Ok(Self { stored: writer(&path, "NORMAL")?, fsynced: writer(&folder.join("bare-full.db"), "FULL")?, path })
    }

    async fn insert(&self, rows: usize, fsynced: bool) -> anyhow::Result<()> {
        let (done, answer) = oneshot::channel();
        let writer = if fsynced { &self.fsynced } else { &self.stored };
        writer.send(Insert { rows, done }).await.context("the writer is gone")?;
        answer.await.context("the writer is gone")?.context("an insert failed")
    }
}

fn writer(path: &Path, synchronous: &str) -> anyhow::Result<mpsc::Sender<Insert>> {
    let mut conn = Connection::open(path)?;
    conn.pragma_update(None, "journal_mode", "WAL")?;
    conn.pragma_update(None, "synchronous", synchronous)?;
    conn.execute_batch("CREATE TABLE log (id INTEGER PRIMARY KEY, recorded INTEGER NOT NULL, envelope BLOB NOT NULL)")?;
    let (sender, mut inserts) = mpsc::channel::<Insert>(1024);
    thread::spawn(move || {
        let row = vec![b'x'; DATA + ENVELOPE];
        let mut batch = Vec::new();
        while inserts.blocking_recv_many(&mut batch, 256) > 0 {
            let written = write(&mut conn, batch.iter().map(|insert| insert.rows).sum(), &row);
            let failed = written.is_err();
            for insert in batch.drain(..) {
                let _ = insert.done.send(if failed { Err(rusqlite::Error::QueryReturnedNoRows) } else { Ok(()) });
            }
        }
    });
    Ok(sender)
}

fn write(conn: &mut Connection, rows: usize, row: &[u8]) -> rusqlite::Result<()> {
    let transaction = conn.transaction()?;
    {
        let mut insert = transaction.prepare_cached("INSERT INTO log (recorded, envelope) VALUES (?1, ?2)")?;
        for _ in 0..rows {
            insert.execute((1_700_000_000_000_i64, row))?;
        }
    }
    transaction.commit()
}

#[async_trait]
impl Contestant for Sqlite {
    fn name(&self) -> &'static str {
        "bare SQLite"
    }

    async fn publish(&self, publishing: Publishing, time: Duration) -> anyhow::Result<Option<f64>> {
        let (end, done) = (Instant::now() + time, AtomicU64::new(0));
        let publishers = (0..publishing.in_flight).map(|_| async {
            while Instant::now() < end {
                self.insert(publishing.batch, publishing.fsynced).await?;
                done.fetch_add(publishing.batch as u64, Relaxed);
            }
            anyhow::Ok(())
        });
        try_join_all(publishers).await?;
        Ok(Some(done.into_inner() as f64 / time.as_secs_f64()))
    }

    async fn deliver(&self, _: usize, _: Duration) -> anyhow::Result<Option<f64>> {
        Ok(None)
    }

    async fn latency(&self, _: u32, _: Duration) -> anyhow::Result<Option<Latency>> {
        Ok(None)
    }

    async fn catch_up(&self, events: usize) -> anyhow::Result<Option<f64>> {
        for _ in (0..events).step_by(FILLING.batch) {
            self.insert(FILLING.batch, false).await?;
        }
        let conn = Connection::open(&self.path)?;
        let mut page = conn.prepare("SELECT id, envelope FROM log WHERE id > ?1 ORDER BY id LIMIT ?2")?;
        let (began, mut read, mut last) = (Instant::now(), 0_usize, 0_i64);
        while read < events {
            let mut rows = page.query((last, PAGE as i64))?;
            let before = read;
            while let Some(row) = rows.next()? {
                last = row.get(0)?;
                ensure!(row.get_ref(1)?.as_blob()?.len() > DATA, "a row without its envelope");
                read += 1;
            }
            ensure!(read > before, "the table ended early");
        }
        Ok(Some(read as f64 / began.elapsed().as_secs_f64()))
    }
}

/// Appends to a file, flushing (fdatasync) each; how many a second.
pub fn fdatasync(folder: &Path, time: Duration) -> anyhow::Result<f64> {
    let mut file = File::create(folder.join("bare.log"))?;
    let row = vec![b'x'; DATA + ENVELOPE];
    let (began, mut written) = (Instant::now(), 0_u64);
    while began.elapsed() < time {
        file.write_all(&row)?;
        file.sync_data()?;
        written += 1;
    }
    Ok(written as f64 / began.elapsed().as_secs_f64())
}
