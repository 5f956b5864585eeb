//! The handle: endpoints registered, changed, asked for; deliveries acknowledged later.

use std::{collections::HashSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use bus::{Bus, Clock, Delivery, Failure, Group, Handler, Sought, Start, SystemClock, Which};
use database::Database;
use events::{Envelope, Name};
use principal::RootSecret;
use serde_json::json;
use time::OffsetDateTime;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::{
    Attempt, Attempts, Begin, Change, Endpoint, Error, Late, NewEndpoint, Reason, Signature, Standing,
    ack::{Ack, AckError},
    attend::consumers,
    client::{Client, Names, System},
    deliver::send,
    endpoint::check,
    guard::Guard,
    metrics,
    place::is_of,
    seal::Seal,
    secret::Secret,
    store::{Fresh, Health, Listing, Store},
};

/// Bytes of what a receiver says of a failure.
const MOST_REASON: usize = 1024;

/// How to open webhooks.
#[derive(Clone)]
pub struct Options {
    pub clock: Arc<dyn Clock>,
    /// What secrets are sealed by at rest. None: they are stored as they are.
    pub root: Option<RootSecret>,
    /// Endpoints may be in private networks, and without TLS.
    pub allow_private_networks: bool,
    /// Certificates of authorities, in PEM, that are believed besides Mozilla's.
    pub authorities: Option<Vec<u8>>,
    /// Where receivers reach this system, `https://example.com`, for the addresses of acknowledgements. None: they get the
    /// path alone.
    pub public_url: Option<String>,
    /// How long a request may take, from the name's resolution to the end of the answer.
    pub timeout: Duration,
    /// For tests: resolves names instead of the system.
    pub names: Option<Arc<dyn Names>>,
}

impl Default for Options {
    /// The system's clock and resolver, no root secret, the public Internet alone, Mozilla's authorities, 20 s.
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            root: None,
            allow_private_networks: false,
            authorities: None,
            public_url: None,
            timeout: Duration::from_secs(20),
            names: None,
        }
    }
}

/// The webhooks of a bus and a database. Clones share them; any number of processes may.
#[derive(Clone)]
pub struct Webhooks(Arc<Inner>);

pub(crate) struct Inner {
    pub bus: Bus,
    pub store: Store,
    pub client: Client,
    pub guard: Guard,
    /// Something changed in this process.
    pub changed: Notify,
    clock: Arc<dyn Clock>,
    public_url: Option<String>,
}

/// What enabling an endpoint does, or would do.
#[derive(Clone, Debug)]
pub struct Resumed {
    /// Events that it gets.
    pub count: u64,
    /// Of them, those that it has had before.
    pub again: u64,
    /// Events that it doesn't get.
    pub skipped: u64,
    /// How it stood before.
    pub before: Standing,
}

impl Webhooks {
    /// On a database that was opened with [`crate::migrations`] among its steps.
    ///
    /// # Errors
    /// [`Error::Invalid`] where an authority's certificate is none.
    pub fn new(bus: Bus, database: Database, options: Options) -> Result<Self, Error> {
        let guard = Guard { private_networks: options.allow_private_networks };
        let names = options.names.unwrap_or_else(|| Arc::new(System));
        Ok(Self(Arc::new(Inner {
            bus,
            store: Store::new(database, Seal::new(options.root.as_ref())?),
            client: Client::new(guard, names, options.authorities.as_deref(), options.timeout)?,
            guard,
            changed: Notify::new(),
            clock: options.clock,
            public_url: options.public_url.map(|url| url.trim_end_matches('/').to_owned()),
        })))
    }

    /// Registers an endpoint: it gets what is recorded after this has been answered, or from where it is to begin. What it
    /// verifies requests with is shown now, and not again where it is secret.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the field; [`Error::TooMany`].
    pub async fn create(&self, new: NewEndpoint) -> Result<(Endpoint, String), Error> {
        let inner = &self.0;
        check(inner.guard, &new.url, &new.filter, &new.description, new.ack_within, new.remove_after)?;
        let secret = match (&new.secret, new.signature) {
            (None, signature) => Secret::generate(signature)?,
            (Some(text), Signature::V1) => Secret::read(text)?,
            (Some(_), Signature::V1a) => {
                return Err(Error::Invalid(
                    "secret: a key of v1a is made here, and shown is its public half".to_owned(),
                ));
            }
        };
        let ack_key = Secret::generate(Signature::V1)?;
        let id = format!("wh_{}", inner.id().simple());
        let now = inner.now();
        inner.store.insert(Fresh { id: &id, secret: &secret, ack_key: ack_key.bytes() }, &new, now).await?;
        // Its groups begin before anybody may claim for them.
        let start = start(new.from);
        // Where that fails nobody knows of it, and whoever tends forgets it.
        for group in inner.groups(&inner.store.registered(&id).await?).await? {
            inner.bus.declare_group(Group { start, ..group }).await?;
        }
        if !inner.store.begin(&id).await? {
            return Err(Error::Unavailable("registering it took too long, and was given up".to_owned()));
        }
        inner.changed.notify_waiters();
        Ok((inner.store.get(&id).await?, secret.shown()))
    }

