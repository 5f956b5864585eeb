//! Somebody who calls the order service.

use std::{net::SocketAddr, time::Duration};

use principal::METADATA;
use proto::shop::order::v1::{
    GetOrderHistoryRequest, GetOrderRequest, ListOrdersRequest, ListOrdersResponse, Order, OrderHistory,
    PlaceOrderRequest, order_service_client::OrderServiceClient,
};
use tonic::{Request, Response, Status, transport::Channel};

#[derive(Clone)]
pub struct Customer {
    client: OrderServiceClient<Channel>,
    token: String,
}

/// How an order is placed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wish<'a> {
    pub key: Option<&'a str>,
    pub prefer: Option<&'a str>,
    pub timeout: Option<Duration>,
}

impl Customer {
    pub fn new(address: SocketAddr, token: String) -> Self {
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect_lazy();
        Self { client: OrderServiceClient::new(channel), token }
    }

    /// Without a principal.
    pub fn anonymous(self) -> Self {
        Self { token: String::new(), ..self }
    }

    pub async fn place(&self) -> Result<Order, Status> {
        self.place_as(Wish::default()).await
    }

    pub async fn place_as(&self, wish: Wish<'_>) -> Result<Order, Status> {
        let mut request = self.request(PlaceOrderRequest {});
        for (name, value) in [("idempotency-key", wish.key), ("prefer", wish.prefer)] {
            if let Some(value) = value {
                request.metadata_mut().insert(name, value.parse().unwrap());
            }
        }
        if let Some(timeout) = wish.timeout {
            request.set_timeout(timeout);
        }
        self.client.clone().place_order(request).await.map(Response::into_inner)
    }

    pub async fn get(&self, id: &str) -> Result<Order, Status> {
        let request = self.request(GetOrderRequest { id: id.to_owned() });
        self.client.clone().get_order(request).await.map(Response::into_inner)
    }

    pub async fn history(&self, id: &str) -> Result<OrderHistory, Status> {
        let request = self.request(GetOrderHistoryRequest { id: id.to_owned() });
        self.client.clone().get_order_history(request).await.map(Response::into_inner)
    }

    pub async fn list(&self, page_size: i32, page_token: &str) -> Result<ListOrdersResponse, Status> {
        let request = self.request(ListOrdersRequest { page_size, page_token: page_token.to_owned() });
        self.client.clone().list_orders(request).await.map(Response::into_inner)
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if !self.token.is_empty() {
            request.metadata_mut().insert(METADATA, self.token.parse().unwrap());
        }
        request
    }
}
