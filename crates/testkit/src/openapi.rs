//! What others made to check OpenAPI and AsyncAPI documents, and that `deploy/install-test-tools` fetches.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const CHECK: &str = include_str!("openapi.py");
const CHECK_ASYNCAPI: &str = include_str!("asyncapi.py");

/// A program of theirs: `python` with their packages, `openapi-python-client`.
///
/// # Panics
/// If it is not installed, with the line that installs it.
pub fn openapi_tool(name: &str) -> PathBuf {
    installed(&format!("openapi/bin/{name}"))
}

fn installed(name: &str) -> PathBuf {
    // A test runs in the folder of its crate.
    let here = std::env::current_dir().expect("a folder to run in");
    let tool = |folder: &Path| folder.join("target/tools").join(name);
    let found = here.ancestors().map(tool).find(|tool| tool.exists());
    found.unwrap_or_else(|| panic!("{name} is not installed: deploy/install-test-tools"))
}

/// Checks a document of AsyncAPI 3.0 by the JSON schema that its makers publish.
///
/// # Panics
/// If it is not good, with all that is wrong.
pub fn check_asyncapi(document: &str) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (file, script) = (folder.path().join("asyncapi.json"), folder.path().join("check.py"));
    fs::write(&file, document).expect("a file");
    fs::write(&script, CHECK_ASYNCAPI).expect("a file");
    let mut check = Command::new(openapi_tool("python"));
    let checked = check.arg(script).arg(file).arg(installed("asyncapi/3.0.0.json")).output().expect("python starts");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

/// Checks a document by openapi-spec-validator, and every example in it by its own schema. How many examples there are.
///
/// # Panics
/// If one of them is not good, with all that is wrong.
pub fn check_openapi(document: &str) -> usize {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (file, script) = (folder.path().join("openapi.json"), folder.path().join("check.py"));
    fs::write(&file, document).expect("a file");
    fs::write(&script, CHECK).expect("a file");
    let checked = Command::new(openapi_tool("python")).arg(script).arg(file).output().expect("python starts");
    let (said, faults) = (String::from_utf8_lossy(&checked.stdout), String::from_utf8_lossy(&checked.stderr));
    assert!(checked.status.success(), "{said}\n{faults}");
    said.trim().parse().expect("how many examples")
}
