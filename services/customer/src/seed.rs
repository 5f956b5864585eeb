//! The accounts of a demonstration: a customer and an operator, with the given credentials.

use anyhow::{Context as _, bail};
use secrecy::SecretString;

use crate::{
    domain::{Account, CUSTOMER_SCOPES, Email, is_password},
    password::Hasher,
    store::{Error, NewAccount, Store},
};

const OPERATOR_SCOPES: [&str; 3] = ["shop", "catalog:write", "operator"];
/// Several instances may seed one database at once; each attempt sees what another has written.
const ATTEMPTS: usize = 5;

/// Credentials of the demo's customer (`customers/demo`) and of its operator (`customers/operator`).
#[derive(Clone, Debug)]
pub struct Demo {
    pub email: String,
    pub password: SecretString,
    pub operator_email: String,
    pub operator_password: SecretString,
}

/// Makes both accounts, or gives them these credentials; writes nothing where they have them.
pub async fn run(store: &Store, hasher: &Hasher, demo: &Demo) -> anyhow::Result<()> {
    let customer = Wanted::new("demo", "Demo Customer", &CUSTOMER_SCOPES, &demo.email, &demo.password)?;
    let operator =
        Wanted::new("operator", "Demo Operator", &OPERATOR_SCOPES, &demo.operator_email, &demo.operator_password)?;
    for wanted in [customer, operator] {
        wanted.ensure(store, hasher).await.with_context(|| format!("the demo account {}", wanted.id))?;
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
        email: &str,
        password: &SecretString,
    ) -> anyhow::Result<Self> {
        let email = Email::new(email).with_context(|| format!("{email:?} is no e-mail"))?;
        if !is_password(password) {
            bail!("the password of {email} must have 8 to 128 characters");
        }
        Ok(Self { id, name, scopes, email, password: password.clone() })
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
