//! `turnpike schema`: the JSON Schema of a gateway's configuration, for editors.

use std::io::{self, Write as _};

pub fn main() -> anyhow::Result<()> {
    let written = serde_json::to_string_pretty(&gateway::schema())? + "\n";
    Ok(io::stdout().write_all(written.as_bytes())?)
}
