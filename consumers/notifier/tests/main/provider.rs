//! A server of HTTP/1.1 that records each request and answers, or doesn't, as the test says.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

#[derive(Clone, Debug)]
pub struct Recorded {
    pub line: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

/// What a request gets.
#[derive(Clone, Debug)]
pub enum Reply {
    Status(u16, &'static str),
    /// 429 with Retry-After, in seconds.
    Later(u64),
    /// Nothing, for ever.
    Hang,
    /// The end of the connection.
    Close,
}

pub const TAKEN: Reply = Reply::Status(201, r#"{"sid":"SM1"}"#);

type Answers = Arc<dyn Fn(usize, &Recorded) -> Reply + Send + Sync>;

pub struct Provider {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Recorded>>>,
    connections: Arc<Mutex<usize>>,
}

impl Provider {
    /// One that answers each request by its number, from 0, and itself.
    pub async fn start(answers: impl Fn(usize, &Recorded) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, connections) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(0)));
        let (log, count, answers): (_, _, Answers) = (requests.clone(), connections.clone(), Arc::new(answers));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                *count.lock() += 1;
                let (log, answers) = (log.clone(), answers.clone());
                tokio::spawn(async move { serve(stream, log, answers).await });
            }
        });
        Self { address, requests, connections }
    }

    pub async fn that_takes_all() -> Self {
        Self::start(|_, _| TAKEN).await
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn requests(&self) -> Vec<Recorded> {
        self.requests.lock().clone()
    }

    pub fn connections(&self) -> usize {
        *self.connections.lock()
    }

    /// The texts that were sent to a number.
    pub fn texts(&self, number: &str) -> Vec<String> {
        self.requests().iter().filter(|request| request.field("To") == number).map(|text| text.field("Body")).collect()
    }
}

impl Recorded {
    /// A field of a form.
    pub fn field(&self, name: &str) -> String {
        let value =
            self.body.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).unwrap_or_default();
        percent_encoding::percent_decode_str(value).decode_utf8().unwrap().into_owned()
    }
}

async fn serve(stream: TcpStream, log: Arc<Mutex<Vec<Recorded>>>, answers: Answers) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let request = read(&mut stream).await?;
        let number = {
            let mut log = log.lock();
            log.push(request.clone());
            log.len() - 1
        };
        let answer = match answers(number, &request) {
            Reply::Status(status, body) => {
                format!("HTTP/1.1 {status} Said\r\ncontent-length: {}\r\n\r\n{body}", body.len())
            }
            Reply::Later(seconds) => {
                format!("HTTP/1.1 429 Later\r\nretry-after: {seconds}\r\ncontent-length: 0\r\n\r\n")
            }
            Reply::Hang => std::future::pending().await,
            Reply::Close => return None,
        };
        stream.write_all(answer.as_bytes()).await.ok()?;
    }
}

/// None: the connection has ended.
async fn read(stream: &mut BufReader<TcpStream>) -> Option<Recorded> {
    let mut line = String::new();
    if stream.read_line(&mut line).await.ok()? == 0 {
        return None;
    }
    let mut headers = BTreeMap::new();
    loop {
        let mut header = String::new();
        stream.read_line(&mut header).await.ok()?;
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(Recorded { line: line.trim_end().to_owned(), headers, body: String::from_utf8(body).unwrap() })
}
