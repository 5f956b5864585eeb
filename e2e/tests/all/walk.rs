//! What the README promises a newcomer, on the embedded defaults and on PostgreSQL.

use e2e::{FleetOptions, Options, System};
use serde_json::{Value, json};
use testkit::{Certificates, Redis, RedisOptions, Tls};

#[tokio::test]
async fn the_shop_sells_on_the_embedded_defaults() {
    let mut system = System::start(Options::default()).await;
    walk(&mut system).await;
}

#[tokio::test]
async fn the_shop_sells_on_postgresql() {
    let postgres = testkit::postgres().await;
    let mut system = System::start(Options { database: Some(postgres.url()), ..Options::default() }).await;
    walk(&mut system).await;
}

#[tokio::test]
async fn the_shop_sells_as_separate_processes_on_redis_and_postgresql() {
    let (redis, postgres) = tokio::join!(testkit::redis(), testkit::postgres());
    let mut system = System::start_fleet(&FleetOptions::new(&redis.url(), &postgres.url())).await;
    walk(&mut system).await;
}

#[tokio::test]
async fn the_shop_sells_on_a_redis_by_tls_as_a_user_with_few_rights() {
    let certificates = Certificates::make();
    let tls = Some(Tls { certificates: certificates.clone(), mutual: true });
    let users = vec!["default off".to_owned(), "shop on >secret ~tp:* &tp:* +@all -@dangerous +info".to_owned()];
    let redis = Redis::start(RedisOptions { tls, users, ..RedisOptions::default() }).await;
    let (certificate, key) = certificates.client();
    let url = format!(
        "{}?ca={}&certificate={}&key={}",
        redis.url().replace("rediss://", "rediss://shop:secret@"),
        certificates.authority().display(),
        certificate.display(),
        key.display()
    );
    let arguments = vec!["--redis".to_owned(), url];
    let mut system = System::start(Options { arguments, ..Options::default() }).await;
    let ops = system.ops();
    testkit::eventually("the gateway shares it", std::time::Duration::from_secs(20), || async {
        (ops.get("/shared").await.expect(200).json()["redis"]["reachable"] == true).then_some(())
    })
    .await;
    walk(&mut system).await;
}

async fn walk(system: &mut System) {
    browse(system).await;
    order_with_the_demo_key(system).await;
    order_with_a_session(system).await;
    refusals(system).await;
    change_the_catalogue(system).await;
    a_list_is_kept_until_it_changes(system).await;
    a_page_without_reviews(system).await;
    everything_was_logged(system).await;
}

async fn browse(system: &System) {
    let anyone = system.anonymous();
    let first = anyone.get("/products?page_size=5").await.expect(200).json();
    assert_eq!(first["products"].as_array().unwrap().len(), 5);
    let token = first["nextPageToken"].as_str().unwrap();
    let second = anyone.get(&format!("/products?page_size=5&page_token={token}")).await.expect(200).json();
    assert_ne!(first["products"][0]["id"], second["products"][0]["id"]);

    let page = anyone.get("/products/teapot").await.expect(200).json();
    assert_eq!(page["product"]["id"], "teapot");
    assert_eq!(page["product"]["price"]["currency"], "EUR");
    assert!(page["reviews"].as_array().is_some_and(|reviews| !reviews.is_empty()), "{page}");
    assert!(page["stock"]["available"].is_string(), "{page}");
    assert_eq!(page["_meta"]["parts"]["reviews"]["status"], "ok", "{page}");
}

async fn order_with_the_demo_key(system: &System) {
    let demo = system.demo();
    // The cart's copy of the catalogue comes by events: a moment after the products themselves.
    let cart = testkit::eventually("the cart knows the teapot", std::time::Duration::from_secs(20), || async {
        let answer = demo.post("/cart/add", json!({"product_id": "teapot", "quantity": 2})).await;
        (answer.status == 200).then(|| answer.json())
    })
    .await;
    assert_eq!(cart["items"][0]["productId"], "teapot");
    assert_eq!(cart["items"][0]["quantity"], "2");

    let stock = available(system, "teapot").await;
    let placing = demo.with("idempotency-key", "walk-1").with("prefer", "wait=10");
    let placed = placing.post("/order/place", json!({})).await.expect(201);
    let order = placed.json();
    let location = placed.header("location").unwrap().to_owned();
    assert_eq!(location, format!("/orders/{}", order["id"].as_str().unwrap()));
    let order = system.settled(&demo, order["id"].as_str().unwrap()).await;
    assert_eq!(order["status"], "confirmed", "{order}");
    assert_eq!(available(system, "teapot").await, stock - 2);

    let repeated = placing.post("/order/place", json!({})).await.json();
    assert_eq!(repeated["id"], order["id"], "the same Idempotency-Key answers the same order");
    assert_eq!(available(system, "teapot").await, stock - 2);

    let listed = demo.get("/orders").await.expect(200).json();
    assert_eq!(listed["orders"][0]["id"], order["id"]);
    let history = history(system, &demo, &location).await;
    assert_eq!(history, ["OrderPlaced", "StockReserved", "InvoiceRequested", "OrderConfirmed", "CartCleared"]);
    let invoice = invoice(&demo, &location).await;
    assert_eq!(invoice["orderId"], order["id"]);
    assert_eq!(invoice["total"], order["total"]);
    let cart = demo.get("/cart").await.expect(200).json();
    assert_eq!(cart["items"], json!([]));
}

