//! The `tls:` sections of listeners.

use std::sync::Arc;

use super::Compiler;
use crate::{config::ConfigError, tls::Terminator};

impl Compiler<'_> {
    /// Of each listener, in order.
    pub(super) fn tls(&mut self) -> Vec<Option<Arc<Terminator>>> {
        let listeners = &self.config.listeners;
        for (at, listener) in listeners.iter().enumerate() {
            let place = format!("listeners[{at}].redirect_https");
            match listener.redirect_https {
                Some(0) => self.errors.push(ConfigError::new(place, "must be within 1 to 65535")),
                Some(_) if listener.tls.is_some() => {
                    self.errors.push(ConfigError::new(place, "what comes by this listener has come by https"));
                }
                _ => {}
            }
        }
        listeners
            .iter()
            .enumerate()
            .map(|(at, listener)| {
                let section = listener.tls.as_ref()?;
                let previous = self.sources.previous.and_then(|previous| previous.tls.get(at)?.as_ref());
                let found = |error: ConfigError| {
                    let separator = if error.path.is_empty() { "" } else { "." };
                    ConfigError::new(format!("listeners[{at}].tls{separator}{}", error.path), error.message)
                };
                match Terminator::load(section, self.sources.folder, previous) {
                    Ok((terminator, notes)) => {
                        self.notes.extend(notes.into_iter().map(|note| found(note).to_string()));
                        Some(terminator)
                    }
                    Err(errors) => {
                        self.errors.extend(errors.into_iter().map(found));
                        None
                    }
                }
            })
            .collect()
    }
}
