//! Writes a note, then prints all of them as they come.

use client::{Client, Error, Follow, Options, Outgoing, StreamExt as _, Told};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let key = std::env::var("TURNPIKE_API_KEY").unwrap_or_default();
    let client = Client::connect("http://127.0.0.1:8080", Options::default().header("x-api-key", key)).await?;

    let note = Outgoing::new("NOTES", "WRITTEN").subject("notes/1").data("hello");
    let receipt = client.publish(note).await?;
    println!("{} is {}", receipt.id, receipt.confirm);

    let mut notes = client.subscribe("NOTES/*", Follow::default().from("earliest")).await?;
    while let Some(told) = notes.next().await {
        match told {
            Told::Event(told) => println!("{} {}", told.event.id, told.event.data),
            Told::Gap(gap) => println!("{:?} are gone: {}", gap.lost, gap.reason),
            Told::Ended(error) => return Err(error),
            Told::CaughtUp { .. } | Told::Missed { .. } => {}
        }
    }
    Ok(())
}
