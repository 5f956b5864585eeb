//! F26: one id from several tabs of one user, over and over: by WebSocket at either node and by HTTP, at once. One of them
//! records it, all are told the same place, and nobody who follows is told twice.

use std::net::SocketAddr;

use bus::Mode;
use bytes::Bytes;
use client::{Client, Options, Outgoing, Receipt};
use events::Name;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use principal::METADATA;
use serde_json::json;
use tokio::net::TcpStream;
use verify::{
    Site as _,
    contract::Stage,
    history::{Answer, Level, Sent, What},
    load::{Witness, audit},
};

use super::clock::acknowledge_all;
use crate::lab::{Brokers, Caller, Fleet, Following, Lab, Reader, TRANSPORTS};

const ROUNDS: usize = 30;
const KEYS: usize = 4;
const EVENT: &str = "SAID";

pub(super) async fn at_once(lab: &Lab, stage: &Stage) -> anyhow::Result<()> {
    let witness = stage.witness(lab.node().await?);
    let group = stage.group("told", Mode::Keyed)?;
    witness.declare(&group, false).await?;
    let fleet = Fleet::start(lab, Brokers::new(), 2, stage.seed).await?;
    let queue = stage.queue()?;
    let alice = fleet.brokers.caller("alice", &["events:read:*/*", "events:write:*/*"]);
    let follow = |(number, transport)| {
        let following = Following::new(queue.clone(), fleet.address(number), alice.clone());
        Reader::start(&stage.history, &format!("reader-{number}"), transport, following)
    };
    let readers: Vec<Reader> =
        TRANSPORTS.into_iter().cycle().take(2 * TRANSPORTS.len()).enumerate().map(follow).collect();
    let tabs = [
        Tab::socket("here", fleet.address(0), &alice).await?,
        Tab::socket("there", fleet.address(1), &alice).await?,
        Tab::Http(fleet.address(0), alice.clone()),
    ];
    let mut last = 0;
    for round in 0..stage.times(ROUNDS) {
        let said = Said { id: format!("said-{round}"), key: format!("k{}", round % KEYS), queue: &queue };
        let [one, two, three] = &tabs;
        let (one, two, three) =
            tokio::try_join!(one.say(&witness, &said), two.say(&witness, &said), three.say(&witness, &said))?;
        let receipts = [one, two, three];
        let (first, place) = (&receipts[0].cursor, place(&receipts[0], &queue)?);
        let alike = receipts.iter().all(|receipt| receipt.cursor.is_some() && receipt.cursor == *first);
        anyhow::ensure!(alike, "one id, and not one place: {receipts:?}");
        let recorded = receipts.iter().filter(|receipt| !receipt.duplicate).count();
        anyhow::ensure!(recorded == 1, "{recorded} have recorded it: {receipts:?}");
        last = place.1;
    }
    Reader::all_have(&readers, last).await;
    acknowledge_all(&witness, &group.name).await?;
    witness.history.write(What::Rest);
    audit(&witness).await
}

/// What is said in each of the tabs.
struct Said<'a> {
    id: String,
    key: String,
    queue: &'a Name,
}

enum Tab {
    Socket(&'static str, Client),
    Http(SocketAddr, Caller),
}

impl Tab {
    async fn socket(name: &'static str, at: SocketAddr, caller: &Caller) -> anyhow::Result<Self> {
        let caller = caller.clone();
        let options = Options::default().token(move || caller.token());
        Ok(Self::Socket(name, Client::connect(&format!("ws://{at}"), options).await?))
    }

    async fn say(&self, witness: &Witness, said: &Said<'_>) -> anyhow::Result<Receipt> {
        let op = witness.history.op();
        let publisher = match self {
            Self::Socket(name, _) => (*name).to_owned(),
            Self::Http(..) => "http".to_owned(),
        };
        let sent = Sent {
            id: said.id.clone(),
            queue: said.queue.to_string(),
            event: EVENT.to_owned(),
            key: said.key.clone(),
            ..Sent::default()
        };
        witness.history.write(What::PublishAsked { op, publisher, level: Level::Stored, sent: vec![sent] });
        let answered = match self {
            Self::Socket(_, client) => {
                let event = Outgoing::new(said.queue.to_string(), EVENT).id(&said.id).subject(&said.key);
                client.publish(event.data(json!({ "round": said.id }))).await.map_err(anyhow::Error::from)
            }
            Self::Http(at, caller) => post(*at, caller, said).await,
        };
        let answered = answered.and_then(|receipt| Ok((place(&receipt, said.queue)?, receipt)));
        witness.history.write(match &answered {
            Ok(((partition, position), receipt)) => {
                let (partition, position, duplicate) = (*partition, Some(*position), receipt.duplicate);
                What::PublishAnswered { op, answers: vec![Answer::Recorded { partition, position, duplicate }] }
            }
            Err(error) => What::PublishFailed { op, error: error.to_string() },
        });
        Ok(answered?.1)
    }
}

async fn post(at: SocketAddr, caller: &Caller, said: &Said<'_>) -> anyhow::Result<Receipt> {
    let stream = TcpStream::connect(at).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let path = format!("/events/{}/{EVENT}?id={}&subject={}", said.queue, said.id, said.key);
    let request = Request::post(path).header("host", "broker").header(METADATA, caller.token());
    let request = request.header("content-type", "application/json");
    let body = Full::new(Bytes::from(json!({ "round": said.id }).to_string()));
    let answer = sender.send_request(request.body(body)?).await?;
    anyhow::ensure!(answer.status().is_success(), "{}", answer.status());
    Ok(serde_json::from_slice(&answer.into_body().collect().await?.to_bytes())?)
}

/// Where a receipt says that the event is.
fn place(receipt: &Receipt, queue: &Name) -> anyhow::Result<(u32, u64)> {
    let cursor = receipt.cursor.as_deref().and_then(|cursor| broker::read_cursor(cursor, queue));
    let place = cursor.and_then(|cursor| cursor.places().next());
    place.map(|(partition, _, position)| (partition, position)).ok_or_else(|| anyhow::anyhow!("no place: {receipt:?}"))
}
