//! `turnpike key new|list|revoke`: the key file of a gateway, which sees the change by itself.

use gateway::keys;

use crate::cli::Key;

pub fn main(command: Key) -> anyhow::Result<()> {
    match command {
        Key::New { file, subject, scope, days } => {
            let key = keys::new(&file, &subject, &scope, days)?;
            // On stdout alone, so that a script can take it.
            println!("{key}");
            eprintln!("Keep it: only its hash is in {}.", file.display());
        }
        Key::List { file } => {
            println!("{:<12} {:<28} {:<10} {:<22} scopes", "id", "subject", "state", "created");
            for key in keys::list(&file)? {
                println!(
                    "{:<12} {:<28} {:<10} {:<22} {}",
                    key.id,
                    key.subject,
                    key.state(),
                    key.created_text(),
                    key.scopes.join(" ")
                );
            }
        }
        Key::Revoke { file, id } => {
            keys::revoke(&file, &id)?;
            println!("{id} is revoked");
        }
    }
    Ok(())
}