    /// # Errors
    /// [`Error::NoEndpoint`], [`Error::Unavailable`].
    pub async fn get(&self, id: &str) -> Result<Endpoint, Error> {
        self.0.store.get(id).await
    }

    /// By id, after that one; of an owner, or of all; enabled or disabled ones, or both. `limit`: 1 to 1,000.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn list(
        &self,
        owner: Option<&str>,
        enabled: Option<bool>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Endpoint>, Error> {
        let listing = Listing { owner: owner.map(str::to_owned), enabled, after: after.map(str::to_owned) };
        self.0.store.list(&listing, limit.clamp(1, 1001)).await
    }

    /// How these stand in the log, in their order.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn standings(&self, endpoints: &[Endpoint]) -> Result<Vec<Standing>, Error> {
        let groups = self.0.bus.groups().await?;
        Ok(endpoints.iter().map(|endpoint| Standing::of(&groups, &endpoint.group())).collect())
    }

    /// Changes an endpoint: whatever is recorded after this has been answered is delivered as it is then, by whatever process.
    /// What is in flight goes where it went.
    ///
    /// # Errors
    /// [`Error::NoEndpoint`]; [`Error::Invalid`] names the field.
    pub async fn change(&self, id: &str, change: Change) -> Result<Endpoint, Error> {
        let inner = &self.0;
        let before = inner.store.get(id).await?;
        let was = before.clone();
        let after = Endpoint {
            url: change.url.unwrap_or(was.url),
            filter: change.filter.unwrap_or(was.filter),
            description: change.description.unwrap_or(was.description),
            ordered: change.ordered.unwrap_or(was.ordered),
            ack_within: change.ack_within.unwrap_or(was.ack_within),
            remove_after: change.remove_after.unwrap_or(was.remove_after),
            revision: was.revision + 1,
            ..was
        };
        check(inner.guard, &after.url, &after.filter, &after.description, after.ack_within, after.remove_after)?;
        inner.revise(&before, &after).await?;
        inner.store.get(id).await
    }

    /// Removes an endpoint and what is known of it. What is in flight may still arrive.
    ///
    /// # Errors
    /// [`Error::NoEndpoint`], [`Error::Unavailable`].
    pub async fn remove(&self, id: &str) -> Result<(), Error> {
        self.0.store.remove(id, self.0.now()).await?;
        self.0.changed.notify_waiters();
        // Its groups go now where they can, and surely later.
        if let Err(error) = self.0.sweep().await {
            tracing::warn!(webhook = id, %error, "an endpoint's groups are deleted later");
        }
        Ok(())
    }

    /// Sends nothing to it any more; its place in the log stays. Whether it was enabled.
    ///
    /// # Errors
    /// [`Error::NoEndpoint`], [`Error::Unavailable`].
    pub async fn disable(&self, id: &str) -> Result<bool, Error> {
        let was_enabled = self.0.store.disable(id, Reason::Asked, self.0.now()).await?;
        if was_enabled {
            metrics::disabled(Reason::Asked);
            self.0.changed.notify_waiters();
        }
        Ok(was_enabled)
    }

    /// Sends to it again: from where it stopped, with what waited for another attempt at once, or from elsewhere: then nothing
    /// is left of what was under way, waited for another attempt or for an acknowledgement, be it enabled or not. With `dry_run`
    /// it only says what it would get.
    ///
    /// # Errors
    /// [`Error::NoEndpoint`], [`Error::Unavailable`].
    pub async fn enable(&self, id: &str, from: Begin, dry_run: bool) -> Result<Resumed, Error> {
        let inner = &self.0;
        let endpoint = inner.store.get(id).await?;
        let groups = inner.bus.groups().await?;
        let name = endpoint.group();
        let before = Standing::of(&groups, &name);
        let mut sought = Sought::default();
        if !dry_run && from != Begin::Then {
            // What comes again is another delivery, and sent again: nobody comes for what is waited for now.
            inner.store.forget_waits(id).await?;
            // On queues that came into being while nobody was at it, it begins there as well.
            let known: HashSet<&str> = groups.iter().map(|group| group.name.as_str()).collect();
            let all = inner.groups(&endpoint).await?;
            for new in all.iter().filter(|group| !known.contains(group.name.as_str())) {
                inner.begin(new, start(from)).await?;
            }
        }
        for group in groups.iter().filter(|group| is_of(&group.name, &name)) {
            match from {
                Begin::Then if dry_run => {}
                Begin::Then => _ = inner.bus.hurry(&group.name, Which::All).await?,
                Begin::Now | Begin::Time(_) => sought += inner.bus.seek(&group.name, start(from), dry_run).await?,
            }
        }
        if !dry_run {
            inner.store.enable(id, inner.now()).await?;
            inner.changed.notify_waiters();
        }
        Ok(Resumed { count: before.after(&sought), again: sought.again, skipped: sought.skipped, before })
    }

    /// Gives it another secret, which is shown now; until then requests are signed with the one before, too. One that was
    /// replaced earlier goes on to its own end.
    ///
    /// # Errors
    /// [`Error::NoEndpoint`], [`Error::Unavailable`]; [`Error::TooMany`] while four former ones sign.
    pub async fn rotate(&self, id: &str) -> Result<(String, OffsetDateTime), Error> {
        let secret = Secret::generate(self.0.store.get(id).await?.signature)?;
        let until = self.0.store.rotate(id, &secret, self.0.now()).await?;
        self.0.changed.notify_waiters();
        Ok((secret.shown(), until))
    }

    /// Sends it an event of no meaning, `SYS/WEBHOOK_TEST`, once and now, whether it is enabled or not; what came back. It
    /// counts neither for its health nor against it.
    ///
    /// # Errors
    /// [`Error::NoEndpoint`], [`Error::Unavailable`].
    pub async fn test(&self, id: &str) -> Result<Attempt, Error> {
        let inner = &self.0;
        let endpoint = inner.store.get(id).await?;
        let name = |text: &str| Name::new(text).map_err(|error| Error::Stored(error.to_string()));
        let mut envelope = Envelope::new("/turnpike/webhooks", name("SYS")?, name("WEBHOOK_TEST")?)
            .id(inner.id().to_string())
            .subject(format!("webhooks/{id}"))
            .data(json!({ "webhook": id }));
        envelope.time = inner.now();
        let (attempt, _) = send(inner, &endpoint, &envelope, None, 0).await?;
        inner.store.attempted((id, endpoint.revision), &attempt, Health::Untold).await?;
        Ok(attempt)
    }

    /// What was tried, newest first, each with its place in this list. `limit`: 1 to 1,000.
    ///
    /// # Errors
    /// [`Error::NoEndpoint`], [`Error::Unavailable`].
    pub async fn attempts(&self, id: &str, which: &Attempts, limit: usize) -> Result<Vec<(i64, Attempt)>, Error> {
        self.0.store.get(id).await?;
        self.0.store.attempts(id, which, limit.clamp(1, 1001)).await
    }

    /// A receiver says what became of an event that it had accepted: whoever has its address may. Again is the same.
    ///
    /// # Errors
    /// [`AckError::Unknown`] and [`AckError::Over`]; what failed for another reason may be tried again.
    pub async fn acknowledge(&self, token: &str, late: Late) -> Result<(), AckError> {
        let inner = &self.0;
        let ack = Ack::claimed(token).ok_or(AckError::Unknown)?;
        let endpoint = match inner.store.get(&format!("wh_{}", ack.endpoint.simple())).await {
            Ok(endpoint) => endpoint,
            Err(Error::NoEndpoint(_)) => return Err(AckError::Unknown),
            Err(error) => return Err(error.into()),
        };
        let now = inner.now();
        endpoint.keys.ack.verify(token, &ack, now)?;
        let late = match late {
            Late::Done => Late::Done,
            // PostgreSQL's texts have no NUL.
            Late::Failed(reason) => {
                Late::Failed(reason[..reason.floor_char_boundary(MOST_REASON)].replace('\0', "\u{fffd}"))
            }
        };
        let group = inner.store.said(&endpoint.id, ack.event, &late, now).await?;
        metrics::acknowledged(&late);
        if let Some(group) = group {
            let this = Which::These(vec![(ack.partition, ack.position)]);
            if let Err(error) = inner.bus.hurry(&group, this).await {
                tracing::debug!(group, %error, "what was acknowledged is settled at the next look");
            }
        }
        Ok(())
    }

    /// Has receipts come to an endpoint; where it gets them for the first time, from now on.
    ///
    /// # Errors
    /// [`Error::NoEndpoint`], [`Error::Unavailable`].
    pub async fn take_receipts(&self, id: &str) -> Result<Endpoint, Error> {
        let inner = &self.0;
        let before = inner.store.get(id).await?;
        if before.receipts {
            return Ok(before);
        }
        let after = Endpoint { receipts: true, revision: before.revision + 1, ..before.clone() };
        match inner.revise(&before, &after).await {
            Ok(()) => Ok(after),
            // Another one that asked for the first may have been faster.
            Err(error) => inner.store.get(id).await.ok().filter(|endpoint| endpoint.receipts).ok_or(error),
        }
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.0
    }
}

