use std::process::Command;

use e2e::{Options, System, binary};

#[tokio::test]
async fn more_simulated_shoppers_than_may_sign_up_at_once_browse_and_order() {
    let system = System::start(Options::default()).await;
    let output = Command::new(binary())
        .args(["traffic", "--rate", "80", "--duration", "5", "--data-dir"])
        .arg(system.folder())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let last = said.lines().last().unwrap();
    let count = |name: &str| -> u64 {
        let part = last.split(" · ").find(|part| part.starts_with(name)).expect(name);
        part.rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert!(count("answered") > 150, "{last}");
    assert!(count("orders") > 0, "{last}");
    assert_eq!((count("limited"), count("failed")), (0, 0), "{last}");
}
