//! The accounts that are there from the start: the customer of a demonstration, and an operator, with the given
//! credentials.

use anyhow::{Context as _, bail};
use secrecy::SecretString;

use crate::{
    domain::{Account, CUSTOMER_SCOPES, Email, is_password},
    password::Hasher,
    store::{Error, NewAccount, Store},
};

const OPERATOR_SCOPES: [&str; 10] = [
    "shop",
    "catalog:write",
    "operator",
    "dashboard:read",
    "events:read:*/*",
    "events:write:*/*",
    "rooms:join:*/*",
    "rooms:write:*/*",
    "presence:read",
    "bus:admin",
];
/// Several instances may seed one database at once; each attempt sees what another has written.
const ATTEMPTS: usize = 5;

/// What somebody logs in with.
#[derive(Clone, Debug)]
pub struct Credentials {
    pub email: String,
    /// 8 to 128 characters.
    pub password: SecretString,
}

/// The accounts to make, or to give these credentials; nothing is written where they have them.
#[derive(Clone, Debug, Default)]
pub struct Seed {
    /// `customers/demo`, who may do what a customer may.
    pub demo: Option<Credentials>,
    /// `customers/operator`, who may change the catalogue, watch the system, and do everything on the bus.
    pub operator: Option<Credentials>,
}

pub async fn run(store: &Store, hasher: &Hasher, seed: &Seed) -> anyhow::Result<()> {
    let demo = seed.demo.as_ref().map(|given| Wanted::new("demo", "Demo Customer", &CUSTOMER_SCOPES, given));
    let operator = seed.operator.as_ref().map(|given| Wanted::new("operator", "Operator", &OPERATOR_SCOPES, given));
    for wanted in [demo, operator].into_iter().flatten() {
        let wanted = wanted?;
        wanted.ensure(store, hasher).await.with_context(|| format!("the account {}", wanted.id))?;
    }
    Ok(())
}

struct Wanted {
    id: &'static str,
    name: &'static str,
    scopes: &'static [&'static str],
    email: Email,
    password: SecretString,
}

impl Wanted {
    fn new(
        id: &'static str,
        name: &'static str,
        scopes: &'static [&'static str],
        given: &Credentials,
    ) -> anyhow::Result<Self> {
        let email = Email::new(&given.email).with_context(|| format!("{:?} is no e-mail", given.email))?;
        if !is_password(&given.password) {
            bail!("the password of {email} must have 8 to 128 characters");
        }
        Ok(Self { id, name, scopes, email, password: given.password.clone() })
    }

    async fn ensure(&self, store: &Store, hasher: &Hasher) -> anyhow::Result<()> {
        for _ in 0..ATTEMPTS {
            let done = match store.by_id(self.id).await? {
                None => self.create(store, hasher).await?,
                Some(found) => {
                    let verifies = hasher.verify(self.password.clone(), Some(found.hash)).await?;
                    let current = verifies && found.account.email == self.email;
                    current || self.replace(store, hasher, &found.account).await?
                }
            };
            if done {
                return Ok(());
            }
        }
        bail!("{} has another account, or it keeps changing", self.email)
    }

    async fn create(&self, store: &Store, hasher: &Hasher) -> anyhow::Result<bool> {
        let account = NewAccount {
            id: self.id.to_owned(),
            email: self.email.clone(),
            name: self.name.to_owned(),
            scopes: self.scopes.iter().map(|&scope| scope.to_owned()).collect(),
            hash: hasher.hash(self.password.clone()).await?,
        };
        match store.create(account).await {
            Ok(_) => Ok(true),
            Err(Error::EmailTaken) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn replace(&self, store: &Store, hasher: &Hasher, account: &Account) -> anyhow::Result<bool> {
        let hash = hasher.hash(self.password.clone()).await?;
        match store.replace_credentials(account, self.email.clone(), &hash).await {
            Ok(done) => Ok(done),
            Err(Error::EmailTaken) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
