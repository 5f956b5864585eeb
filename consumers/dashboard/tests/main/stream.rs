use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use principal::METADATA;
use serde_json::Value;

use crate::{Running, SOON, Site, counts, created};

/// An open stream, read event by event.
struct Reader {
    body: Incoming,
    text: String,
}

#[derive(Debug)]
struct Told {
    kind: String,
    id: String,
    data: Value,
}

impl Reader {
    async fn open(dashboard: &Running, last: Option<&str>) -> Self {
        let token = dashboard.token();
        let mut headers = vec![(METADATA, token.as_str())];
        headers.extend(last.map(|last| ("last-event-id", last)));
        let response = dashboard.send("/dashboard/stream", &headers).await;
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { body: response.into_body(), text: String::new() }
    }

    /// The next event; None: the stream has ended.
    async fn next(&mut self) -> Option<Told> {
        loop {
            while let Some((event, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| {
                    let line = event.lines().find_map(|line| line.strip_prefix(name));
                    line.map(|value| value.trim().to_owned())
                };
                let told = field("data:").map(|data| Told {
                    kind: field("event:").unwrap(),
                    id: field("id:").unwrap(),
                    data: serde_json::from_str(&data).unwrap(),
                });
                self.text = rest.to_owned();
                if told.is_some() {
                    return told;
                }
            }
            let frame = tokio::time::timeout(SOON, self.body.frame()).await.expect("nothing is told")?;
            self.text.push_str(std::str::from_utf8(frame.unwrap().data_ref().unwrap()).unwrap());
        }
    }

    /// Reads on until the count of DB/CREATE was told as this; it never goes beyond.
    async fn until(&mut self, count: u64) -> Told {
        loop {
            let told = self.next().await.unwrap();
            let now = counts(&told.data, "CREATE");
            assert!(now <= count, "{now} of {count}");
            assert_eq!(told.data["position"], told.id);
            if now == count {
                return told;
            }
        }
    }
}

#[tokio::test]
async fn a_snapshot_comes_first_then_what_changed() {
    let site = Site::sqlite().await;
    site.publish(created(0..3)).await;
    let dashboard = site.start().await;
    dashboard.counted("CREATE", 3).await;
    let mut reader = Reader::open(&dashboard, None).await;
    let first = reader.next().await.unwrap();
    assert_eq!((first.kind.as_str(), counts(&first.data, "CREATE")), ("snapshot", 3));
    site.publish(created(3..5)).await;
    let told = reader.until(5).await;
    assert_eq!(told.kind, "delta");
    dashboard.drain().await;
}

#[tokio::test]
async fn who_comes_back_is_told_what_it_missed() {
    let site = Site::sqlite().await;
    let dashboard = site.start().await;
    site.publish(created(0..3)).await;
    dashboard.counted("CREATE", 3).await;
    let seen = Reader::open(&dashboard, None).await.until(3).await;
    site.publish(created(3..7)).await;
    dashboard.counted("CREATE", 7).await;
    let mut reader = Reader::open(&dashboard, Some(&seen.id)).await;
    let missed = reader.next().await.unwrap();
    assert_eq!((missed.kind.as_str(), counts(&missed.data, "CREATE")), ("delta", 7));
    assert_eq!(missed.data["recent"].as_array().unwrap().len(), 4, "what was seen is not told again");
    dashboard.drain().await;
}

#[tokio::test]
async fn a_position_of_another_life_gets_a_snapshot() {
    let site = Site::sqlite().await;
    site.publish(created(0..3)).await;
    let first = site.start().await;
    let seen = Reader::open(&first, None).await.until(3).await;
    first.drain().await;
    site.publish(created(3..4)).await;
    let second = site.start().await;
    second.counted("CREATE", 4).await;
    for position in [seen.id.as_str(), "", "-", "nonsense", "nonsense-1", "-1"] {
        let told = Reader::open(&second, Some(position)).await.next().await.unwrap();
        assert_eq!((told.kind.as_str(), counts(&told.data, "CREATE")), ("snapshot", 4), "{position}");
    }
    second.drain().await;
}

#[tokio::test]
async fn who_reads_slowly_misses_nothing() {
    let site = Site::sqlite().await;
    let dashboard = site.start().await;
    let mut reader = Reader::open(&dashboard, None).await;
    for hundred in 0..20 {
        site.publish(created(hundred * 100..hundred * 100 + 100)).await;
    }
    dashboard.counted("CREATE", 2000).await;
    reader.until(2000).await;
    dashboard.drain().await;
}

#[tokio::test]
async fn a_page_too_many_is_asked_to_come_later() {
    let site = Site::sqlite().await;
    let dashboard = site.start().await;
    let mut open = Vec::new();
    for _ in 0..256 {
        open.push(Reader::open(&dashboard, None).await);
    }
    let (status, headers, body) = dashboard.get("/dashboard/stream", &[(METADATA, &dashboard.token())]).await;
    assert_eq!((status.as_u16(), &headers["retry-after"]), (503, &http::HeaderValue::from_static("5")), "{body}");
    drop(open);
    testkit::eventually("there is room again", SOON, async || {
        let response = dashboard.send("/dashboard/stream", &[(METADATA, &dashboard.token())]).await;
        response.status().is_success().then_some(())
    })
    .await;
    dashboard.drain().await;
}

#[tokio::test]
async fn a_drain_ends_the_streams() {
    let site = Site::sqlite().await;
    let dashboard = site.start().await;
    let mut reader = Reader::open(&dashboard, None).await;
    reader.next().await.unwrap();
    dashboard.drain().await;
    while reader.next().await.is_some() {}
}
