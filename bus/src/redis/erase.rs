//! A namespace that was for a trial is deleted, whatever is in it.

use anyhow::Context as _;
use redis::{FromRedisValue as _, Value};

use super::{Address, server::Server};

/// Keys that are looked at at once.
const PIECE: usize = 1000;

/// Deletes every key of a namespace; how many. Nobody may have a bus open there, who would register its queues again. It
/// looks at all of the server's keys, a piece at a time.
///
/// # Errors
/// If the address or the namespace is none, or nobody answers.
pub async fn erase<A>(address: A, namespace: &str) -> anyhow::Result<u64>
where
    A: TryInto<Address, Error: Into<anyhow::Error>>,
{
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    anyhow::ensure!(!namespace.is_empty() && namespace.bytes().all(plain), "namespace: {namespace:?} is none");
    let address = address.try_into().map_err(Into::into).context("the address of Redis")?;
    let server = Server::connect(address).await?;
    let mut erased = 0;
    for node in server.redis().nodes().await? {
        let mut cursor = "0".to_owned();
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(&cursor).arg("MATCH").arg(format!("{namespace}:*")).arg("COUNT").arg(PIECE);
            let found: Value = server.redis().ask_node(&node, &scan).await?;
            let (next, keys) = <(String, Vec<String>)>::from_redis_value(found)?;
            for key in keys {
                erased += server.ask::<u64>(redis::cmd("UNLINK").arg(&key)).await?;
            }
            if next == "0" {
                break;
            }
            cursor = next;
        }
    }
    Ok(erased)
}
