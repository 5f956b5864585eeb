//! The accounts, in SQL. A write is one transaction with its event.

use database::{Database, Row, Transaction, from_micros, micros, params};
use outbox::Event;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use time::OffsetDateTime;

use crate::domain::{Account, Credentials, Email};

const SOURCE: &str = "/services/customer";

#[derive(Clone)]
pub struct Store {
    database: Database,
    record: fn(&Account) -> Value,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the e-mail has an account")]
    EmailTaken,
    #[error(transparent)]
    Database(#[from] database::Error),
}

/// An account that isn't there yet.
#[derive(Debug)]
pub struct NewAccount {
    pub id: String,
    pub email: Email,
    pub name: String,
    pub scopes: Vec<String>,
    pub hash: SecretString,
}

impl Store {
    /// `record` is what an event says of an account.
    pub fn new(database: Database, record: fn(&Account) -> Value) -> Self {
        Self { database, record }
    }

    /// # Errors
    /// [`Error::EmailTaken`] if the e-mail, or the id, has an account.
    pub async fn create(&self, new: NewAccount) -> Result<Account, Error> {
        let NewAccount { id, email, name, scopes, hash } = new;
        // What is answered now is what is read later: to the microsecond.
        let created_at = from_micros(micros(OffsetDateTime::now_utc()));
        let account = Account { id, email, name, scopes, version: 1, created_at };
        let mut tx = self.database.begin().await?;
        tx.execute(
            "INSERT INTO accounts (id, email, name, scopes, password_hash, version, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
            params![
                &account.id,
                account.email.as_str(),
                &account.name,
                account.scopes.join(" "),
                hash.expose_secret(),
                account.version,
                created_at
            ],
        )
        .await
        .map_err(taken)?;
        self.announce(&mut tx, "DB/CREATE", &account).await?;
        tx.commit().await?;
        Ok(account)
    }

    /// Sets the account's e-mail and password, unless it changed since it was read. False if it did.
    ///
    /// # Errors
    /// [`Error::EmailTaken`] if the e-mail has another account.
    pub async fn replace_credentials(
        &self,
        account: &Account,
        email: Email,
        hash: &SecretString,
    ) -> Result<bool, Error> {
        let changed = Account { email, version: account.version + 1, ..account.clone() };
        let mut tx = self.database.begin().await?;
        let rows = tx
            .execute(
                "UPDATE accounts SET email = $1, password_hash = $2, version = $3 WHERE id = $4 AND version = $5",
                params![changed.email.as_str(), hash.expose_secret(), changed.version, &account.id, account.version],
            )
            .await
            .map_err(taken)?;
        if rows == 0 {
            return Ok(false);
        }
        self.announce(&mut tx, "DB/UPDATE", &changed).await?;
        tx.commit().await?;
        Ok(true)
    }

    pub async fn by_email(&self, email: &Email) -> Result<Option<Credentials>, database::Error> {
        let rows = self
            .database
            .query(
                "SELECT id, email, name, scopes, password_hash, version, created_at FROM accounts WHERE email = $1",
                params![email.as_str()],
            )
            .await?;
        rows.first().map(credentials).transpose()
    }

    pub async fn by_id(&self, id: &str) -> Result<Option<Credentials>, database::Error> {
        let rows = self
            .database
            .query(
                "SELECT id, email, name, scopes, password_hash, version, created_at FROM accounts WHERE id = $1",
                params![id],
            )
            .await?;
        rows.first().map(credentials).transpose()
    }

    async fn announce(
        &self,
        tx: &mut Transaction,
        address: &'static str,
        account: &Account,
    ) -> Result<(), database::Error> {
        let event = Event::new(address, account.subject(), (self.record)(account));
        outbox::append(tx, SOURCE, Event { owner: Some(account.subject()), ..event }).await
    }
}

fn taken(error: database::Error) -> Error {
    match error {
        database::Error::Unique { .. } => Error::EmailTaken,
        error => error.into(),
    }
}

fn credentials(row: &Row) -> Result<Credentials, database::Error> {
    Ok(Credentials {
        account: Account {
            id: row.get("id")?,
            email: Email::stored(row.get("email")?),
            name: row.get("name")?,
            scopes: row.get::<String>("scopes")?.split_whitespace().map(str::to_owned).collect(),
            version: row.get("version")?,
            created_at: row.get("created_at")?,
        },
        hash: row.get::<String>("password_hash")?.into(),
    })
}
