//! What an operator sees and moves over gRPC.

use proto::turnpike::bus::v1::{
    self as wire, Edge,
    group::{Mode, OnDead},
    queue::Overflow,
    settlement::Verb,
};
use tonic::Code;

use super::fleet::{Member, event, group, ids, parallel, reason};
use crate::follow::lab::Lab;

fn name(name: &str) -> wire::PutQueueRequest {
    wire::PutQueueRequest { name: name.to_owned(), ..wire::PutQueueRequest::default() }
}

#[tokio::test]
async fn a_queue_is_set_and_keeps_what_is_left_out() {
    let lab = Lab::open().await;
    let broker = lab.broker().await;
    let mut operator = broker.grpc(&lab.operator_who_reads()).await;
    let queue = operator.put_queue(wire::PutQueueRequest { partitions: Some(3), ..name("DB") }).await.unwrap();
    assert_eq!((queue.get_ref().partitions, queue.get_ref().latest), (3, false));
    let change = wire::PutQueueRequest { latest: Some(true), max_len: Some(1000), ..name("DB") };
    let queue = operator.put_queue(change).await.unwrap().into_inner();
    assert_eq!((queue.partitions, queue.latest, queue.max_len), (3, true, Some(1000)));
    let queue = operator.put_queue(wire::PutQueueRequest { max_len: Some(0), ..name("DB") }).await.unwrap();
    assert_eq!(queue.get_ref().max_len, None);
    let denied = operator.put_queue(name("SYS")).await;
    assert_eq!(reason(denied, Code::PermissionDenied), "FORBIDDEN");
    let many = operator.put_queue(wire::PutQueueRequest { partitions: Some(257), ..name("DB") }).await;
    assert_eq!(reason(many, Code::InvalidArgument), "INVALID");
    operator.put_queue(name("ORDERS")).await.unwrap();
    let page = |page_token: String| wire::ListQueuesRequest { page_size: 1, page_token };
    let first = operator.list_queues(page(String::new())).await.unwrap().into_inner();
    let second = operator.list_queues(page(first.next_page_token.clone())).await.unwrap().into_inner();
    assert_eq!((first.queues[0].name.as_str(), second.queues[0].name.as_str()), ("DB", "ORDERS"));
    assert_eq!(second.next_page_token, "");
}

#[tokio::test]
async fn a_group_s_dead_letters_are_seen_redriven_and_discarded() {
    let lab = Lab::open().await;
    let broker = lab.broker().await;
    let mut operator = broker.grpc(&lab.operator_who_reads()).await;
    lab.publish("DB/CREATE", 0..3).await;
    let mut member = Member::join(&mut operator, parallel("billing"), 3).await;
    let three = member.deliveries(3).await;
    let dead = Verb::Dead(wire::settlement::Dead { reason: "unreadable".to_owned() });
    member.settled(&three, dead).await;
    let group = operator.get_group(wire::GetGroupRequest { name: "billing".to_owned() }).await.unwrap().into_inner();
    assert_eq!((group.dead, group.members, group.queue.as_str()), (3, 1, "DB"));
    let list = |page_token: String| wire::ListDeadLettersRequest { group: "billing".into(), page_size: 2, page_token };
    let first = operator.list_dead_letters(list(String::new())).await.unwrap().into_inner();
    let second = operator.list_dead_letters(list(first.next_page_token.clone())).await.unwrap().into_inner();
    assert_eq!((first.dead_letters.len(), second.dead_letters.len(), second.next_page_token.as_str()), (2, 1, ""));
    assert_eq!((first.dead_letters[0].error.as_str(), first.dead_letters[0].attempts), ("unreadable", 1));
    let these = vec![wire::letters::At { partition: 0, position: 1 }];
    let letters = Some(wire::Letters { all: false, these });
    let redrive = wire::RedriveRequest { group: "billing".into(), letters };
    assert_eq!(operator.redrive(redrive).await.unwrap().into_inner().redriven, 1);
    let again = member.deliveries(1).await;
    assert_eq!((ids(&again), again[0].redrive, again[0].attempt), (vec!["0"], 1, 1));
    let none = operator.discard(wire::DiscardRequest { group: "billing".into(), letters: None }).await;
    assert_eq!(reason(none, Code::InvalidArgument), "INVALID");
    let all = Some(wire::Letters { all: true, these: Vec::new() });
    let discard = wire::DiscardRequest { group: "billing".into(), letters: all };
    assert_eq!(operator.discard(discard).await.unwrap().into_inner().discarded, 2);
    let unknown = operator.get_group(wire::GetGroupRequest { name: "nobody".to_owned() }).await;
    assert_eq!(reason(unknown, Code::NotFound), "NOT_FOUND");
}

