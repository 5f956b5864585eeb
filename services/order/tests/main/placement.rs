//! Seeing an order through, whatever fails, dies or runs twice on the way.

use order::{
    domain::{Event, Stage as At, Status},
    placement::Setback,
    store,
};
use stage::on_both;

use crate::{
    fake::{Fault, Rpc},
    shop::{CONFIRMED, Shop, rejected},
};

on_both!(
    an_order_waits_for_a_product_that_is_away,
    an_order_waits_for_a_product_that_is_not_there_at_all,
    every_call_may_fail_and_every_answer_be_lost,
    a_lost_refusal_is_refused_again,
    a_placement_killed_after_any_step_is_continued,
    a_rejection_killed_after_any_step_is_continued,
    of_many_placements_at_once_each_step_is_made_once,
    a_stale_placement_is_overtaken_at_every_step,
    a_stale_reservation_never_lands,
    what_was_added_to_the_cart_since_stays,
);

async fn an_order_waits_for_a_product_that_is_away(shop: Shop) {
    let ada = shop.customer("ada", &shop.start().await);
    shop.product.restock("tea", 1);
    shop.product.reserve.set_away(true);
    shop.cart.add("customers/ada", "tea", 1);
    let order = ada.place().await.unwrap();
    called(&shop.product.reserve, 3).await;
    assert_eq!(ada.get(&order.id).await.unwrap().status, "pending");
    shop.product.reserve.set_away(false);
    assert_eq!(shop.finished(&order.id).await.status(), Status::Confirmed);
}

async fn an_order_waits_for_a_product_that_is_not_there_at_all(mut shop: Shop) {
    shop.close_product();
    let ada = shop.customer("ada", &shop.start().await);
    shop.product.restock("tea", 1);
    shop.cart.add("customers/ada", "tea", 1);
    let order = ada.place_as(crate::customer::Wish { prefer: Some("wait=1"), ..Default::default() }).await.unwrap();
    assert_eq!(order.status, "pending");
    shop.open_product().await;
    assert_eq!(shop.finished(&order.id).await.status(), Status::Confirmed);
}

async fn every_call_may_fail_and_every_answer_be_lost(shop: Shop) {
    let ada = shop.customer("ada", &shop.start().await);
    shop.product.restock("tea", 100);
    let calls = [&shop.product.reserve, &shop.invoice.request, &shop.cart.clear];
    for fault in [Fault::Refuse, Fault::Lose, Fault::Blame] {
        for call in calls {
            shop.cart.add("customers/ada", "tea", 1);
            call.fail_next(fault);
            let order = ada.place().await.unwrap();
            shop.finished(&order.id).await;
            assert_eq!(shop.history(&order.id).await, CONFIRMED);
        }
    }
    assert_eq!((shop.product.stock("tea"), shop.invoice.count()), (91, 9));
}

async fn a_lost_refusal_is_refused_again(shop: Shop) {
    let ada = shop.customer("ada", &shop.start().await);
    for fault in [Fault::Refuse, Fault::Lose] {
        shop.cart.add("customers/ada", "tea", 1);
        shop.product.release.fail_next(fault);
        let order = ada.place().await.unwrap();
        assert_eq!(shop.finished(&order.id).await.status(), Status::Rejected);
        assert_eq!(shop.history(&order.id).await, ["OrderPlaced", "OrderRejected", "StockReleased"]);
    }
}

async fn a_placement_killed_after_any_step_is_continued(shop: Shop) {
    shop.product.restock("tea", 100);
    let placement = shop.placement().await;
    for steps in 0..=4 {
        let mut order = shop.placed(steps, 1).await;
        for _ in 0..steps {
            order = placement.step(&order, None).await.unwrap();
        }
        placement.finish(&order.id, None).await.unwrap();
        shop.finished(&order.id).await;
        assert_eq!(shop.history(&order.id).await, CONFIRMED);
        // Again, as if the acknowledgement was lost.
        placement.finish(&order.id, None).await.unwrap();
        assert_eq!(shop.history(&order.id).await, CONFIRMED);
    }
    assert_eq!((shop.product.stock("tea"), shop.product.reservations(), shop.invoice.count()), (95, 5, 5));
}

