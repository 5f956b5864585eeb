//! `turnpike explain`: what a gateway would do with a request. It asks a running one, or reads a configuration itself: the
//! answer is made by the same code. Exit codes: 0 a route takes it, 1 none does or there is no answer, 2 not understood.

use std::{collections::HashMap, fs, process::ExitCode, time::Duration};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use gateway::explain::{Explanation, Probe};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::Request;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::{cli, demo, shop};

const TIMEOUT: Duration = Duration::from_secs(10);
const LONGEST_ANSWER: usize = 4 << 20;

pub fn main(options: &cli::Explain) -> ExitCode {
    match explain(options) {
        Ok(explanation) => {
            match options.output {
                cli::Output::Text => print!("{explanation}"),
                cli::Output::Json => println!("{}", serde_json::to_string_pretty(&explanation).unwrap_or_default()),
            }
            if explanation.route.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("turnpike: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn explain(options: &cli::Explain) -> anyhow::Result<Explanation> {
    let headers = options.header.iter().map(|field| {
        let (name, value) = field.split_once(':').with_context(|| format!("`{field}` is not `Name: value`"))?;
        Ok((name.trim().to_owned(), value.trim().to_owned()))
    });
    let headers = headers.collect::<anyhow::Result<Vec<_>>>()?;
    let Some(file) = &options.config else {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        return runtime.block_on(asked(options, &headers));
    };
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let environment: HashMap<String, String> = std::env::vars().collect();
    let probe = Probe::new(&options.method, &options.target, &headers, options.client).map_err(anyhow::Error::msg)?;
    gateway::explain(&text, &environment, file.parent(), &shop::built_in(), &probe).map_err(|errors| {
        let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("{} is not good:\n{}", file.display(), errors.join("\n"))
    })
}

/// What a running gateway says.
async fn asked(options: &cli::Explain, headers: &[(String, String)]) -> anyhow::Result<Explanation> {
    let url = match &options.url {
        Some(url) => url.clone(),
        None => demo::ops_url(&options.data_dir)?,
    };
    let escape = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let mut query = format!("method={}&path={}", escape(&options.method), escape(&options.target));
    for (name, value) in headers {
        query.push_str(&format!("&header={}", escape(&format!("{name}: {value}"))));
    }
    if let Some(client) = options.client {
        query.push_str(&format!("&client={}", escape(&client.to_string())));
    }
    let url = format!("{}/explain?{query}", url.trim_end_matches('/'));
    let http: Client<HttpConnector, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let request = Request::get(&url).body(Empty::new()).with_context(|| url.clone())?;
    let asking = async {
        let response = http.request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), LONGEST_ANSWER).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("{error}"))?.to_bytes();
        if !status.is_success() {
            bail!("{status}: {}", String::from_utf8_lossy(&body));
        }
        serde_json::from_slice(&body).context("is this a gateway of this version?")
    };
    let answer = tokio::time::timeout(TIMEOUT, asking).await;
    answer.context("no answer").flatten().with_context(|| format!("GET {url}"))
}
