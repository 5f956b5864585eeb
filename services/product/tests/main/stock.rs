//! Reserving and giving back.

use futures_util::future::join_all;
use proto::shop::product::v1::{DeleteProductRequest, ReleaseStockRequest};
use stage::{fields, on_both, preconditions};
use tonic::Code;

use crate::shop::{Shop, reserve};

on_both!(
    an_order_takes_all_lines_or_none,
    an_order_takes_and_gives_back_once,
    an_order_that_was_released_before_it_reserved_never_will,
    an_order_refused_for_want_of_stock_may_come_again,
    a_reservation_that_makes_no_sense_is_refused,
    stock_of_a_deleted_product_is_not_given_back,
    twenty_orders_race_for_the_last_five_units,
    one_order_that_comes_ten_times_at_once_takes_once,
    orders_with_their_lines_in_any_order_do_not_wait_for_each_other_for_ever,
    a_reservation_and_a_release_at_once_leave_nothing_taken,
);

async fn release(shop: &Shop, order: &str) {
    let request = ReleaseStockRequest { order_id: order.to_owned() };
    shop.order().release_stock(request).await.unwrap();
}

async fn an_order_takes_all_lines_or_none(shop: Shop) {
    let (pot, cup) = (shop.create("Teapot", 5).await.id, shop.create("Cup", 1).await.id);
    let refused = shop.reserve("o-1", &[(&pot, 2), (&cup, 2), ("none", 1)]).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let mut short = preconditions(&refused);
    short.sort();
    let mut expected = [&cup, "none"].map(|id| ("STOCK".to_owned(), format!("products/{id}"))).to_vec();
    expected.sort();
    assert_eq!(short, expected);
    assert_eq!((shop.stock(&pot).await, shop.stock(&cup).await), (5, 1));

    let taken = shop.reserve("o-2", &[(&pot, 2), (&cup, 1), (&pot, 1)]).await.unwrap();
    assert_eq!(taken.iter().map(|line| line.quantity).sum::<i64>(), 4);
    assert_eq!((shop.stock(&pot).await, shop.stock(&cup).await), (2, 0));
}

async fn an_order_takes_and_gives_back_once(shop: Shop) {
    let pot = shop.create("Teapot", 5).await.id;
    let first = shop.reserve("o-1", &[(&pot, 2)]).await.unwrap();
    // The repetition answers what the first did, whatever it asks for.
    assert_eq!(shop.reserve("o-1", &[(&pot, 2)]).await.unwrap(), first);
    assert_eq!(shop.reserve("o-1", &[(&pot, 3)]).await.unwrap(), first);
    assert_eq!(shop.stock(&pot).await, 3);

    release(&shop, "o-1").await;
    release(&shop, "o-1").await;
    assert_eq!(shop.stock(&pot).await, 5);
    let late = shop.reserve("o-1", &[(&pot, 2)]).await.unwrap_err();
    assert_eq!(preconditions(&late), [("RELEASED".to_owned(), "orders/o-1".to_owned())]);
    assert_eq!(shop.stock(&pot).await, 5);
}

async fn an_order_that_was_released_before_it_reserved_never_will(shop: Shop) {
    let pot = shop.create("Teapot", 5).await.id;
    release(&shop, "o-1").await;
    let late = shop.reserve("o-1", &[(&pot, 1)]).await.unwrap_err();
    assert_eq!(preconditions(&late)[0].0, "RELEASED");
    release(&shop, "o-1").await;
    assert_eq!(shop.stock(&pot).await, 5);
}

async fn an_order_refused_for_want_of_stock_may_come_again(shop: Shop) {
    let pot = shop.create("Teapot", 1).await.id;
    assert!(shop.reserve("o-1", &[(&pot, 2)]).await.is_err());
    assert_eq!(shop.reserve("o-1", &[(&pot, 1)]).await.unwrap().len(), 1);
}

