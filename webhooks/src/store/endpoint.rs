//! Endpoints: registered, read, listed.

use std::{sync::Arc, time::Duration};

use database::{Row, Transaction, from_micros, params};
use time::OffsetDateTime;

use super::{Store, number, word};
use crate::{
    Disabled, Endpoint, Error, NewEndpoint, Reason, Signature, State, ack::AckKey, endpoint::Keys, secret::Secret,
};

/// The most endpoints there may be, and of one owner.
const MOST: i64 = 1000;
const MOST_OF_AN_OWNER: i64 = 100;

/// What of an endpoint is made here.
pub(crate) struct Fresh<'a> {
    pub id: &'a str,
    pub secret: &'a Secret,
    pub ack_key: &'a [u8],
}

/// Which endpoints.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listing {
    pub owner: Option<String>,
    pub enabled: Option<bool>,
    /// Those behind this id.
    pub after: Option<String>,
}

/// An endpoint as it was last changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Revision {
    pub id: String,
    pub revision: i64,
    pub enabled: bool,
}

impl Store {
    /// Stores one that nothing is sent to yet.
    pub async fn insert(&self, fresh: Fresh<'_>, new: &NewEndpoint, now: OffsetDateTime) -> Result<(), Error> {
        let mut tx = self.database.begin().await?;
        let all = "SELECT count(*) AS of_all FROM webhook WHERE state <> 'removed'";
        let own = "SELECT count(*) AS own FROM webhook WHERE state <> 'removed' AND owner = $1";
        let of_all: i64 = first(tx.query(all, &[]).await?)?.get("of_all")?;
        if of_all >= MOST {
            return Err(Error::TooMany(format!("there are {MOST} webhooks, as many as there may be")));
        }
        let of_own: i64 = first(tx.query(own, params![new.owner.clone()]).await?)?.get("own")?;
        if of_own >= MOST_OF_AN_OWNER {
            return Err(Error::TooMany(format!("it has {MOST_OF_AN_OWNER} webhooks, as many as it may")));
        }
        let secret = self.seal.close(&of(fresh.id, SECRET), fresh.secret.bytes())?;
        let ack_key = self.seal.close(&of(fresh.id, ACK_KEY), fresh.ack_key)?;
        tx.execute(
            "INSERT INTO webhook (id, owner, url, filter, description, ordered, ack_within, remove_after, signature, secret,
                 ack_key, receipts, state, alert, failures, created_at, updated_at, revision)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 0, 'new', 0, 0, $12, $12, 1)",
            params![
                fresh.id,
                new.owner.clone(),
                &new.url,
                &new.filter,
                &new.description,
                new.ordered,
                new.ack_within.map(millis),
                new.remove_after,
                new.signature.as_str(),
                secret,
                ack_key,
                now
            ],
        )
        .await?;
        Ok(tx.commit().await?)
    }

    pub async fn get(&self, id: &str) -> Result<Endpoint, Error> {
        let rows = self.database.query(ONE, params![id]).await?;
        self.endpoint(rows.first().ok_or_else(|| Error::NoEndpoint(id.to_owned()))?)
    }

    /// One that nothing is sent to yet.
    pub async fn registered(&self, id: &str) -> Result<Endpoint, Error> {
        let rows = self.database.query("SELECT * FROM webhook WHERE id = $1", params![id]).await?;
        self.endpoint(rows.first().ok_or_else(|| Error::NoEndpoint(id.to_owned()))?)
    }

    /// The same as [`Self::get`] within a transaction, which has its row alone until it ends.
    pub(super) async fn lock(&self, tx: &mut Transaction, id: &str) -> Result<Endpoint, Error> {
        let sql = "SELECT * FROM webhook WHERE id = $1 AND state IN ('enabled', 'disabled') FOR UPDATE";
        let rows = tx.query(sql, params![id]).await?;
        self.endpoint(rows.first().ok_or_else(|| Error::NoEndpoint(id.to_owned()))?)
    }

    /// By id; at most `limit`.
    pub async fn list(&self, listing: &Listing, limit: usize) -> Result<Vec<Endpoint>, Error> {
        let state = listing.enabled.map(|enabled| if enabled { "enabled" } else { "disabled" });
        let rows = self
            .database
            .query(
                "SELECT * FROM webhook WHERE state IN ('enabled', 'disabled')
                   AND (CAST($1 AS TEXT) IS NULL OR owner = $1)
                   AND (CAST($2 AS TEXT) IS NULL OR state = $2)
                   AND id > $3
                 ORDER BY id LIMIT $4",
                params![
                    listing.owner.clone(),
                    state,
                    listing.after.as_deref().unwrap_or_default(),
                    i64::try_from(limit).unwrap_or(i64::MAX)
                ],
            )
            .await?;
        rows.iter().map(|row| self.endpoint(row)).collect()
    }

    /// What all are by now, in few bytes.
    pub async fn revisions(&self) -> Result<Vec<Revision>, Error> {
        let sql = "SELECT id, revision, state FROM webhook WHERE state IN ('enabled', 'disabled')";
        let revision = |row: &Row| {
            Ok(Revision {
                id: row.get("id")?,
                revision: row.get("revision")?,
                enabled: row.get::<String>("state")? == "enabled",
            })
        };
        self.database.query(sql, &[]).await?.iter().map(revision).collect()
    }

    pub(super) fn endpoint(&self, row: &Row) -> Result<Endpoint, Error> {
        let id: String = row.get("id")?;
        let signature = word(&row.get::<String>("signature")?, Signature::parse)?;
        let read = |stored: &str, what: &str| Secret::of(signature, self.seal.open(&of(&id, what), stored)?);
        let current = read(&row.get::<String>("secret")?, SECRET)?;
        let former_until: Option<OffsetDateTime> = row.get("former_until")?;
        let mut former = Vec::new();
        if let (Some(stored), Some(until)) = (row.get::<Option<String>>("former")?, former_until) {
            former.push((read(&stored, SECRET)?, until));
        }
        for (stored, until) in earlier(row.get("earlier")?)? {
            former.push((read(&stored, SECRET)?, from_micros(until)));
        }
        let ack = AckKey::new(&self.seal.open(&of(&id, ACK_KEY), &row.get::<String>("ack_key")?)?);
        let state = match (row.get::<Option<String>>("reason")?, row.get::<Option<OffsetDateTime>>("disabled_at")?) {
            (Some(reason), Some(at)) => State::Disabled(Disabled { at, reason: word(&reason, Reason::parse)? }),
            _ => State::Enabled,
        };
        let ack_within: Option<i64> = row.get("ack_within")?;
        Ok(Endpoint {
            owner: row.get("owner")?,
            url: row.get("url")?,
            filter: row.get("filter")?,
            description: row.get("description")?,
            ordered: row.get("ordered")?,
            ack_within: ack_within.map(number).transpose()?.map(Duration::from_millis),
            remove_after: row.get::<Option<i64>>("remove_after")?.map(number).transpose()?,
            signature,
            public_key: (signature == Signature::V1a).then(|| current.shown()),
            former_until,
            receipts: row.get("receipts")?,
            state,
            failures: number(row.get("failures")?)?,
            failing_since: row.get("failing_since")?,
            last_success: row.get("succeeded_at")?,
            created: row.get("created_at")?,
            updated: row.get("updated_at")?,
            revision: row.get("revision")?,
            keys: Arc::new(Keys { current, former, ack }),
            id,
        })
    }
}

const ONE: &str = "SELECT * FROM webhook WHERE id = $1 AND state IN ('enabled', 'disabled')";

/// Secrets as they are stored, and their ends.
fn earlier(stored: Option<String>) -> Result<Vec<(String, i64)>, Error> {
    let Some(text) = stored else { return Ok(Vec::new()) };
    serde_json::from_str(&text).map_err(|error| Error::Stored(format!("the earlier secrets of a webhook: {error}")))
}

/// What a secret is for.
pub(super) const SECRET: &str = "secret";
const ACK_KEY: &str = "ack";

pub(super) fn of(id: &str, what: &str) -> String {
    format!("{id} {what}")
}

pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn first(rows: Vec<Row>) -> Result<Row, Error> {
    rows.into_iter().next().ok_or_else(|| Error::Stored("a count is no row".to_owned()))
}
