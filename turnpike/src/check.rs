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
    let checked: Result<Vec<String>, Vec<String>> = if up::Settings::looks_like(&text) {
        up::Settings::parse(&text).map(|_| Vec::new()).map_err(|faults| lines(&faults))
    } else {
        let environment: HashMap<String, String> = std::env::vars().collect();
        gateway::check(&text, &environment, options.file.parent(), &up::built_in_descriptors())
            .map_err(|errors| lines(&errors))
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

fn lines<T: ToString>(errors: &[T]) -> Vec<String> {
    errors.iter().map(T::to_string).collect()
}