impl Inner {
    /// Whole microseconds, which is what databases keep.
    pub fn now(&self) -> OffsetDateTime {
        database::from_micros(database::micros(self.clock.now()))
    }

    /// Where a receiver acknowledges later.
    pub fn ack_url(&self, token: &str) -> String {
        format!("{}/webhooks/ack/{token}", self.public_url.as_deref().unwrap_or_default())
    }

    /// A UUIDv7 by this clock.
    fn id(&self) -> Uuid {
        let millis = u64::try_from(self.now().unix_timestamp_nanos() / 1_000_000).unwrap_or(0);
        let mut random = [0; 10];
        random.copy_from_slice(&Uuid::new_v4().as_bytes()[6..]);
        uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
    }

    /// Makes an endpoint its next revision, whose groups are declared before anybody knows of it. Of a queue that is new to
    /// it, it gets what comes from now on.
    async fn revise(self: &Arc<Self>, before: &Endpoint, after: &Endpoint) -> Result<(), Error> {
        let had = self.groups(before).await?;
        let groups = self.groups(after).await?;
        let tx = self.store.update(before, after, self.now()).await?;
        for group in &groups {
            match had.iter().find(|had| had.name == group.name) {
                Some(had) => self.widen(had, group).await?,
                None => self.begin(group, Start::Latest).await?,
            }
        }
        tx.commit().await?;
        self.changed.notify_waiters();
        for group in groups {
            if let Err(error) = self.bus.declare_group(group).await {
                tracing::debug!(webhook = after.id, %error, "whoever delivers to it declares its groups");
            }
        }
        Ok(())
    }

