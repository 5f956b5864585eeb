//! Instances in the registry.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use registry::{Registry, Standing};
use service::Announce;
use tokio::{sync::watch, time::timeout};

use crate::shell::{SOON, Shell, ask, build, config, start_as};

async fn announced(registry: &Registry) -> Shell {
    let registry = registry.clone();
    start_as(|config| {
        let announce = Some(Announce { advertise: Some("localhost".to_owned()) });
        service::Config { registry: Some(registry), announce, ..config }
    })
    .await
}

fn following(registry: &Registry) -> watch::Receiver<Standing> {
    let follower = registry.follow("desk").unwrap();
    let (told, standing) = watch::channel(Standing::default());
    tokio::spawn(async move { follower.run(|standing| _ = told.send_replace(standing)).await });
    standing
}

async fn until(standing: &mut watch::Receiver<Standing>, addresses: &[String]) {
    let known = |standing: &Standing| standing.instances.iter().map(|instance| &instance.address).eq(addresses);
    assert!(timeout(SOON, standing.wait_for(known)).await.is_ok(), "{addresses:?} became known");
}

#[tokio::test]
async fn an_instance_is_found_while_it_serves_and_no_longer_while_it_drains() {
    let redis = testkit::redis().await;
    let registry = Registry::new(&redis.url()).unwrap();
    let mut standing = following(&registry);
    let shell = announced(&registry).await;
    let address = format!("localhost:{}", shell.address.port());
    until(&mut standing, std::slice::from_ref(&address)).await;
    let about = standing.borrow().instances[0].metadata.clone();
    assert_eq!(about["process"], std::process::id().to_string());
    assert!(about.contains_key("version"));

    let mut client = shell.client().await;
    let open = tokio::spawn(async move { client.create_account(ask("wait")).await });
    shell.until_open(1).await;
    shell.shutdown.begin(SOON);
    until(&mut standing, &[]).await;
    assert!(!shell.running.is_finished(), "it has a call to finish");
    shell.desk.release.add_permits(1);
    assert_eq!(open.await.unwrap().unwrap().into_inner().name, "waited");
    timeout(SOON, shell.running).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn who_leaves_and_serves_on_is_no_longer_found() {
    let redis = testkit::redis().await;
    let registry = Registry::new(&redis.url()).unwrap();
    let mut standing = following(&registry);
    let shell = announced(&registry).await;
    until(&mut standing, &[format!("localhost:{}", shell.address.port())]).await;
    shell.shutdown.leave(SOON, SOON);
    until(&mut standing, &[]).await;
    shell.client().await.create_account(ask("hello")).await.unwrap();
    shell.shutdown.begin(SOON);
    timeout(SOON, shell.running).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_service_stops_without_its_registry() {
    let mut redis = testkit::redis().await;
    let shell = announced(&Registry::new(&redis.url()).unwrap()).await;
    redis.kill();
    shell.shutdown.begin(SOON);
    timeout(SOON, shell.running).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn what_others_can_t_reach_is_not_announced() {
    let (folder, root) = (tempfile::tempdir().unwrap(), principal::RootSecret::generate());
    let announce = Some(Announce { advertise: Some("0.0.0.0".to_owned()) });
    let registry = Some(Registry::new("redis://127.0.0.1:1").unwrap());
    let config = service::Config { registry, announce, ..config(&folder, &root).await };
    let error = build(config.clone()).await.err().unwrap();
    assert!(format!("{error:#}").contains("0.0.0.0"), "{error:#}");
    let nowhere = service::Config { registry: None, ..config };
    assert!(build(nowhere).await.is_err());
}
