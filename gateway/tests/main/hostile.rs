//! Clients that mean no good, or don't know better.

use std::time::Duration;

use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use crate::running::{Running, echo, passing_on};

/// Processor time of this process so far; each test has a process of its own.
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let ticks: u64 =
        text.rsplit_once(") ").unwrap().1.split(' ').skip(11).take(2).map(|n| n.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

#[tokio::test]
async fn clients_that_stop_after_their_first_byte_cost_nothing() {
    let gateway = Running::start(&passing_on(echo().await)).await;
    let mut held = Vec::new();
    for _ in 0..300 {
        let mut socket = TcpStream::connect(gateway.address).await.unwrap();
        // Might become POST, PUT or the preface of HTTP/2.
        socket.write_all(b"P").await.unwrap();
        held.push(socket);
    }
    let before = processor_time();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let spent = processor_time() - before;
    assert!(spent < Duration::from_millis(300), "{spent:?} of a second");
    drop(held);
    gateway.stop().await;
}