#[tokio::test]
async fn a_group_is_told_as_it_was_declared() {
    let lab = Lab::open().await;
    let broker = lab.broker().await;
    let mut operator = broker.grpc(&lab.operator_who_reads()).await;
    let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let start = wire::Start { at: Some(wire::start::At::Position(2)) };
    let declared = wire::Group {
        start: Some(start),
        lease: seconds(45),
        max_processing: seconds(0),
        on_dead: OnDead::Block.into(),
        ..group("billing", "DB/*", Mode::Keyed)
    };
    for group in [declared, parallel("plain")] {
        operator.declare_group(wire::DeclareGroupRequest { group: Some(group) }).await.unwrap();
    }
    let told = operator.get_group(wire::GetGroupRequest { name: "billing".to_owned() }).await.unwrap().into_inner();
    assert_eq!((told.mode(), told.on_dead(), told.start), (Mode::Keyed, OnDead::Block, Some(start)));
    assert_eq!((told.lease, told.max_processing), (seconds(45), None), "as long as it likes");
    let listed = operator.list_groups(wire::ListGroupsRequest::default()).await.unwrap().into_inner();
    let plain = listed.groups.iter().find(|group| group.name == "plain").unwrap();
    assert_eq!((plain.on_dead(), plain.max_processing), (OnDead::Continue, seconds(900)));
}

#[tokio::test]
async fn a_group_is_moved_after_it_was_said_what_that_does() {
    let lab = Lab::open().await;
    let broker = lab.broker().await;
    let mut operator = broker.grpc(&lab.operator_who_reads()).await;
    lab.publish("DB/CREATE", 0..3).await;
    let mut member = Member::join(&mut operator, parallel("billing"), 3).await;
    let three = member.deliveries(3).await;
    member.settled(&three, super::fleet::ack()).await;
    let to = |dry_run| wire::SeekRequest {
        group: "billing".into(),
        to: Some(wire::Start { at: Some(wire::start::At::Edge(Edge::Earliest.into())) }),
        dry_run,
    };
    assert_eq!(operator.seek(to(true)).await.unwrap().into_inner().again, 3);
    member.is_quiet().await;
    assert_eq!(operator.seek(to(false)).await.unwrap().into_inner().again, 3);
    assert_eq!(ids(&member.deliveries(3).await), ["0", "1", "2"]);
    let nowhere = wire::SeekRequest { group: "billing".into(), to: None, dry_run: true };
    assert_eq!(reason(operator.seek(nowhere).await, Code::InvalidArgument), "INVALID");
}

#[tokio::test]
async fn a_full_queue_has_its_own_reason_and_a_group_is_told_what_it_lost() {
    let lab = Lab::open().await;
    let broker = lab.broker().await;
    let mut operator = broker.grpc(&lab.operator_who_reads()).await;
    let limit =
        |overflow: Overflow| wire::PutQueueRequest { max_len: Some(2), overflow: overflow.into(), ..name("DB") };
    operator.put_queue(limit(Overflow::Reject)).await.unwrap();
    let slow = bus::Group::new("slow", "DB/*".parse().unwrap(), bus::Mode::Keyed);
    lab.bus.declare_group(slow).await.unwrap();
    lab.publish("DB/CREATE", 0..2).await;
    let mut alice = broker.grpc(&lab.alice()).await;
    let publish = |id: &str| wire::PublishRequest { events: vec![event("DB/CREATE", id)], confirm: None };
    assert_eq!(reason(alice.publish(publish("2")).await, Code::ResourceExhausted), "QUEUE_FULL");
    operator.put_queue(limit(Overflow::DropOldest)).await.unwrap();
    alice.publish(publish("2")).await.unwrap();
    let slow = operator.get_group(wire::GetGroupRequest { name: "slow".to_owned() }).await.unwrap().into_inner();
    let range = wire::group_status::LostRange { partition: 0, from: 1, to: 2 };
    assert_eq!((slow.lost, slow.lost_ranges, slow.abandoned), (1, vec![range], None));
    let queues = operator.list_queues(wire::ListQueuesRequest::default()).await.unwrap().into_inner().queues;
    let queue = queues.iter().find(|queue| queue.name == "DB").unwrap();
    assert!(queue.bytes > 0 && queue.bytes == queue.states[0].bytes, "{queue:?}");
}

#[tokio::test]
async fn who_is_connected_is_listed_with_its_group() {
    let lab = Lab::open().await;
    let broker = lab.broker().await;
    let mut operator = broker.grpc(&lab.operator_who_reads()).await;
    let _member = Member::join(&mut operator, parallel("billing"), 3).await;
    let request = wire::ListConnectionsRequest::default();
    let connections = operator.list_connections(request).await.unwrap().into_inner().connections;
    assert_eq!((connections.len(), connections[0].transport.as_str()), (1, "grpc"));
    assert_eq!(connections[0].subject, "operators/1");
    assert_eq!(connections[0].subscriptions[0].group, "billing");
    let groups = operator.list_groups(wire::ListGroupsRequest::default()).await.unwrap().into_inner().groups;
    assert_eq!((groups[0].name.as_str(), groups[0].members), ("billing", 1));
}