async fn a_reservation_that_makes_no_sense_is_refused(shop: Shop) {
    let status = shop.reserve("", &[("a", 0), ("b c", 1)]).await.unwrap_err();
    assert_eq!(fields(&status), ["order_id", "lines[0].quantity", "lines[1].product_id"]);
    assert_eq!(fields(&shop.reserve("o-1", &[]).await.unwrap_err()), ["lines"]);
    let many = vec![("a", 1); 101];
    assert_eq!(fields(&shop.reserve("o-1", &many).await.unwrap_err()), ["lines"]);
}

async fn stock_of_a_deleted_product_is_not_given_back(shop: Shop) {
    let (pot, cup) = (shop.create("Teapot", 5).await.id, shop.create("Cup", 5).await.id);
    shop.reserve("o-1", &[(&pot, 1), (&cup, 1)]).await.unwrap();
    let delete = DeleteProductRequest { id: pot, etag: String::new() };
    shop.seller().delete_product(delete).await.unwrap();
    release(&shop, "o-1").await;
    assert_eq!(shop.stock(&cup).await, 5);
}

async fn twenty_orders_race_for_the_last_five_units(shop: Shop) {
    let pot = shop.create("Teapot", 5).await.id;
    // Through two instances on one database, as in production.
    let mut other = shop.start().await;
    let orders: Vec<_> = (0..20).map(|n| format!("o-{n}")).collect();
    let outcomes = join_all(orders.iter().enumerate().map(|(n, order)| {
        let instance = if n % 2 == 0 { &shop.instance } else { &other };
        let lines = [(pot.as_str(), 1)];
        async move { reserve(instance, order, &lines).await }
    }))
    .await;
    for refused in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
        assert_eq!(preconditions(refused)[0].0, "STOCK");
    }
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 5);
    assert_eq!(shop.stock(&pot).await, 0);
    for order in &orders {
        release(&shop, order).await;
    }
    assert_eq!(shop.stock(&pot).await, 5);
    other.stop().await;
}

async fn one_order_that_comes_ten_times_at_once_takes_once(shop: Shop) {
    let pot = shop.create("Teapot", 100).await.id;
    let lines = [(pot.as_str(), 3)];
    let outcomes = join_all((0..10).map(|_| shop.reserve("o-1", &lines))).await;
    for outcome in outcomes {
        assert_eq!(outcome.unwrap()[0].quantity, 3);
    }
    assert_eq!(shop.stock(&pot).await, 97);
}

async fn orders_with_their_lines_in_any_order_do_not_wait_for_each_other_for_ever(shop: Shop) {
    let (a, b) = (shop.create("A", 100).await.id, shop.create("B", 100).await.id);
    let orders: Vec<_> = (0..30).map(|n| format!("o-{n}")).collect();
    let outcomes = join_all(orders.iter().enumerate().map(|(n, order)| {
        let lines = if n % 2 == 0 { [(a.as_str(), 1), (b.as_str(), 1)] } else { [(b.as_str(), 1), (a.as_str(), 1)] };
        let shop = &shop;
        async move { shop.reserve(order, &lines).await }
    }))
    .await;
    for outcome in outcomes {
        outcome.unwrap();
    }
    assert_eq!((shop.stock(&a).await, shop.stock(&b).await), (70, 70));
}

async fn a_reservation_and_a_release_at_once_leave_nothing_taken(shop: Shop) {
    let pot = shop.create("Teapot", 10).await.id;
    let orders: Vec<_> = (0..10).map(|n| format!("o-{n}")).collect();
    let lines = [(pot.as_str(), 1)];
    join_all(orders.iter().map(|order| async {
        // Whichever comes first, the stock is whole in the end.
        let (reserved, ()) = tokio::join!(shop.reserve(order, &lines), release(&shop, order));
        if let Err(refused) = reserved {
            assert_eq!(preconditions(&refused)[0].0, "RELEASED");
        }
    }))
    .await;
    assert_eq!(shop.stock(&pot).await, 10);
}
