//! From a role's settings to the role.

use ::bus::{Bus, Pace};
use anyhow::Context as _;
use async_trait::async_trait;
use database::Url;
use lifecycle::Role as Running;
use principal::RootSecret;
use registry::Registry;

use crate::{
    demo::Credentials,
    settings::role::{
        Account, Announce, Broker, Cart, Customer, Dashboard, Invoice, Logger, Mqtt, Notifier, Order, Product, Review,
        Role,
    },
    shop,
};

#[async_trait]
pub trait Build: Role + Send + 'static {
    async fn build(self, bus: Bus, root: RootSecret) -> anyhow::Result<Box<dyn Running>>;
}

/// What all services are told.
struct Service {
    listen: std::net::SocketAddr,
    database: String,
    seed: bool,
    pace: Option<Pace>,
    /// Of the bus.
    redis: redial::Settings,
    announce: Announce,
}

impl Service {
    fn config(self, bus: Bus, root: RootSecret) -> anyhow::Result<service::Config> {
        let announce = self.announce.enabled.then_some(service::Announce { advertise: self.announce.advertise });
        Ok(service::Config {
            listen: self.listen,
            database: Url(self.database),
            bus,
            issuers: shop::issuers(&root),
            root,
            seed: self.seed,
            pace: self.pace,
            registry: Some(Registry::new(self.redis.address().context("bus.redis")?).context("bus.redis")?),
            announce,
        })
    }
}

#[async_trait]
impl Build for Product {
    async fn build(self, bus: Bus, root: RootSecret) -> anyhow::Result<Box<dyn Running>> {
        let service = Service {
            listen: self.listen,
            database: self.database,
            seed: self.demo,
            pace: None,
            redis: self.bus.redis,
            announce: self.announce,
        };
        Ok(Box::new(product::build(service.config(bus, root)?).await?))
    }
}

#[async_trait]
impl Build for Review {
    async fn build(self, bus: Bus, root: RootSecret) -> anyhow::Result<Box<dyn Running>> {
        let service = Service {
            listen: self.listen,
            database: self.database,
            seed: self.demo,
            pace: None,
            redis: self.bus.redis,
            announce: self.announce,
        };
        Ok(Box::new(review::build(service.config(bus, root)?).await?))
    }
}

#[async_trait]
impl Build for Customer {
    async fn build(self, bus: Bus, root: RootSecret) -> anyhow::Result<Box<dyn Running>> {
        let demo = self.demo.then(|| Credentials::derive(&root));
        let given = |account: Account| customer::Credentials { email: account.email, password: account.password };
        let seed = customer::Seed {
            demo: demo.as_ref().map(Credentials::customer),
            operator: self.operator.map(given).or_else(|| demo.as_ref().map(Credentials::operator)),
        };
        let service = Service {
            listen: self.listen,
            database: self.database,
            seed: self.demo,
            pace: None,
            redis: self.bus.redis,
            announce: self.announce,
        };
        Ok(Box::new(customer::build(customer::Config { service: service.config(bus, root)?, seed }).await?))
    }
}

#[async_trait]
impl Build for Cart {
    async fn build(self, bus: Bus, root: RootSecret) -> anyhow::Result<Box<dyn Running>> {
        let pace = Some(self.consumer.pace());
        let service = Service {
            listen: self.listen,
            database: self.database,
            seed: false,
            pace,
            redis: self.bus.redis,
            announce: self.announce,
        };
        Ok(Box::new(cart::build(service.config(bus, root)?).await?))
    }
}

#[async_trait]
impl Build for Order {
    async fn build(self, bus: Bus, root: RootSecret) -> anyhow::Result<Box<dyn Running>> {
        let pace = Some(self.consumer.pace());
        let service = Service {
            listen: self.listen,
            database: self.database,
            seed: false,
            pace,
            redis: self.bus.redis,
            announce: self.announce,
        };
        let called = self.upstreams;
        let mut config = order::Config::new(service.config(bus, root)?, called.cart, called.product, called.invoice);
        config.pending_limit = self.orders.pending_limit;
        Ok(Box::new(order::build(config).await?))
    }
}

#[async_trait]
impl Build for Invoice {
    async fn build(self, bus: Bus, root: RootSecret) -> anyhow::Result<Box<dyn Running>> {
        let pace = Some(self.consumer.pace());
        let service = Service {
            listen: self.listen,
            database: self.database,
            seed: false,
            pace,
            redis: self.bus.redis,
            announce: self.announce,
        };
        Ok(Box::new(invoice::build(service.config(bus, root)?).await?))
    }
}

#[async_trait]
impl Build for Logger {
    async fn build(self, bus: Bus, _: RootSecret) -> anyhow::Result<Box<dyn Running>> {
        let filters = self.filters.iter().map(|filter| filter.parse()).collect::<Result<_, _>>().context("filters")?;
        let pace = Some(self.consumer.pace());
        Ok(Box::new(logger::build(logger::Config { database: Url(self.database), bus, filters, pace }).await?))
    }
}

#[async_trait]
impl Build for Notifier {
    async fn build(self, bus: Bus, _: RootSecret) -> anyhow::Result<Box<dyn Running>> {
        let pace = Some(self.consumer.pace());
        let (database, rules) = (Url(self.database), self.notifications);
        Ok(Box::new(notifier::build(notifier::Config { bus, database, rules, pace }).await?))
    }
}

#[async_trait]
impl Build for Broker {
    async fn build(self, bus: Bus, root: RootSecret) -> anyhow::Result<Box<dyn Running>> {
        let authorities = self
            .webhooks
            .ca
            .map(|file| std::fs::read(&file).with_context(|| format!("webhooks.ca: {} can't be read", file.display())));
        let config = broker::Config {
            listen: self.listen,
            bus,
            issuers: shop::issuers(&root),
            root: Some(root),
            database: Some(Url(self.database)),
            settings: broker::Settings {
                allow_private_networks: self.webhooks.allow_private_networks,
                webhook_authorities: authorities.transpose()?,
                public_url: self.webhooks.public_url,
                ..broker::Settings::default()
            },
        };
        let broker = broker::build(config).await?.making_jobs(self.jobs)?;
        Ok(Box::new(match self.bridge {
            Some(bridge) => broker.bridging(bridge.bridge()?),
            None => broker,
        }))
    }
}

#[async_trait]
impl Build for Dashboard {
    async fn build(self, bus: Bus, root: RootSecret) -> anyhow::Result<Box<dyn Running>> {
        let config = dashboard::Config {
            listen: self.listen,
            bus,
            database: Url(self.database),
            issuers: shop::issuers(&root),
            gateways: self.gateways,
        };
        Ok(Box::new(dashboard::build(config).await?))
    }
}

#[async_trait]
impl Build for Mqtt {
    async fn build(self, bus: Bus, _: RootSecret) -> anyhow::Result<Box<dyn Running>> {
        Ok(Box::new(mqtt::build(mqtt::Config { bus, settings: self.mqtt })?))
    }
}
