//! Publishing over gRPC.

use std::time::Duration;

use events::Name;
use futures_util::stream;
use proto::turnpike::bus::v1::{self as wire, Level, outcome::Outcome};
use tonic::Code;
use tonic_types::StatusExt as _;

use super::fleet::{Member, ack, event, parallel, reason};
use crate::follow::lab::Lab;

fn request(events: Vec<wire::Event>) -> wire::PublishRequest {
    wire::PublishRequest { events, confirm: None }
}

fn receipts(response: wire::PublishResponse) -> Vec<wire::Receipt> {
    let receipt = |outcome: wire::Outcome| match outcome.outcome {
        Some(Outcome::Receipt(receipt)) => receipt,
        other => panic!("no receipt: {other:?}"),
    };
    response.outcomes.into_iter().map(receipt).collect()
}

fn refusals(response: wire::PublishResponse) -> Vec<Option<String>> {
    let refusal = |outcome: wire::Outcome| match outcome.outcome {
        Some(Outcome::Refusal(refusal)) => Some(refusal.reason),
        _ => None,
    };
    response.outcomes.into_iter().map(refusal).collect()
}

async fn log(lab: &Lab) -> Vec<std::sync::Arc<events::Envelope>> {
    let page = lab.bus.read(&Name::new("DB").unwrap(), 0, 1, 1000).await.unwrap();
    page.events.into_iter().map(|logged| logged.envelope).collect()
}

#[tokio::test]
async fn an_event_is_recorded_as_its_publishers_and_a_repeat_is_told() {
    let lab = Lab::open().await;
    let broker = lab.broker().await;
    let mut alice = broker.grpc(&lab.alice()).await;
    let claimed = wire::Event { source: "/services/bank".into(), owner: "bob".into(), ..event("DB/CREATE", "1") };
    let first = receipts(alice.publish(request(vec![claimed.clone()])).await.unwrap().into_inner()).remove(0);
    assert_eq!((first.level(), first.duplicate, first.id.as_str()), (Level::Stored, false, "1"));
    let again = receipts(alice.publish(request(vec![claimed])).await.unwrap().into_inner()).remove(0);
    assert_eq!((again.duplicate, &again.cursor), (true, &first.cursor));
    let logged = log(&lab).await;
    assert_eq!((logged.len(), logged[0].source.as_str()), (1, "/clients/alice"));
    assert_eq!(logged[0].owner.as_deref(), Some("alice"));
    assert_eq!(logged[0].json().unwrap()["n"], "1");
    let found = alice
        .get_event(wire::GetEventRequest { cursor: first.cursor.clone(), own_id: None })
        .await
        .unwrap()
        .into_inner();
    assert_eq!((found.id.as_str(), found.sequence, found.cursor), ("1", 1, first.cursor));
}

#[tokio::test]
async fn an_event_is_found_by_its_own_id_even_while_it_waits() {
    let lab = Lab::open().await;
    let broker = lab.broker().await;
    let mut alice = broker.grpc(&lab.alice()).await;
    let in_an_hour = time::OffsetDateTime::now_utc().unix_timestamp() + 3600;
    let delivery_time = Some(prost_types::Timestamp { seconds: in_an_hour, nanos: 0 });
    let events = vec![event("DB/CREATE", "1"), wire::Event { delivery_time, ..event("DB/CREATE", "2") }];
    let told = receipts(alice.publish(request(events)).await.unwrap().into_inner());
    assert_eq!((told[1].cursor.as_str(), told[1].reason.as_str()), ("", "scheduled"));

    let own = |id: &str, source: &str| {
        Some(wire::EventId { queue: "DB".to_owned(), id: id.to_owned(), source: source.to_owned() })
    };
    let get = |own_id| wire::GetEventRequest { own_id, ..wire::GetEventRequest::default() };
    let status = |own_id| wire::GetStatusRequest { own_id, ..wire::GetStatusRequest::default() };
    let found = alice.get_event(get(own("1", ""))).await.unwrap().into_inner();
    assert_eq!((found.sequence, &found.cursor), (1, &told[0].cursor));
    let stands = alice.get_status(status(own("1", "/clients/alice"))).await.unwrap().into_inner();
    assert_eq!((stands.position, &stands.cursor), (1, &told[0].cursor));
    assert_eq!(reason(alice.get_event(get(own("1", "/clients/bob"))).await, Code::NotFound), "NOT_FOUND");
    let both = wire::GetEventRequest { cursor: told[0].cursor.clone(), own_id: own("1", "") };
    assert_eq!(reason(alice.get_event(both).await, Code::InvalidArgument), "INVALID");

    let waits = alice.get_status(status(own("2", ""))).await.unwrap().into_inner();
    assert_eq!((waits.delivered(), waits.due), (wire::event_status::Delivered::Scheduled, delivery_time));
    assert_eq!(reason(alice.get_event(get(own("2", ""))).await, Code::NotFound), "NOT_FOUND");
}

