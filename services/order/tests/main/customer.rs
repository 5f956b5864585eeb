//! Somebody who calls the order service.

use std::time::Duration;

use proto::shop::order::v1::{
    GetOrderHistoryRequest, GetOrderRequest, ListOrdersRequest, ListOrdersResponse, Order, OrderHistory,
    PlaceOrderRequest, order_service_client::OrderServiceClient,
};
use stage::Caller;
use tonic::{Request, Response, Status};

#[derive(Clone)]
pub struct Customer(OrderServiceClient<Caller>);

/// How an order is placed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wish<'a> {
    pub key: Option<&'a str>,
    pub prefer: Option<&'a str>,
    pub timeout: Option<Duration>,
}

impl Customer {
    pub fn new(caller: Caller) -> Self {
        Self(OrderServiceClient::new(caller))
    }

    pub async fn place(&self) -> Result<Order, Status> {
        self.place_as(Wish::default()).await
    }

    pub async fn place_as(&self, wish: Wish<'_>) -> Result<Order, Status> {
        let mut request = Request::new(PlaceOrderRequest {});
        for (name, value) in [("idempotency-key", wish.key), ("prefer", wish.prefer)] {
            if let Some(value) = value {
                request.metadata_mut().insert(name, value.parse().unwrap());
            }
        }
        if let Some(timeout) = wish.timeout {
            request.set_timeout(timeout);
        }
        self.0.clone().place_order(request).await.map(Response::into_inner)
    }

    pub async fn get(&self, id: &str) -> Result<Order, Status> {
        let request = GetOrderRequest { id: id.to_owned() };
        self.0.clone().get_order(request).await.map(Response::into_inner)
    }

    pub async fn history(&self, id: &str) -> Result<OrderHistory, Status> {
        let request = GetOrderHistoryRequest { id: id.to_owned() };
        self.0.clone().get_order_history(request).await.map(Response::into_inner)
    }

    pub async fn list(&self, page_size: i32, page_token: &str) -> Result<ListOrdersResponse, Status> {
        let request = ListOrdersRequest { page_size, page_token: page_token.to_owned() };
        self.0.clone().list_orders(request).await.map(Response::into_inner)
    }
}
