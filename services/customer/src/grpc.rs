//! The RPCs of shop.customer.v1 and turnpike.auth.v1: from messages to the domain and back, and which status an error
//! becomes.

use std::{collections::HashMap, sync::Arc};

use proto::{
    shop::customer::v1::{
        CreateAccountRequest, Customer,
        customer_service_server::{CustomerService, CustomerServiceServer},
    },
    turnpike::auth::v1::{
        AuthenticateRequest, AuthenticateResponse,
        authenticator_server::{Authenticator, AuthenticatorServer},
    },
};
use serde_json::Value;
use service::status::{from_database, internal};
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use uuid::Uuid;

use crate::{
    domain::{Account, CUSTOMER_SCOPES, Credentials, Email, SignUp, is_password},
    password::{self, Hasher},
    store::{self, NewAccount, Store},
};

pub struct Accounts {
    store: Store,
    hasher: Arc<Hasher>,
}

pub struct Door {
    store: Store,
    hasher: Arc<Hasher>,
}

pub fn accounts(store: Store, hasher: Arc<Hasher>) -> CustomerServiceServer<Accounts> {
    CustomerServiceServer::new(Accounts { store, hasher })
}

pub fn authenticator(store: Store, hasher: Arc<Hasher>) -> AuthenticatorServer<Door> {
    AuthenticatorServer::new(Door { store, hasher })
}

/// What an event says of an account.
pub fn record(account: &Account) -> Value {
    service::record(&message(account.clone()))
}

#[tonic::async_trait]
impl CustomerService for Accounts {
    async fn create_account(&self, request: Request<CreateAccountRequest>) -> Result<Response<Customer>, Status> {
        let CreateAccountRequest { email, password, name } = request.into_inner();
        let SignUp { email, name, password } = SignUp::new(&email, &name, password.into())?;
        let hash = self.hasher.hash(password).await.map_err(unhashed)?;
        let account = NewAccount {
            id: Uuid::now_v7().to_string(),
            email,
            name,
            scopes: CUSTOMER_SCOPES.map(str::to_owned).to_vec(),
            hash,
        };
        let account = self.store.create(account).await.map_err(status)?;
        Ok(Response::new(message(account)))
    }
}

#[tonic::async_trait]
impl Authenticator for Door {
    async fn authenticate(
        &self,
        request: Request<AuthenticateRequest>,
    ) -> Result<Response<AuthenticateResponse>, Status> {
        let AuthenticateRequest { email, password } = request.into_inner();
        let found = match Email::new(&email) {
            Some(email) => self.store.by_email(&email).await.map_err(from_database)?,
            None => None,
        };
        let (account, hash) = found.map(|Credentials { account, hash }| (account, hash)).unzip();
        // What can't be a password isn't worth hashing in its length; something is hashed all the same, for the time.
        let (password, hash) = match password.into() {
            password if is_password(&password) => (password, hash),
            _ => (Default::default(), None),
        };
        let verified = self.hasher.verify(password, hash).await.map_err(unhashed)?;
        let account = account.filter(|_| verified);
        let account = account.ok_or_else(|| Status::unauthenticated("unknown e-mail or wrong password"))?;
        Ok(Response::new(AuthenticateResponse {
            subject: account.subject(),
            claims: HashMap::from([("email".to_owned(), account.email.to_string()), ("name".to_owned(), account.name)]),
            scopes: account.scopes,
        }))
    }
}

fn message(account: Account) -> Customer {
    Customer {
        id: account.id,
        email: account.email.to_string(),
        name: account.name,
        etag: account.version.to_string(),
        created_at: Some(service::timestamp(account.created_at)),
        password_hash: String::new(),
    }
}

fn status(error: store::Error) -> Status {
    match error {
        store::Error::EmailTaken => Status::with_error_details(
            Code::AlreadyExists,
            "the e-mail has an account",
            ErrorDetails::with_bad_request_violation("email", "has an account already"),
        ),
        store::Error::Database(error) => from_database(error),
    }
}

fn unhashed(error: password::Error) -> Status {
    match error {
        password::Error::Busy => Status::resource_exhausted("too many log-ins and sign-ups at once; try again"),
        error @ password::Error::Broken(_) => internal(error),
    }
}
