//! `turnpike bus`: the bus for operators, on a terminal and in scripts.
//!
//! It asks a running system through its gateway, or reads Redis itself. Exit codes: 0 done, 1 refused or failed, 2 not
//! understood.

mod args;
mod client;
mod copy;
mod dlq;
mod doctor;
mod event;
mod gateway;
mod list;
mod named;
mod publish;
mod screen;
mod seek;
mod settings;
mod stream;
mod tail;
mod verify;
mod watch;

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

async fn run(Bus { way, command }: Bus) -> anyhow::Result<()> {
    let (screen, json) = (Screen::new(), way.output == Output::Json);
    let client = async || Client::open(&way).await;
    match command {
        Command::Publish(publish) => publish::run(&client().await?, publish, &screen, json).await,
        Command::Queues { command: None } => list::queues(&client().await?, &screen, json).await,
        Command::Queues { command: Some(args::Queues::Set(set)) } => {
            list::set(&client().await?, &set, &screen, json).await
        }
        Command::Groups { watch } => list::groups(&client().await?, &screen, json, watch).await,
        Command::Tail(tail) => tail::run(&client().await?, tail, &screen, json).await,
        Command::Get(event) => event::get(&client().await?, &event, &screen, json).await,
        Command::Status(status) => event::status(&client().await?, &status, &screen, json).await,
        Command::Cancel { queue, id, source } => {
            client().await?.cancel(&queue, &id, source.as_deref()).await?;
            event::cancelled(&queue, &id, &screen, json)
        }
        Command::Dlq(command) => dlq::run(&client().await?, command, &screen, json).await,
        Command::Seek(seek) => seek::run(&client().await?, seek, &screen, json).await,
        Command::Clients => list::clients(&client().await?, &screen, json).await,
        Command::Doctor => doctor::run(&way, &screen, json).await,
        Command::Copy(copy) => copy::run(copy, &way, &screen, json).await,
        Command::Verify(verify) => verify::run(verify, &way, &screen, json).await,
    }
}

/// Whoever reads has seen enough: `| head`.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>()).any(|io| io.kind() == io::ErrorKind::BrokenPipe)
}
