//! The customer service over real gRPC, on SQLite and on PostgreSQL.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod demo;
mod events;
mod log_in;
mod shop;
mod sign_up;

use proto::{
    shop::customer::v1::{CreateAccountRequest, Customer},
    turnpike::auth::v1::{AuthenticateRequest, AuthenticateResponse},
};
use tonic::{Response, Status};

use crate::shop::Shop;

async fn sign_up(shop: &Shop, email: &str, password: &str, name: &str) -> Result<Customer, Status> {
    let request =
        CreateAccountRequest { email: email.to_owned(), password: password.to_owned(), name: name.to_owned() };
    shop.accounts().create_account(request).await.map(Response::into_inner)
}

async fn log_in(shop: &Shop, email: &str, password: &str) -> Result<AuthenticateResponse, Status> {
    let request = AuthenticateRequest { email: email.to_owned(), password: password.to_owned() };
    shop.door().authenticate(request).await.map(Response::into_inner)
}
