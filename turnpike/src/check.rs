//! `turnpike check FILE`. Exit codes: 0 good, 1 not, 2 not understood.

use std::{collections::HashMap, fs, process::ExitCode};

use serde::Serialize;

use crate::{cli, settings, shop};

/// What is wrong, or good to know, and where.
#[derive(Serialize)]
struct Finding {
    /// `routes[3].match.path`; empty where it is the file as a whole.
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    message: String,
}

#[derive(Default, Serialize)]
struct Findings {
    errors: Vec<Finding>,
    notes: Vec<String>,
}

/// Prints every error with its place; the exit code says whether there was one.
pub fn main(options: &cli::Check) -> ExitCode {
    let findings = match fs::read_to_string(&options.file) {
        Ok(text) => check(options, &text),
        Err(error) => Findings { errors: vec![Finding::whole(error.to_string())], notes: Vec::new() },
    };
    let is_good = findings.errors.is_empty() && (findings.notes.is_empty() || !options.strict);
    match options.output {
        cli::Output::Text => text(options, &findings, is_good),
        cli::Output::Json => println!("{}", serde_json::to_string_pretty(&findings).unwrap_or_default()),
    }
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn check(options: &cli::Check, text: &str) -> Findings {
    let environment: HashMap<String, String> = std::env::vars().collect();
    let whole = |faults: Vec<String>| faults.into_iter().map(Finding::whole).collect();
    let checked = match settings::role::named(text) {
        Some(role) => settings::role::check(&role, text, &environment).map_err(|faults| whole(lines(&faults))),
        None if settings::has_sections_of::<settings::Up>(text) => settings_of_up(text).map_err(whole),
        None => gateway::check(text, &environment, options.file.parent(), &shop::built_in())
            .map_err(|errors| errors.into_iter().map(Finding::from).collect()),
    };
    match checked {
        Ok(notes) => Findings { errors: Vec::new(), notes },
        Err(errors) => Findings { errors, notes: Vec::new() },
    }
}

fn text(options: &cli::Check, findings: &Findings, is_good: bool) {
    let file = options.file.display();
    for note in &findings.notes {
        println!("note: {note}");
    }
    for Finding { path, line, message } in &findings.errors {
        let line = line.map(|line| format!(":{line}")).unwrap_or_default();
        let path = if path.is_empty() { String::new() } else { format!("{path}: ") };
        eprintln!("{file}{line}: {path}{message}");
    }
    match findings.errors.len() {
        0 if is_good => println!("{file}: ok"),
        0 => eprintln!("{file}: notes count as errors (--strict)"),
        1 => eprintln!("1 error"),
        count => eprintln!("{count} errors"),
    }
}

/// The file alone: what a variable says over it is another file's matter.
fn settings_of_up(text: &str) -> Result<Vec<String>, Vec<String>> {
    settings::read::<settings::Up>(text, &HashMap::new()).map(|_| Vec::new()).map_err(|faults| lines(&faults))
}

fn lines<T: ToString>(errors: &[T]) -> Vec<String> {
    errors.iter().map(T::to_string).collect()
}

impl Finding {
    fn whole(message: String) -> Self {
        Self { path: String::new(), line: None, message }
    }
}

impl From<gateway::ConfigError> for Finding {
    fn from(error: gateway::ConfigError) -> Self {
        Self { path: error.path, line: error.line, message: error.message }
    }
}
