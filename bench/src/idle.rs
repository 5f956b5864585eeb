//! What a client connection costs in memory while nothing happens on it, after one request.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    thread,
    time::Duration,
};

use anyhow::ensure;

use crate::peers::{Contestant, Field};

const CONNECTIONS: usize = 5_000;

pub fn run(field: &Field) -> anyhow::Result<()> {
    println!(
        "\nmemory of an idle connection (proportional set size of the process tree over {CONNECTIONS} connections)\n"
    );
    let mut own = f64::NAN;
    for contestant in &field.contestants {
        let kib = measure(contestant)?;
        if contestant.name == "gateway" {
            own = kib;
        }
        println!("{:<10} {kib:>8.1} KiB", contestant.name);
    }
    println!("goal: at most 14 KiB: {}", if own <= 14.0 { "met" } else { "missed" });
    Ok(())
}

fn measure(contestant: &Contestant) -> anyhow::Result<f64> {
    let before = contestant.process.memory_kib()?;
    let mut open = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        let mut socket = TcpStream::connect(("127.0.0.1", contestant.http))?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        socket.write_all(b"GET /plain HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        let mut answer = [0; 4096];
        let read = socket.read(&mut answer)?;
        ensure!(answer[..read].starts_with(b"HTTP/1.1 200"), "{}: wrong answer", contestant.name);
        open.push(socket);
    }
    // What gives buffers back by a timer may do so.
    thread::sleep(Duration::from_secs(3));
    let after = contestant.process.memory_kib()?;
    Ok((after - before) / CONNECTIONS as f64)
}
