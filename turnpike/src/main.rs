//! `turnpike`: every role of the system in one executable, a subcommand each.

mod analytics;
mod bus;
mod check;
mod cli;
mod demo;
mod explain;
mod key;
mod openapi;
mod revoke;
mod role;
mod schema;
mod secret;
mod settings;
mod shop;
mod traffic;
mod up;

use std::process::ExitCode;

use crate::cli::{Cli, Command};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    if let Err(error) = lifecycle::raise_open_files() {
        eprintln!("turnpike: the limit of open files stays as it is: {error}");
    }
    let done = match Cli::read().command {
        Command::Up(options) => up::main(options),
        Command::Gateway(options) => role::gateway(options),
        Command::Product(options) => role::product(options),
        Command::Review(options) => role::review(options),
        Command::Customer(options) => role::customer(options),
        Command::Cart(options) => role::cart(options),
        Command::Order(options) => role::order(options),
        Command::Invoice(options) => role::invoice(options),
        Command::Logger(options) => role::logger(options),
        Command::Notifier(options) => role::notifier(options),
        Command::Broker(options) => role::broker(options),
        Command::Dashboard(options) => role::dashboard(options),
        Command::Mqtt(options) => role::mqtt(options),
        Command::Check(options) => return check::main(&options),
        Command::Explain(options) => return explain::main(&options),
        Command::Schema => schema::main(),
        Command::Openapi(options) => openapi::main(&options),
        Command::Key(command) => key::main(command),
        Command::Revoke(options) => revoke::main(options),
        Command::Traffic(options) => traffic::main(options),
        Command::Analytics(options) => analytics::main(options),
        Command::Bus(options) => return bus::main(options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if bus::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("turnpike: {error:#}");
            ExitCode::FAILURE
        }
    }
}
