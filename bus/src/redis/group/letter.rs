//! A dead letter as it is stored: with its event, which the log may have trimmed when somebody asks for it.

use std::sync::Arc;

use events::Envelope;
use serde::{Deserialize, Serialize};

use crate::{DeadLetter, Failed, Standing, claiming::Entry, clock::moment, copy::Buried, ledger::Record};

#[derive(Serialize, Deserialize)]
pub(super) struct Letter {
    #[serde(skip)]
    position: u64,
    #[serde(with = "shared")]
    envelope: Arc<Envelope>,
    /// Bytes of the event in the log.
    bytes: usize,
    /// Milliseconds since 1970.
    recorded: i64,
    reason: String,
    error: String,
    attempts: u32,
    history: Vec<Failed>,
    /// Milliseconds since 1970.
    died: i64,
    pub(super) redrive: u32,
}

mod shared {
    use std::sync::Arc;

    use events::Envelope;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    pub(super) fn serialize<S: Serializer>(envelope: &Arc<Envelope>, serializer: S) -> Result<S::Ok, S::Error> {
        envelope.as_ref().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<Envelope>, D::Error> {
        Envelope::deserialize(deserializer).map(Arc::new)
    }
}

/// None where it can't be read.
pub(super) fn read(text: &str, position: u64) -> Option<Letter> {
    match serde_json::from_str::<Letter>(text) {
        Ok(mut letter) => {
            letter.position = position;
            let envelope = Arc::make_mut(&mut letter.envelope);
            envelope.recordedtime = Some(moment(letter.recorded));
            envelope.sequence = Some(position);
            Some(letter)
        }
        Err(error) => {
            tracing::error!(position, %error, "a dead letter can't be read");
            None
        }
    }
}

/// The text of one that is copied from elsewhere; None where nobody can read its event.
pub(in crate::redis) fn copied(letter: Buried) -> Option<String> {
    let Buried { entry, reason, error, record, died, .. } = letter;
    let redrive = record.redrive;
    Some(Letter { redrive, ..Letter::new(entry?, &reason, error, record, died) }.write())
}

impl Letter {
    pub(super) fn new(entry: Entry, reason: &str, error: String, record: Record, died: i64) -> Self {
        Self {
            position: entry.position,
            envelope: entry.envelope,
            bytes: entry.bytes,
            recorded: entry.recorded,
            reason: reason.to_owned(),
            error,
            attempts: record.failures,
            history: record.history,
            died,
            redrive: record.redrive,
        }
    }

    pub(super) fn write(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    pub(super) fn key(&self) -> &str {
        self.envelope.key()
    }

    pub(super) fn into_entry(self) -> Entry {
        Entry { position: self.position, envelope: self.envelope, bytes: self.bytes, recorded: self.recorded }
    }

    pub(super) fn standing(self) -> Standing {
        Standing::Dead { reason: self.reason, at: moment(self.died) }
    }

    pub(super) fn into_dead_letter(self, partition: u32) -> DeadLetter {
        DeadLetter {
            partition,
            position: self.position,
            envelope: self.envelope,
            reason: self.reason,
            error: self.error,
            attempts: self.attempts,
            history: self.history,
            died: moment(self.died),
            redrive: self.redrive,
        }
    }
}
