//! Which roles make up the shop, in the order they start, and what each is told of the others.

use std::{collections::HashMap, net::SocketAddr, path::PathBuf};

use anyhow::Context as _;
use futures_util::FutureExt as _;
use lifecycle::Role;
use principal::RootSecret;

use super::supervisor::Supervisor;
use crate::{cli, demo::Credentials, settings::Up as Settings, shop};

/// Over how long the broker's clients are sent away: less than it has until it is dropped.
const DRAIN: std::time::Duration = std::time::Duration::from_millis(1_500);

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// What the roles are made from.
pub struct Plan {
    pub options: cli::Up,
    pub settings: Settings,
    pub folder: PathBuf,
    pub root: RootSecret,
    pub bus: bus::Bus,
    pub credentials: Credentials,
    /// Where the process tells of itself.
    pub ops: SocketAddr,
}

/// What a newcomer needs to know of the system that runs now.
pub struct Started {
    pub gateway: SocketAddr,
    pub api_key: String,
}

impl Plan {
    /// Starts what is called before what calls it, the gateway last.
    pub async fn start(&self, supervisor: &Supervisor, gateway: SocketAddr) -> anyhow::Result<Started> {
        let mut properties: HashMap<String, String> = std::env::vars().collect();
        let mut endpoints: HashMap<&'static str, Vec<String>> = HashMap::new();
        for (role, number) in
            [("product", 1), ("product", 2), ("review", 1), ("customer", 1), ("cart", 1), ("invoice", 1)]
        {
            let address = self.add_service(supervisor, role, number).await?;
            endpoints.entry(role).or_default().push(address.to_string());
        }
        let order = self.order(&endpoints);
        let address = supervisor
            .add("order", 1, LOOPBACK, move |listen| {
                let mut config = order.clone();
                config.service.listen = listen;
                async { Ok(Box::new(order::build(config).await?) as Box<dyn Role>) }.boxed()
            })
            .await?
            .context("the order service has no address")?;
        endpoints.insert("order", vec![address.to_string()]);

        let logger = self.logger()?;
        supervisor
            .add("logger", 1, LOOPBACK, move |_| {
                let config = logger.clone();
                async { Ok(Box::new(logger::build(config).await?) as Box<dyn Role>) }.boxed()
            })
            .await?;
        let notifier = self.notifier();
        supervisor
            .add("notifier", 1, LOOPBACK, move |_| {
                let config = notifier.clone();
                async { Ok(Box::new(notifier::build(config).await?) as Box<dyn Role>) }.boxed()
            })
            .await?;
        let (broker, sources, bridge) =
            (self.broker(gateway), self.settings.jobs.clone(), self.settings.bridge.clone());
        let address = supervisor
            .add("broker", 1, LOOPBACK, move |listen| {
                let config = broker::Config { listen, ..broker.clone() };
                let (sources, bridge) = (sources.clone(), bridge.clone());
                let built = async {
                    let broker = broker::build(config).await?.making_jobs(sources)?;
                    Ok(Box::new(match bridge {
                        Some(bridge) => broker.bridging(bridge.bridge()?),
                        None => broker,
                    }) as Box<dyn Role>)
                };
                built.boxed()
            })
            .await?;
        endpoints.insert("broker", vec![address.context("the broker has no address")?.to_string()]);
        if let Some(settings) = &self.settings.mqtt {
            let config = mqtt::Config { bus: self.bus.clone(), settings: settings.clone() };
            supervisor
                .add("mqtt", 1, LOOPBACK, move |_| {
                    let config = config.clone();
                    async { Ok(Box::new(mqtt::build(config)?) as Box<dyn Role>) }.boxed()
                })
                .await?;
        }
        let dashboard = self.dashboard();
        let address = supervisor
            .add("dashboard", 1, LOOPBACK, move |listen| {
                let config = dashboard::Config { listen, ..dashboard.clone() };
                async { Ok(Box::new(dashboard::build(config).await?) as Box<dyn Role>) }.boxed()
            })
            .await?;
        endpoints.insert("dashboard", vec![address.context("the dashboard has no address")?.to_string()]);

        for (role, addresses) in &endpoints {
            let name = role.to_uppercase();
            // One is called by its role's name, several by that and a number; either way the first has its number.
            if let [one] = addresses.as_slice() {
                properties.insert(name.clone(), one.clone());
            }
            let numbered = addresses.iter().enumerate();
            properties.extend(numbered.map(|(index, address)| (format!("{name}_{}", index + 1), address.clone())));
        }
        let (keys_file, api_key) = self.demo_key()?;
        properties.insert("KEYS_FILE".to_owned(), keys_file.display().to_string());
        properties.insert("GATEWAY_ADDRESS".to_owned(), gateway.to_string());
        // What the gateway shares with others goes where the bus is; without Redis it shares nothing.
        properties.insert("REDIS".to_owned(), self.options.redis.clone().unwrap_or_default());
        let address = self.add_gateway(supervisor, gateway, properties).await?;
        Ok(Started { gateway: address, api_key })
    }

