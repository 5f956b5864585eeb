//! The architecture, as far as a test can read it: who may depend on whom, and which words may stand in which file.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// Every crate with the workspace crates it may depend on. Tests may use any.
const ARROWS: &[(&str, &[&str])] = &[
    // the contracts
    ("proto", &[]),
    ("events", &[]),
    // plumbing
    ("telemetry", &[]),
    ("lifecycle", &["telemetry"]),
    ("database", &["telemetry"]),
    ("principal", &["telemetry"]),
    ("redial", &[]),
    ("load", &[]),
    ("registry", &["redial", "telemetry", "lifecycle"]),
    // the request path
    ("http1", &[]),
    ("protojson", &[]),
    ("upstream", &["http1", "registry", "telemetry", "lifecycle"]),
    (
        "gateway",
        &[
            "proto",
            "protojson",
            "principal",
            "http1",
            "upstream",
            "redial",
            "registry",
            "load",
            "bus",
            "events",
            "telemetry",
            "lifecycle",
        ],
    ),
    // the event path
    ("bus", &["events", "database", "redial", "telemetry"]),
    ("outbox", &["bus", "events", "database", "telemetry", "lifecycle"]),
    ("jobs", &["bus", "events", "database", "telemetry", "lifecycle"]),
    ("webhooks", &["bus", "events", "database", "principal", "telemetry"]),
    (
        "broker",
        &[
            "proto",
            "outbox",
            "bus",
            "jobs",
            "webhooks",
            "load",
            "redial",
            "events",
            "database",
            "principal",
            "telemetry",
            "lifecycle",
        ],
    ),
    // It speaks to the broker over the wire, and shares nothing with it.
    ("client", &[]),
    ("mqtt", &["bus", "events", "telemetry", "lifecycle"]),
    ("logger", &["bus", "events", "database", "telemetry", "lifecycle"]),
    ("dashboard", &["bus", "events", "database", "principal", "telemetry", "lifecycle"]),
    ("notifier", &["bus", "events", "database", "telemetry", "lifecycle"]),
    ("verify", &["bus", "events"]),
    // the tests
    ("testkit", &[]),
    ("stage", &["testkit", "service", "principal", "bus", "events", "database", "lifecycle"]),
    // the shop
    ("service", &["proto", "principal", "registry", "outbox", "bus", "events", "database", "telemetry", "lifecycle"]),
    ("product", SERVICE),
    ("review", SERVICE),
    ("customer", SERVICE),
    ("cart", SERVICE),
    ("invoice", SERVICE),
    (
        "order",
        &["service", "proto", "principal", "outbox", "bus", "events", "database", "telemetry", "lifecycle", "upstream"],
    ),
];

const SERVICE: &[&str] =
    &["service", "proto", "principal", "outbox", "bus", "events", "database", "telemetry", "lifecycle"];

/// For tests alone.
const TEST_ONLY: [&str; 2] = ["testkit", "stage"];

/// These stand on top: they may use everything, and nothing uses them.
const TOPS: &[&str] = &["turnpike", "e2e", "bench"];

const SERVICES: [&str; 6] = ["product", "review", "customer", "cart", "order", "invoice"];

#[test]
fn dependencies_run_one_way() {
    let metadata = MetadataCommand::new().manifest_path(root().join("Cargo.toml")).no_deps().exec().unwrap();
    let ours: BTreeSet<&str> = metadata.packages.iter().map(|package| package.name.as_str()).collect();
    let arrows: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let mut faults = Vec::new();
    for package in &metadata.packages {
        let name = package.name.as_str();
        let tops = TOPS.contains(&name);
        if !tops && !arrows.contains_key(name) {
            faults
                .push(format!("{name} has no place in the architecture: give it one in layout.rs and ARCHITECTURE.md"));
        }
        for dependency in package.dependencies.iter().filter(|d| d.kind == DependencyKind::Normal) {
            let other = dependency.name.as_str();
            if !ours.contains(other) {
                continue;
            }
            if TOPS.contains(&other) {
                faults.push(format!("{name} uses {other}, which nobody may"));
            } else if TEST_ONLY.contains(&other) && !TEST_ONLY.contains(&name) && !tops {
                faults.push(format!("{name} uses {other} outside its tests"));
            } else if !tops && !arrows.get(name).is_some_and(|may| may.contains(&other)) {
                faults.push(format!("{name} may not depend on {other}"));
            }
        }
    }
    assert_none(faults);
}

#[test]
fn the_gateway_knows_no_shop() {
    let words =
        ["shop", "product", "customer", "cart", "invoice", "orders", "reviews", "ReviewService", "OrderService"];
    let mut faults = Vec::new();
    for (path, code) in code_of(&["gateway/src", "upstream/src", "protojson/src"]) {
        for (number, line) in code.lines().enumerate() {
            let found = words.iter().find(|word| line.to_lowercase().contains(&word.to_lowercase()));
            if let Some(word) = found {
                faults.push(format!("{}:{}: {word}: {}", path.display(), number + 1, line.trim()));
            }
        }
    }
    assert_none(faults);
}

