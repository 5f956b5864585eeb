//! Every Redis key of the registry, a service's together in one slot.
//!
//! | key | holds | ends |
//! |---|---|---|
//! | `tp:registry:{<service>}:beats` | sorted set: addresses by the moment until which they count as alive, in ms of server time | a day after the last heartbeat |
//! | `tp:registry:{<service>}:instances` | hash: instances as JSON by their address; `epoch`: which memory of Redis this is | a day after the last heartbeat |
//! | `tp:registry:{<service>}:news` | channel: `joined`, or `left <id>` | |

/// Until when each instance counts as alive.
pub fn beats(service: &str) -> String {
    format!("tp:registry:{{{service}}}:beats")
}

/// What the instances say of themselves.
pub fn instances(service: &str) -> String {
    format!("tp:registry:{{{service}}}:instances")
}

/// Where comings and goings are told.
pub fn news(service: &str) -> String {
    format!("tp:registry:{{{service}}}:news")
}
