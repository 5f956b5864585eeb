//! The README keeps its word: its commands are run, and answer what it shows.

use std::fs;

use e2e::{Options, System, shown};

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
    let shown = shown::commands(&readme);
    assert!(shown.len() > 15);
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(system.folder(), folder.path().join("turnpike-data")).unwrap();
    shown::run(&shown, folder.path());
}