    /// What an endpoint has on the queues that it names, and on those that are there.
    async fn groups(self: &Arc<Self>, endpoint: &Endpoint) -> Result<Vec<Group>, Error> {
        Ok(consumers(self, endpoint, Arc::new(Nobody))?.groups().await?)
    }

    /// Declares a group that an endpoint had: it stays where it is, and takes what it took as well. Should the endpoint stay as it
    /// was after all, nothing was passed over.
    async fn widen(&self, had: &Group, group: &Group) -> Result<(), Error> {
        let mut both = had.filter.clone();
        both.widen(&group.filter);
        Ok(self.bus.declare_group(Group { filter: both, revision: group.revision, ..had.clone() }).await?)
    }

    /// Declares a group that is new to an endpoint, and has it begin there: it may be left from a time when the endpoint took
    /// something of the queue, or be declared just now by who has not noticed that it takes nothing.
    async fn begin(&self, group: &Group, start: Start) -> Result<(), Error> {
        self.bus.declare_group(Group { start, ..group.clone() }).await?;
        self.bus.seek(&group.name, start, false).await?;
        Ok(())
    }
}

fn start(begin: Begin) -> Start {
    match begin {
        Begin::Now => Start::Latest,
        Begin::Then => Start::Earliest,
        Begin::Time(time) => Start::Time(time),
    }
}

/// Stands where a declaration needs a handler.
struct Nobody;

#[async_trait]
impl Handler for Nobody {
    async fn handle(&self, _: &Delivery) -> Result<(), Failure> {
        Err(Failure::Defer { delay: Duration::ZERO })
    }
}
