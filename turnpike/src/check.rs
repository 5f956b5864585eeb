//! `turnpike check FILE`.

use std::{collections::HashMap, fs, process::ExitCode};

use crate::{cli, settings, shop};

/// Prints every error with its path; the exit code says whether there was one.
pub fn main(options: &cli::Check) -> ExitCode {
    let text = match fs::read_to_string(&options.file) {
        Ok(text) => text,
        Err(error) => {
            eprintln!("{}: {error}", options.file.display());
            return ExitCode::FAILURE;
        }
    };
    let environment: HashMap<String, String> = std::env::vars().collect();
    let checked = match settings::role::named(&text) {
        Some(role) => settings::role::check(&role, &text, &environment).map_err(|faults| lines(&faults)),
        None if settings::has_sections_of::<settings::Up>(&text) => settings_of_up(&text),
        None => gateway::check(&text, &environment, options.file.parent(), &shop::descriptors())
            .map_err(|errors| lines(&errors)),
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

/// The file alone: what a variable says over it is another file's matter.
fn settings_of_up(text: &str) -> Result<Vec<String>, Vec<String>> {
    settings::read::<settings::Up>(text, &HashMap::new()).map(|_| Vec::new()).map_err(|faults| lines(&faults))
}

fn lines<T: ToString>(errors: &[T]) -> Vec<String> {
    errors.iter().map(T::to_string).collect()
}
