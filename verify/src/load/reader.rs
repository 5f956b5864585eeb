//! A reader without a group.

use std::time::Duration;

use bus::{GapReason, TailFrom, Tailed};
use events::Filter;
use tokio_util::sync::CancellationToken;

use super::{
    Witness,
    witness::{filter as told, seen},
};
use crate::history::{Begins, Frame, What};

const PAUSE: Duration = Duration::from_millis(50);

/// Follows a queue until it is stopped. A bus that is away is asked again.
pub async fn follow(witness: Witness, name: String, filter: Filter, from: TailFrom, stop: CancellationToken) {
    let begins = match from {
        TailFrom::Earliest => Begins::Earliest,
        TailFrom::Latest => Begins::Latest,
        TailFrom::Time(_) | TailFrom::Cursor(_) => Begins::Elsewhere,
    };
    let (queue, filtered) = (filter.queue.to_string(), told(&filter));
    let mut tail = loop {
        if let Ok(tail) = witness.bus.tail(filter.clone(), from.clone()).await {
            break tail;
        }
        if stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_none() {
            return;
        }
    };
    witness.history.write(What::Follows { reader: name.clone(), queue, filter: filtered, begins });
    while let Some(next) = stop.run_until_cancelled(tail.next()).await {
        match next {
            Ok(tailed) => write(&witness, &name, tailed),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

fn write(witness: &Witness, reader: &str, tailed: Tailed) {
    let (partition, frame) = match tailed {
        Tailed::Event { envelope, partition, position } => {
            (partition, Frame::Event(seen(&envelope, partition, position)))
        }
        Tailed::Gap(gap) => {
            let reason = match gap.reason {
                GapReason::Retention => "retention",
                GapReason::Lineage => "lineage",
                GapReason::Reset => "reset",
                GapReason::Unreadable => "unreadable",
            };
            (gap.partition, Frame::Gap { from: gap.from, to: gap.to, lost: gap.lost, reason: reason.to_owned() })
        }
        Tailed::CaughtUp => (0, Frame::CaughtUp),
    };
    witness.history.write(What::Frame { reader: reader.to_owned(), partition, frame, link: None });
}
