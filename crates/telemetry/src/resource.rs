//! Who a process says it is, in traces and metrics.

use std::sync::OnceLock;

use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;

/// Where the process's name is not one role's.
pub(crate) const SEVERAL_ROLES: &str = "turnpike";

static SERVICE: OnceLock<Service> = OnceLock::new();

/// The process, as `service.name` and `service.instance.id` tell it.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    name: String,
    /// Another one at each start.
    instance: String,
}

impl Service {
    pub fn new(name: &str) -> Self {
        let instance = uuid::Uuid::new_v4().to_string();
        Self { name: name.to_owned(), instance }
    }

    /// The process's own, from now on.
    pub fn install(self) -> Self {
        SERVICE.get_or_init(|| self).clone()
    }

    pub fn installed() -> Self {
        SERVICE.get().cloned().unwrap_or_else(|| Self::new(SEVERAL_ROLES))
    }

    /// What the spans of a role say of where they come from. A process that has a name of its own has it in all of them.
    pub fn resource(&self, role: Option<&str>) -> Resource {
        let name = match role {
            Some(role) if self.name == SEVERAL_ROLES => format!("{SEVERAL_ROLES}-{role}"),
            _ => self.name.clone(),
        };
        // The builder also reads OTEL_RESOURCE_ATTRIBUTES.
        Resource::builder()
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .with_attribute(KeyValue::new("service.instance.id", self.instance.clone()))
            .with_service_name(name)
            .build()
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::Key;

    use super::*;

    #[test]
    fn a_process_of_several_roles_tells_them_apart_and_one_with_a_name_keeps_it() {
        let name = |service: &Service, role| service.resource(role).get(&Key::new("service.name")).unwrap().to_string();
        let up = Service::new(SEVERAL_ROLES);
        assert_eq!((name(&up, Some("order")), name(&up, None)), ("turnpike-order".to_owned(), "turnpike".to_owned()));
        let alone = Service::new("shop-orders");
        assert_eq!(name(&alone, Some("order")), "shop-orders");
    }
}
