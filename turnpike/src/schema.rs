//! `turnpike schema`: the JSON Schema of a gateway's configuration, for editors.

pub fn main() -> anyhow::Result<()> {
    println!("{}", serde_json::to_string_pretty(&gateway::schema())?);
    Ok(())
}
