//! Leases by name, and what they shut out.

use std::{sync::LazyLock, time::Duration};

use events::Name;
use redis::{FromRedisValue as _, Value};

use super::{
    script::{Script, WhenFull},
    server::unexpected,
    shared::Shared,
};
use crate::{Error, Fence};

static LEAD: LazyLock<Script> = LazyLock::new(|| Script::alone(include_str!("lua/lead.lua"), WhenFull::Runs));
static FENCE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/fence.lua"), WhenFull::Runs));

pub(super) async fn take(shared: &Shared, name: &str, holder: &str, time: Duration) -> Result<Option<Fence>, Error> {
    let number = u64::from_redis_value(call(shared, name, holder, time).await?).map_err(|_| unexpected())?;
    Ok((number > 0).then(|| Fence { name: name.to_owned(), number }))
}

pub(super) async fn give_back(shared: &Shared, name: &str, holder: &str) -> Result<(), Error> {
    call(shared, name, holder, Duration::ZERO).await.map(drop)
}

async fn call(shared: &Shared, name: &str, holder: &str, time: Duration) -> Result<Value, Error> {
    let key = shared.keys().lead(name);
    let now = shared.time_told();
    let mut call = LEAD.call([&key].into_iter());
    call.arg(holder).arg(time.as_millis().to_string()).arg(now);
    shared.server.call(&LEAD, &call).await
}

/// Whether no later one was seen by any partition of the queue; from now on, none before it is heard there.
pub(super) async fn shut_out(shared: &Shared, queue: &Name, fence: &Fence) -> Result<bool, Error> {
    let count = shared.find_queue(queue).await?.map_or(1, |queue| queue.partitions);
    let args = [fence.name.clone().into_bytes(), fence.number.to_string().into_bytes()];
    for partition in 0..count {
        let ran = shared.run(&FENCE, queue, partition, &[], &args).await?;
        if u64::from_redis_value(ran.value).map_err(|_| unexpected())? > fence.number {
            return Ok(false);
        }
    }
    Ok(true)
}
