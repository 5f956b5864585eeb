//! Following over gRPC, by the same terms as on every transport.

use std::time::Duration;

use broker::Settings;
use proto::turnpike::bus::v1::{
    self as wire, Edge,
    begin::At,
    subscribe_response::{Message, Told},
};
use tokio::time::timeout;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt as _;

use super::fleet::{Client, reason};
use crate::{follow::lab::Lab, site::SOON};

struct Stream(Streaming<wire::SubscribeResponse>);

impl Stream {
    async fn open(client: &mut Client, filter: &str, at: At) -> (Self, u64) {
        let begin = Some(wire::Begin { at: Some(at) });
        let request = wire::SubscribeRequest { filter: filter.to_owned(), begin, ..wire::SubscribeRequest::default() };
        let mut stream = Self(client.subscribe(request).await.unwrap().into_inner());
        match stream.next().await.unwrap() {
            Message::Opened(opened) => (stream, opened.replaying),
            other => panic!("{other:?}"),
        }
    }

    async fn next(&mut self) -> Result<Message, Status> {
        let told = timeout(SOON, self.0.message()).await.expect("something is told")?;
        Ok(told.expect("it goes on").message.unwrap())
    }

    async fn event(&mut self) -> Told {
        loop {
            if let Message::Event(told) = self.next().await.unwrap() {
                return told;
            }
        }
    }
}

fn id(told: &Told) -> &str {
    &told.event.as_ref().unwrap().id
}

#[tokio::test]
async fn a_subscriber_reads_the_log_and_then_what_comes() {
    let lab = Lab::open().await;
    let broker = lab.broker().await;
    let mut alice = broker.grpc(&lab.alice()).await;
    lab.publish("DB/CREATE", 0..3).await;
    lab.publish("DB/DELETE", 3..4).await;
    let (mut stream, replaying) = Stream::open(&mut alice, "DB/CREATE", At::Edge(Edge::Earliest.into())).await;
    assert_eq!(replaying, 4);
    let mut prev = None;
    let mut second = String::new();
    for expected in ["0", "1", "2"] {
        let told = stream.event().await;
        assert_eq!((id(&told), told.replay), (expected, true));
        assert!(prev.is_none_or(|prev| prev == told.prev), "nothing was missed");
        if expected == "1" {
            second = told.cursor.clone();
        }
        prev = Some(told.cursor);
    }
    assert!(matches!(stream.next().await.unwrap(), Message::CaughtUp(_)));
    lab.publish("DB/CREATE", 4..5).await;
    let live = stream.event().await;
    assert_eq!((id(&live), live.replay), ("4", false));
    // From a place in the middle, at another broker.
    let other = lab.broker().await;
    let mut alice = other.grpc(&lab.alice()).await;
    let (mut stream, _) = Stream::open(&mut alice, "DB/CREATE", At::Cursor(second)).await;
    assert_eq!((id(&stream.event().await), id(&stream.event().await)), ("2", "4"));
}

#[tokio::test]
async fn a_view_begins_with_each_key_s_last_event() {
    let lab = Lab::open().await;
    let name = events::Name::new("DB").unwrap();
    lab.bus.declare_queue(bus::Queue { latest: true, ..bus::Queue::new(name) }).await.unwrap();
    let publish = async |id: &str, key: &str| {
        let event = crate::follow::lab::event("DB/CREATE", id).partitionkey(key);
        lab.bus.publish(vec![event]).await.unwrap()[0].as_ref().unwrap();
    };
    for (id, key) in [("1", "a"), ("2", "b"), ("3", "a")] {
        publish(id, key).await;
    }
    let broker = lab.broker().await;
    let mut alice = broker.grpc(&lab.alice()).await;
    let asked = |filter: &str, view: i32| wire::SubscribeRequest {
        filter: filter.to_owned(),
        view,
        ..wire::SubscribeRequest::default()
    };
    let latest = wire::View::Latest.into();
    let mut stream = Stream(alice.subscribe(asked("DB/*", latest)).await.unwrap().into_inner());
    assert!(matches!(stream.next().await.unwrap(), Message::Opened(_)));
    for expected in ["2", "3"] {
        let told = stream.event().await;
        assert_eq!((id(&told), told.replay), (expected, true));
    }
    assert!(matches!(stream.next().await.unwrap(), Message::CaughtUp(_)));
    publish("4", "a").await;
    assert_eq!(id(&stream.event().await), "4");
    for refused in [asked("*/*", latest), asked("ORDERS/*,DB/*", 7)] {
        assert_eq!(reason(alice.subscribe(refused).await, Code::InvalidArgument), "INVALID");
    }
}

