//! The settings of a role that is its own process; `deploy/roles/ROLE.yaml` is each one's commented reference and holds
//! the defaults.

use std::{collections::HashMap, net::SocketAddr, path::PathBuf, time::Duration};

use gateway::action::duration;
use secrecy::SecretString;
use serde::Deserialize;

use super::{Fault, Group, Settings, Webhooks, read, telemetry_faults};

/// The bus that the processes share.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bus {
    /// A URL (`redis://host:port/db`, `rediss://` for TLS, `redis+sentinel://`, `redis+cluster://`), or its parts.
    pub redis: redial::Settings,
    /// Whether `SYS` is told who follows what in this process, and who stops.
    pub tell_subscriptions: bool,
}

impl Default for Bus {
    fn default() -> Self {
        Self { redis: "redis://127.0.0.1:6379".into(), tell_subscriptions: false }
    }
}

/// What somebody logs in with.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    pub email: String,
    /// 8 to 128 characters.
    pub password: SecretString,
}

/// The services that the order service calls: `host:port` of each instance, `dns://name:port`, `srv://name` or
/// `registry://service`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Upstreams {
    pub cart: Vec<String>,
    pub product: Vec<String>,
    pub invoice: Vec<String>,
}

impl Default for Upstreams {
    fn default() -> Self {
        let at = |port: u16| vec![format!("127.0.0.1:{port}")];
        Self { cart: at(7005), product: at(7001), invoice: at(7007) }
    }
}

/// Whether and as what an instance of a service announces itself.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Announce {
    /// In the Redis of the bus, under the role's name: `registry://product` finds it there.
    pub enabled: bool,
    /// The host by which others reach it, with a port unless that is the one it listens on.
    pub advertise: Option<String>,
}

/// What every role needs, whatever it does.
#[derive(Clone, Debug)]
pub struct Process {
    pub ops: SocketAddr,
    pub bus: Bus,
    pub root_secret: PathBuf,
    pub drain: Duration,
    pub telemetry: telemetry::Config,
}

/// Settings of a role.
pub trait Role: Settings {
    const NAME: &str;
    fn process(&self) -> Process;
}

