use std::{net::IpAddr, sync::Arc};

use axum::{
    Json,
    extract::State,
    http::{StatusCode, Uri},
};

use crate::{
    action::query,
    explain::{self, Explanation, Probe},
    reload::Reloader,
};

type Refusal = (StatusCode, String);

pub async fn show(State(reloader): State<Arc<Reloader>>, uri: Uri) -> Result<Json<Explanation>, Refusal> {
    let probe = probe(uri.query().unwrap_or_default()).map_err(|message| (StatusCode::BAD_REQUEST, message))?;
    Ok(Json(explain::explain(&reloader.shared.snapshot(), &probe)))
}

fn probe(query: &str) -> Result<Probe, String> {
    let (mut method, mut path, mut headers, mut client) = ("GET".to_owned(), None, Vec::new(), None);
    for pair in query::pairs(query) {
        let (name, value) = pair.map_err(|violation| format!("{} {}", violation.field, violation.reason))?;
        match &*name {
            "method" => method = value.into_owned(),
            "path" => path = Some(value.into_owned()),
            "host" => headers.push(("host".to_owned(), value.into_owned())),
            "header" => {
                let (name, value) = value.split_once(':').ok_or_else(|| format!("`{value}` is not `name: value`"))?;
                headers.push((name.to_owned(), value.to_owned()));
            }
            "client" => {
                let address: IpAddr = value.parse().map_err(|_| format!("`{value}` is not an address"))?;
                client = Some(address);
            }
            other => return Err(format!("`{other}` is not known: method, path, host, header, client")),
        }
    }
    Probe::new(&method, &path.ok_or("`path` is missing")?, &headers, client)
}