#[tokio::test]
async fn who_may_read_its_own_is_shown_its_own() {
    let lab = Lab::open().await;
    let broker = lab.broker().await;
    for (id, owner) in [("1", "bob"), ("2", "carol"), ("3", "bob")] {
        lab.bus.publish(vec![crate::follow::lab::event("DB/CREATE", id).owner(owner)]).await.unwrap();
    }
    let mut bob = broker.grpc(&lab.token("bob", &["events:read:own:DB/*"])).await;
    let (mut stream, _) = Stream::open(&mut bob, "DB/*", At::Edge(Edge::Earliest.into())).await;
    assert_eq!((id(&stream.event().await), id(&stream.event().await)), ("1", "3"));
}

#[tokio::test]
async fn an_idle_subscriber_is_told_its_place() {
    let lab = Lab::open().await;
    let broker = lab.broker_with(Settings { cursor_every: Duration::from_millis(100), ..Settings::default() }).await;
    let mut alice = broker.grpc(&lab.alice()).await;
    let (mut stream, _) = Stream::open(&mut alice, "DB/*", At::Edge(Edge::Latest.into())).await;
    assert!(matches!(stream.next().await.unwrap(), Message::CaughtUp(_)));
    assert!(matches!(stream.next().await.unwrap(), Message::Place(_)));
}

#[tokio::test]
async fn what_a_reopened_log_has_lost_is_told() {
    let lab = Lab::open().await;
    lab.publish("DB/CREATE", 0..2).await;
    let broker = lab.broker().await;
    let mut alice = broker.grpc(&lab.alice()).await;
    // A place that this log never had: of another one, before it began anew.
    let foreign = lab.sibling().await;
    foreign.publish("DB/CREATE", 0..1).await;
    let other = foreign.broker().await;
    let mut there = other.grpc(&foreign.alice()).await;
    let (mut stream, _) = Stream::open(&mut there, "DB/*", At::Edge(Edge::Earliest.into())).await;
    let cursor = stream.event().await.cursor;
    let (mut stream, _) = Stream::open(&mut alice, "DB/*", At::Cursor(cursor.clone())).await;
    let Message::Gap(gap) = stream.next().await.unwrap() else { panic!("no gap") };
    assert_eq!((gap.queue.as_str(), gap.reason.as_str(), gap.lost, gap.from), ("DB", "reset", None, cursor));
    assert_eq!((id(&stream.event().await), id(&stream.event().await)), ("0", "1"));
}

#[tokio::test]
async fn a_slow_reader_holds_up_nobody_and_reads_on() {
    let lab = Lab::open().await;
    let broker = lab.broker().await;
    let mut alice = broker.grpc(&lab.alice()).await;
    let (mut slow, _) = Stream::open(&mut alice, "DB/*", At::Edge(Edge::Latest.into())).await;
    let (mut quick, _) = Stream::open(&mut alice, "DB/*", At::Edge(Edge::Latest.into())).await;
    for id in 0..60 {
        let event = crate::follow::lab::event("DB/CREATE", &id.to_string()).binary("a/b", vec![7; 200_000]);
        lab.bus.publish(vec![event]).await.unwrap()[0].as_ref().unwrap();
        assert_eq!(self::id(&quick.event().await), id.to_string());
    }
    for id in 0..60 {
        assert_eq!(self::id(&slow.event().await), id.to_string());
    }
}

#[tokio::test]
async fn a_stream_is_rotated_and_goes_on() {
    let lab = Lab::open().await;
    let broker = lab.broker_with(Settings { rotation: Duration::from_millis(300), ..Settings::default() }).await;
    let mut alice = broker.grpc(&lab.alice()).await;
    let (mut stream, _) = Stream::open(&mut alice, "DB/*", At::Edge(Edge::Latest.into())).await;
    let Message::CaughtUp(place) = stream.next().await.unwrap() else { panic!("not caught up") };
    let ended = stream.next().await.map(|_| ()).unwrap_err();
    assert!(ended.get_error_details().retry_info().is_some());
    assert_eq!(reason(Err::<(), _>(ended), Code::Unavailable), "ROTATED");
    lab.publish("DB/CREATE", 0..1).await;
    let (mut stream, _) = Stream::open(&mut alice, "DB/*", At::Cursor(place.cursor)).await;
    assert_eq!(id(&stream.event().await), "0", "nothing was missed in between");
}

#[tokio::test]
async fn what_is_no_place_is_refused() {
    let lab = Lab::open().await;
    let broker = lab.broker().await;
    let mut alice = broker.grpc(&lab.alice()).await;
    for at in [At::Cursor("x".to_owned()), At::Edge(7)] {
        let begin = Some(wire::Begin { at: Some(at) });
        let request = wire::SubscribeRequest { filter: "DB/*".to_owned(), begin, ..wire::SubscribeRequest::default() };
        assert_eq!(reason(alice.subscribe(request).await, Code::InvalidArgument), "INVALID");
    }
    let request = wire::SubscribeRequest { filter: "DB".to_owned(), ..wire::SubscribeRequest::default() };
    assert_eq!(reason(alice.subscribe(request).await, Code::InvalidArgument), "INVALID");
}
