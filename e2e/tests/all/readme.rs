//! The README keeps its word: its commands are run, and answer what it shows.

use std::{fs, process::Command};

use e2e::{Options, System};

/// A command, and the answer shown below it; `…` stands for anything.
struct Shown {
    command: String,
    answer: String,
}

#[tokio::test]
async fn every_command_answers_what_the_readme_shows() {
    let system = System::start(Options::default()).await;
    // The cart's copy of the catalogue follows by events; a reader takes longer to type.
    let demo = system.demo();
    testkit::eventually("the cart knows the products", std::time::Duration::from_secs(20), || async {
        let known = demo.post("/cart/remove", serde_json::json!({"productId": "teapot"})).await;
        let added = demo.post("/cart/add", serde_json::json!({"productId": "teapot", "quantity": 1})).await;
        let emptied = demo.post("/cart/remove", serde_json::json!({"productId": "teapot"})).await;
        (known.status == 404 && added.status == 200 && emptied.status == 200).then_some(())
    })
    .await;

    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let shown = commands(&readme);
    assert!(shown.len() > 15);
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(system.folder(), folder.path().join("turnpike-data")).unwrap();
    // One shell for all: a variable set by one command is there for the next.
    let script: String = shown.iter().map(|shown| format!("{}\necho; echo '@@@'\n", shown.command)).collect();
    let programs = format!("{}:{}", e2e::binary().parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("bash");
    let output = shell.arg("-c").arg(script).current_dir(folder.path()).env("PATH", programs).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).replace('\r', "");
    let answers: Vec<&str> = said.split("@@@\n").collect();
    for (shown, answer) in shown.iter().zip(answers) {
        assert!(
            matches(&shown.answer, answer.trim()),
            "$ {}\nanswers\n{}\nbut the README shows\n{}",
            shown.command,
            answer.trim(),
            shown.answer
        );
    }
}

fn commands(readme: &str) -> Vec<Shown> {
    let mut shown: Vec<Shown> = Vec::new();
    let mut inside = false;
    for line in readme.lines() {
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

#[test]
fn an_ellipsis_stands_for_anything_and_nothing_else_does() {
    assert!(matches("{\"id\":\"…\",\"n\":…}", "{\"id\":\"7\",\"n\":12}"));
    assert!(matches("HTTP/1.1 200 OK\n…\netag: …", "HTTP/1.1 200 OK\ndate: x\netag: \"1\"\n\nbody"));
    assert!(!matches("{\"id\":\"…\"}", "{\"id\":\"7\",\"n\":12}"));
    assert!(matches("{\"a\":{…}}", "{\"a\":{\"b\":{}}}"));
    assert!(!matches("201", "2011"));
}
