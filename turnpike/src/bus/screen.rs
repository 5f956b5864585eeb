//! What is written: aligned tables with colours on a terminal, JSON for programs.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal as _, Write as _},
};

use serde::Serialize;
use time::OffsetDateTime;

/// How much a cell shall be noticed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    #[default]
    Plain,
    /// Nothing is there: not worth a look.
    Faint,
    Good,
    Warning,
    Alarm,
}

/// A cell of a table.
#[derive(Clone, Debug)]
pub struct Cell {
    text: String,
    tone: Tone,
    right: bool,
}

impl Cell {
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: printable(&text.into()), tone: Tone::Plain, right: false }
    }

    pub fn number(number: u64) -> Self {
        let tone = if number == 0 { Tone::Faint } else { Tone::Plain };
        Self { text: grouped(number), tone, right: true }
    }

    pub fn bytes(bytes: u64) -> Self {
        Self { text: in_bytes(bytes), ..Self::number(bytes) }
    }

    /// So many a second, a whole number.
    pub fn rate(rate: f64) -> Self {
        Self { tone: if rate == 0.0 { Tone::Faint } else { Tone::Plain }, text: format!("{rate:.0}"), right: true }
    }

    /// How long ago, or nothing.
    pub fn age(since: Option<OffsetDateTime>, now: OffsetDateTime) -> Self {
        let text = since.map_or_else(|| "-".to_owned(), |since| humane((now - since).whole_seconds()));
        Self { text, tone: Tone::Plain, right: true }
    }

    /// Aligned as numbers are.
    #[must_use]
    pub fn right(mut self) -> Self {
        self.right = true;
        self
    }

    /// The same, in this tone unless it is nothing.
    #[must_use]
    pub fn tone(mut self, tone: Tone) -> Self {
        if !matches!(self.text.as_str(), "0" | "-" | "") {
            self.tone = tone;
        }
        self
    }
}

/// The standard output.
pub struct Screen {
    colours: bool,
}

impl Screen {
    pub fn new() -> Self {
        Self { colours: io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() }
    }

    /// Writes a line.
    pub fn line(&self, line: impl AsRef<str>) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(line.as_ref().as_bytes())?;
        out.write_all(b"\n")?;
        out.flush()
    }

    /// Writes a document, in one line if a program reads it.
    pub fn json(&self, document: &impl Serialize) -> io::Result<()> {
        let text = if self.colours { serde_json::to_string_pretty(document) } else { serde_json::to_string(document) };
        self.line(text.map_err(io::Error::other)?)
    }

    /// Begins a page anew, where there is a terminal.
    pub fn clear(&self) -> io::Result<()> {
        if self.colours { write!(io::stdout(), "\x1b[2J\x1b[H") } else { Ok(()) }
    }

    /// Writes a table, its columns as wide as they must be.
    pub fn table(&self, heads: &[&str], rows: &[Vec<Cell>]) -> io::Result<()> {
        self.line(render(heads, rows, self.colours).trim_end())
    }

    /// A text in a tone, if there are colours.
    pub fn toned(&self, text: &str, tone: Tone) -> String {
        toned(text, tone, self.colours)
    }
}

fn render(heads: &[&str], rows: &[Vec<Cell>], colours: bool) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.text.chars().count());
        cells.chain([heads[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let right: Vec<bool> = (0..heads.len())
        .map(|column| rows.first().and_then(|row| row.get(column)).is_some_and(|cell| cell.right))
        .collect();
    let heads: Vec<Cell> = heads
        .iter()
        .zip(&right)
        .map(|(head, right)| Cell { text: (*head).to_owned(), tone: Tone::Faint, right: *right })
        .collect();
    let mut text = String::new();
    for row in std::iter::once(&heads).chain(rows) {
        let mut line = String::new();
        for (at, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let padding = " ".repeat(width.saturating_sub(cell.text.chars().count()));
            let cell_text = toned(&cell.text, cell.tone, colours);
            let gap = if at == 0 { "" } else { "  " };
            // Nothing after the last column, so that lines end where their text does.
            let padding = if !cell.right && at + 1 == row.len() { "" } else { padding.as_str() };
            let _ = match cell.right {
                true => write!(line, "{gap}{padding}{cell_text}"),
                false => write!(line, "{gap}{cell_text}{padding}"),
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn toned(text: &str, tone: Tone, colours: bool) -> String {
    let code = match tone {
        Tone::Plain => return text.to_owned(),
        _ if !colours => return text.to_owned(),
        Tone::Faint => 2,
        Tone::Good => 32,
        Tone::Warning => 33,
        Tone::Alarm => 31,
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// What an event says must not steer the terminal it is shown on.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A text of at most so many characters.
pub fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// Seconds as people say them: `42s`, `5m`, `3h 20m`, `4d`.
pub fn humane(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m"),
        (0, hours, 0) => format!("{hours}h"),
        (0, hours, minutes) => format!("{hours}h {minutes}m"),
        (days, 0, _) => format!("{days}d"),
        (days, hours, _) => format!("{days}d {hours}h"),
    }
}

/// In the largest binary unit of which there is one.
pub fn in_bytes(bytes: u64) -> String {
    let units = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
    let (unit, one) = units.into_iter().find(|(_, one)| bytes >= *one).unwrap_or(("B", 1));
    format!("{} {unit}", bytes / one)
}

/// `12,345`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_numbers_stand_to_the_right() {
        let rows = [
            vec![Cell::text("logger"), Cell::number(12_345), Cell::text("ok")],
            vec![Cell::text("notifications"), Cell::number(0), Cell::text("a longer one")],
        ];
        let expected = "GROUP             LAG  STATE\nlogger         12,345  ok\nnotifications       0  a longer one\n";
        assert_eq!(render(&["GROUP", "LAG", "STATE"], &rows, false), expected);
        assert!(render(&["GROUP", "LAG", "STATE"], &rows, true).contains("\x1b[2m0\x1b[0m"));
        assert_eq!(render(&["GROUP"], &[], false), "GROUP\n");
    }

    #[test]
    fn durations_are_humane() {
        for (seconds, said) in
            [(-3, "0s"), (59, "59s"), (60, "1m"), (3600, "1h"), (12_000, "3h 20m"), (86_400, "1d"), (180_000, "2d 2h")]
        {
            assert_eq!(humane(seconds), said);
        }
    }

    #[test]
    fn what_an_event_says_doesn_t_steer_the_terminal() {
        assert_eq!(Cell::text("a\x1b[2Jb\n").text, "a\u{fffd}[2Jb\u{fffd}");
        assert_eq!(shortened("teapots", 4), "tea…");
    }
}