#[test]
fn a_services_files_keep_to_their_subject() {
    let mut faults = Vec::new();
    for service in SERVICES {
        for (path, code) in code_of(&[&format!("services/{service}/src")]) {
            let file = path.file_name().unwrap().to_str().unwrap().to_owned();
            let below = path.parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
            let is = |name: &str| file == format!("{name}.rs") || below == name;
            if code.contains("proto::") && !is("grpc") && !is("clients") {
                faults.push(format!("{}: only grpc.rs and clients.rs import proto", path.display()));
            }
            let sql = ["SELECT ", "INSERT INTO", "UPDATE ", "DELETE FROM"].iter().any(|word| code.contains(word));
            if (sql || code.contains("sqlx")) && !is("store") {
                faults.push(format!("{}: only store.rs speaks SQL", path.display()));
            }
            if code.contains(".publish(") {
                faults.push(format!("{}: a service appends to its outbox, it never publishes", path.display()));
            }
            for other in SERVICES.iter().filter(|other| **other != service) {
                if code.contains(&format!("use {other}::")) {
                    faults.push(format!("{}: reaches into {other}", path.display()));
                }
            }
        }
        for file in ["lib", "domain", "store", "grpc"] {
            let path = root().join(format!("services/{service}/src/{file}.rs"));
            let folder = path.with_extension("");
            if !path.exists() && !folder.is_dir() {
                faults.push(format!("services/{service} has no {file}.rs: all services have the same shape"));
            }
        }
    }
    assert_none(faults);
}

#[test]
fn metric_names_stand_in_one_file_a_crate() {
    let mut faults = Vec::new();
    for (path, code) in code_of(&SOURCES) {
        let names = code.lines().any(|line| line.contains("\"turnpike_"));
        if names && path.file_name().is_none_or(|name| name != "metrics.rs") {
            faults.push(format!("{}: metric names belong into metrics.rs", path.display()));
        }
    }
    assert_none(faults);
}

#[test]
fn redis_keys_stand_in_one_file_a_crate() {
    let mut faults = Vec::new();
    for (path, code) in code_of(&SOURCES) {
        let keys = code.lines().any(|line| line.contains("\"tp:") || line.contains("\"tp\""));
        if keys && path.file_name().is_none_or(|name| name != "keys.rs") {
            faults.push(format!("{}: Redis keys belong into keys.rs", path.display()));
        }
    }
    assert_none(faults);
}

#[test]
fn the_order_of_layers_stands_in_one_file_a_stack() {
    let mut faults = Vec::new();
    for (path, code) in code_of(&SOURCES) {
        let file = path.file_name().unwrap().to_str().unwrap().to_owned();
        if code.contains("ServiceBuilder::new()") && !matches!(file.as_str(), "pipeline.rs" | "stack.rs") {
            faults.push(format!("{}: layers are put in order in pipeline.rs or stack.rs", path.display()));
        }
    }
    assert_none(faults);
}

#[test]
fn an_errors_status_is_chosen_in_one_place() {
    let refusals = [
        "BAD_REQUEST",
        "UNAUTHORIZED",
        "FORBIDDEN",
        "NOT_FOUND",
        "METHOD_NOT_ALLOWED",
        "CONFLICT",
        "PAYLOAD_TOO_LARGE",
        "TOO_MANY_REQUESTS",
        "INTERNAL_SERVER_ERROR",
        "BAD_GATEWAY",
        "SERVICE_UNAVAILABLE",
        "GATEWAY_TIMEOUT",
    ];
    let mut faults = Vec::new();
    for (path, code) in code_of(&["gateway/src", "broker/src", "consumers/dashboard/src"]) {
        let file = path.file_name().unwrap().to_str().unwrap().to_owned();
        // The ops listener answers operators, not clients.
        if matches!(file.as_str(), "problem.rs" | "ops.rs") || path.iter().any(|folder| folder == "ops") {
            continue;
        }
        for (number, line) in code.lines().enumerate() {
            if refusals.iter().any(|name| line.contains(&format!("StatusCode::{name}"))) {
                faults.push(format!("{}:{}: {}", path.display(), number + 1, line.trim()));
            }
        }
    }
    assert_none(faults);
}

#[test]
fn no_module_is_named_after_nothing() {
    let banned = ["utils", "util", "common", "helpers", "helper", "misc", "types", "core", "manager", "base", "impl"];
    let mut faults = Vec::new();
    for path in rust_files(&root(), &SOURCES) {
        for part in path.strip_prefix(root()).unwrap().components() {
            let name = Path::new(part.as_os_str()).with_extension("");
            if banned.iter().any(|banned| name == Path::new(banned)) {
                faults.push(path.display().to_string());
            }
        }
    }
    assert_none(faults);
}

const SOURCES: [&str; 16] = [
    "turnpike/src",
    "gateway/src",
    "http1/src",
    "upstream/src",
    "services",
    "events/src",
    "outbox/src",
    "bus/src",
    "jobs/src",
    "webhooks/src",
    "broker/src",
    "clients/rust/src",
    "consumers",
    "crates",
    "proto/src",
    "verify/src",
];

/// Each file's path and its code: without comments and without what follows `#[cfg(test)]`.
fn code_of<S: AsRef<str>>(folders: &[S]) -> Vec<(PathBuf, String)> {
    let files = rust_files(&root(), folders).into_iter();
    let product_code = files.filter(|path| !path.components().any(|part| part.as_os_str() == "tests"));
    product_code
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            let lines = text.lines().take_while(|line| *line != "#[cfg(test)]");
            // An empty line in a comment's place keeps the line numbers.
            let code: Vec<&str> =
                lines.map(|line| if line.trim_start().starts_with("//") { "" } else { line }).collect();
            (path.strip_prefix(root()).unwrap().to_owned(), code.join("\n"))
        })
        .collect()
}

fn rust_files<S: AsRef<str>>(root: &Path, folders: &[S]) -> Vec<PathBuf> {
    let mut open: Vec<PathBuf> = folders.iter().map(|folder| root.join(folder.as_ref())).collect();
    let mut files = Vec::new();
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    assert!(!files.is_empty());
    files.sort();
    files
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn assert_none(faults: Vec<String>) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}
