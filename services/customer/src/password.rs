//! Hashing and verifying passwords with argon2id, in its recommended strength (19 MiB, two passes).
//!
//! One hash costs as much as a thousand other requests, so at most [`RUNNING`] work at once, off the runtime's workers,
//! and at most [`WAITING`] wait for them; what comes beyond that is refused at once.

use std::sync::Arc;

use argon2::{Argon2, PasswordHash, PasswordHasher as _, PasswordVerifier as _};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::{sync::Semaphore, task};

pub const RUNNING: usize = 2;
pub const WAITING: usize = 64;

pub struct Hasher {
    admitted: Semaphore,
    running: Arc<Semaphore>,
    /// The hash of a password nobody has.
    decoy: SecretString,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("too many passwords are waiting to be hashed")]
    Busy,
    #[error("hashing a password: {0}")]
    Broken(String),
}

impl Hasher {
    /// # Errors
    /// If there is no randomness for the decoy's salt.
    pub fn new() -> Result<Self, Error> {
        Ok(Self {
            admitted: Semaphore::new(RUNNING + WAITING),
            running: Arc::new(Semaphore::new(RUNNING)),
            decoy: hash(&"nobody's password".into())?,
        })
    }

    /// The password's hash in PHC form, with a salt of its own.
    ///
    /// # Errors
    /// [`Error::Busy`] if too many wait.
    pub async fn hash(&self, password: SecretString) -> Result<SecretString, Error> {
        self.run(move || hash(&password)).await?
    }

    /// Whether the password is the hash's. Without a hash the answer is no, after the same time.
    ///
    /// # Errors
    /// [`Error::Busy`] if too many wait.
    pub async fn verify(&self, password: SecretString, hash: Option<SecretString>) -> Result<bool, Error> {
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.decoy.clone());
        self.run(move || Ok(verify(&password, &hash)? && known)).await?
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
        let _admitted = self.admitted.try_acquire().map_err(|_| Error::Busy)?;
        let running = self.running.clone().acquire_owned().await.map_err(|error| Error::Broken(error.to_string()))?;
        // The permit goes with the work: a caller that gives up doesn't stop a hash that has begun.
        task::spawn_blocking(move || {
            let _running = running;
            work()
        })
        .await
        .map_err(|error| Error::Broken(error.to_string()))
    }
}

fn hash(password: &SecretString) -> Result<SecretString, Error> {
    let hash = Argon2::default()
        .hash_password(password.expose_secret().as_bytes())
        .map_err(|error| Error::Broken(error.to_string()))?;
    Ok(hash.to_string().into())
}

fn verify(password: &SecretString, hash: &SecretString) -> Result<bool, Error> {
    let hash = PasswordHash::new(hash.expose_secret()).map_err(|error| Error::Broken(error.to_string()))?;
    Ok(Argon2::default().verify_password(password.expose_secret().as_bytes(), &hash).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_decoy_costs_what_a_password_costs() {
        let cost = |hash: &SecretString| -> String {
            let fields: Vec<&str> = hash.expose_secret().split('$').take(4).collect();
            fields.join("$")
        };
        let hasher = Hasher::new().unwrap();
        assert_eq!(cost(&hasher.decoy), cost(&hash(&"battery staple".into()).unwrap()));
    }

    #[tokio::test]
    async fn a_password_verifies_against_its_own_hash_only() {
        let hasher = Hasher::new().unwrap();
        let hash = hasher.hash("correct horse".into()).await.unwrap();
        assert!(hash.expose_secret().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert!(hasher.verify("correct horse".into(), Some(hash.clone())).await.unwrap());
        assert!(!hasher.verify("battery staple".into(), Some(hash)).await.unwrap());
    }

    #[tokio::test]
    async fn nobody_has_the_decoy_s_password() {
        let hasher = Hasher::new().unwrap();
        assert!(!hasher.verify("nobody's password".into(), None).await.unwrap());
    }

    #[tokio::test]
    async fn beyond_the_queue_a_password_is_refused_at_once() {
        let hasher = Hasher::new().unwrap();
        let held = hasher.running.clone().acquire_many_owned(RUNNING as u32).await.unwrap();
        let mut waiting: Vec<_> = (0..RUNNING + WAITING).map(|_| Box::pin(hasher.run(|| "hashed"))).collect();
        for one in &mut waiting {
            assert!(futures_util::poll!(one).is_pending());
        }
        assert!(matches!(hasher.hash("correct horse".into()).await, Err(Error::Busy)));
        drop(held);
        for one in waiting {
            assert_eq!(one.await.unwrap(), "hashed");
        }
        assert!(hasher.run(|| ()).await.is_ok());
    }
}