async fn order_with_a_session(system: &System) {
    let customer = system.customer("walker@example.com").await;
    let who = customer.get("/session").await.expect(200).json();
    assert!(who["subject"].as_str().unwrap().starts_with("customers/"), "{who}");

    customer.post("/cart/add", json!({"productId": "espresso-cup", "quantity": 1})).await.expect(200);
    let order = customer.post("/order/place", json!({})).await.expect(201).json();
    let id = order["id"].as_str().unwrap();
    assert_eq!(system.settled(&customer, id).await["status"], "confirmed");
    invoice(&customer, &format!("/orders/{id}")).await;

    // Nobody sees another's order.
    system.demo().get(&format!("/orders/{id}")).await.problem(404);
    system.demo().get(&format!("/orders/{id}/invoice")).await.problem(404);

    let review = json!({"rating": 5, "text": "Holds espresso."});
    customer.post("/products/espresso-cup/reviews", review.clone()).await.expect(201);
    customer.post("/products/espresso-cup/reviews", review).await.problem(409);

    customer.delete("/session").await.expect(204);
    customer.get("/session").await.problem(401);
}

async fn refusals(system: &System) {
    let anyone = system.anonymous();
    anyone.get("/cart").await.problem(401);
    anyone.with("x-api-key", "tk_wrong_key").get("/cart").await.problem(401);
    anyone.get("/nothing/here").await.problem(404);
    anyone.get("/products/no-such-product").await.problem(404);
    let wrong_method = anyone.delete("/products").await;
    let allow = wrong_method.header("allow").unwrap().to_owned();
    assert!(allow.contains("GET") && allow.contains("POST"), "{allow}");
    wrong_method.problem(405);
    let head = anyone.send(hyper::Method::HEAD, "/products", None).await.expect(200);
    assert!(head.body.is_empty());
    let options = anyone.send(hyper::Method::OPTIONS, "/products", None).await.expect(204);
    assert!(options.header("allow").unwrap().contains("GET"));

    let demo = system.demo();
    demo.post("/products", json!({"name": "X"})).await.problem(403);
    let invalid = demo.post("/cart/add", json!({"product_id": "teapot", "quantity": 0})).await.problem(400);
    assert_eq!(invalid["errors"][0]["field"], "quantity", "{invalid}");
    let unknown = demo.post("/cart/add", json!({"product": "teapot"})).await.problem(400);
    assert_eq!(unknown["errors"][0]["field"], "product", "{unknown}");
    let account = json!({"email": "no-address", "password": "short", "name": ""});
    let invalid = anyone.post("/accounts", account).await.problem(400);
    let fields: Vec<&str> = invalid["errors"].as_array().unwrap().iter().filter_map(|e| e["field"].as_str()).collect();
    assert_eq!(fields, ["email", "password", "name"]);
    demo.post("/order/place", json!({})).await.problem(400);
}

async fn change_the_catalogue(system: &System) {
    let operator = system.operator().await;
    let product = json!({
        "name": "Walking stick", "category": "outdoor", "price": {"minorUnits": "4999", "currency": "EUR"},
    });
    let created = operator.post("/products", product).await.expect(201);
    let id = created.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(created.header("location"), Some(format!("/products/{id}").as_str()));
    let etag = created.header("etag").unwrap().to_owned();

    let current = operator.with("if-match", &etag);
    let cheaper = json!({"price": {"minorUnits": "3999", "currency": "EUR"}});
    let changed = current.patch(&format!("/products/{id}"), cheaper.clone()).await.expect(200).json();
    assert_eq!(changed["name"], "Walking stick", "a PATCH leaves alone what it doesn't name");
    assert_eq!(changed["price"]["minorUnits"], "3999");
    current.patch(&format!("/products/{id}"), cheaper).await.problem(412);

    operator.post(&format!("/products/{id}/restock"), json!({"quantity": "3"})).await.expect(200);
    assert_eq!(available(system, &id).await, 3);

    // More than there is: the order is rejected and takes nothing.
    let customer = system.customer("greedy@example.com").await;
    testkit::eventually("the cart knows the new product", std::time::Duration::from_secs(10), || async {
        let added = customer.post("/cart/add", json!({"productId": id, "quantity": 4})).await;
        (added.status == 200).then_some(())
    })
    .await;
    let order = customer.post("/order/place", json!({})).await.expect(201).json();
    let order = system.settled(&customer, order["id"].as_str().unwrap()).await;
    assert_eq!(order["status"], "rejected");
    assert!(!order["reason"].as_str().unwrap().is_empty());
    assert_eq!(available(system, &id).await, 3);
    customer.get(&format!("/orders/{}/invoice", order["id"].as_str().unwrap())).await.problem(404);

    operator.delete(&format!("/products/{id}")).await.expect(204);
    operator.get(&format!("/products/{id}")).await.problem(404);
}

