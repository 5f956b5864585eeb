//! How long a request takes at a fixed rate: 50 connections that send on schedule, whatever has become of the request before.
//! Who falls behind counts from when it should have sent, so that a stall is told as long as it was for all who wait.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};

use crate::{
    Run,
    peers::Field,
    statistics::{Latency, median},
};

const CONNECTIONS: u32 = 50;
const RATE: u32 = 5_000;

pub fn run(run: &Run, field: &Field) -> anyhow::Result<()> {
    println!("\nlatency of /plain at {RATE} requests/s, µs, median of {} rounds of {} s\n", run.rounds, run.seconds);
    println!("{:<10} {:>8} {:>8}   {:>11} {:>11}", "", "p50", "p99", "p50 / nginx", "p99 / nginx");
    let mut rounds: Vec<Vec<Latency>> = vec![Vec::new(); field.contestants.len()];
    for round in 0..run.rounds {
        for at in 0..field.contestants.len() {
            let at = (at + round) % field.contestants.len();
            rounds[at].push(generate(field.contestants[at].http, run.seconds)?);
        }
    }
    let nginx = field.contestants.iter().position(|contestant| contestant.name == "nginx").context("no nginx")?;
    for (contestant, own) in field.contestants.iter().zip(&rounds) {
        let to_nginx = |value: fn(&Latency) -> f64| {
            median(own.iter().zip(&rounds[nginx]).map(|(own, theirs)| value(own) / value(theirs)))
        };
        println!(
            "{:<10} {:>8.0} {:>8.0}   {:>11.2} {:>11.2}",
            contestant.name,
            median(own.iter().map(|latency| latency.p50)),
            median(own.iter().map(|latency| latency.p99)),
            to_nginx(|latency| latency.p50),
            to_nginx(|latency| latency.p99),
        );
    }
    println!("goal: p50 and p99 at most 1.05 of nginx's");
    Ok(())
}

/// Has a process on core 1 generate the load.
fn generate(port: u16, seconds: u32) -> anyhow::Result<Latency> {
    let output = Command::new("taskset")
        .args(["-c", "1"])
        .arg(std::env::current_exe()?)
        .args(["latency", "--port", &port.to_string(), "--seconds", &seconds.to_string()])
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let (p50, p99) = text.trim().split_once(' ').context("the generator said nothing")?;
    Ok(Latency { p50: p50.parse()?, p99: p99.parse()? })
}

/// The generator: prints p50 and p99 in µs.
pub fn generator(port: u16, seconds: u32) -> anyhow::Result<()> {
    let start = Instant::now() + Duration::from_millis(50);
    let interval = Duration::from_secs(1) * CONNECTIONS / RATE;
    let threads: Vec<_> = (0..CONNECTIONS)
        .map(|number| {
            let first = start + interval * number / CONNECTIONS;
            thread::Builder::new()
                .stack_size(64 << 10)
                .spawn(move || connection(port, first, interval, RATE / CONNECTIONS * seconds))
        })
        .collect::<Result<_, _>>()?;
    let mut all = Vec::new();
    for thread in threads {
        all.extend(thread.join().map_err(|_| anyhow::anyhow!("a connection panicked"))??);
    }
    let latency = Latency::of(all)?;
    println!("{} {}", latency.p50, latency.p99);
    Ok(())
}

fn connection(port: u16, first: Instant, interval: Duration, requests: u32) -> anyhow::Result<Vec<Duration>> {
    let mut socket = TcpStream::connect(("127.0.0.1", port))?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut took = Vec::with_capacity(requests as usize);
    let mut buffer = [0; 4096];
    for number in 0..requests {
        let due = first + interval * number;
        let waits = due.saturating_duration_since(Instant::now());
        let mut from = due;
        if !waits.is_zero() {
            thread::sleep(waits);
            // What the timer is late by is not the contestant's.
            from = Instant::now();
        }
        socket.write_all(b"GET /plain HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        answer(&mut socket, &mut buffer)?;
        took.push(from.elapsed());
    }
    Ok(took)
}

/// Reads an answer of 128 bytes.
fn answer(socket: &mut TcpStream, buffer: &mut [u8]) -> anyhow::Result<()> {
    const BODY: usize = 128;
    let mut filled = 0;
    loop {
        let read = socket.read(&mut buffer[filled..])?;
        ensure!(read > 0, "the connection was closed");
        filled += read;
        let Some(head) = buffer[..filled].windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        ensure!(buffer.starts_with(b"HTTP/1.1 200"), "wrong answer: {}", String::from_utf8_lossy(&buffer[..head]));
        // Envoy and others may send it in a chunk: then it ends with an empty one.
        let chunked = buffer[..head].windows(7).any(|window| window.eq_ignore_ascii_case(b"chunked"));
        let whole = if chunked { buffer[..filled].ends_with(b"\r\n0\r\n\r\n") } else { filled == head + 4 + BODY };
        if whole {
            return Ok(());
        }
        if filled == buffer.len() {
            bail!("the answer is longer than it can be");
        }
    }
}
