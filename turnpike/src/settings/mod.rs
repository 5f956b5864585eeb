//! Settings: a commented YAML file that holds the defaults, what a file says over it, and `TURNPIKE__SECTION__KEY`
//! variables over both. `${NAME}` and `${NAME:-default}` are filled in from the environment. Unknown keys are refused.

mod pace;
pub mod role;
mod up;
mod webhooks;

use std::{collections::HashMap, fmt, fs, path::Path};

use anyhow::Context as _;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

pub use self::{pace::Group, up::Settings as Up, webhooks::Webhooks};

const PREFIX: &str = "TURNPIKE__";

/// A fault in the settings, with its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub path: String,
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { f.write_str(&self.message) } else { write!(f, "{}: {}", self.path, self.message) }
    }
}

/// What a set of settings must be able to do to be read.
pub trait Settings: DeserializeOwned {
    /// The commented file that holds the defaults.
    const REFERENCE: &str;

    /// What contradicts itself or is out of range.
    fn faults(&self) -> Vec<Fault>;
}

/// Reads settings from a file (or none), with this process's environment.
///
/// # Errors
/// If the file can't be read; everything that is wrong with it, a line each.
pub fn load<T: Settings>(file: Option<&Path>) -> anyhow::Result<T> {
    let (name, text) = match file {
        Some(path) => {
            let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
            (path.display().to_string(), text)
        }
        None => ("settings".to_owned(), String::new()),
    };
    let environment: HashMap<String, String> = std::env::vars().collect();
    read(&text, &environment).map_err(|faults| {
        let lines: Vec<String> = faults.iter().map(|fault| format!("{name}: {fault}")).collect();
        anyhow::anyhow!("{}", lines.join("\n"))
    })
}

/// Reads settings from a text, with these variables over what it says: `TURNPIKE__CONSUMERS__LOGGER__LEASE=1m`.
/// Variables of other sections are not settings of this kind and left alone.
///
/// # Errors
/// Everything that is wrong with them; a variable that names no setting.
pub fn read<T: Settings>(text: &str, environment: &HashMap<String, String>) -> Result<T, Vec<Fault>> {
    let whole = |error: &dyn fmt::Display| vec![Fault { path: String::new(), message: error.to_string() }];
    let options = || serde_saphyr::options! {}.with_properties(environment.clone());
    // Read as settings first: only this reading knows the lines.
    let mut settings: T = serde_saphyr::from_str_with_options(text, options()).map_err(|error| whole(&error))?;
    let tree: Value = serde_saphyr::from_str_with_options(text, options()).map_err(|error| whole(&error))?;
    let mut variables = variables_of::<T>(environment);
    if !variables.is_empty() {
        let with = |chosen: &[&Variable]| {
            let mut tree = tree.clone();
            chosen.iter().for_each(|variable| put(&mut tree, &variable.keys(), variable.value.clone()));
            serde_json::from_value::<T>(tree).map_err(|error| error.to_string())
        };
        let mut read = with(&variables.iter().collect::<Vec<_>>());
        // A password of digits reads as a number: where that is wrong, it is taken as the text it is.
        for index in 0..variables.len() {
            let Err(message) = &read else { break };
            let text = Value::String(variables[index].text.clone());
            let value = std::mem::replace(&mut variables[index].value, text);
            let again = with(&variables.iter().collect::<Vec<_>>());
            if again.as_ref().is_err_and(|other| other == message) {
                variables[index].value = value;
            } else {
                read = again;
            }
        }
        settings = read.map_err(|message| {
            // Some only make sense together; one that is wrong says the same alone.
            let culprit = variables.iter().find(|variable| with(&[variable]).is_err_and(|alone| alone == message));
            vec![Fault { path: culprit.map(|variable| variable.name.clone()).unwrap_or_default(), message }]
        })?;
    }
    let faults = settings.faults();
    if faults.is_empty() { Ok(settings) } else { Err(faults) }
}

/// A variable that is a setting.
struct Variable {
    name: String,
    /// `section__key`.
    path: String,
    text: String,
    /// What the text reads as.
    value: Value,
}

impl Variable {
    fn keys(&self) -> Vec<&str> {
        self.path.split("__").collect()
    }
}

/// The variables of this kind of settings, by name.
fn variables_of<T: Settings>(environment: &HashMap<String, String>) -> Vec<Variable> {
    let sections = sections(T::REFERENCE);
    let mut variables: Vec<Variable> = environment
        .iter()
        .filter_map(|(name, value)| {
            let path = name.strip_prefix(PREFIX)?.to_lowercase();
            let known = path.split("__").next().is_some_and(|first| sections.contains(&first));
            let (text, value) = (value.clone(), serde_saphyr::from_str(value).unwrap_or(Value::String(value.clone())));
            known.then(|| Variable { name: name.clone(), path, text, value })
        })
        .collect();
    variables.sort_by(|one, other| one.name.cmp(&other.name));
    variables
}

/// The keys at the left edge of a file.
fn sections(text: &str) -> Vec<&str> {
    text.lines()
        .filter(|line| line.starts_with(|first: char| first.is_ascii_lowercase()))
        .filter_map(|line| line.split_once(':').map(|(key, _)| key))
        .collect()
}

/// Whether a text has one of these settings' sections at its left edge.
pub fn has_sections_of<T: Settings>(text: &str) -> bool {
    let known = sections(T::REFERENCE);
    sections(text).iter().any(|section| known.contains(section))
}

/// Sets what stands at a path of keys, and makes the sections above it.
fn put(tree: &mut Value, keys: &[&str], value: Value) {
    match keys {
        [] => *tree = value,
        [key, rest @ ..] => {
            if !tree.is_object() {
                *tree = Value::Object(Map::new());
            }
            if let Value::Object(section) = tree {
                put(section.entry(*key).or_insert(Value::Null), rest, value);
            }
        }
    }
}

fn telemetry_faults(telemetry: &telemetry::Config, path: &str, faults: &mut Vec<Fault>) {
    if !(0.0..=1.0).contains(&telemetry.sample_ratio) {
        faults.push(Fault { path: format!("{path}.sample_ratio"), message: "must be within 0 to 1".to_owned() });
    }
}
