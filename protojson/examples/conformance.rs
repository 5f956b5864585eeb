//! What protobuf's conformance_test_runner talks to: JSON and the wire format by the path that is named.
//!
//! `conformance tables|dynamic INCLUDE`, INCLUDE being the folder with the runner's .proto files. Each request and each
//! answer is preceded by its length, 32 bits little-endian.
#![expect(clippy::panic, clippy::unwrap_used, reason = "the runner sees that its testee died")]

use std::{
    collections::BTreeMap,
    io::{Read, Write},
};

use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage};
use protojson::{Message, Schema, dynamic};

const FILES: [&str; 2] = ["google/protobuf/test_messages_proto3.proto", "google/protobuf/test_messages_proto2.proto"];
const WIRE: i32 = 1;
const JSON: i32 = 2;
const IGNORE_UNKNOWN: i32 = 3;

/// `conformance.ConformanceRequest`, as far as it matters here.
#[derive(prost::Message)]
struct Request {
    #[prost(oneof = "Payload", tags = "1, 2, 7, 8")]
    payload: Option<Payload>,
    #[prost(int32, tag = "3")]
    output: i32,
    #[prost(string, tag = "4")]
    message_type: String,
    #[prost(int32, tag = "5")]
    category: i32,
}

#[derive(prost::Oneof)]
enum Payload {
    #[prost(bytes, tag = "1")]
    Wire(Vec<u8>),
    #[prost(string, tag = "2")]
    Json(String),
    #[prost(string, tag = "7")]
    Jspb(String),
    #[prost(string, tag = "8")]
    Text(String),
}

/// `conformance.ConformanceResponse`
#[derive(prost::Message)]
struct Response {
    #[prost(oneof = "Answer", tags = "1, 3, 4, 5, 6")]
    result: Option<Answer>,
}

#[derive(prost::Oneof)]
enum Answer {
    #[prost(string, tag = "1")]
    ParseError(String),
    #[prost(bytes, tag = "3")]
    Wire(Vec<u8>),
    #[prost(string, tag = "4")]
    Json(String),
    #[prost(string, tag = "5")]
    Skipped(String),
    #[prost(string, tag = "6")]
    SerializeError(String),
}

struct Testee {
    schema: Schema,
    by_tables: bool,
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, path, include] = &arguments[..] else { panic!("conformance tables|dynamic INCLUDE") };
    let by_tables = match path.as_str() {
        "tables" => true,
        "dynamic" => false,
        other => panic!("there is no path {other}"),
    };
    let files = protox::compile(FILES, [include]).unwrap_or_else(|error| panic!("{error:?}"));
    let pool = DescriptorPool::from_file_descriptor_set(files).unwrap();
    let testee = Testee { schema: Schema::new(&pool), by_tables };
    let (mut input, mut output) = (std::io::stdin().lock(), std::io::stdout().lock());
    let mut skipped = BTreeMap::<String, u32>::new();
    let mut len = [0; 4];
    while input.read_exact(&mut len).is_ok() {
        let mut request = vec![0; u32::from_le_bytes(len) as usize];
        input.read_exact(&mut request).unwrap();
        let request = Request::decode(&*request).unwrap();
        let answer = testee.answer(&request);
        if let Answer::Skipped(reason) = &answer {
            *skipped.entry(reason.clone()).or_default() += 1;
        }
        let response = Response { result: Some(answer) }.encode_to_vec();
        output.write_all(&u32::try_from(response.len()).unwrap().to_le_bytes()).unwrap();
        output.write_all(&response).unwrap();
        output.flush().unwrap();
    }
    eprintln!("skipped: {skipped:?}");
}

impl Testee {
    fn answer(&self, request: &Request) -> Answer {
        if request.message_type == "conformance.FailureSet" {
            // The runner's first question: which tests are expected to fail. The list has them.
            return Answer::Wire(Vec::new());
        }
        let Some(message) = self.schema.message(&request.message_type) else {
            return Answer::Skipped("editions are not known here".to_owned());
        };
        let wire = match &request.payload {
            _ if request.category == IGNORE_UNKNOWN => {
                return Answer::Skipped("what isn't known is never ignored".to_owned());
            }
            Some(Payload::Wire(_)) if request.output == WIRE => {
                return Answer::Skipped("nothing here goes from the wire to the wire".to_owned());
            }
            Some(Payload::Wire(wire)) => wire.clone(),
            Some(Payload::Json(json)) => match self.read(&message, json.as_bytes()) {
                Ok(wire) => wire,
                Err(reason) => return Answer::ParseError(reason),
            },
            _ => return Answer::Skipped("neither JSON nor the wire format".to_owned()),
        };
        match request.output {
            WIRE => Answer::Wire(wire),
            JSON => self.write(&message, &wire),
            _ => Answer::Skipped("neither JSON nor the wire format".to_owned()),
        }
    }

    fn read(&self, message: &Message, json: &[u8]) -> Result<Vec<u8>, String> {
        if self.by_tables {
            let mut wire = Vec::new();
            message.read(json, &mut wire).map_err(|fault| format!("{fault:?}"))?;
            return Ok(wire);
        }
        let read = dynamic::read::message(message.descriptor(), json).map_err(|fault| format!("{fault:?}"))?;
        Ok(read.encode_to_vec())
    }

    fn write(&self, message: &Message, wire: &[u8]) -> Answer {
        // The runner tells bytes that are no message from a message that JSON has no form for.
        let decoded = match DynamicMessage::decode(message.descriptor().clone(), wire) {
            Ok(decoded) => decoded,
            Err(error) => return Answer::ParseError(error.to_string()),
        };
        let mut json = Vec::new();
        let written = if self.by_tables {
            message.write(wire, &mut json).map_err(|malformed| malformed.to_string())
        } else {
            dynamic::write_message(&decoded, &mut json).map_err(|error| error.to_string())
        };
        match written {
            Ok(()) => Answer::Json(String::from_utf8(json).unwrap()),
            Err(reason) => Answer::SerializeError(reason),
        }
    }
}
