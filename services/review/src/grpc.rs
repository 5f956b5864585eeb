//! The RPCs of shop.review.v1: from messages to the domain and back, and which status an error becomes.

use pb::review_service_server::{ReviewService, ReviewServiceServer};
use proto::shop::review::v1 as pb;
use serde_json::Value;
use service::{
    PageToken, Violations,
    status::{from_database, internal},
};
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{
    domain::{Draft, Position, Review, check_product_id},
    store::{Error, Store},
};

pub struct Reviews {
    store: Store,
    pages: PageToken,
}

pub fn server(store: Store, pages: PageToken) -> ReviewServiceServer<Reviews> {
    ReviewServiceServer::new(Reviews { store, pages })
}

/// What an event says of a review.
pub fn record(review: &Review) -> Value {
    service::record(&message(review.clone()))
}

#[tonic::async_trait]
impl ReviewService for Reviews {
    async fn list_reviews(
        &self,
        request: Request<pb::ListReviewsRequest>,
    ) -> Result<Response<pb::ListReviewsResponse>, Status> {
        let pb::ListReviewsRequest { product_id, page_size, page_token } = request.into_inner();
        let mut violations = Violations::default();
        check_product_id(&product_id, &mut violations);
        let size = violations.take(PageToken::size(page_size)).unwrap_or_default();
        let list = format!("reviews?product_id={product_id}");
        let position = violations.take(self.pages.decode(&list, &page_token)).flatten();
        violations.check()?;
        let after = match position {
            None => Position::start(),
            Some(text) => Position::parse(&text).ok_or_else(|| internal("a page token of ours has no position"))?,
        };
        let page = self.store.list(&product_id, &after, size).await.map_err(from_database)?;
        Ok(Response::new(pb::ListReviewsResponse {
            reviews: page.items.into_iter().map(message).collect(),
            next_page_token: page.next.map(|position| self.pages.encode(&list, &position)).unwrap_or_default(),
        }))
    }

    async fn create_review(&self, request: Request<pb::CreateReviewRequest>) -> Result<Response<pb::Review>, Status> {
        let author = service::caller(&request)?.subject;
        if !author.starts_with("customers/") {
            return Err(Status::permission_denied("only customers write reviews"));
        }
        let pb::CreateReviewRequest { product_id, rating, text } = request.into_inner();
        let draft = Draft::new(product_id, author, rating, &text)?;
        let review = self.store.create(draft).await.map_err(status)?;
        Ok(Response::new(message(review)))
    }
}

fn message(review: Review) -> pb::Review {
    let Review { id, draft, version, created_at } = review;
    pb::Review {
        id,
        product_id: draft.product_id,
        author: draft.author,
        rating: draft.rating,
        text: draft.text,
        etag: version.to_string(),
        created_at: Some(service::timestamp(created_at)),
    }
}

fn status(error: Error) -> Status {
    match error {
        Error::AlreadyReviewed { .. } => Status::with_error_details(
            Code::AlreadyExists,
            "you have reviewed this product before",
            ErrorDetails::with_bad_request_violation("product_id", "has a review of yours already"),
        ),
        Error::Database(error) => from_database(error),
    }
}
