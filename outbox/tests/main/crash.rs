//! The process dies between two steps of the relay; the child is this test binary, run for one ignored test.

use std::{env, path::PathBuf, process::Command};

use database::{Database, Url};
use outbox::{ABORT_POINTS, Relay};
use time::OffsetDateTime;

use crate::{PRODUCT, SOURCE, Shop, Working, all_sent, logged, open_bus, update, versions};

const DATABASE: &str = "TEST_DATABASE";
const BUS: &str = "TEST_BUS";

#[tokio::test]
async fn a_relay_killed_between_two_steps_loses_and_repeats_nothing() {
    for point in ABORT_POINTS {
        for shop in Shop::every().await {
            let database = shop.database().await;
            for _ in 0..3 {
                update(&database, "lamp").await;
            }
            let died = tokio::task::spawn_blocking({
                let (url, bus) = (shop.url(), shop.bus_file());
                move || {
                    Command::new(env::current_exe().unwrap())
                        .args(["--ignored", "--exact", "--nocapture", "crash::relay_until_the_abort_point"])
                        .env("TURNPIKE_ABORT_AT", point)
                        .env(DATABASE, url.0)
                        .env(BUS, bus)
                        .output()
                        .unwrap()
                }
            })
            .await
            .unwrap();
            let said = String::from_utf8_lossy(&died.stderr);
            assert!(said.contains(&format!("aborting at {point}")), "{said}");

            update(&database, "lamp").await;
            let bus = shop.bus().await;
            let relay = Relay::new(database.clone(), bus.clone(), SOURCE);
            // The dead one's lease has run out by then.
            let relay = Working::start(relay.clock(|| OffsetDateTime::now_utc() + time::Duration::minutes(1)));
            all_sent(&database).await;
            let log = logged(&bus, 4).await;
            assert_eq!(versions(&log, "lamp"), [1, 2, 3, 4]);
            relay.drain().await;
        }
    }
}

#[tokio::test]
#[ignore = "the process that the test above kills"]
async fn relay_until_the_abort_point() {
    let (Ok(url), Ok(file)) = (env::var(DATABASE), env::var(BUS)) else {
        panic!("it is run by a_relay_killed_between_two_steps_loses_and_repeats_nothing")
    };
    let database = Database::open(&Url(url), "product", &[outbox::migration(1), PRODUCT]).await.unwrap();
    let bus = open_bus(PathBuf::from(file)).await;
    let relay = Working::start(Relay::new(database.clone(), bus, SOURCE));
    all_sent(&database).await;
    relay.drain().await;
}