async fn a_list_is_kept_until_it_changes(system: &System) {
    let (anyone, operator) = (system.anonymous(), system.operator().await);
    let list = "/products?category=outdoor&page_size=100";
    let soon = std::time::Duration::from_secs(20);
    testkit::eventually("the list is kept", soon, || async {
        let answer = anyone.get(list).await.expect(200);
        answer.header("cache-status").is_some_and(|status| status.contains("; hit")).then_some(())
    })
    .await;
    let product = json!({"name": "Lantern", "category": "outdoor", "price": {"minorUnits": "2500", "currency": "EUR"}});
    let created = operator.post("/products", product).await.expect(201).json();
    // It would be good for a minute.
    testkit::eventually("the list has what is new", soon, || async {
        let products = anyone.get(list).await.expect(200).json();
        products["products"].as_array()?.iter().any(|product| product["id"] == created["id"]).then_some(())
    })
    .await;
}

async fn a_page_without_reviews(system: &mut System) {
    system.change("review", "stop").await;
    let page = system.anonymous().get("/products/teapot").await.expect(200).json();
    assert_eq!(page["product"]["id"], "teapot");
    assert_eq!(page["reviews"], json!([]));
    assert_ne!(page["_meta"]["parts"]["reviews"]["status"], "ok", "{page}");
    system.anonymous().get("/products/teapot/reviews").await.problem(503);

    system.change("review", "start").await;
    testkit::eventually("the reviews are back", std::time::Duration::from_secs(20), || async {
        let page = system.anonymous().get("/products/teapot").await.expect(200).json();
        (page["_meta"]["parts"]["reviews"]["status"] == "ok").then_some(())
    })
    .await;
}

async fn everything_was_logged(system: &System) {
    let ops = system.ops_of("logger");
    testkit::eventually("the logger counts each event", std::time::Duration::from_secs(20), || async {
        let summaries = ops.get("/logger/summaries?queue=DB").await.expect(200).json();
        let total = |event: &str, source: &str| -> u64 {
            let rows = summaries["summaries"].as_array().into_iter().flatten();
            let of = rows.filter(|row| row["event"] == event && row["source"] == source);
            of.filter_map(|row| row["events"].as_u64()).sum()
        };
        // Demo and operator; walker and greedy.
        let accounts = total("CREATE", "/services/customer");
        assert!(accounts <= 4, "an account was logged twice: {summaries}");
        let orders = total("CREATE", "/services/order");
        assert!(orders <= 3, "an order was logged twice: {summaries}");
        (accounts == 4 && orders == 3 && total("CREATE", "/services/invoice") == 2).then_some(())
    })
    .await;
    let logged = ops.get("/logger/events?queue=DB&subject=customers/demo").await.expect(200).json();
    assert!(!logged.to_string().contains("argon2"), "a password hash left its service: {logged}");
}

async fn available(system: &System, product: &str) -> i64 {
    let page = system.anonymous().get(&format!("/products/{product}")).await.expect(200).json();
    page["stock"]["available"].as_str().unwrap().parse().unwrap()
}

async fn history(system: &System, client: &e2e::Client, order: &str) -> Vec<String> {
    let _ = system;
    testkit::eventually("the cart is cleared", std::time::Duration::from_secs(20), || async {
        let history = client.get(&format!("{order}/history")).await.expect(200).json();
        let types: Vec<String> = history["events"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|event| event["type"].as_str().map(str::to_owned))
            .collect();
        types.iter().any(|kind| kind == "CartCleared").then_some(types)
    })
    .await
}

async fn invoice(client: &e2e::Client, order: &str) -> Value {
    testkit::eventually("the invoice is made", std::time::Duration::from_secs(20), || async {
        let answer = client.get(&format!("{order}/invoice")).await;
        (answer.status == 200).then(|| answer.json())
    })
    .await
}
