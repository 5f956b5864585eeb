//! `turnpike bus`: the bus for operators, on a terminal and in scripts.
//!
//! It asks a running system through its gateway, or reads Redis itself. Exit codes: 0 done, 1 refused or failed, 2 not
//! understood.

mod args;
mod client;
mod dlq;
mod gateway;
mod list;
mod publish;
mod screen;
mod seek;
mod tail;

use std::{io, process::ExitCode};

pub use args::{Bus, Output, Way, duration};
pub use client::{Client, Draft};
pub use screen::{Cell, Screen, Tone, shortened};

use self::args::Command;

pub fn main(options: Bus) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(run(options)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("turnpike: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Bus) -> anyhow::Result<()> {
    let (screen, json) = (Screen::new(), options.way.output == Output::Json);
    let client = Client::open(&options.way).await?;
    match options.command {
        Command::Publish(publish) => publish::run(&client, publish, &screen, json).await,
        Command::Queues => list::queues(&client, &screen, json).await,
        Command::Groups { watch } => list::groups(&client, &screen, json, watch).await,
        Command::Tail(tail) => tail::run(&client, tail, &screen, json).await,
        Command::Dlq(command) => dlq::run(&client, command, &screen, json).await,
        Command::Seek(seek) => seek::run(&client, seek, &screen, json).await,
        Command::Clients => list::clients(&client, &screen, json).await,
    }
}

/// Whoever reads has seen enough: `| head`.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>()).any(|io| io.kind() == io::ErrorKind::BrokenPipe)
}
