//! What a request to place an order may carry beside its message: `idempotency-key` and `prefer` (RFC 7240).

use std::time::Duration;

use service::Violations;
use tonic::metadata::MetadataMap;

const IDEMPOTENCY_KEY: &str = "idempotency-key";
const PREFER: &str = "prefer";
const KEY_BYTES: usize = 255;
/// The longest that a request may wait for its order.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// The key that makes repeats of a request answer what the first one did.
///
/// # Errors
/// A violation if it is empty, longer than 255 bytes, sent twice or not visible ASCII.
pub fn idempotency_key(metadata: &MetadataMap) -> Result<Option<String>, Violations> {
    let mut keys = metadata.get_all(IDEMPOTENCY_KEY).iter();
    let Some(key) = keys.next() else {
        return Ok(None);
    };
    let visible = |key: &&str| key.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    match key.to_str().ok().filter(visible) {
        Some(key) if keys.next().is_none() && (1..=KEY_BYTES).contains(&key.len()) => Ok(Some(key.to_owned())),
        _ => Err(Violations::of(IDEMPOTENCY_KEY, "must be one of 1 to 255 visible ASCII characters")),
    }
}

/// How long the client prefers to wait for its order to be settled: the first `wait` among its preferences, in seconds. A
/// preference that can't be read is ignored, as the RFC has it.
pub fn wait(metadata: &MetadataMap) -> Option<Duration> {
    let preferences = metadata.get_all(PREFER).iter().filter_map(|value| value.to_str().ok());
    let seconds = preferences.flat_map(|value| value.split(',')).find_map(|preference| {
        // Parameters of a preference follow a semicolon; `wait` has none.
        let (name, value) = preference.split(';').next()?.split_once('=')?;
        name.trim().eq_ignore_ascii_case("wait").then(|| value.trim().trim_matches('"').parse::<u32>().ok())?
    })?;
    Some(Duration::from_secs(seconds.into()).min(MAX_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(name: &'static str, values: &[&str]) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        for value in values {
            metadata.append(name, value.parse().unwrap());
        }
        metadata
    }

    fn waits(values: &[&str]) -> Option<u64> {
        wait(&metadata(PREFER, values)).map(|wait| wait.as_secs())
    }

    #[test]
    fn the_wait_is_found_among_other_preferences() {
        assert_eq!(waits(&["wait=5"]), Some(5));
        assert_eq!(waits(&["respond-async, Wait=\"3\"; x=1"]), Some(3));
        assert_eq!(waits(&["return=minimal", "wait = 7"]), Some(7));
        assert_eq!(waits(&["wait=2, wait=9"]), Some(2));
    }

    #[test]
    fn a_wait_has_an_end() {
        assert_eq!(waits(&["wait=3600"]), Some(10));
    }

    #[test]
    fn what_can_not_be_read_is_ignored() {
        for value in ["", "wait", "wait=", "wait=soon", "wait=-1", "waiting=5", "wait=99999999999"] {
            assert_eq!(waits(&[value]), None, "{value}");
        }
        assert_eq!(waits(&[]), None);
    }

    #[test]
    fn a_key_is_one_short_line() {
        let key = |values: &[&str]| idempotency_key(&metadata(IDEMPOTENCY_KEY, values));
        assert_eq!(key(&[]), Ok(None));
        assert_eq!(key(&["\"8e03978e\""]), Ok(Some("\"8e03978e\"".to_owned())));
        assert_eq!(key(&[&"k".repeat(255)]), Ok(Some("k".repeat(255))));
        key(&[&"k".repeat(256)]).unwrap_err();
        key(&[""]).unwrap_err();
        key(&["a", "b"]).unwrap_err();
    }
}
