//! Stopping.

use std::time::Duration;

use lifecycle::Role as _;
use tokio::time::timeout;
use tonic::Code;
use tonic_health::{
    ServingStatus,
    pb::{HealthCheckRequest, health_client::HealthClient},
};

use crate::shell::{SOON, ask, build, config, start};

#[tokio::test]
async fn a_drain_finishes_the_open_call_and_takes_no_new_one() {
    let shell = start().await;
    let mut client = shell.client().await;
    let open = tokio::spawn(async move { client.create_account(ask("wait")).await });
    shell.until_open(1).await;

    shell.shutdown.begin(SOON);
    testkit::eventually("the listener is closed", SOON, || async {
        tokio::net::TcpStream::connect(shell.address).await.is_err().then_some(())
    })
    .await;
    assert!(!shell.running.is_finished());

    shell.desk.release.add_permits(1);
    assert_eq!(open.await.unwrap().unwrap().into_inner().name, "waited");
    timeout(SOON, shell.running).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_call_that_does_not_end_is_dropped_with_an_answer() {
    let shell = start().await;
    let mut client = shell.client().await;
    let open = tokio::spawn(async move { client.create_account(ask("wait")).await });
    shell.until_open(1).await;
    shell.shutdown.begin(Duration::from_millis(100));
    timeout(SOON, shell.running).await.unwrap().unwrap().unwrap();
    assert_eq!(open.await.unwrap().unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn health_turns_with_the_drain_and_a_watcher_does_not_hold_it_up() {
    let shell = start().await;
    let mut health = HealthClient::new(shell.channel().await);
    let mut watches = Vec::new();
    for service in ["", "shop.customer.v1.CustomerService"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        assert_eq!(health.check(request.clone()).await.unwrap().into_inner().status, ServingStatus::Serving as i32);
        let mut watch = health.watch(request).await.unwrap().into_inner();
        assert_eq!(watch.message().await.unwrap().unwrap().status, ServingStatus::Serving as i32);
        watches.push(watch);
    }
    let unknown = HealthCheckRequest { service: "shop.product.v1.ProductService".to_owned() };
    assert_eq!(health.check(unknown).await.unwrap_err().code(), Code::NotFound);

    shell.shutdown.begin(SOON);
    for mut watch in watches {
        assert_eq!(watch.message().await.unwrap().unwrap().status, ServingStatus::NotServing as i32);
    }
    timeout(SOON / 2, shell.running).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_service_starts_again_on_the_port_it_had() {
    let shell = start().await;
    shell.client().await.create_account(ask("hello")).await.unwrap();
    shell.shutdown.begin(SOON);
    timeout(SOON, shell.running).await.unwrap().unwrap().unwrap();

    let mut again = config(&shell.folder, &shell.root).await;
    again.listen = shell.address;
    let (_, service) = build(again).await.unwrap();
    assert_eq!(service.address(), Some(shell.address));
}

#[tokio::test]
async fn a_part_that_fails_takes_the_service_along_and_says_why() {
    struct Nothing;
    #[tonic::async_trait]
    impl bus::Handler for Nothing {
        async fn handle(&self, _: &bus::Delivery) -> Result<(), bus::Failure> {
            Ok(())
        }
    }
    let (folder, root) = (tempfile::tempdir().unwrap(), principal::RootSecret::generate());
    let group = bus::Group { concurrency: 0, ..bus::Group::new("idle", "DB/*".parse().unwrap(), bus::Mode::Keyed) };
    let builder = service::Builder::new("desk", config(&folder, &root).await, &[]).await.unwrap();
    let service = builder.consumer(group, std::sync::Arc::new(Nothing)).build();
    let ended = timeout(SOON, Box::new(service).run(lifecycle::Shutdown::new())).await.unwrap();
    let error = format!("{:#}", ended.unwrap_err());
    assert!(error.starts_with("desk stopped: concurrency: "), "{error}");
}
