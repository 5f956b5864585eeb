//! `turnpike analytics`: who asks gateways for what, how it goes and how long it takes. It asks their ops listeners; the
//! answers of several gateways become one.

mod ask;
mod show;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use gateway::analytics::{By, Sort};

use crate::{
    bus::{Output, Screen},
    demo,
};

#[derive(Args)]
pub struct Analytics {
    #[command(subcommand)]
    command: Option<Command>,
    /// A gateway's ops listener; several gateways are told of together. Default: DEMO_OPS_URL, from the environment or the data
    /// folder's demo.env, else http://127.0.0.1:9900.
    #[arg(long, global = true, value_name = "URL", env = "DEMO_OPS_URL")]
    url: Vec<String>,
    /// Where demo.env is.
    #[arg(long, global = true, value_name = "FOLDER", default_value = "./turnpike-data")]
    data_dir: PathBuf,
    /// How far back: 15m, 3h, or a time such as 2026-01-02T03:04:05Z. Kept by the minute for 3 h, by ten for a day.
    #[arg(long, global = true, value_name = "TIME", default_value = "1h")]
    since: String,
    /// Only this route.
    #[arg(long, global = true, value_name = "NAME")]
    route: Option<String>,
    /// Rows, at most.
    #[arg(long, global = true, default_value_t = 20)]
    limit: usize,
    /// For people, or for programs.
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Subcommand)]
enum Command {
    /// Requests, errors and latency of each route (this is the default).
    Routes {
        /// The greatest comes first.
        #[arg(long, value_enum, default_value_t = RouteSort::Requests)]
        sort: RouteSort,
    },
    /// Who asks most, or fails most: callers by name, and addresses.
    Clients {
        /// What is counted.
        #[arg(long, value_enum, default_value_t = ClientSort::Requests)]
        by: ClientSort,
    },
    /// How many requests failed, over time.
    Errors {
        /// From one row to the next: whole minutes.
        #[arg(long, value_name = "DURATION", default_value = "5m")]
        step: String,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum RouteSort {
    Requests,
    Errors,
    ErrorRate,
    P50,
    P90,
    P99,
}

#[derive(Clone, Copy, ValueEnum)]
enum ClientSort {
    Requests,
    Errors,
}

pub fn main(mut options: Analytics) -> anyhow::Result<()> {
    if options.url.is_empty() {
        options.url.push(demo::ops_url(&options.data_dir).unwrap_or_else(|_| "http://127.0.0.1:9900".to_owned()));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(options))
}

async fn run(options: Analytics) -> anyhow::Result<()> {
    let (screen, json) = (Screen::new(), options.output == Output::Json);
    match options.command.clone().unwrap_or(Command::Routes { sort: RouteSort::Requests }) {
        Command::Routes { sort } => {
            let answer = ask::routes(&options, sort.into()).await?;
            if json { Ok(screen.json(&answer)?) } else { show::routes(&screen, &answer) }
        }
        Command::Clients { by } => {
            let answer = ask::clients(&options, by.into()).await?;
            if json { Ok(screen.json(&answer)?) } else { show::clients(&screen, &answer) }
        }
        Command::Errors { step } => {
            let answer = ask::statuses(&options, &step).await?;
            if json { Ok(screen.json(&answer)?) } else { show::errors(&screen, &answer) }
        }
    }
}

impl From<RouteSort> for Sort {
    fn from(sort: RouteSort) -> Self {
        match sort {
            RouteSort::Requests => Self::Requests,
            RouteSort::Errors => Self::Errors,
            RouteSort::ErrorRate => Self::ErrorRate,
            RouteSort::P50 => Self::P50,
            RouteSort::P90 => Self::P90,
            RouteSort::P99 => Self::P99,
        }
    }
}

impl From<ClientSort> for By {
    fn from(sort: ClientSort) -> Self {
        match sort {
            ClientSort::Requests => Self::Requests,
            ClientSort::Errors => Self::Errors,
        }
    }
}
