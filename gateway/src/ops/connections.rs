use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
    time::Instant,
};

use axum::{Json, extract::State};
use serde_json::{Value, json};

use crate::reload::Reloader;

/// Addresses and connections that are listed.
const LISTED: usize = 20;

pub async fn show(State(reloader): State<Arc<Reloader>>) -> Json<Value> {
    let (mut open, mut silent, mut secure) = (0_u64, 0_u64, 0_u64);
    let mut protocols: BTreeMap<&str, u64> = BTreeMap::new();
    let mut addresses: HashMap<IpAddr, u64> = HashMap::new();
    let mut ages: Vec<(Instant, IpAddr, &str)> = Vec::new();
    reloader.shared.connections.each(|known| {
        open += 1;
        let Some(known) = known else {
            silent += 1;
            return;
        };
        secure += u64::from(known.secure);
        *protocols.entry(known.protocol).or_default() += 1;
        *addresses.entry(known.client).or_default() += 1;
        ages.push((known.since, known.client, known.protocol));
    });
    let mut addresses: Vec<_> = addresses.into_iter().collect();
    addresses.sort_by_key(|(address, count)| (Reverse(*count), *address));
    ages.sort_unstable();
    let oldest = ages.iter().take(LISTED).map(|(since, client, protocol)| {
        json!({ "client": client, "protocol": protocol, "seconds": since.elapsed().as_secs() })
    });
    let top = addresses.iter().take(LISTED).map(|(client, count)| json!({ "client": client, "connections": count }));
    Json(json!({
        "open": open,
        "without_request": silent,
        "tls": secure,
        "protocols": protocols,
        "addresses": addresses.len(),
        "top_addresses": top.collect::<Vec<_>>(),
        "oldest": oldest.collect::<Vec<_>>(),
    }))
}
