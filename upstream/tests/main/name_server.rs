//! A name server for a test: answers by what it was told, over UDP, and over TCP what is too long for that.

#![expect(clippy::panic, reason = "a test fails by panicking")]

use std::{
    collections::{BTreeMap, HashMap},
    net::{Ipv4Addr, SocketAddr},
    str::FromStr as _,
    sync::{Arc, Mutex},
};

use hickory_resolver::proto::{
    op::{Message, OpCode, ResponseCode},
    rr::{Name, RData, Record, RecordType, rdata},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, UdpSocket},
    task::JoinSet,
};

/// More needs TCP.
const MAX_UDP: usize = 1200;

pub struct NameServer {
    pub address: SocketAddr,
    book: Arc<Book>,
    _serving: JoinSet<()>,
}

#[derive(Default)]
struct Book {
    answers: Mutex<HashMap<(Name, RecordType), Said>>,
    questions: Mutex<BTreeMap<(String, RecordType), usize>>,
}

#[derive(Clone)]
enum Said {
    Records(Vec<Record>),
    Code(ResponseCode),
}

impl NameServer {
    /// One that knows no names: everything is NXDOMAIN.
    pub async fn start() -> Self {
        // The same port for both.
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let (address, book) = (udp.local_addr().unwrap(), Arc::<Book>::default());
        let mut serving = JoinSet::new();
        let (by_udp, by_tcp) = (Arc::clone(&book), Arc::clone(&book));
        serving.spawn(async move {
            let mut buffer = [0; 4096];
            loop {
                let Ok((length, from)) = udp.recv_from(&mut buffer).await else { continue };
                let mut answer = by_udp.answer(&buffer[..length]);
                if answer.to_vec().unwrap().len() > MAX_UDP {
                    answer = answer.truncate();
                }
                let _ = udp.send_to(&answer.to_vec().unwrap(), from).await;
            }
        });
        serving.spawn(async move {
            loop {
                let Ok((mut stream, _)) = tcp.accept().await else { continue };
                let book = Arc::clone(&by_tcp);
                tokio::spawn(async move {
                    while let Ok(length) = stream.read_u16().await {
                        let mut question = vec![0; length.into()];
                        if stream.read_exact(&mut question).await.is_err() {
                            return;
                        }
                        let answer = book.answer(&question).to_vec().unwrap();
                        let length = u16::try_from(answer.len()).unwrap();
                        if stream.write_all(&[&length.to_be_bytes(), &answer[..]].concat()).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { address, book, _serving: serving }
    }

    /// The addresses of a name, by their last number in 127.0.0.0/8; that it has no others.
    pub fn say_addresses(&self, name: &str, ttl: u32, numbers: &[u16]) {
        let address = |number: &u16| {
            let [high, low] = number.to_be_bytes();
            RData::A(rdata::A(Ipv4Addr::new(127, 0, high, low)))
        };
        self.say(name, RecordType::A, numbers.iter().map(|number| record(name, ttl, address(number))).collect());
        self.say(name, RecordType::AAAA, Vec::new());
    }

    /// Another name for a name that has addresses.
    pub fn say_alias(&self, alias: &str, ttl: u32, name: &str) {
        let of_name = self.book.answers.lock().unwrap().get(&(fqdn(name), RecordType::A)).cloned();
        let Some(Said::Records(mut records)) = of_name else { panic!("{name} has no addresses") };
        records.insert(0, record(alias, ttl, RData::CNAME(rdata::CNAME(fqdn(name)))));
        self.say(alias, RecordType::A, records);
        self.say(alias, RecordType::AAAA, Vec::new());
    }

    /// The targets of a service: priority, weight, port, host.
    pub fn say_targets(&self, service: &str, ttl: u32, targets: &[(u16, u16, u16, &str)]) {
        let target = |(priority, weight, port, host): &(u16, u16, u16, &str)| {
            record(service, ttl, RData::SRV(rdata::SRV::new(*priority, *weight, *port, fqdn(host))))
        };
        self.say(service, RecordType::SRV, targets.iter().map(target).collect());
    }

    /// That it can't tell.
    pub fn fail(&self, name: &str, kind: RecordType) {
        self.book.answers.lock().unwrap().insert((fqdn(name), kind), Said::Code(ResponseCode::ServFail));
    }

    fn say(&self, name: &str, kind: RecordType, records: Vec<Record>) {
        self.book.answers.lock().unwrap().insert((fqdn(name), kind), Said::Records(records));
    }

    /// How often it was asked.
    pub fn questions(&self, name: &str, kind: RecordType) -> usize {
        let asked = self.book.questions.lock().unwrap();
        asked.get(&(fqdn(name).to_string(), kind)).copied().unwrap_or(0)
    }
}

impl Book {
    fn answer(&self, question: &[u8]) -> Message {
        let Ok(question) = Message::from_vec(question) else {
            return Message::error_msg(0, OpCode::Query, ResponseCode::FormErr);
        };
        let mut answer = Message::response(question.metadata.id, OpCode::Query);
        answer.metadata.recursion_desired = true;
        answer.metadata.recursion_available = true;
        answer.add_queries(question.queries.iter().cloned());
        let asked = &question.queries[0];
        let (name, kind) = (asked.name().clone(), asked.query_type());
        *self.questions.lock().unwrap().entry((name.to_string(), kind)).or_default() += 1;
        match self.answers.lock().unwrap().get(&(name, kind)) {
            Some(Said::Records(records)) => _ = answer.add_answers(records.iter().cloned()),
            Some(Said::Code(code)) => answer.metadata.response_code = *code,
            None => answer.metadata.response_code = ResponseCode::NXDomain,
        }
        answer
    }
}

fn fqdn(name: &str) -> Name {
    Name::from_str(&format!("{}.", name.trim_end_matches('.'))).unwrap()
}

fn record(name: &str, ttl: u32, data: RData) -> Record {
    Record::from_rdata(fqdn(name), ttl, data)
}
