//! The last events, by the time they were recorded.

use std::collections::VecDeque;

use events::Envelope;
use time::OffsetDateTime;

use crate::view::{Recent, milliseconds};

/// How many are shown.
pub(crate) const MOST: usize = 50;

/// Each with the board's version it came in: oldest first.
#[derive(Default)]
pub(crate) struct Recents(VecDeque<(u64, Recent)>);

impl Recents {
    /// Takes an event in, unless as many newer ones are there.
    pub fn show(&mut self, recent: Recent, version: u64) {
        let at = self.0.partition_point(|(_, shown)| shown.time <= recent.time);
        if self.0.len() < MOST {
            self.0.insert(at, (version, recent));
        } else if at > 0 {
            self.0.pop_front();
            self.0.insert(at - 1, (version, recent));
        }
    }

    /// Those that came after a version.
    pub fn after(&self, version: u64) -> impl Iterator<Item = &Recent> {
        self.0.iter().filter(move |(came, _)| *came > version).map(|(_, recent)| recent)
    }
}

impl Recent {
    pub fn of(envelope: &Envelope, recorded: OffsetDateTime, partition: u32, position: u64) -> Self {
        Self {
            queue: envelope.queue.as_str().to_owned(),
            event: envelope.event.as_str().to_owned(),
            subject: envelope.subject.clone(),
            source: envelope.source.clone(),
            time: milliseconds(recorded),
            partition,
            position,
        }
    }
}

#[cfg(test)]
mod tests {
    use events::Name;

    use super::*;

    #[test]
    fn the_newest_are_shown_in_whatever_order_they_come() {
        let mut recents = Recents::default();
        let envelope = Envelope::new("/a", Name::new("DB").unwrap(), Name::new("CREATE").unwrap());
        // 0, 7, 14, … 98, 5, 12, …: all numbers below 100.
        for number in (0..100).map(|number| number * 7 % 100) {
            let recorded = OffsetDateTime::UNIX_EPOCH + time::Duration::milliseconds(number);
            recents.show(Recent::of(&envelope, recorded, 0, number.unsigned_abs()), 1);
        }
        let shown: Vec<i64> = recents.after(0).map(|recent| recent.time).collect();
        assert_eq!(shown, (50..100).collect::<Vec<i64>>());
        assert_eq!(recents.after(1).count(), 0);
    }
}
