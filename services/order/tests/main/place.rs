//! Placing an order.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use order::domain::Status;
use proto::shop::order::v1::Order;
use stage::{BOUND, fields, on_both, preconditions};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::{
    customer::{Customer, Wish},
    fake::Fault,
    shop::{CONFIRMED, Shop, rejected},
};

on_both!(
    a_cart_becomes_a_confirmed_order,
    services_are_found_by_their_names,
    what_is_short_is_rejected_and_given_back,
    an_empty_cart_is_refused,
    a_line_that_is_gone_is_refused_by_its_name,
    a_cart_that_is_away_is_unavailable,
    a_cart_s_refusal_is_our_own_fault,
    a_repeated_key_answers_the_first_order,
    a_raced_key_makes_one_order,
    one_version_of_a_cart_makes_one_order,
    whoever_prefers_to_wait_gets_the_settled_order,
    a_wait_ends_in_time,
    a_wait_sees_what_another_process_does,
    a_bad_key_is_refused,
    only_customers_who_are_signed_in_place_orders,
    every_change_is_announced_in_order,
);

async fn a_cart_becomes_a_confirmed_order(shop: Shop) {
    let instance = shop.start().await;
    let ada = shop.customer("ada", &instance);
    shop.product.restock("tea", 10);
    shop.product.restock("cup", 1);
    shop.cart.add("customers/ada", "tea", 3);
    shop.cart.add("customers/ada", "cup", 1);
    let placed = ada.place().await.unwrap();
    assert_eq!((placed.customer.as_str(), placed.status.as_str()), ("customers/ada", "pending"));
    assert_eq!((placed.cart_version, placed.etag.as_str()), (2, "1"));
    let total = placed.total.clone().unwrap();
    assert_eq!((total.minor_units, total.currency.as_str()), (1_200, "EUR"));

    let finished = shop.finished(&placed.id).await;
    assert_eq!(finished.status(), Status::Confirmed);
    assert_eq!((shop.product.stock("tea"), shop.product.stock("cup")), (7, 0));
    assert_eq!(shop.cart.items("customers/ada"), []);
    let bill = shop.invoice.requested(&placed.id).unwrap();
    assert_eq!(bill.customer, "customers/ada");
    let amounts: Vec<_> = bill.lines.iter().map(|line| line.amount.as_ref().unwrap().minor_units).collect();
    assert_eq!((amounts, bill.total), (vec![900, 300], placed.total.clone()));

    let order = ada.get(&placed.id).await.unwrap();
    assert_eq!((order.status.as_str(), order.etag.as_str(), order.reason.as_str()), ("confirmed", "5", ""));
    assert_eq!((order.lines, order.created_at), (placed.lines, placed.created_at));
    let history = ada.history(&placed.id).await.unwrap().events;
    assert_eq!(history.iter().map(|event| event.r#type.as_str()).collect::<Vec<_>>(), CONFIRMED);
    assert_eq!(history.iter().map(|event| event.version).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert!(history.is_sorted_by_key(|event| event.time.map(|time| (time.seconds, time.nanos))));
    let detail = &history[0].detail.as_ref().unwrap().fields;
    assert_eq!(detail["cart_version"], 2.0.into());
    assert_eq!(detail["customer"], "customers/ada".to_owned().into());
}

async fn services_are_found_by_their_names(shop: Shop) {
    let [cart, product, invoice] = shop.by_name();
    let instance = shop
        .start_with(|config| {
            config.cart = cart;
            config.product = product;
            config.invoice = invoice;
        })
        .await;
    let ada = shop.customer("ada", &instance);
    shop.product.restock("tea", 1);
    shop.cart.add("customers/ada", "tea", 1);
    let placed = ada.place().await.unwrap();
    assert_eq!(shop.finished(&placed.id).await.status(), Status::Confirmed);
}

async fn what_is_short_is_rejected_and_given_back(shop: Shop) {
    let instance = shop.start().await;
    let ada = shop.customer("ada", &instance);
    shop.product.restock("tea", 10);
    shop.product.restock("cup", 1);
    shop.cart.add("customers/ada", "tea", 3);
    shop.cart.add("customers/ada", "cup", 2);
    let order = ada.place_as(Wish { prefer: Some("wait=10"), ..Wish::default() }).await.unwrap();
    assert_eq!((order.status.as_str(), order.reason.as_str()), ("rejected", "products/cup is short"));
    shop.finished(&order.id).await;
    assert_eq!(shop.history(&order.id).await, ["OrderPlaced", "OrderRejected", "StockReleased"]);
    assert_eq!((shop.product.stock("tea"), shop.product.stock("cup")), (10, 1));
    assert_eq!(shop.cart.items("customers/ada").len(), 2, "the cart stays as it is");
}

async fn an_empty_cart_is_refused(shop: Shop) {
    let ada = shop.customer("ada", &shop.start().await);
    let refused = ada.place().await.unwrap_err();
    assert_eq!((refused.code(), preconditions(&refused)), (Code::FailedPrecondition, pairs(&[("CART", "cart")])));
    assert!(ada.list(0, "").await.unwrap().orders.is_empty());
}

async fn a_line_that_is_gone_is_refused_by_its_name(shop: Shop) {
    let ada = shop.customer("ada", &shop.start().await);
    shop.cart.add("customers/ada", "tea", 1);
    shop.cart.add("customers/ada", "cup", 1);
    shop.cart.change("customers/ada", |cart| cart.items[1].available = false);
    let refused = ada.place().await.unwrap_err();
    assert_eq!(
        (refused.code(), preconditions(&refused)),
        (Code::FailedPrecondition, pairs(&[("CART", "products/cup")]))
    );
}

async fn a_cart_that_is_away_is_unavailable(shop: Shop) {
    let ada = shop.customer("ada", &shop.start().await);
    shop.cart.add("customers/ada", "tea", 1);
    shop.cart.get.set_away(true);
    assert_eq!(ada.place().await.unwrap_err().code(), Code::Unavailable);
    shop.cart.get.set_away(false);
    ada.place().await.unwrap();
}

async fn a_cart_s_refusal_is_our_own_fault(shop: Shop) {
    let ada = shop.customer("ada", &shop.start().await);
    shop.cart.get.fail_next(Fault::Blame);
    let refused = ada.place().await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::Internal, "internal error"));
    assert!(telemetry::render().contains("turnpike_order_callee_faults_total{callee=\"cart\"} 1"));
}

async fn a_repeated_key_answers_the_first_order(shop: Shop) {
    let instance = shop.start().await;
    let ada = shop.customer("ada", &instance);
    shop.product.restock("tea", 10);
    shop.cart.add("customers/ada", "tea", 1);
    let wish = Wish { key: Some("once"), ..Wish::default() };
    let first = ada.place_as(wish).await.unwrap();
    assert_eq!(ada.place_as(wish).await.unwrap().id, first.id);
    // Also when the cart was cleared, when it was filled again, and when it is away.
    shop.finished(&first.id).await;
    assert_eq!(ada.place_as(wish).await.unwrap().id, first.id);
    shop.cart.add("customers/ada", "tea", 2);
    assert_eq!(ada.place_as(wish).await.unwrap().id, first.id);
    shop.cart.get.set_away(true);
    let repeated = ada.place_as(wish).await.unwrap();
    assert_eq!((repeated.id, repeated.status.as_str()), (first.id.clone(), "confirmed"));
    shop.cart.get.set_away(false);
    // The key is the customer's own.
    let grace = shop.customer("grace", &instance);
    shop.cart.add("customers/grace", "tea", 1);
    assert_ne!(grace.place_as(wish).await.unwrap().id, first.id);
    assert_eq!(ada.list(0, "").await.unwrap().orders.len(), 1);
}

async fn a_raced_key_makes_one_order(shop: Shop) {
    let ada = shop.customer("ada", &shop.start().await);
    shop.product.restock("tea", 100);
    for round in 0..5 {
        shop.cart.add("customers/ada", "tea", 1);
        let key = format!("race {round}");
        let answers = race(&ada, 8, Some(key)).await;
        let ids: BTreeSet<_> = answers.iter().map(|answer| answer.as_ref().unwrap().id.clone()).collect();
        assert_eq!(ids.len(), 1, "{answers:?}");
        for id in ids {
            shop.finished(&id).await;
        }
    }
    assert_eq!((shop.product.stock("tea"), shop.invoice.count()), (95, 5));
}

async fn one_version_of_a_cart_makes_one_order(shop: Shop) {
    let ada = shop.customer("ada", &shop.start().await);
    shop.cart.add("customers/ada", "tea", 1);
    // So that the cart is not cleared meanwhile.
    shop.product.reserve.set_away(true);
    let answers = race(&ada, 8, None).await;
    let made: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().ok()).collect();
    assert_eq!(made.len(), 1, "{answers:?}");
    for refused in answers.iter().filter_map(|answer| answer.as_ref().err()) {
        assert_eq!(refused.code(), Code::AlreadyExists);
        let resource = refused.get_details_resource_info().unwrap();
        assert_eq!(resource.resource_name, format!("orders/{}", made[0].id));
    }
    let other_key = ada.place_as(Wish { key: Some("another"), ..Wish::default() }).await;
    assert_eq!(other_key.unwrap_err().code(), Code::AlreadyExists);
    shop.cart.add("customers/ada", "tea", 1);
    assert_ne!(ada.place().await.unwrap().id, made[0].id);
}

