//! Jobs by `curl`, through the gateway, as their guide shows them.

use std::fs;

use e2e::shown;

#[tokio::test]
async fn the_guide_to_jobs_keeps_its_word() {
    let folder = tempfile::tempdir().unwrap();
    let (port, ops) = (testkit::free_port(), testkit::free_port());
    let guide = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/jobs.md")).unwrap();
    let guide = guide
        .replace("turnpike up ", &format!("turnpike up --port {port} --ops-port {ops} "))
        .replace(":8080", &format!(":{port}"));
    let commands = shown::commands(&guide);
    assert!(commands.len() > 10);
    let place = folder.path().to_owned();
    tokio::task::spawn_blocking(move || shown::run(&commands, &place)).await.unwrap();
}
