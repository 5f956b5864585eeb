use http::{StatusCode, header};
use principal::METADATA;
use serde_json::Value;

use crate::{Site, created};

const PATHS: [&str; 3] = ["/dashboard/snapshot", "/dashboard/stream", "/dashboard/events/DB/0/1"];

#[tokio::test]
async fn only_an_operator_may_look() {
    let site = Site::sqlite().await;
    let dashboard = site.start().await;
    let customer = dashboard.token_of(&["catalog:write"]);
    for path in PATHS {
        for (headers, expected) in [
            (vec![], StatusCode::UNAUTHORIZED),
            (vec![(METADATA, "nonsense")], StatusCode::UNAUTHORIZED),
            (vec![(METADATA, customer.as_str())], StatusCode::FORBIDDEN),
        ] {
            let headers = [headers, vec![("x-request-id", "r-1")]].concat();
            let (status, headers, body) = dashboard.get(path, &headers).await;
            assert_eq!(status, expected, "{path}");
            assert_eq!(headers[header::CONTENT_TYPE], "application/problem+json", "{path}");
            let problem: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(problem["status"], expected.as_u16());
            assert_eq!((&problem["instance"], &problem["request_id"]), (&path.into(), &"r-1".into()));
        }
    }
    dashboard.drain().await;
}

#[tokio::test]
async fn the_page_is_for_everyone_and_kept_by_its_contents() {
    let site = Site::sqlite().await;
    let dashboard = site.start().await;
    let (status, headers, html) = dashboard.get("/dashboard", &[]).await;
    assert_eq!(status, StatusCode::OK, "{html}");
    assert_eq!(headers[header::CONTENT_TYPE], "text/html; charset=utf-8");
    let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    let etag = headers[header::ETAG].to_str().unwrap();
    assert_eq!(dashboard.get("/dashboard", &[("if-none-match", etag)]).await.0, StatusCode::NOT_MODIFIED);

    let assets: Vec<&str> = html.split('"').filter(|part| part.starts_with("/dashboard/assets/")).collect();
    assert!(assets.len() >= 5, "{assets:?}");
    for asset in assets {
        let (status, headers, _) = dashboard.get(asset, &[]).await;
        assert_eq!(status, StatusCode::OK, "{asset}");
        assert!(headers[header::CACHE_CONTROL].to_str().unwrap().contains("immutable"));
    }
    let (status, ..) = dashboard.get("/dashboard/assets/0123456789abcdef/app.js", &[]).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(dashboard.get("/dashboard/nothing", &[]).await.0, StatusCode::NOT_FOUND);
    dashboard.drain().await;
}

#[tokio::test]
async fn an_event_is_shown_whole_when_asked_for() {
    let site = Site::sqlite().await;
    site.publish(created(7..8)).await;
    let dashboard = site.start().await;
    let token = dashboard.token();
    let (status, _, body) = dashboard.get("/dashboard/events/DB/0/1", &[(METADATA, &token)]).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["data"]["id"], "customers/7");
    for gone in ["/dashboard/events/DB/0/2", "/dashboard/events/DB/9/1", "/dashboard/events/NONE/0/1"] {
        assert_eq!(dashboard.get(gone, &[(METADATA, &token)]).await.0, StatusCode::NOT_FOUND, "{gone}");
    }
    dashboard.drain().await;
}
