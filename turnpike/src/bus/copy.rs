//! `turnpike bus copy`: out of a file, into Redis.

use std::io::{IsTerminal as _, Write as _};

use bus::{Copied, CopyOptions, Copying, copy, redis};

use super::{
    args::{Copy, Way},
    screen::{Cell, Screen, grouped},
};

pub async fn run(options: Copy, way: &Way, screen: &Screen, json: bool) -> anyhow::Result<()> {
    let what = CopyOptions {
        from: &options.from,
        to: &options.to,
        options: redis::Options { namespace: way.namespace.clone(), ..redis::Options::default() },
        dry_run: options.dry_run,
    };
    let mut progress = Progress { live: std::io::stderr().is_terminal(), open: false };
    let copied = copy(what, |copying| progress.show(copying)).await;
    progress.end();
    let copied = copied?;
    if json {
        return Ok(screen.json(&copied)?);
    }
    show(&copied, screen)?;
    Ok(screen.line(match (options.dry_run, copied.already) {
        (true, false) => "nothing was copied: say it again without --dry-run",
        (_, true) => "it was copied before; nothing was changed",
        (false, false) => "copied, and counted again there",
    })?)
}

fn show(copied: &Copied, screen: &Screen) -> anyhow::Result<()> {
    let rows: Vec<Vec<Cell>> = copied
        .queues
        .iter()
        .map(|queue| {
            vec![
                Cell::text(&queue.name),
                Cell::number(queue.partitions.into()),
                Cell::number(queue.events),
                Cell::bytes(queue.bytes),
                Cell::number(queue.outboxes),
            ]
        })
        .collect();
    screen.table(&["QUEUE", "PARTITIONS", "EVENTS", "SIZE", "OUTBOXES"], &rows)?;
    if !copied.groups.is_empty() {
        let row = |group: &bus::CopiedGroup| {
            vec![
                Cell::text(&group.name),
                Cell::text(&group.queue),
                Cell::number(group.unsettled),
                Cell::number(group.dead),
            ]
        };
        let rows: Vec<_> = copied.groups.iter().map(row).collect();
        screen.line("")?;
        screen.table(&["GROUP", "QUEUE", "UNSETTLED", "DEAD"], &rows)?;
    }
    if copied.scheduled > 0 {
        screen.line(format!("{} events wait for their time", grouped(copied.scheduled)))?;
    }
    if copied.bookmarks > 0 {
        screen.line(format!("{} places of durable subscriptions", grouped(copied.bookmarks)))?;
    }
    for left_out in &copied.left_out {
        screen.line(format!("left out: {left_out}"))?;
    }
    Ok(())
}

/// How far it is, on the standard error: on a terminal one line that changes, otherwise a line a partition.
struct Progress {
    live: bool,
    open: bool,
}

impl Progress {
    fn show(&mut self, Copying { queue, partition, events, of }: Copying<'_>) {
        let line = format!("{queue}:{partition}  {} of {} events", grouped(events), grouped(of));
        if self.live {
            eprint!("\r\x1b[K{line}");
            let _ = std::io::stderr().flush();
            self.open = true;
        } else if events == of {
            eprintln!("{line}");
        }
    }

    fn end(&mut self) {
        if std::mem::take(&mut self.open) {
            eprintln!();
        }
    }
}