/// A role's settings: what all have, and what it adds.
macro_rules! role {
    ($(#[$about:meta])* $name:ident, $role:literal, $ops:literal, { $($(#[$doc:meta])* $field:ident: $type:ty = $default:expr,)* }) => {
        $(#[$about])*
        #[derive(Clone, Debug, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            /// Which role the file is for.
            pub role: String,
            /// The ops listener.
            pub ops: SocketAddr,
            pub bus: Bus,
            /// A file with the secret that signing keys derive from: the same for every process of the system.
            pub root_secret: PathBuf,
            /// How long what is open may take to finish once the process was told to stop.
            #[serde(deserialize_with = "duration::deserialize")]
            pub drain: Duration,
            pub telemetry: telemetry::Config,
            $($(#[$doc])* pub $field: $type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    role: $role.to_owned(),
                    ops: SocketAddr::from(([127, 0, 0, 1], $ops)),
                    bus: Bus::default(),
                    root_secret: PathBuf::from("./turnpike-data/root.secret"),
                    drain: Duration::from_secs(30),
                    telemetry: telemetry::Config::default(),
                    $($field: $default,)*
                }
            }
        }

        impl Settings for $name {
            const REFERENCE: &str = include_str!(concat!("../../../deploy/roles/", $role, ".yaml"));

            fn faults(&self) -> Vec<Fault> {
                let mut faults = Vec::new();
                if self.role != $role {
                    let message = format!("the file is for {:?}, not for {:?}", self.role, $role);
                    faults.push(Fault { path: "role".to_owned(), message });
                }
                telemetry_faults(&self.telemetry, "telemetry", &mut faults);
                if let Err(fault) = self.bus.redis.address() {
                    faults.push(Fault { path: "bus.redis".to_owned(), message: fault.to_string() });
                }
                $(Check::check(&self.$field, stringify!($field), &mut faults);)*
                faults
            }
        }

        impl Role for $name {
            const NAME: &str = $role;
            fn process(&self) -> Process {
                let mut telemetry = self.telemetry.clone();
                if telemetry.service == telemetry::Config::default().service {
                    telemetry.service = concat!("turnpike-", $role).to_owned();
                }
                Process {
                    ops: self.ops,
                    bus: self.bus.clone(),
                    root_secret: self.root_secret.clone(),
                    drain: self.drain,
                    telemetry,
                }
            }
        }
    };
}

/// What can be wrong with a setting beyond its form.
pub(super) trait Check {
    fn check(&self, _path: &str, _faults: &mut Vec<Fault>) {}
}

impl Check for bool {}
impl Check for SocketAddr {}
impl Check for Option<Account> {}
impl Check for Upstreams {}

impl Check for String {
    fn check(&self, path: &str, faults: &mut Vec<Fault>) {
        if self.is_empty() {
            faults.push(Fault { path: path.to_owned(), message: "must not be empty".to_owned() });
        }
    }
}

impl Check for Vec<String> {}

impl Check for Announce {
    fn check(&self, path: &str, faults: &mut Vec<Fault>) {
        let mut fault = |message: &str| {
            faults.push(Fault { path: format!("{path}.advertise"), message: message.to_owned() });
        };
        match &self.advertise {
            Some(_) if !self.enabled => {
                fault("says by which address it is reached, but it isn't announced (`enabled`)")
            }
            Some(host) if host.is_empty() || host.contains(['/', '@', ' ']) => {
                fault("is not a host with an optional port")
            }
            _ => {}
        }
    }
}

impl Check for Option<broker::BridgeConfig> {
    fn check(&self, path: &str, faults: &mut Vec<Fault>) {
        let found = self.iter().flat_map(broker::BridgeConfig::faults);
        faults.extend(found.map(|(place, message)| Fault { path: format!("{path}.{place}"), message }));
    }
}

impl Check for Vec<broker::JobSource> {
    fn check(&self, path: &str, faults: &mut Vec<Fault>) {
        let found = broker::JobSource::faults(self).into_iter();
        faults.extend(found.map(|(place, message)| Fault { path: format!("{path}{place}"), message }));
    }
}

impl Check for Group {
    fn check(&self, path: &str, faults: &mut Vec<Fault>) {
        self.faults(path, faults);
    }
}

impl Check for notifier::Rules {
    fn check(&self, path: &str, faults: &mut Vec<Fault>) {
        if let Err(notifier::Faults(found)) = self.check() {
            let prefixed =
                found.into_iter().map(|fault| Fault { path: format!("{path}.{}", fault.path), message: fault.message });
            faults.extend(prefixed);
        }
    }
}

impl Check for mqtt::Settings {
    fn check(&self, path: &str, faults: &mut Vec<Fault>) {
        let found = self.faults().into_iter();
        faults.extend(found.map(|fault| Fault { path: format!("{path}.{}", fault.path), message: fault.message }));
    }
}

impl Check for Orders {
    fn check(&self, path: &str, faults: &mut Vec<Fault>) {
        if self.pending_limit < Duration::from_secs(1) {
            faults.push(Fault { path: format!("{path}.pending_limit"), message: "must be at least 1s".to_owned() });
        }
    }
}

pub use super::up::Orders;

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn file(role: &str) -> String {
    format!("sqlite:./turnpike-data/{role}.db")
}

role!(Product, "product", 9901, {
    listen: SocketAddr = loopback(7001),
    announce: Announce = Announce::default(),
    database: String = file("product"),
    demo: bool = false,
});

role!(Review, "review", 9903, {
    listen: SocketAddr = loopback(7003),
    announce: Announce = Announce::default(),
    database: String = file("review"),
    demo: bool = false,
});

role!(Customer, "customer", 9904, {
    listen: SocketAddr = loopback(7004),
    announce: Announce = Announce::default(),
    database: String = file("customer"),
    demo: bool = false,
    operator: Option<Account> = None,
});

role!(Cart, "cart", 9905, {
    listen: SocketAddr = loopback(7005),
    announce: Announce = Announce::default(),
    database: String = file("cart"),
    consumer: Group = Group::default(),
});

role!(Order, "order", 9906, {
    listen: SocketAddr = loopback(7006),
    announce: Announce = Announce::default(),
    database: String = file("order"),
    consumer: Group = Group::awaited(),
    upstreams: Upstreams = Upstreams::default(),
    orders: Orders = Orders::default(),
});

role!(Invoice, "invoice", 9907, {
    listen: SocketAddr = loopback(7007),
    announce: Announce = Announce::default(),
    database: String = file("invoice"),
    consumer: Group = Group::awaited(),
});

role!(Logger, "logger", 9908, {
    database: String = file("logger"),
    filters: Vec<String> = vec!["DB/*".to_owned(), "INVOICES/*".to_owned()],
    consumer: Group = Group::storing(),
});

role!(Notifier, "notifier", 9909, {
    database: String = file("notifier"),
    consumer: Group = Group::storing(),
    notifications: notifier::Rules = notifier::Rules::default(),
});

role!(Broker, "broker", 9910, {
    listen: SocketAddr = loopback(7010),
    database: String = file("broker"),
    webhooks: Webhooks = Webhooks::default(),
    bridge: Option<broker::BridgeConfig> = None,
    jobs: Vec<broker::JobSource> = Vec::new(),
});

role!(Dashboard, "dashboard", 9911, {
    listen: SocketAddr = loopback(7011),
    database: String = file("dashboard"),
    gateways: Vec<String> = vec!["http://127.0.0.1:9900".to_owned()],
});

role!(Mqtt, "mqtt", 9912, {
    mqtt: mqtt::Settings = mqtt::Settings::default(),
});

/// The role that a file says it is for.
pub fn named(text: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.strip_prefix("role:"))?;
    Some(line.split('#').next()?.trim().trim_matches(['"', '\'']).to_owned())
}