#[tokio::test]
async fn a_batch_with_a_wrong_event_is_refused_by_the_fields_path() {
    let lab = Lab::open().await;
    let broker = lab.broker().await;
    let mut alice = broker.grpc(&lab.alice()).await;
    let wrong = wire::Event { priority: Some(12), ..event("DB/CREATE", "2") };
    let refused = alice.publish(request(vec![event("DB/CREATE", "1"), wrong])).await.unwrap_err();
    let details = refused.get_error_details();
    assert_eq!((refused.code(), details.error_info().unwrap().reason.as_str()), (Code::InvalidArgument, "INVALID"));
    assert_eq!(details.bad_request().unwrap().field_violations[0].field, "events[1].priority");
    assert_eq!(reason(alice.publish(request(vec![])).await, Code::InvalidArgument), "INVALID");
    let many = (0..257).map(|n| event("DB/CREATE", &n.to_string())).collect();
    assert_eq!(reason(alice.publish(request(many)).await, Code::InvalidArgument), "INVALID");
    assert_eq!(log(&lab).await.len(), 0, "nothing of it was recorded");
}

#[tokio::test]
async fn what_is_too_large_is_refused() {
    let lab = Lab::open().await;
    let broker = lab.broker().await;
    let mut alice = broker.grpc(&lab.alice()).await;
    let sized = |bytes: usize| {
        let data = Some(wire::event::Data::Binary(vec![7; bytes]));
        request(vec![wire::Event { data, ..event("DB/CREATE", "1") }])
    };
    assert_eq!(reason(alice.publish(sized(256 * 1024 + 1)).await, Code::InvalidArgument), "TOO_LARGE");
    // Not even read.
    assert_eq!(alice.publish(sized(3 << 20)).await.unwrap_err().code(), Code::OutOfRange);
    alice.publish(sized(256 * 1024)).await.unwrap();
}

#[tokio::test]
async fn a_publisher_waits_until_a_member_has_acknowledged() {
    let lab = Lab::open().await;
    let broker = lab.broker().await;
    let mut alice = broker.grpc(&lab.operator_who_reads()).await;
    let mut member = Member::join(&mut alice.clone(), parallel("billing"), 8).await;
    let confirm = |timeout: Duration, own_group: &str| wire::Confirm {
        level: Level::Delivered.into(),
        timeout: Some(timeout.try_into().unwrap()),
        own_group: own_group.to_owned(),
        ..wire::Confirm::default()
    };
    let publish =
        |id: &str, confirm| wire::PublishRequest { events: vec![event("DB/CREATE", id)], confirm: Some(confirm) };
    let own = alice.publish(publish("1", confirm(Duration::from_secs(1), "billing"))).await;
    assert_eq!(reason(own, Code::FailedPrecondition), "CONFLICT");
    let late = alice.publish(publish("1", confirm(Duration::from_millis(50), ""))).await.unwrap().into_inner();
    let late = receipts(late).remove(0);
    assert_eq!((late.level(), late.reason.as_str()), (Level::Stored, "timeout"));
    let deliveries = member.deliveries(1).await;
    let mut waiting = alice.clone();
    let published =
        tokio::spawn(async move { waiting.publish(publish("2", confirm(Duration::from_secs(60), ""))).await });
    let more = member.deliveries(1).await;
    member.settled(&deliveries, ack()).await;
    member.settled(&more, ack()).await;
    let receipt = receipts(published.await.unwrap().unwrap().into_inner()).remove(0);
    assert_eq!((receipt.level(), receipt.reason.as_str()), (Level::Delivered, ""));
    assert_eq!(receipt.groups["billing"].state(), wire::standing::State::Acked);
    let status = wire::GetStatusRequest {
        cursor: late.cursor,
        wait: Some(Duration::from_secs(60).try_into().unwrap()),
        own_id: None,
    };
    let status = alice.get_status(status).await.unwrap().into_inner();
    assert_eq!(status.delivered(), wire::event_status::Delivered::Delivered);
}

