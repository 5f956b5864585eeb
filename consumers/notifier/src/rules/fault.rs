//! What is wrong with a configuration, and where.

use std::fmt;

/// A fault, with the path of what is at fault: `rules[0].recipients.sms[1]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Empty where the text as a whole can't be read.
    pub path: String,
    pub message: String,
}

/// Everything that is wrong with a configuration; never empty. Written one a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { f.write_str(&self.message) } else { write!(f, "{}: {}", self.path, self.message) }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, fault) in self.0.iter().enumerate() {
            let separator = if at == 0 { "" } else { "\n" };
            write!(f, "{separator}{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// Collects faults while a configuration is looked through.
#[derive(Default)]
pub(crate) struct Found(Vec<Fault>);

impl Found {
    pub fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.0.push(Fault { path: path.into(), message: message.into() });
    }

    /// Notes an error at its path, and goes on without the value.
    pub fn or<T>(&mut self, path: impl Into<String>, result: Result<T, String>) -> Option<T> {
        result.map_err(|message| self.add(path, message)).ok()
    }

    pub fn finish(self) -> Result<(), Faults> {
        if self.0.is_empty() { Ok(()) } else { Err(Faults(self.0)) }
    }
}