async fn whoever_prefers_to_wait_gets_the_settled_order(shop: Shop) {
    let ada = shop.customer("ada", &shop.start().await);
    shop.product.restock("tea", 1);
    shop.cart.add("customers/ada", "tea", 1);
    let wish = Wish { key: Some("once"), prefer: Some("respond-async, wait=5"), ..Wish::default() };
    let order = ada.place_as(wish).await.unwrap();
    assert_eq!(order.status, "confirmed");
    assert_eq!(ada.place_as(wish).await.unwrap().id, order.id);
}

async fn a_wait_ends_in_time(shop: Shop) {
    let ada = shop.customer("ada", &shop.start().await);
    shop.product.reserve.set_away(true);
    shop.cart.add("customers/ada", "tea", 1);
    let begun = Instant::now();
    let wish = Wish { key: Some("once"), prefer: Some("wait=1"), timeout: None };
    assert_eq!(ada.place_as(wish).await.unwrap().status, "pending");
    assert!(begun.elapsed() >= Duration::from_secs(1));
    // The deadline comes first, and the answer before the deadline.
    let wish = Wish { prefer: Some("wait=10"), timeout: Some(Duration::from_secs(2)), ..wish };
    assert_eq!(ada.place_as(wish).await.unwrap().status, "pending");
    assert!(begun.elapsed() < Duration::from_secs(10));
}

