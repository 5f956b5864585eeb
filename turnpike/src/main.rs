//! `turnpike`: every role of the system in one executable, a subcommand each.

mod check;
mod cli;
mod key;
mod lone;
mod traffic;
mod up;

use std::process::ExitCode;

use crate::cli::{Cli, Command};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let done = match Cli::read().command {
        Command::Up(options) => up::main(options),
        Command::Gateway(options) => lone::gateway(options),
        Command::Product(options)
        | Command::Review(options)
        | Command::Customer(options)
        | Command::Cart(options)
        | Command::Order(options)
        | Command::Invoice(options)
        | Command::Logger(options) => lone::needs_a_bus(options),
        Command::Check(options) => return check::main(&options),
        Command::Key(command) => key::main(command),
        Command::Traffic(options) => traffic::main(options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("turnpike: {error:#}");
            ExitCode::FAILURE
        }
    }
}