async fn a_rejection_killed_after_any_step_is_continued(shop: Shop) {
    shop.product.restock("tea", 1);
    let placement = shop.placement().await;
    for steps in 0..=2 {
        let mut order = shop.placed(steps, 2).await;
        for _ in 0..steps {
            order = placement.step(&order, None).await.unwrap();
        }
        placement.finish(&order.id, None).await.unwrap();
        assert_eq!(shop.finished(&order.id).await.status(), Status::Rejected);
    }
    assert_eq!((shop.product.stock("tea"), shop.invoice.count()), (1, 0));
}

async fn of_many_placements_at_once_each_step_is_made_once(shop: Shop) {
    shop.product.restock("tea", 100);
    for version in 0..10 {
        let order = shop.placed(version, 1).await;
        let mut racers = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let (placement, id) = (shop.placement().await, order.id.clone());
            racers.spawn(async move { placement.finish(&id, None).await });
        }
        while let Some(raced) = racers.join_next().await {
            raced.unwrap().unwrap();
        }
        shop.finished(&order.id).await;
        assert_eq!(shop.history(&order.id).await, CONFIRMED);
    }
    assert_eq!((shop.product.stock("tea"), shop.invoice.count()), (90, 10));
}

async fn a_stale_placement_is_overtaken_at_every_step(shop: Shop) {
    shop.product.restock("tea", 100);
    let placement = shop.placement().await;
    let mut stale = vec![shop.placed(0, 1).await];
    while let Some(order) = stale.last().filter(|order| !order.stage.is_finished()) {
        stale.push(placement.step(order, None).await.unwrap());
    }
    assert_eq!(stale.len(), 5);
    // The paused one wakes up where it was, and repeats its call before it learns that it was overtaken.
    for order in stale.iter().filter(|order| !order.stage.is_finished()) {
        let overtaken = placement.step(order, None).await.unwrap_err();
        assert!(matches!(overtaken, Setback::Store(store::Error::Conflict)), "{overtaken}");
    }
    shop.finished(&stale[0].id).await;
    assert_eq!(shop.history(&stale[0].id).await, CONFIRMED);
    assert_eq!((shop.product.stock("tea"), shop.invoice.count()), (99, 1));
}

async fn a_stale_reservation_never_lands(shop: Shop) {
    shop.product.restock("tea", 1);
    let placement = shop.placement().await;
    let placed = shop.placed(0, 1).await;
    shop.store().await.append(&placed, rejected(), None).await.unwrap();
    placement.finish(&placed.id, None).await.unwrap();
    let moved = placement.step(&placed, None).await.unwrap();
    assert_eq!(moved.stage, At::Released);
    shop.finished(&placed.id).await;
    assert_eq!(shop.product.stock("tea"), 1);
    // And between the rejection and the release, it is given back.
    let placed = shop.placed(1, 1).await;
    let store = shop.store().await;
    store.append(&placed, rejected(), None).await.unwrap();
    assert!(matches!(placement.step(&placed, None).await, Err(Setback::Store(store::Error::Conflict))));
    assert_eq!(shop.product.stock("tea"), 0);
    placement.finish(&placed.id, None).await.unwrap();
    shop.finished(&placed.id).await;
    assert_eq!(shop.product.stock("tea"), 1);
    assert!(store.append(&placed, Event::StockReserved {}, None).await.is_err());
}

async fn what_was_added_to_the_cart_since_stays(shop: Shop) {
    let ada = shop.customer("ada", &shop.start().await);
    shop.product.restock("tea", 10);
    shop.cart.clear.set_away(true);
    shop.cart.add("customers/ada", "tea", 2);
    let order = ada.place_as(crate::customer::Wish { prefer: Some("wait=10"), ..Default::default() }).await.unwrap();
    assert_eq!(order.status, "confirmed");
    shop.cart.change("customers/ada", |cart| cart.items[0].quantity += 3);
    shop.cart.clear.set_away(false);
    shop.finished(&order.id).await;
    assert_eq!(shop.cart.items("customers/ada"), [("tea".to_owned(), 3)]);
}

/// Waits until an RPC was called so often.
async fn called(rpc: &Rpc, times: usize) {
    let called = async || (rpc.calls() >= times).then_some(());
    testkit::eventually("the call", stage::BOUND, called).await;
}
