//! `redis:` wherever one is named: by a URL or by parts, as every other role's settings have it.

use std::{borrow::Cow, path::Path};

use redial::{Address, Settings};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

/// `redis: redis://10.0.0.9:6379`, or `redis: { url: rediss://10.0.0.9:6379, user: shop, password_file: redis.password }`.
/// An empty URL, as from `${REDIS:-}`, names none. Never shows a password.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redis(Option<Settings>);

impl Redis {
    /// Where it is, if one is named. Its files lie beside the configuration, in `folder`.
    ///
    /// # Errors
    /// What is wrong with it, without the URL: it may hold a password.
    pub fn address(&self, folder: &Path) -> Result<Option<Address>, String> {
        let address = self.0.as_ref().map(|settings| settings.address_beside(folder)).transpose();
        address.map_err(|refused| refused.to_string())
    }
}

impl<'de> Deserialize<'de> for Redis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let settings = Option::<Settings>::deserialize(deserializer)?;
        Ok(Self(settings.filter(|settings| !settings.is_empty())))
    }
}

impl JsonSchema for Redis {
    fn inline_schema() -> bool {
        false
    }
    fn schema_name() -> Cow<'static, str> {
        "Redis".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let text = |description: &str| json_schema!({ "type": ["string", "null"], "description": description });
        json_schema!({
            "description": "A Redis: a URL (docs/redis.md), or its parts. An empty one is none.",
            "anyOf": [
                { "type": ["string", "null"] },
                {
                    "type": "object",
                    "additionalProperties": false,
                    "required": ["url"],
                    "properties": {
                        "url": text("`redis://`, `rediss://` for TLS, `redis+sentinel://` or `redis+cluster://`."),
                        "user": text("As whom it is asked."),
                        "password": text("Instead of it: `password_file`."),
                        "password_file": text("A file that holds the password."),
                        "ca": text("PEM: who signed the servers' certificates; by default whom the system trusts."),
                        "certificate": text("PEM: the gateway's own, where a server asks for one."),
                        "key": text("PEM: of that certificate."),
                    },
                },
            ],
        })
    }
}
