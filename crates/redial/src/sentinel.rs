//! Who the primary is, by what Sentinels say: all are asked, and the newest of their answers counts, since one that is cut
//! off from the others goes on naming the former primary.

use std::{collections::HashMap, time::Duration};

use futures_util::future::join_all;
use redis::{AsyncConnectionConfig, ErrorKind, RedisError, RedisResult};
use tokio::time::timeout;

use crate::{
    Address,
    address::{Host, Login},
    dial,
};

/// How long one is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// # Errors
/// If none of them says.
pub(crate) async fn primary(address: &Address, hosts: &[Host], name: &str, login: &Login) -> RedisResult<Host> {
    let asked = hosts.iter().map(async |host| {
        let answer = timeout(PATIENCE, ask(address, host, name, login)).await;
        answer.unwrap_or_else(|_| Err(failed("a Sentinel doesn't answer", host)))
    });
    let (mut newest, mut error) = (None, failed("no Sentinel is named", &name));
    for answer in join_all(asked).await {
        match answer {
            Ok((epoch, host)) if newest.as_ref().is_none_or(|(newest, _)| epoch > *newest) => {
                newest = Some((epoch, host));
            }
            Ok(_) => {}
            Err(other) => error = other,
        }
    }
    newest.map(|(_, host)| host).ok_or(error)
}

/// The primary, and how new that is.
async fn ask(address: &Address, host: &Host, name: &str, login: &Login) -> RedisResult<(u64, Host)> {
    let config =
        AsyncConnectionConfig::new().set_connection_timeout(Some(PATIENCE)).set_response_timeout(Some(PATIENCE));
    let mut connection = dial::connect(&address.sentinel(host, login)?, &config).await?;
    let about: HashMap<String, String> =
        redis::cmd("SENTINEL").arg("MASTER").arg(name).query_async(&mut connection).await?;
    let number = |name: &str| about.get(name).and_then(|number| number.parse::<u64>().ok());
    let port = number("port").and_then(|port| u16::try_from(port).ok());
    match (about.get("ip"), port, number("config-epoch")) {
        (Some(ip), Some(port), Some(epoch)) => Ok((epoch, Host { name: ip.clone(), port })),
        _ => Err(failed("a Sentinel doesn't say where the primary is", host)),
    }
}

fn failed(what: &'static str, about: &impl ToString) -> RedisError {
    (ErrorKind::MasterNameNotFoundBySentinel, what, about.to_string()).into()
}
