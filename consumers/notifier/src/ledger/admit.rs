//! Whether a message may be sent now: the one transaction before it is.

use database::{Error, Transaction, params};
use time::OffsetDateTime;

use crate::{
    ledger::{Key, Ledger, Seq},
    rules::Limit,
};

/// What is to be done with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Send it, and settle the row.
    Mine(Seq),
    /// It waits for its digest, as of now.
    Held,
    /// It is sent, failed, held or covered: nothing.
    Done,
    /// Somebody else may be sending it; ask again then.
    Busy(OffsetDateTime),
}

/// How a message appears in the ledger.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    pub address: String,
    pub title: String,
}

impl Ledger {
    /// Marks a message intended, the caller's alone until `until`; or says why it isn't to be sent.
    pub async fn admit(
        &self,
        key: &Key,
        shown: &Shown,
        limit: Option<&Limit>,
        now: OffsetDateTime,
        until: OffsetDateTime,
    ) -> Result<Admission, Error> {
        let mut tx = self.0.begin().await?;
        let known = find(&mut tx, key).await?;
        let admission = match known {
            Some(row) => again(&mut tx, &row, now, until).await?,
            None => first(&mut tx, key, shown, limit, now, until).await?,
        };
        match admission {
            // Of a busy row nothing was changed, or it was another's in this moment: its allowance isn't taken twice.
            Admission::Busy(_) | Admission::Done => tx.rollback().await?,
            Admission::Mine(_) | Admission::Held => tx.commit().await?,
        }
        Ok(admission)
    }
}

struct Known {
    seq: i64,
    state: String,
    not_before: OffsetDateTime,
}

async fn find(tx: &mut Transaction, key: &Key) -> Result<Option<Known>, Error> {
    let rows = tx
        .query(
            "SELECT seq, state, not_before FROM message
             WHERE source = $1 AND event = $2 AND rule = $3 AND channel = $4 AND recipient = $5 FOR UPDATE",
            params![&key.source, &key.event, &key.rule, key.channel.as_str(), &key.recipient],
        )
        .await?;
    let known = |row: &database::Row| {
        Ok(Known { seq: row.get("seq")?, state: row.get("state")?, not_before: row.get("not_before")? })
    };
    rows.first().map(known).transpose()
}

async fn again(
    tx: &mut Transaction,
    row: &Known,
    now: OffsetDateTime,
    until: OffsetDateTime,
) -> Result<Admission, Error> {
    if row.state != "intended" {
        return Ok(Admission::Done);
    }
    // A mark beyond what anybody may set is a clock's that went back since.
    if row.not_before > now && row.not_before <= until {
        return Ok(Admission::Busy(row.not_before));
    }
    tx.execute(
        "UPDATE message SET attempts = attempts + 1, not_before = $1, touched_at = $2 WHERE seq = $3",
        params![until, now, row.seq],
    )
    .await?;
    Ok(Admission::Mine(Seq(row.seq)))
}

async fn first(
    tx: &mut Transaction,
    key: &Key,
    shown: &Shown,
    limit: Option<&Limit>,
    now: OffsetDateTime,
    until: OffsetDateTime,
) -> Result<Admission, Error> {
    let held_until = match limit {
        Some(limit) => take(tx, key, limit, now).await?,
        None => None,
    };
    let (state, attempts, not_before) = match held_until {
        Some(end) => ("held", 0_i64, end),
        None => ("intended", 1, until),
    };
    let inserted = tx
        .execute(
            "INSERT INTO message (source, event, rule, channel, recipient, address, title, state, covers, attempts,
                 not_before, created_at, touched_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, $9, $10, $11, $11)
             ON CONFLICT DO NOTHING",
            params![
                &key.source,
                &key.event,
                &key.rule,
                key.channel.as_str(),
                &key.recipient,
                &shown.address,
                &shown.title,
                state,
                attempts,
                not_before,
                now,
            ],
        )
        .await?;
    if inserted == 0 {
        return Ok(Admission::Busy(until));
    }
    if held_until.is_some() {
        return Ok(Admission::Held);
    }
    match find(tx, key).await? {
        Some(row) => Ok(Admission::Mine(Seq(row.seq))),
        None => Err(Error::Query("a row that was just written is not there".to_owned())),
    }
}

/// Takes one message of what the limit allows; else when its window ends.
async fn take(
    tx: &mut Transaction,
    key: &Key,
    limit: &Limit,
    now: OffsetDateTime,
) -> Result<Option<OffsetDateTime>, Error> {
    let of = [&key.rule, key.channel.as_str(), &key.recipient];
    tx.execute(
        "INSERT INTO allowance (rule, channel, recipient, begun_at, used) VALUES ($1, $2, $3, $4, 0)
         ON CONFLICT DO NOTHING",
        params![of[0], of[1], of[2], now],
    )
    .await?;
    let rows = tx
        .query(
            "SELECT begun_at, used FROM allowance WHERE rule = $1 AND channel = $2 AND recipient = $3 FOR UPDATE",
            params![of[0], of[1], of[2]],
        )
        .await?;
    let Some(row) = rows.first() else { return Err(Error::Query("an allowance is not there".to_owned())) };
    let (begun, used): (OffsetDateTime, i64) = (row.get("begun_at")?, row.get("used")?);
    let end = begun + limit.per;
    // Another's clock, or another's moment, may be a little ahead; a whole window ahead is a clock's that went back since.
    let (begun, used) = if end <= now || begun > now + limit.per { (now, 0) } else { (begun, used) };
    if used >= i64::from(limit.messages) {
        return Ok(Some(end));
    }
    tx.execute(
        "UPDATE allowance SET begun_at = $1, used = $2 WHERE rule = $3 AND channel = $4 AND recipient = $5",
        params![begun, used + 1, of[0], of[1], of[2]],
    )
    .await?;
    Ok(None)
}
