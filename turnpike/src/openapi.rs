//! `turnpike openapi FILE`: the OpenAPI 3.1 document of a gateway's configuration, the one that a gateway with it serves.
//! Exit codes: 0 here it is, 1 the configuration is not good, 2 not understood.

use std::{
    collections::HashMap,
    fs,
    io::{self, Write as _},
};

use anyhow::Context as _;

use crate::{cli, shop};

pub fn main(options: &cli::OpenApi) -> anyhow::Result<()> {
    let file = &options.file;
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let environment: HashMap<String, String> = std::env::vars().collect();
    let document = gateway::describe(&text, &environment, file.parent(), &shop::built_in()).map_err(|errors| {
        let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("{} is not good:\n{}", file.display(), errors.join("\n"))
    })?;
    let written = match options.output {
        cli::Written::Json => serde_json::to_string_pretty(&document)? + "\n",
        cli::Written::Yaml => serde_saphyr::to_string(&document)?,
    };
    Ok(io::stdout().write_all(written.as_bytes())?)
}
