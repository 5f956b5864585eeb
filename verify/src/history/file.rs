//! A history in a file: a JSON document a line.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, BufWriter, Write as _},
    path::Path,
};

use super::Entry;

impl Entry {
    /// Writes a history, to be looked at and checked again.
    ///
    /// # Errors
    /// As the file's.
    pub fn write_all(entries: &[Self], path: &Path) -> io::Result<()> {
        let mut file = BufWriter::new(File::create(path)?);
        for entry in entries {
            serde_json::to_writer(&mut file, entry)?;
            file.write_all(b"\n")?;
        }
        file.flush()
    }

    /// Reads a history. A last line that isn't whole is left out: its process was killed while it wrote.
    ///
    /// # Errors
    /// As the file's, and where a line is no entry.
    pub fn read_all(path: &Path) -> io::Result<Vec<Self>> {
        let mut lines = BufReader::new(File::open(path)?).lines().peekable();
        let mut entries = Vec::new();
        while let Some(line) = lines.next() {
            match serde_json::from_str(&line?) {
                Ok(entry) => entries.push(entry),
                Err(_) if lines.peek().is_none() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use crate::history::{Answer, Did, Frame, Harm, History, Link, Place, Seen, Verb, What};

    use super::*;

    #[test]
    fn a_history_survives_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.jsonl");
        let place = Place { queue: "DB".into(), partition: 0, position: 7 };
        let event = Seen { id: "a".into(), event: "CREATE".into(), key: "k".into(), place };
        let history = History::new();
        history.write_all([
            What::PublishAnswered {
                op: 1,
                answers: vec![
                    Answer::Recorded { partition: 0, position: Some(7), duplicate: false },
                    Answer::Refused("full".into()),
                ],
            },
            What::SettleAsked {
                op: 2,
                group: "g".into(),
                token: "t".into(),
                verb: Verb::Nack { retryable: true, pause_ms: Some((800, 1200)) },
            },
            What::Handled {
                group: "g".into(),
                member: "m".into(),
                event: event.clone(),
                attempt: 1,
                did: Did::Repeated,
            },
            What::Frame { reader: "r".into(), partition: 0, frame: Frame::Event(event), link: None },
            What::Frame {
                reader: "r".into(),
                partition: 0,
                frame: Frame::Idle,
                link: Some(Link { prev: None, cursor: "c".into() }),
            },
            What::Goes { user: "u".into(), connection: "c".into(), bye: true },
            What::Harmed { by: "power".into(), harm: Harm::PowerLoss { since: 9 } },
            What::Rest,
        ]);
        Entry::write_all(&history.entries(), &path).unwrap();
        assert_eq!(Entry::read_all(&path).unwrap(), history.entries());
    }

    #[test]
    fn what_a_killed_process_wrote_is_read_up_to_its_last_whole_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.jsonl");
        let began = History::new();
        let joining = History::joining(began.began_at(), 1_000, &path).unwrap();
        assert_eq!(joining.op(), 1_000);
        joining.write(What::Rest);
        let mut text = std::fs::read(&path).unwrap();
        text.extend(b"{\"at\":1,\"wh");
        std::fs::write(&path, text).unwrap();
        began.join(Entry::read_all(&path).unwrap());
        assert_eq!(began.entries(), joining.entries());
    }
}
