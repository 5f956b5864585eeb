//! What a document shows in its `console` blocks: commands that are run, and answers that are compared.

use std::{path::Path, process::Command};

/// A command, and the answer shown below it; `…` stands for anything.
pub struct Shown {
    command: String,
    answer: String,
}

/// The commands of a document with their answers.
pub fn commands(document: &str) -> Vec<Shown> {
    let mut shown: Vec<Shown> = Vec::new();
    let mut inside = false;
    for line in document.lines() {
        match line {
            "```console" => inside = true,
            "```" => inside = false,
            _ if !inside => {}
            _ => match line.strip_prefix("$ ") {
                Some(command) => shown.push(Shown { command: command.to_owned(), answer: String::new() }),
                None => {
                    let answer = &mut shown.last_mut().expect("a command first").answer;
                    answer.push_str(line);
                    answer.push('\n');
                }
            },
        }
    }
    shown
}

/// Runs them in one shell, so that a variable set by one is there for the next, with the project's programs on its path.
///
/// # Panics
/// If one answers other than it is shown to.
pub fn run(shown: &[Shown], folder: &Path) {
    let script: String = shown.iter().map(|shown| format!("{}\necho; echo '@@@'\n", shown.command)).collect();
    // What was started in the background ends with the shell; it is no answer of the next command's either.
    let script = format!("trap 'kill $(jobs -p) 2>/dev/null' EXIT\n{script}");
    let programs = format!("{}:{}", crate::binary().parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("bash");
    let output = shell.arg("-c").arg(script).current_dir(folder).env("PATH", programs).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).replace('\r', "");
    let answers: Vec<&str> = said.split("@@@\n").collect();
    for (shown, answer) in shown.iter().zip(answers) {
        assert!(
            matches(&shown.answer, answer.trim()),
            "$ {}\nanswers\n{}\nbut the document shows\n{}\n{}",
            shown.command,
            answer.trim(),
            shown.answer,
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

/// Whether the answer has the parts of the pattern between its `…`, in order, from its start to its end.
fn matches(pattern: &str, answer: &str) -> bool {
    let parts: Vec<&str> = pattern.trim().split('…').collect();
    let mut rest = answer;
    for (index, part) in parts.iter().enumerate() {
        // Line ends around an ellipsis are part of what it leaves out.
        let part = part.trim_matches('\n');
        let last = index + 1 == parts.len();
        let found = match index {
            0 => rest.starts_with(part).then_some(0),
            _ if last => rest.rfind(part),
            _ => rest.find(part),
        };
        let Some(at) = found else { return false };
        rest = &rest[at + part.len()..];
    }
    pattern.trim().ends_with('…') || rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ellipsis_stands_for_anything_and_nothing_else_does() {
        assert!(matches("{\"id\":\"…\",\"n\":…}", "{\"id\":\"7\",\"n\":12}"));
        assert!(matches("HTTP/1.1 200 OK\n…\netag: …", "HTTP/1.1 200 OK\ndate: x\netag: \"1\"\n\nbody"));
        assert!(!matches("{\"id\":\"…\"}", "{\"id\":\"7\",\"n\":12}"));
        assert!(matches("{\"a\":{…}}", "{\"a\":{\"b\":{}}}"));
        assert!(!matches("201", "2011"));
    }
}