/// Everything that is wrong with a role's file.
pub fn check(role: &str, text: &str, environment: &HashMap<String, String>) -> Result<Vec<String>, Vec<Fault>> {
    fn of<T: Role>(text: &str, environment: &HashMap<String, String>) -> Result<Vec<String>, Vec<Fault>> {
        read::<T>(text, environment).map(|_| Vec::new())
    }
    let check = match role {
        Product::NAME => of::<Product>,
        Review::NAME => of::<Review>,
        Customer::NAME => of::<Customer>,
        Cart::NAME => of::<Cart>,
        Order::NAME => of::<Order>,
        Invoice::NAME => of::<Invoice>,
        Logger::NAME => of::<Logger>,
        Notifier::NAME => of::<Notifier>,
        Broker::NAME => of::<Broker>,
        Dashboard::NAME => of::<Dashboard>,
        Mqtt::NAME => of::<Mqtt>,
        other => {
            let message = format!("no role {other:?} has settings");
            return Err(vec![Fault { path: "role".to_owned(), message }]);
        }
    };
    check(text, environment)
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use super::*;

    fn reference_is_default<T: Role + Default + Debug>() {
        let reference: T = read(T::REFERENCE, &HashMap::new()).unwrap();
        assert_eq!(format!("{reference:?}"), format!("{:?}", T::default()));
        assert_eq!(super::super::sections(T::REFERENCE).first(), Some(&"role"), "{}", T::NAME);
    }

    #[test]
    fn every_reference_file_holds_the_defaults() {
        reference_is_default::<Product>();
        reference_is_default::<Review>();
        reference_is_default::<Customer>();
        reference_is_default::<Cart>();
        reference_is_default::<Order>();
        reference_is_default::<Invoice>();
        reference_is_default::<Logger>();
        reference_is_default::<Notifier>();
        reference_is_default::<Broker>();
        reference_is_default::<Dashboard>();
        reference_is_default::<Mqtt>();
    }

    #[test]
    fn a_file_of_another_role_is_refused() {
        let faults = read::<Product>(Review::REFERENCE, &HashMap::new()).unwrap_err();
        assert!(faults.iter().any(|fault| fault.to_string().contains("\"review\"")), "{faults:?}");
    }

    #[test]
    fn variables_that_only_make_sense_together_are_taken_together() {
        let variables =
            [("TURNPIKE__OPERATOR__EMAIL", "ops@example.com"), ("TURNPIKE__OPERATOR__PASSWORD", "12345678")];
        let environment = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let settings: Customer = read("", &environment.clone().into()).unwrap();
        assert_eq!(settings.operator.unwrap().email, "ops@example.com");
        let faults = read::<Customer>("", &HashMap::from([environment[0].clone()])).unwrap_err();
        assert!(faults[0].to_string().starts_with("TURNPIKE__OPERATOR__EMAIL: "), "{faults:?}");
    }

    #[test]
    fn a_variable_sets_a_key_at_the_left_edge() {
        let variables = [("TURNPIKE__LISTEN", "0.0.0.0:7001"), ("TURNPIKE__BUS__REDIS", "redis://bus:6379")];
        let environment = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let settings: Product = read("", &environment).unwrap();
        assert_eq!(
            (settings.listen.to_string().as_str(), settings.bus.redis.address().unwrap().to_string().as_str()),
            ("0.0.0.0:7001", "redis://bus:6379")
        );
    }
}
