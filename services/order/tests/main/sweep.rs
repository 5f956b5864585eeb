//! What the sweep ends, and what it leaves alone.

use std::time::Duration;

use order::domain::{Event, Status};
use stage::{BOUND, on_both};

use crate::shop::{CONFIRMED, Shop, rejected};

on_both!(
    what_stays_pending_is_rejected_and_released,
    a_rejected_order_is_released_once_product_is_back,
    nothing_is_rejected_beyond_the_point_of_no_return,
    a_lost_command_is_given_again,
    a_stalled_order_is_commanded_once_a_while,
    a_race_with_placement_has_one_winner,
);

async fn what_stays_pending_is_rejected_and_released(shop: Shop) {
    let start = |config: &mut order::Config| {
        config.pending_limit = Duration::from_millis(500);
        config.sweep_period = Duration::from_millis(100);
    };
    let ada = shop.customer("ada", &shop.start_with(start).await);
    shop.product.restock("tea", 1);
    shop.product.reserve.set_away(true);
    shop.cart.add("customers/ada", "tea", 1);
    let order = ada.place().await.unwrap();
    assert_eq!(shop.finished(&order.id).await.status(), Status::Rejected);
    let order = ada.get(&order.id).await.unwrap();
    assert_eq!((order.status.as_str(), order.reason.as_str()), ("rejected", "it could not be processed in time"));
    // Product comes back; the attempts that are still under way find the order finished.
    shop.product.reserve.set_away(false);
    shop.finished(&order.id).await;
    assert_eq!(shop.product.stock("tea"), 1);
}

async fn a_rejected_order_is_released_once_product_is_back(shop: Shop) {
    shop.product.restock("tea", 1);
    let (placement, sweep) = (shop.placement().await, shop.sweep().await);
    let order = shop.placed(1, 1).await;
    let order = placement.step(&order, None).await.unwrap();
    assert_eq!(shop.product.stock("tea"), 0);
    shop.product.release.set_away(true);
    sweep.run().await.unwrap();
    sweep.run().await.unwrap();
    assert_eq!(shop.history(&order.id).await, ["OrderPlaced", "StockReserved", "OrderRejected"]);
    shop.product.release.set_away(false);
    sweep.run().await.unwrap();
    assert_eq!(shop.finished(&order.id).await.status(), Status::Rejected);
    assert_eq!(shop.product.stock("tea"), 1);
    let calls = shop.product.release.calls();
    sweep.run().await.unwrap();
    assert_eq!(shop.product.release.calls(), calls, "a finished order is left alone");
}

async fn nothing_is_rejected_beyond_the_point_of_no_return(shop: Shop) {
    shop.product.restock("tea", 1);
    let (placement, sweep, store) = (shop.placement().await, shop.sweep().await, shop.store().await);
    let mut order = shop.placed(1, 1).await;
    for _ in 0..2 {
        order = placement.step(&order, None).await.unwrap();
    }
    while !order.stage.is_finished() {
        sweep.run().await.unwrap();
        assert!(store.append(&order, rejected(), None).await.is_err());
        assert_eq!(shop.history(&order.id).await.len(), usize::try_from(order.version).unwrap());
        order = placement.step(&order, None).await.unwrap();
    }
    shop.finished(&order.id).await;
    assert_eq!(shop.history(&order.id).await, CONFIRMED);
}

async fn a_lost_command_is_given_again(shop: Shop) {
    shop.product.restock("tea", 1);
    let placement = shop.placement().await;
    let mut order = shop.placed(1, 1).await;
    for _ in 0..2 {
        order = placement.step(&order, None).await.unwrap();
    }
    let commands = shop.stage.witness("ORDER_COMMANDS/*");
    shop.sweep().await.run().await.unwrap();
    // Only now is there anybody to take the commands: the first, and the sweep's.
    shop.start().await;
    shop.finished(&order.id).await;
    let commands = commands.of(&format!("orders/{}", order.id), 2).await;
    assert_ne!(commands[0].id, commands[1].id);
    assert_eq!(shop.history(&order.id).await, CONFIRMED);
}

async fn a_stalled_order_is_commanded_once_a_while(shop: Shop) {
    let store = shop.store().await;
    let order = shop.placed(1, 1).await;
    let before = order.created_at - Duration::from_secs(1);
    assert_eq!(store.stalled(before, 10).await.unwrap(), [""; 0]);
    assert!(!store.command_again(&order.id, before).await.unwrap());
    let after = order.created_at + Duration::from_micros(1);
    assert_eq!(store.stalled(after, 10).await.unwrap(), [order.id.as_str()]);
    let (first, second) = tokio::join!(store.command_again(&order.id, after), store.command_again(&order.id, after));
    assert!(first.unwrap() != second.unwrap(), "two sweeps at once command once");
    assert_eq!(store.stalled(after, 10).await.unwrap(), [""; 0]);
}

async fn a_race_with_placement_has_one_winner(shop: Shop) {
    shop.product.restock("tea", 100);
    let mut confirmed = 0;
    for round in 0..20 {
        let order = shop.placed(round, 1).await;
        let placement = shop.placement().await;
        let id = order.id.clone();
        let placing = tokio::spawn(async move { placement.finish(&id, None).await });
        let sweeping = sweep_from(&shop, &order.id, round % 4);
        sweeping.await;
        placing.await.unwrap().unwrap();
        let order = shop.finished(&order.id).await;
        confirmed += i64::from(order.status() == Status::Confirmed);
        let history = shop.store().await.history(&order.id).await.unwrap();
        let invoiced = history.iter().any(|recorded| recorded.event == Event::InvoiceRequested {});
        assert_eq!(invoiced, order.status() == Status::Confirmed);
    }
    assert!(confirmed >= 5, "{confirmed}: beyond the point of no return the sweep comes too late");
    assert_eq!(shop.product.stock("tea"), 100 - confirmed);
}

/// Sweeps as soon as so many events happened to an order.
async fn sweep_from(shop: &Shop, id: &str, events: i64) {
    let (store, sweep) = (shop.store().await, shop.sweep().await);
    let met = async || store.find(id).await.unwrap().filter(|order| order.version >= events);
    // No pause between the looks: it would miss placement at work.
    tokio::time::timeout(BOUND, async { while met().await.is_none() {} }).await.unwrap();
    sweep.run().await.unwrap();
}
