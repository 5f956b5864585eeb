//! The guide "your own services in ten minutes" keeps its word: its commands are run as they stand, on the example it speaks
//! of, and answer what it shows.

use std::{fs, path::Path, process::Command};

use e2e::shown;

#[tokio::test]
async fn a_service_of_someone_elses_is_behind_the_gateway_in_nine_lines() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let python = root.join("target/tools/parcels");
    assert!(
        python.join("bin/python").exists(),
        "the example's Python packages are missing: deploy/install-test-tools installs them"
    );
    // Addresses that are nobody else's, in a copy.
    let ports: Vec<(&str, String)> =
        ["50051", "8080", "9900"].into_iter().map(|port| (port, testkit::free_port().to_string())).collect();
    let own = |text: String| ports.iter().fold(text, |text, (port, free)| text.replace(port, free));
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(root.join("examples/parcels")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let text = fs::read_to_string(&path).unwrap();
            fs::write(folder.path().join(path.file_name().unwrap()), own(text)).unwrap();
        }
    }
    std::os::unix::fs::symlink(python.canonicalize().unwrap(), folder.path().join(".venv")).unwrap();

    let guide = fs::read_to_string(root.join("docs/your-own-services.md")).unwrap();
    let configuration = fs::read_to_string(root.join("examples/parcels/gateway.yaml")).unwrap();
    assert!(guide.contains(&format!("```yaml\n{configuration}```")), "the guide shows another gateway.yaml");
    for (number, block) in blocks(&guide).into_iter().enumerate() {
        let file = folder.path().join(format!("shown-{number}.yaml"));
        fs::write(&file, block).unwrap();
        let checked = Command::new(e2e::binary()).arg("check").arg(&file).output().unwrap();
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    }

    let shown = shown::commands(&own(guide).replace(
        "turnpike gateway --config gateway.yaml",
        &format!("turnpike gateway --config gateway.yaml --ops 127.0.0.1:{}", ports[2].1),
    ));
    assert!(shown.len() > 10);
    let folder = folder.path().to_owned();
    tokio::task::spawn_blocking(move || shown::run(&shown, &folder)).await.unwrap();
}

fn blocks(guide: &str) -> Vec<&str> {
    guide.split("```yaml\n").skip(1).filter_map(|rest| rest.split_once("```")).map(|(block, _)| block).collect()
}
