//! Side by side in one run: the gateway, nginx, HAProxy and Envoy. What is compared is CPU time a request, of the whole
//! process tree (utime + stime from /proc): it holds the kernel's work too, and a noisy machine moves it little.
//!
//! The contestants run on core 0 with one worker; load generator and upstream on core 1. All are up throughout; rounds
//! interleave them, in turned order; the table shows medians, and the median of each round's ratio.

mod bus;
mod contest;
mod h2load;
mod idle;
mod itself;
mod latency;
mod peers;
mod presence;
mod process;
mod protojson;
mod sockets;
mod statistics;
mod upstream;
mod wrk;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

// Some contestants are children of this program, with what is shipped in them: so is its allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Run,
}

#[derive(clap::Args)]
struct Run {
    /// Rounds; the median over them is reported.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds a contestant and round.
    #[arg(long, default_value_t = 2)]
    seconds: u32,
    /// Connections of the load generator.
    #[arg(long, default_value_t = 50)]
    connections: u32,
    /// Only the loads whose name holds this (`itself`, `latency` and `idle` are loads as well).
    #[arg(long, default_value = "")]
    only: String,
    /// The executable that is measured.
    #[arg(long, default_value = "target/dist/turnpike")]
    turnpike: PathBuf,
}

#[derive(Subcommand)]
enum Command {
    /// The bus on both backends beside raw Redis, and an event's way to a browser.
    Bus(bus::Run),
    /// Ten thousand WebSockets on a broker, and a reconnect storm.
    Sockets(sockets::Run),
    /// Ten thousand users who are online, and in one room.
    Presence(presence::Run),
    /// JSON to the wire format and back, beside the dynamic path.
    Protojson(protojson::Run),
    /// The service behind the contestants: HTTP and gRPC.
    Upstream {
        #[arg(long)]
        http: u16,
        #[arg(long)]
        grpc: u16,
    },
    /// A broker that sockets lead to.
    Broker(sockets::Broker),
    /// A loop that writes to as many sockets.
    BareSockets(sockets::Bare),
    /// The load generator of a fixed rate.
    Latency {
        #[arg(long)]
        port: u16,
        #[arg(long)]
        seconds: u32,
    },
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    match cli.command {
        Some(Command::Upstream { http, grpc }) => upstream::main(http, grpc),
        Some(Command::Bus(run)) => bus::main(&run),
        Some(Command::Sockets(run)) => sockets::main(&run),
        Some(Command::Broker(arguments)) => sockets::broker(&arguments),
        Some(Command::BareSockets(arguments)) => sockets::bare(&arguments),
        Some(Command::Presence(run)) => presence::main(&run),
        Some(Command::Protojson(run)) => protojson::main(&run),
        Some(Command::Latency { port, seconds }) => latency::generator(port, seconds),
        None => gateways(&cli.run),
    }
}

fn gateways(run: &Run) -> anyhow::Result<()> {
    anyhow::ensure!(run.rounds > 0 && run.seconds > 0, "at least one round of one second");
    let folder = tempfile::tempdir()?;
    let field = peers::start(&run.turnpike, folder.path())?;
    contest::run(run, &field)?;
    if "itself".contains(&run.only) {
        itself::run(run, &field)?;
    }
    if "latency".contains(&run.only) {
        latency::run(run, &field)?;
    }
    if "idle".contains(&run.only) {
        idle::run(&field)?;
    }
    Ok(())
}
