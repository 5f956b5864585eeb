//! Making invoices.

use std::collections::BTreeSet;

use events::{Data, Envelope};
use stage::on_both;
use tokio::task::JoinSet;

use crate::shop::{Shop, wish};

on_both!(
    an_invoice_is_made_of_what_was_asked_for,
    an_order_gets_one_invoice_however_often_it_is_asked_for,
    a_redelivered_command_makes_no_second_invoice,
    fifty_at_once_are_numbered_without_a_gap,
    an_invoice_is_announced_to_all_and_to_its_order,
);

async fn an_invoice_is_made_of_what_was_asked_for(shop: Shop) {
    shop.order().request(wish("1")).await.unwrap();
    let invoice = shop.caller("customers/ada", &["shop"]).made("1").await;
    let wished = wish("1");
    assert_eq!((invoice.number.as_str(), invoice.etag.as_str()), ("INV-000001", "1"));
    assert_eq!((invoice.order_id, invoice.customer), (wished.order_id, wished.customer));
    assert_eq!((invoice.lines, invoice.total), (wished.lines, wished.total));
    assert!(!invoice.id.is_empty() && invoice.issued_at.is_some());
}

async fn an_order_gets_one_invoice_however_often_it_is_asked_for(shop: Shop) {
    let commands = shop.stage.witness("INVOICE_COMMANDS/*");
    let mut wishes = JoinSet::new();
    for _ in 0..10 {
        let order = shop.order();
        wishes.spawn(async move { order.request(wish("1")).await });
    }
    while let Some(answer) = wishes.join_next().await {
        assert_eq!(answer.unwrap().unwrap(), "1");
    }
    let ada = shop.caller("customers/ada", &["shop"]);
    let first = ada.made("1").await;
    let mut other = wish("1");
    other.customer = "customers/grace".to_owned();
    shop.order().request(other).await.unwrap();
    shop.order().request(wish("2")).await.unwrap();
    assert_eq!(ada.made("2").await.number, "INV-000002");
    assert_eq!(ada.get("1").await.unwrap(), first);
    // The second order's command is the last: there was one for the first.
    let subjects: Vec<_> = commands.at_least(2).await.iter().map(|event| event.subject.clone()).collect();
    assert_eq!(subjects, [Some("orders/1".to_owned()), Some("orders/2".to_owned())]);
}

async fn a_redelivered_command_makes_no_second_invoice(shop: Shop) {
    let commands = shop.stage.witness("INVOICE_COMMANDS/*");
    let records = shop.stage.witness("DB/*");
    shop.order().request(wish("1")).await.unwrap();
    let ada = shop.caller("customers/ada", &["shop"]);
    let first = ada.made("1").await;
    // As another event, so that neither the bus nor an inbox knows it; and on a second instance, to be taken at once.
    shop.start().await;
    let mut again = Envelope::clone(&commands.at_least(1).await[0]);
    for n in 0..3 {
        again.id = format!("again-{n}");
        shop.stage.bus.publish(vec![again.clone()]).await.unwrap();
    }
    // A command that nobody asked for makes none either.
    again.id = "unasked".to_owned();
    again.subject = Some("orders/9".to_owned());
    again.partitionkey = None;
    again.data = Some(Data::Json(serde_json::json!({ "orderId": "9" })));
    shop.stage.bus.publish(vec![again]).await.unwrap();
    shop.order().request(wish("2")).await.unwrap();
    assert_eq!(ada.made("2").await.number, "INV-000002");
    assert_eq!(ada.get("1").await.unwrap(), first);
    assert_eq!(records.at_least(2).await.len(), 2);
}

async fn fifty_at_once_are_numbered_without_a_gap(shop: Shop) {
    shop.start().await;
    let mut wishes = JoinSet::new();
    for n in 0..50 {
        let (order, ada) = (shop.order(), shop.caller("customers/ada", &["shop"]));
        wishes.spawn(async move {
            let order_id = format!("order-{n}");
            order.request(wish(&order_id)).await.unwrap();
            ada.made(&order_id).await.number
        });
    }
    let numbers: BTreeSet<String> = wishes.join_all().await.into_iter().collect();
    let expected: BTreeSet<String> = (1..=50).map(|n| format!("INV-{n:06}")).collect();
    assert_eq!(numbers, expected);
}

async fn an_invoice_is_announced_to_all_and_to_its_order(shop: Shop) {
    let records = shop.stage.witness("DB/*");
    let announced = shop.stage.witness("INVOICES/*");
    let commands = shop.stage.witness("INVOICE_COMMANDS/*");
    shop.order().request(wish("1")).await.unwrap();
    let invoice = shop.caller("customers/ada", &["shop"]).made("1").await;
    let record = &records.at_least(1).await[0];
    assert_eq!(record.event.as_str(), "CREATE");
    assert_eq!(record.subject.as_deref(), Some(format!("invoices/{}", invoice.id).as_str()));
    let announced = &announced.at_least(1).await[0];
    assert_eq!((announced.event.as_str(), announced.subject.as_deref()), ("CREATED", Some("orders/1")));
    let command = &commands.at_least(1).await[0];
    for event in [record, announced] {
        assert_eq!((event.source.as_str(), event.owner.as_deref()), ("/services/invoice", Some("customers/ada")));
        assert_eq!(event.causationid.as_ref(), Some(&command.id));
        let data = event.json().unwrap();
        assert_eq!((&data["number"], &data["orderId"]), (&"INV-000001".into(), &"1".into()));
        assert_eq!(data["total"]["minorUnits"], "1900");
    }
}
