//! `turnpike revoke …`: an event on the queue that gateways follow, by way of a gateway (whose caller needs the scope
//! `events:write:AUTH/REVOKE`) or in Redis itself.

use std::time::Duration;

use anyhow::Context as _;
use events::{Address, Name};
use serde_json::{Value, json};

use crate::{
    bus::{Client, Draft},
    cli::{Announce, Revoke, Revoked},
};

pub fn main(options: Revoke) -> anyhow::Result<()> {
    let data = match options.what {
        Revoked::Session { id } => json!({ "session": id }),
        Revoked::Token { id, issuer: None } => json!({ "token": id }),
        Revoked::Token { id, issuer: Some(issuer) } => json!({ "token": id, "issuer": issuer }),
        Revoked::Subject { subject, before: None } => json!({ "subject": subject }),
        Revoked::Subject { subject, before: Some(before) } => json!({ "subject": subject, "before": before }),
    };
    announce(options.announce, data)
}

/// Tells every gateway.
pub fn announce(options: Announce, data: Value) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = Client::open(&options.way).await?;
        let draft = Draft {
            address: Address { queue: options.queue, event: Name::new("REVOKE").context("the event's name")? },
            data: Some(data.to_string().into()),
            content_type: None,
            subject: None,
            key: None,
            id: None,
            reply_to: None,
            deliver: None,
        };
        let receipt = client.publish(draft, "stored", Duration::from_secs(10)).await?;
        println!(
            "revoked: every gateway that follows the queue knows (event {})",
            receipt["id"].as_str().unwrap_or("-")
        );
        Ok(())
    })
}
