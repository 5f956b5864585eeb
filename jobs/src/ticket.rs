//! What a worker elsewhere holds of a task: which delivery of which group it was, and which attempt began with it. One word, so
//! that it can stand in a URL; whoever has it needs to know nothing else.

use std::{fmt, str::FromStr};

use bus::Token;

use crate::event::{self, Run};

/// An attempt at a task, and its lease: `jobs.send_invoice.normal:0.0.2a.00c0ffee00c0ffee:018f….0.1.1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    pub(crate) group: String,
    pub(crate) token: Token,
    pub(crate) run: Run,
    /// Which start of the task it is: what ends another one is refused.
    pub(crate) start: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a task's token")]
pub struct TicketError;

impl Ticket {
    /// The group whose delivery it is: who may work for that may settle it.
    pub fn group(&self) -> &str {
        &self.group
    }
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Run { job, task, run } = self.run;
        write!(f, "{}:{}:{job}.{task}.{run}.{}", self.group, self.token, self.start)
    }
}

impl FromStr for Ticket {
    type Err = TicketError;

    fn from_str(text: &str) -> Result<Self, TicketError> {
        let read = || {
            let (group, rest) = text.split_once(':')?;
            event::of_group(group)?;
            let (token, attempt) = rest.split_once(':')?;
            let mut parts = attempt.split('.');
            let job = parts.next()?.parse().ok()?;
            let (task, run) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
            let ticket = Self {
                group: group.to_owned(),
                token: token.parse().ok()?,
                run: Run { job, task, run },
                start: parts.next()?.parse().ok()?,
            };
            // No other spelling of the same.
            (ticket.to_string() == text).then_some(ticket)
        };
        read().ok_or(TicketError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_survives_its_text_form() {
        let text = "jobs.send_invoice.low:0.3.2a.00c0ffee00c0ffee:0193c7a1-0000-7000-8000-000000000001.2.1.7";
        let ticket: Ticket = text.parse().unwrap();
        assert_eq!((ticket.group(), ticket.run.task, ticket.start), ("jobs.send_invoice.low", 2, 7));
        assert_eq!(ticket.to_string(), text);
    }

    #[test]
    fn what_is_no_ticket_is_refused() {
        let job = "0193c7a1-0000-7000-8000-000000000001";
        for text in [
            String::new(),
            "billing:0.0.1.0000000000000001".to_owned(),
            format!("billing:0.0.1.0000000000000001:{job}.0.1.1"),
            format!("jobs.mail.urgent:0.0.1.0000000000000001:{job}.0.1.1"),
            format!("jobs.mail.low:0.0.1.1:{job}.0.1.1"),
            format!("jobs.mail.low:0.0.1.0000000000000001:{job}.0.1"),
            format!("jobs.mail.low:0.0.1.0000000000000001:{job}.0.1.1.1"),
            format!("jobs.mail.low:0.0.1.0000000000000001:{job}.00.1.1"),
        ] {
            assert_eq!(text.parse::<Ticket>(), Err(TicketError), "{text}");
        }
    }
}