#[tokio::test]
async fn a_stream_records_in_order_and_goes_on_after_a_refusal() {
    let lab = Lab::open().await;
    let broker = lab.broker().await;
    let mut alice = broker.grpc(&lab.alice()).await;
    let mut requests: Vec<_> = (0..20).map(|n| request(vec![event("DB/CREATE", &n.to_string())])).collect();
    requests.insert(5, request(vec![event("SYS/CREATE", "sys")]));
    let delivered = wire::Confirm { level: Level::Delivered.into(), ..wire::Confirm::default() };
    requests.insert(6, wire::PublishRequest { confirm: Some(delivered), ..request(vec![event("DB/CREATE", "late")]) });
    let mut answers = alice.publish_stream(stream::iter(requests)).await.unwrap().into_inner();
    let mut reasons = Vec::new();
    while let Some(answer) = answers.message().await.unwrap() {
        reasons.extend(refusals(answer));
    }
    let refused: Vec<_> =
        reasons.iter().enumerate().filter_map(|(at, reason)| Some((at, reason.as_deref()?))).collect();
    assert_eq!((reasons.len(), refused), (22, vec![(5, "FORBIDDEN"), (6, "INVALID")]));
    let recorded: Vec<String> = log(&lab).await.into_iter().map(|envelope| envelope.id.clone()).collect();
    assert_eq!(recorded, (0..20).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_event_for_later_says_when_and_is_taken_back() {
    let lab = Lab::open().await;
    let broker = lab.broker().await;
    let mut alice = broker.grpc(&lab.alice()).await;
    let seconds = time::OffsetDateTime::now_utc().unix_timestamp() + 3600;
    let due = prost_types::Timestamp { seconds, nanos: 0 };
    let later = wire::Event { delivery_time: Some(due), ..event("DB/CREATE", "1") };
    let receipt = receipts(alice.publish(request(vec![later])).await.unwrap().into_inner()).remove(0);
    assert_eq!((receipt.due, &*receipt.reason, &*receipt.cursor), (Some(due), "scheduled", ""));
    let cancel = |queue: &str, id: &str, source: &str| wire::CancelRequest {
        queue: queue.into(),
        id: id.into(),
        source: source.into(),
    };
    assert!(alice.cancel(cancel("DB", "1", "")).await.unwrap().into_inner().cancelled);
    assert!(!alice.cancel(cancel("DB", "1", "")).await.unwrap().into_inner().cancelled, "it is gone");
    let anothers = alice.cancel(cancel("DB", "1", "/clients/bob")).await;
    assert_eq!(reason(anothers, Code::PermissionDenied), "FORBIDDEN");
    alice.publish(request(vec![event("DB/CREATE", "2")])).await.unwrap();
    assert_eq!(reason(alice.cancel(cancel("DB", "2", "")).await, Code::FailedPrecondition), "CONFLICT");
    assert_eq!(reason(alice.cancel(cancel("db", "2", "")).await, Code::InvalidArgument), "INVALID");
}

#[tokio::test]
async fn an_event_that_expects_another_version_is_refused_with_the_current_one() {
    let lab = Lab::open().await;
    let broker = lab.broker().await;
    let mut alice = broker.grpc(&lab.alice()).await;
    let queue = Name::new("DB").unwrap();
    lab.bus.declare_queue(bus::Queue { latest: true, ..bus::Queue::new(queue) }).await.unwrap();
    let expects = |id: &str, version: u64| wire::Event {
        subject: "products/1".into(),
        expected_version: Some(version),
        ..event("DB/CREATE", id)
    };
    alice.publish(request(vec![expects("1", 0)])).await.unwrap();
    let refused = alice.publish(request(vec![expects("2", 0)])).await.unwrap_err();
    assert_eq!(refused.get_error_details().error_info().unwrap().metadata["current_version"], "1");
    assert_eq!(reason::<()>(Err(refused), Code::Aborted), "VERSION_CONFLICT");
    alice.publish(request(vec![expects("2", 1)])).await.unwrap();
}
