//! What stands in `/deliveries/{token}`: an event's delivery and its group, `billing:0.0.2a.00c0ffee00c0ffee`, or a task's
//! ticket. Whoever settles needs to know nothing else of it.

use std::{fmt, str::FromStr};

use bus::Token;
use jobs::Ticket;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Held {
    Event { group: String, token: Token },
    Task(Ticket),
}

impl Held {
    /// Whose delivery it is.
    pub fn group(&self) -> &str {
        match self {
            Self::Event { group, .. } => group,
            Self::Task(ticket) => ticket.group(),
        }
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Event { group, token } => write!(f, "{group}:{token}"),
            Self::Task(ticket) => ticket.fmt(f),
        }
    }
}

impl FromStr for Held {
    type Err = bus::TokenError;

    fn from_str(text: &str) -> Result<Self, bus::TokenError> {
        match text.split_once(':') {
            Some((group, token)) if !token.contains(':') => {
                Ok(Self::Event { group: group.to_owned(), token: token.parse()? })
            }
            _ => text.parse().map(Self::Task).map_err(|_| bus::TokenError),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_whose_it_is() {
        let event = "billing:0.3.2a.00c0ffee00c0ffee";
        let task = "jobs.mail.low:0.3.2a.00c0ffee00c0ffee:0193c7a1-0000-7000-8000-000000000001.2.1.7";
        for (text, group) in [(event, "billing"), (task, "jobs.mail.low")] {
            let held: Held = text.parse().unwrap();
            assert_eq!((held.group(), held.to_string().as_str()), (group, text));
        }
        for text in ["", "billing", "0.3.2a.00c0ffee00c0ffee", "billing:1", &format!("{event}:x")] {
            assert!(text.parse::<Held>().is_err(), "{text}");
        }
    }
}
