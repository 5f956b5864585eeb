//! `turnpike check FILE`.

use std::{collections::HashMap, fs, process::ExitCode};

use crate::{cli, up};

/// Prints every error with its path; the exit code says whether there was one.
pub fn main(options: &cli::Check) -> ExitCode {
    let text = match fs::read_to_string(&options.file) {
        Ok(text) => text,
        Err(error) => {
            eprintln!("{}: {error}", options.file.display());
            return ExitCode::FAILURE;
        }
    };
    let checked = if up::Settings::looks_like(&text) {
        up::Settings::parse(&text).map(|_| Vec::new())
    } else {
        let mut properties: HashMap<String, String> = up::example_properties();
        properties.extend(std::env::vars());
        gateway::check(&text, &properties, options.file.parent(), &up::built_in_descriptors())
    };
    match checked {
        Ok(notes) => {
            for note in notes {
                println!("note: {note}");
            }
            println!("{}: ok", options.file.display());
            ExitCode::SUCCESS
        }
        Err(errors) => {
            for error in &errors {
                eprintln!("{}: {error}", options.file.display());
            }
            eprintln!("{} error{}", errors.len(), if errors.len() == 1 { "" } else { "s" });
            ExitCode::FAILURE
        }
    }
}
