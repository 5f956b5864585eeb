//! The process dies between two steps of an attempt; the child is this test binary, run for one ignored test.

use std::{env, path::PathBuf, process::Command, sync::Arc};

use bus::SystemClock;
use database::Url;
use notifier::ABORT_POINTS;

use crate::{SOON, Site, account, by_sms, provider::Provider, run};

const DATABASE: &str = "TEST_DATABASE";
const BUS: &str = "TEST_BUS";
const RULES: &str = "TEST_RULES";

/// Dead before the channel was asked, nothing is lost; dead after it answered and before the ledger was told, the one window:
/// that message is sent again. Everybody else gets one text.
#[tokio::test]
async fn a_notifier_killed_at_work_repeats_at_most_the_one_message_of_the_window() {
    for (point, texts) in ABORT_POINTS.into_iter().zip([1, 2]) {
        let site = Site::sqlite().await;
        let provider = Provider::that_takes_all().await;
        let rules = by_sms(&provider, "").replace("sms: [sales]", "sms: [ann]");
        site.publish(vec![account(1)]).await;
        let (folder, bus, url) =
            (site.folder.path().join("bus.db"), site.bus, Url::sqlite(site.folder.path().join("n.db")));
        // A file has one process.
        drop(bus);
        let died = tokio::task::spawn_blocking({
            let (file, url, rules) = (folder.clone(), url.clone(), rules.clone());
            move || {
                Command::new(env::current_exe().unwrap())
                    .args(["--ignored", "--exact", "--nocapture", "crash::notify_until_the_abort_point"])
                    .env("TURNPIKE_ABORT_AT", point)
                    .env(DATABASE, url.0)
                    .env(BUS, file)
                    .env(RULES, rules)
                    .output()
                    .unwrap()
            }
        })
        .await
        .unwrap();
        let said = String::from_utf8_lossy(&died.stderr);
        assert!(said.contains(&format!("aborting at {point}")), "{said}");

        let bus = bus::sqlite::open(&folder).await.unwrap();
        let notifier = run(&bus, url, &rules, Arc::new(SystemClock)).await;
        notifier.come_to("sent", 1).await;
        assert_eq!(provider.requests().len(), texts, "{point}");
        assert_eq!(notifier.messages("").await[0]["attempts"], 2);
        notifier.drain().await;
    }
}

#[tokio::test]
#[ignore = "the process that the test above kills"]
async fn notify_until_the_abort_point() {
    let (Ok(url), Ok(file), Ok(rules)) = (env::var(DATABASE), env::var(BUS), env::var(RULES)) else {
        panic!("it is run by a_notifier_killed_at_work_repeats_at_most_the_one_message_of_the_window")
    };
    let bus = bus::sqlite::open(&PathBuf::from(file)).await.unwrap();
    let notifier = run(&bus, Url(url), &rules, Arc::new(SystemClock)).await;
    tokio::time::sleep(SOON).await;
    notifier.drain().await;
}
