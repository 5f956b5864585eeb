//! Asks a service for its descriptors, by `grpc.reflection.v1` or, where it doesn't know that, `v1alpha`: the two differ by
//! their name alone (<https://github.com/grpc/grpc/blob/master/doc/server-reflection.md>).
//!
//! One conversation with one endpoint, as long as it lets us, so that all of it fits together. Files that the service doesn't tell of, as many
//! leave out what only annotations need, are those of protobuf itself, or empty: what is missing in truth shows when the
//! set is read.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use http_body_util::StreamBody;
use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint},
};
use prost_reflect::DescriptorPool;
use tokio::{sync::mpsc, time::timeout};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, ServerReflectionResponse, server_reflection_request::MessageRequest,
    server_reflection_response::MessageResponse,
};
use upstream::{Body, Client, Options, grpc};

/// How long all of it may take.
const TIMEOUT: Duration = Duration::from_secs(10);
const PATHS: [&str; 2] = [
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];
const NOT_FOUND: i32 = 5;
const UNIMPLEMENTED: i32 = 12;
/// Services of every server, which nobody routes to.
const OWN: [&str; 2] = ["grpc.reflection.", "grpc.health."];
/// No service has so much to tell.
const MAX_FILES: usize = 10_000;
const MAX_BYTES: usize = 64 << 20;

/// What of a file's descriptor matters here; the rest passes as it is, since decoding it would lose its annotations.
#[derive(Clone, PartialEq, Message)]
struct File {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, repeated, tag = "3")]
    dependency: Vec<String>,
}

/// The encoded `FileDescriptorSet` of all services there are, the same bytes for the same descriptors.
///
/// # Errors
/// A sentence: it doesn't answer, knows no reflection, or tells of too much.
pub async fn fetch(client: &Client) -> Result<Bytes, String> {
    // A conversation may be begun again, and has its own time then.
    let late = || format!("it takes longer than {} s to tell of them", TIMEOUT.as_secs());
    timeout(TIMEOUT, ask(client)).await.unwrap_or_else(|_| Err(late()))
}

async fn ask(client: &Client) -> Result<Bytes, String> {
    let (mut conversation, services) = match Conversation::begin(client, PATHS[0]).await {
        Err(status) if status.code == UNIMPLEMENTED => Conversation::begin(client, PATHS[1]).await,
        begun => begun,
    }
    .map_err(|status| match status.code {
        UNIMPLEMENTED => "it offers no reflection".to_owned(),
        _ => status.to_string(),
    })?;
    let mut files = Files::default();
    for service in services.iter().filter(|service| !OWN.iter().any(|own| service.starts_with(own))) {
        let asked = MessageRequest::FileContainingSymbol(service.clone());
        let told = conversation.files(asked).await?;
        for file in told.ok_or_else(|| format!("it lists `{service}`, and knows no file of it"))? {
            files.add(file)?;
        }
    }
    while let Some(name) = files.missing.pop_first() {
        match conversation.files(MessageRequest::FileByFilename(name.clone())).await? {
            Some(told) => {
                for file in told {
                    files.add(file)?;
                }
                // It may have answered with others.
                files.substitute(&name)?;
            }
            None => files.substitute(&name)?,
        }
    }
    Ok(files.encode())
}

struct Conversation<'a> {
    client: &'a Client,
    path: &'static str,
    requests: mpsc::Sender<Bytes>,
    answers: grpc::Streaming,
}

impl<'a> Conversation<'a> {
    /// Asks which services there are.
    async fn begin(client: &'a Client, path: &'static str) -> Result<(Self, Vec<String>), grpc::Status> {
        let options = Options::within(TIMEOUT);
        let (requests, mut receiver) = mpsc::channel::<Bytes>(1);
        let frames = futures_util::stream::poll_fn(move |context| {
            receiver.poll_recv(context).map(|bytes| bytes.map(|bytes| Ok::<_, Infallible>(Frame::data(bytes))))
        });
        // A server may wait for it before it says anything.
        _ = requests.try_send(encoded(MessageRequest::ListServices(String::new())));
        let answers = client.call(path, HeaderMap::new(), Body::new(StreamBody::new(frames)), options).await?;
        let mut conversation = Self { client, path, requests, answers };
        match conversation.answer().await? {
            Some(MessageResponse::ListServicesResponse(list)) => {
                Ok((conversation, list.service.into_iter().map(|service| service.name).collect()))
            }
            _ => Ok((conversation, Vec::new())),
        }
    }

    /// The files asked for; None if the server doesn't know them.
    async fn files(&mut self, asked: MessageRequest) -> Result<Option<Vec<Bytes>>, String> {
        self.requests.send(encoded(asked)).await.map_err(|_| "it ended the conversation".to_owned())?;
        let answer = match self.answer().await {
            // Some servers end the conversation where they don't know something.
            Err(status) if status.code == NOT_FOUND => {
                (*self, _) = Self::begin(self.client, self.path).await.map_err(|status| status.to_string())?;
                return Ok(None);
            }
            answer => answer.map_err(|status| status.to_string())?,
        };
        match answer {
            Some(MessageResponse::FileDescriptorResponse(told)) => {
                Ok(Some(told.file_descriptor_proto.into_iter().map(Bytes::from).collect()))
            }
            Some(MessageResponse::ErrorResponse(_)) => Ok(None),
            _ => Err("it answered something else than it was asked".to_owned()),
        }
    }

    async fn answer(&mut self) -> Result<Option<MessageResponse>, grpc::Status> {
        let Some(message) = self.answers.next().await.transpose()? else { return Ok(None) };
        Ok(ServerReflectionResponse::decode(message).ok().and_then(|answer| answer.message_response))
    }
}

fn encoded(asked: MessageRequest) -> Bytes {
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(asked) };
    // A name is never too long for a frame.
    grpc::frame(&request.encode_to_vec()).unwrap_or_default()
}

#[derive(Default)]
struct Files {
    known: BTreeMap<String, Bytes>,
    missing: BTreeSet<String>,
    bytes: usize,
}

impl Files {
    fn add(&mut self, encoded: Bytes) -> Result<(), String> {
        let file = File::decode(encoded.clone()).map_err(|error| format!("a file can't be read: {error}"))?;
        if self.known.contains_key(&file.name) {
            return Ok(());
        }
        self.bytes += encoded.len();
        if self.known.len() == MAX_FILES || self.bytes > MAX_BYTES {
            return Err("it tells of more than 10,000 files or 64 MiB".to_owned());
        }
        self.missing.remove(&file.name);
        self.known.insert(file.name, encoded);
        let unknown = file.dependency.into_iter().filter(|name| !self.known.contains_key(name));
        let unknown: Vec<_> = unknown.collect();
        self.missing.extend(unknown);
        Ok(())
    }

    /// What takes the place of a file that isn't told of.
    fn substitute(&mut self, name: &str) -> Result<(), String> {
        if self.known.contains_key(name) {
            return Ok(());
        }
        let own = DescriptorPool::global().get_file_by_name(name).map(|file| file.encode_to_vec());
        let file = own.unwrap_or_else(|| File { name: name.to_owned(), dependency: Vec::new() }.encode_to_vec());
        self.add(file.into())
    }

    fn encode(&self) -> Bytes {
        let mut set = Vec::with_capacity(self.bytes + self.known.len() * 8);
        for file in self.known.values() {
            encode_key(1, WireType::LengthDelimited, &mut set);
            encode_varint(file.len() as u64, &mut set);
            set.extend_from_slice(file);
        }
        set.into()
    }
}