async fn a_wait_sees_what_another_process_does(shop: Shop) {
    let order = shop.placed(1, 1).await;
    // Each store tells its own changes only, as that of a process does.
    let (here, elsewhere) = (shop.store().await, shop.store().await);
    let until = tokio::time::Instant::now() + BOUND;
    let (waited, appended) =
        tokio::join!(order::changes::settled(&here, order.clone(), until), elsewhere.append(&order, rejected(), None));
    assert_eq!(waited.unwrap(), appended.unwrap());
    assert!(tokio::time::Instant::now() < until);
}

async fn a_bad_key_is_refused(shop: Shop) {
    let ada = shop.customer("ada", &shop.start().await);
    shop.cart.add("customers/ada", "tea", 1);
    let long = "k".repeat(256);
    let refused = ada.place_as(Wish { key: Some(&long), ..Wish::default() }).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(fields(&refused), ["idempotency-key"]);
}

async fn only_customers_who_are_signed_in_place_orders(shop: Shop) {
    let instance = shop.start().await;
    let nobody = Customer::new(instance.anyone());
    assert_eq!(nobody.place().await.unwrap_err().code(), Code::Unauthenticated);
    let stranger = Customer::new(instance.caller("customers/ada", &["catalog:write"]));
    assert_eq!(stranger.place().await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(shop.cart.get.calls(), 0);
}

async fn every_change_is_announced_in_order(shop: Shop) {
    let ada = shop.customer("ada", &shop.start().await);
    let records = shop.stage.witness("DB/*");
    let commands = shop.stage.witness("ORDER_COMMANDS/*");
    shop.product.restock("tea", 1);
    shop.cart.add("customers/ada", "tea", 1);
    let order = ada.place_as(Wish { key: Some("once"), ..Wish::default() }).await.unwrap();
    let subject = format!("orders/{}", order.id);
    let records = records.of(&subject, 5).await;
    let derived = |step| outbox::Event::new(step, "", serde_json::json!({})).of_request("customers/ada", "once").id;
    assert_eq!(Some(&records[0].id), derived("DB/CREATE").as_ref(), "edge, database and bus agree");
    let told: Vec<_> = records
        .iter()
        .map(|event| {
            let record = event.json().unwrap();
            (event.event.as_str().to_owned(), record["etag"].clone(), record["status"].clone())
        })
        .collect();
    let expected = [
        ("CREATE", "1", "pending"),
        ("UPDATE", "2", "pending"),
        ("UPDATE", "3", "pending"),
        ("UPDATE", "4", "confirmed"),
        ("UPDATE", "5", "confirmed"),
    ];
    assert_eq!(told, expected.map(|(event, etag, status)| (event.to_owned(), etag.into(), status.into())));
    let command = &commands.of(&subject, 1).await[0];
    assert_eq!(command.event.as_str(), "PLACE");
    assert_eq!(Some(&command.id), derived("ORDER_COMMANDS/PLACE").as_ref());
    for event in &records {
        assert_eq!((event.source.as_str(), event.owner.as_deref()), ("/services/order", Some("customers/ada")));
    }
    assert!(records[1..].iter().all(|event| event.causationid.as_ref() == Some(&command.id)));
}

async fn race(customer: &Customer, count: usize, key: Option<String>) -> Vec<Result<Order, tonic::Status>> {
    let key = Arc::new(key);
    let racers = (0..count).map(|_| {
        let (customer, key) = (customer.clone(), Arc::clone(&key));
        tokio::spawn(async move {
            let wish = Wish { key: key.as_deref(), ..Wish::default() };
            customer.place_as(wish).await
        })
    });
    let mut answers = Vec::new();
    for racer in racers.collect::<Vec<_>>() {
        answers.push(tokio::time::timeout(BOUND, racer).await.unwrap().unwrap());
    }
    answers
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(kind, subject)| ((*kind).to_owned(), (*subject).to_owned())).collect()
}
