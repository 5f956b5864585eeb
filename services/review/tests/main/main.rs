//! The review service over real gRPC, on SQLite and on PostgreSQL.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod events;
mod list;
mod shop;
mod write;

use crate::shop::Client;
use proto::shop::review::v1::{CreateReviewRequest, ListReviewsRequest, ListReviewsResponse, Review};
use tonic::Status;

async fn create(client: &mut Client, product_id: &str, rating: i32, text: &str) -> Result<Review, Status> {
    let request = CreateReviewRequest { product_id: product_id.to_owned(), rating, text: text.to_owned() };
    client.create_review(request).await.map(tonic::Response::into_inner)
}

async fn list(client: &mut Client, product_id: &str, size: i32, token: &str) -> Result<ListReviewsResponse, Status> {
    let request =
        ListReviewsRequest { product_id: product_id.to_owned(), page_size: size, page_token: token.to_owned() };
    client.list_reviews(request).await.map(tonic::Response::into_inner)
}
