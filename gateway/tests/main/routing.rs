//! Which route a request takes, and what is said where there is none.

use crate::running::{Running, echo, passing_on};

const SHOP: &str = "
routes:
  - { match: { path: '/things/{id}', method: GET }, respond: { status: 200, body: one } }
  - { match: { path: '/things/{id}', method: [PUT, DELETE] }, respond: { status: 204 } }
  - { match: { path: '/things/new', method: GET }, respond: { status: 200, body: form } }
  - { match: { path: '/things/{id}', method: GET, host: other.test }, respond: { status: 200, body: other } }
  - { match: { path: '/things/{id}', method: GET, headers: { x-beta: '' } }, respond: { status: 200, body: beta } }
  - { match: { path: '/old/{id}' }, redirect: { to: '/things/{id}' } }
";

#[tokio::test]
async fn the_most_exact_route_is_taken() {
    let gateway = Running::start(SHOP).await;
    assert_eq!(gateway.get("/things/42").await.body, "one");
    assert_eq!(gateway.get("/things/new").await.body, "form");
    assert_eq!(gateway.get("//things/./x/../42").await.body, "one");
    assert_eq!(gateway.get("/%74hings/42").await.body, "one");
    assert_eq!(gateway.send("GET", "/things/42", &[("x-beta", "1")], "").await.body, "beta");
    let old = gateway.get("/old/42?a=b").await;
    assert_eq!((old.status.as_u16(), old.header("location")), (308, "/things/42?a=b".to_owned()));
    gateway.stop().await;
}

#[tokio::test]
async fn an_unknown_path_is_404_and_a_known_one_with_another_method_405() {
    let gateway = Running::start(SHOP).await;
    let unknown = gateway.get("/nothing").await;
    assert_eq!(unknown.status, 404);
    assert_eq!(unknown.problem()["instance"], "/nothing");
    let other = gateway.send("POST", "/things/42", &[], "").await;
    assert_eq!(other.status, 405);
    assert_eq!(other.header("allow"), "DELETE, GET, HEAD, OPTIONS, PUT");
    assert_eq!(other.problem()["title"], "The method is not allowed here");
    gateway.stop().await;
}

#[tokio::test]
async fn head_and_options_need_no_route_of_their_own() {
    let gateway = Running::start(SHOP).await;
    let head = gateway.send("HEAD", "/things/42", &[], "").await;
    assert_eq!((head.status.as_u16(), head.body.as_str(), head.header("content-length").as_str()), (200, "", "3"));
    let options = gateway.send("OPTIONS", "/things/42", &[], "").await;
    assert_eq!(options.status, 204);
    assert_eq!(options.header("allow"), "DELETE, GET, HEAD, OPTIONS, PUT");
    assert_eq!(gateway.send("OPTIONS", "/nothing", &[], "").await.status, 404);
    gateway.stop().await;
}

#[tokio::test]
async fn a_path_with_two_readings_is_refused() {
    let gateway = Running::start(SHOP).await;
    for path in ["/things/a%2fb", "/things/%00", "/things/%5c", "/things/%zz", "/things/%"] {
        let answer = gateway.get(path).await;
        assert_eq!(answer.status, 400, "{path}");
        answer.problem();
    }
    gateway.stop().await;
}

#[tokio::test]
async fn what_was_matched_is_what_is_forwarded() {
    let gateway = Running::start(&passing_on(echo().await)).await;
    let told: serde_json::Value =
        serde_json::from_str(&gateway.get("/a/../b//c/%7Ed%c3%a9?x=%2f..").await.body).unwrap();
    assert_eq!(told["path"], "/b/c/~d%C3%A9?x=%2f..");
    gateway.stop().await;
}

#[tokio::test]
async fn a_grpc_caller_is_refused_in_its_own_way() {
    let gateway = Running::start(SHOP).await;
    let answer = gateway.send("POST", "/no.Such/Method", &[("content-type", "application/grpc")], "").await;
    assert_eq!((answer.status.as_u16(), answer.header("grpc-status").as_str()), (200, "5"));
    gateway.stop().await;
}
