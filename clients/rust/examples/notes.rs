//! Writes a note, then prints all that there are: notes [TEXT]

use client::{Client, Error, Follow, Options, Outgoing, StreamExt as _, Told};
use serde_json::json;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let text = std::env::args().nth(1).unwrap_or_else(|| "hello".to_owned());
    let key = std::env::var("TURNPIKE_API_KEY").unwrap_or_default();
    let url = std::env::var("TURNPIKE_URL").unwrap_or_else(|_| "http://127.0.0.1:8080".to_owned());
    let client = Client::connect(&url, Options::default().header("x-api-key", key)).await?;

    let note = Outgoing::new("NOTES", "WRITTEN").subject("notes/1").data(json!({ "text": text }));
    let receipt = client.publish(note).await?;
    println!("it is {}", receipt.confirm);

    let mut notes = client.subscribe("NOTES/*", Follow::default().from("earliest")).await?;
    while let Some(told) = notes.next().await {
        match told {
            Told::Event(told) => println!("{}", told.event.data["text"]),
            Told::Gap(gap) => println!("{:?} are gone: {}", gap.lost, gap.reason),
            Told::Missed { .. } => {}
            Told::CaughtUp { .. } => break,
            Told::Ended(error) => return Err(error),
        }
    }
    client.close().await;
    Ok(())
}
