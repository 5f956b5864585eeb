//! Every Redis key of the gateway. All begin with `tp:gw:`, and all but the roll of gateways end by themselves. A request
//! is counted in all of its limits or in none, by one script: on a Cluster what they count lies in one slot, by its tag.
//!
//! | key | holds | ends |
//! |---|---|---|
//! | `tp:gw:roll` | sorted set: gateways by their last heartbeat, in server time | 30 s after the last heartbeat |
//! | `tp:gw:session:<SHA-256 of the cookie>` | string: the principal as JSON | when the session does |
//! | `tp:gw:sessions-of:<SHA-256 of the subject>` | sorted set: the ids of its sessions by when they were opened | with the longest of them |
//! | `tp:gw:{limit}:<digest of limit and key>` | window: hash of counts by part; rate: string with a moment | a window later |
//! | `tp:gw:idempotency:<digest of principal, route and key>` | string: the record as JSON | when it is kept no longer |

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

pub const ROLL: &str = "tp:gw:roll";

/// A session, by the SHA-256 of its cookie.
pub fn session(id: &[u8; 32]) -> String {
    format!("tp:gw:session:{}", URL_SAFE_NO_PAD.encode(id))
}

/// All sessions, as SCAN takes it.
pub const EVERY_SESSION: &str = "tp:gw:session:*";

/// The session that a key is of.
pub fn session_id(key: &str) -> Option<[u8; 32]> {
    URL_SAFE_NO_PAD.decode(key.strip_prefix("tp:gw:session:")?).ok()?.try_into().ok()
}

/// The sessions of one subject, by the SHA-256 of its name.
pub fn sessions_of(subject: &[u8; 32]) -> String {
    format!("tp:gw:sessions-of:{}", URL_SAFE_NO_PAD.encode(subject))
}

/// What a rate limit has counted for one of its keys.
pub fn limit(digest: &[u8; 32]) -> String {
    // Half a SHA-256 is more than enough to tell keys apart, and there are many of them.
    format!("tp:gw:{{limit}}:{}", URL_SAFE_NO_PAD.encode(&digest[..16]))
}

/// What is known of an idempotency key.
pub fn idempotency(digest: &[u8; 32]) -> String {
    format!("tp:gw:idempotency:{}", URL_SAFE_NO_PAD.encode(digest))
}
