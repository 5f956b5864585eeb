//! `turnpike key new|list|rotate|revoke`: the key file of a gateway, which sees the change by itself.

use gateway::keys;
use serde_json::json;

use crate::{cli::Key, revoke};

pub fn main(command: Key) -> anyhow::Result<()> {
    match command {
        Key::New { file, subject, scope, days } => {
            let key = keys::new(&file, &subject, &scope, days)?;
            // On stdout alone, so that a script can take it.
            println!("{key}");
            eprintln!("Keep it: only its hash is in {}.", file.display());
        }
        Key::List { file } => {
            println!("{:<18} {:<28} {:<10} {:<22} {:<22} scopes", "id", "subject", "state", "created", "expires");
            for key in keys::list(&file)? {
                println!(
                    "{:<18} {:<28} {:<10} {:<22} {:<22} {}",
                    key.id,
                    key.subject,
                    key.state(),
                    key.created_text(),
                    key.expires_text(),
                    key.scopes.join(" ")
                );
            }
        }
        Key::Rotate { file, overlap, id } => {
            let key = keys::rotate(&file, &id, overlap)?;
            println!("{key}");
            eprintln!("Keep it: only its hash is in {}. {id} is good for {overlap:?} more.", file.display());
        }
        Key::Revoke { file, file_only, announce, id } => {
            keys::revoke(&file, &id)?;
            println!("{id} is revoked in {}", file.display());
            if file_only {
                return Ok(());
            }
            let told = announce.way.url.is_some() || announce.way.redis.is_some();
            match revoke::announce(announce, json!({ "key": id })) {
                Err(error) if told => return Err(error.context("gateways could not be told")),
                // The file may be all there is.
                Err(error) => {
                    eprintln!("Gateways see it when they read the file; they were not told at once: {error:#}")
                }
                Ok(()) => {}
            }
        }
    }
    Ok(())
}
