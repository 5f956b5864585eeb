//! protobuf's own cases, by its own runner, on both paths. What is to fail, and why, stands in `conformance-failures.txt`.

use std::{env, path::Path, process::Command};

/// Runs all cases and gives the runner's last words.
fn cases(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tools = root.join("../target/tools/conformance");
    assert!(tools.join("run").exists(), "{} is missing: deploy/install-test-tools installs it", tools.display());
    // Beside this test, in the folder of the examples.
    let testee = env::current_exe().unwrap().parent().unwrap().with_file_name("examples").join("conformance");
    assert!(testee.exists(), "{} is missing: cargo build -p protojson --examples", testee.display());
    let scratch = tempfile::tempdir().unwrap();
    let output = Command::new(tools.join("run"))
        .args(["--enforce_recommended", "--maximum_edition", "PROTO3", "--failure_list"])
        .arg(root.join("tests/conformance-failures.txt"))
        .arg("--output_dir")
        .arg(scratch.path())
        .arg(testee)
        .arg(path)
        .arg(tools.join("include"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let end: Vec<_> = said.lines().filter(|line| !line.starts_with(['I', 'W'])).collect();
    let end = end[end.len().saturating_sub(40)..].join("\n");
    assert!(output.status.success(), "{end}");
    end
}

const PASSED: &str =
    "CONFORMANCE SUITE PASSED: 1351 successes, 1423 skipped, 5 expected failures, 0 unexpected failures.";

#[test]
fn the_tables_conform() {
    let said = cases("tables");
    assert!(said.contains(PASSED), "{said}");
}

#[test]
fn the_dynamic_path_conforms() {
    let said = cases("dynamic");
    assert!(said.contains(PASSED), "{said}");
}