    async fn add_service(
        &self,
        supervisor: &Supervisor,
        role: &'static str,
        number: usize,
    ) -> anyhow::Result<SocketAddr> {
        let config = self.service(role);
        let seed =
            customer::Seed { demo: Some(self.credentials.customer()), operator: Some(self.credentials.operator()) };
        let address = supervisor
            .add(role, number, LOOPBACK, move |listen| {
                let (config, seed) = (service::Config { listen, ..config.clone() }, seed.clone());
                async move {
                    let service = match role {
                        "product" => product::build(config).await?,
                        "review" => review::build(config).await?,
                        "customer" => customer::build(customer::Config { service: config, seed }).await?,
                        "cart" => cart::build(config).await?,
                        "invoice" => invoice::build(config).await?,
                        other => anyhow::bail!("no service {other}"),
                    };
                    Ok(Box::new(service) as Box<dyn Role>)
                }
                .boxed()
            })
            .await?;
        address.with_context(|| format!("{role} has no address"))
    }

    fn service(&self, role: &str) -> service::Config {
        service::Config {
            listen: LOOPBACK,
            database: self.database(role),
            bus: self.bus.clone(),
            issuers: shop::issuers(&self.root),
            root: self.root.clone(),
            seed: true,
            pace: self.settings.consumers.of(role),
            registry: None,
            announce: None,
        }
    }

    fn order(&self, endpoints: &HashMap<&'static str, Vec<String>>) -> order::Config {
        let of = |role: &str| endpoints.get(role).cloned().unwrap_or_default();
        let mut config = order::Config::new(self.service("order"), of("cart"), of("product"), of("invoice"));
        config.pending_limit = self.settings.orders.pending_limit;
        config
    }

    fn logger(&self) -> anyhow::Result<logger::Config> {
        Ok(logger::Config {
            database: self.database("logger"),
            bus: self.bus.clone(),
            filters: vec!["DB/*".parse()?, "INVOICES/*".parse()?],
            pace: self.settings.consumers.of("logger"),
        })
    }

    fn notifier(&self) -> notifier::Config {
        notifier::Config {
            bus: self.bus.clone(),
            database: self.database("notifier"),
            rules: self.settings.notifications.clone(),
            pace: self.settings.consumers.of("notifier"),
        }
    }

    fn broker(&self, gateway: SocketAddr) -> broker::Config {
        let host = if gateway.ip().is_unspecified() { LOOPBACK.ip() } else { gateway.ip() };
        let public_url = format!("http://{}", SocketAddr::new(host, gateway.port()));
        broker::Config {
            listen: LOOPBACK,
            bus: self.bus.clone(),
            issuers: shop::issuers(&self.root),
            root: Some(self.root.clone()),
            database: Some(self.database("broker")),
            settings: broker::Settings {
                drain: DRAIN,
                // Whoever tries it out has its receivers beside it.
                allow_private_networks: true,
                public_url: (gateway.port() != 0).then_some(public_url),
                ..broker::Settings::default()
            },
        }
    }

    fn dashboard(&self) -> dashboard::Config {
        dashboard::Config {
            listen: LOOPBACK,
            bus: self.bus.clone(),
            database: self.database("dashboard"),
            issuers: shop::issuers(&self.root),
            gateways: vec![format!("http://{}", self.ops)],
        }
    }

    fn database(&self, role: &str) -> database::Url {
        match &self.options.database {
            Some(url) => database::Url(url.clone()),
            None => database::Url(format!("sqlite:{}", self.folder.join(format!("{role}.db")).display())),
        }
    }

    /// The key file with the demo's key in it, which works on loopback alone.
    fn demo_key(&self) -> anyhow::Result<(PathBuf, String)> {
        let file = self.folder.join("keys.yaml");
        let key = gateway::keys::put(&file, "demo", &self.credentials.api_key_secret, |key| {
            key.subject = "customers/demo".to_owned();
            key.scopes = vec!["shop".to_owned()];
            key.loopback_only = true;
        })?;
        Ok((file, key))
    }

    async fn add_gateway(
        &self,
        supervisor: &Supervisor,
        address: SocketAddr,
        properties: HashMap<String, String>,
    ) -> anyhow::Result<SocketAddr> {
        let (root, cores, file) = (self.root.clone(), self.options.cores, self.options.gateway_config.clone());
        let bus = self.bus.clone();
        let bound = supervisor
            .add("gateway", 1, address, move |listen| {
                let mut properties = properties.clone();
                properties.insert("GATEWAY_ADDRESS".to_owned(), listen.to_string());
                let source = match &file {
                    Some(path) => gateway::ConfigSource::File { path: path.clone(), properties },
                    None => gateway::ConfigSource::Text { text: shop::GATEWAY.to_owned(), properties },
                };
                let options = gateway::Options {
                    source,
                    descriptors: shop::built_in(),
                    root: root.clone(),
                    bus: Some(bus.clone()),
                    cores,
                };
                async { Ok(Box::new(gateway::build(options).await?) as Box<dyn Role>) }.boxed()
            })
            .await?;
        bound.context("the gateway has no listener")
    }
}
