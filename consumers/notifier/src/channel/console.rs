//! A line of the log, for demonstrations and trials. It can't fail.

use crate::channel::{Letter, Outcome};

pub(super) fn write(letter: &Letter) -> Outcome {
    let Letter { rule, recipient, message, .. } = letter;
    let subject = message.subject.as_deref();
    tracing::info!(channel = "console", rule, recipient = recipient.name, subject, text = message.text, "message");
    Outcome::Sent { reference: None }
}
