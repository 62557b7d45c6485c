//! Load for a running server: single pushes, then batches, each answer awaited; prints one line of JSON.
//!
//! `landfall-load --url http://127.0.0.1:8787 --connections 64 --seconds 5`. Every connection is a client of its own
//! with one push in flight, as a browser is. It speaks plain HTTP/1.1 over TCP, so that what is measured is the server.

use clap::Parser;
use serde_json::{Value, json};
use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[derive(Clone, Debug, Parser)]
struct Options {
    /// A server started with --dev
    #[arg(long, default_value = "http://127.0.0.1:8787")]
    url: String,
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Connections of the batched part
    #[arg(long, default_value_t = 8)]
    batch_connections: usize,
    /// Length of each part
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Mutations in a batch
    #[arg(long, default_value_t = 100)]
    batch: u64,
}

const USERS: [&str; 3] = ["ada", "grace", "linus"];
const PASSWORD: &str = "landfall";

fn main() -> ExitCode {
    let options = Options::parse();
    let run = || -> Fallible<Value> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(measure(&options))
    };
    match run() {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("landfall-load: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(options: &Options) -> Fallible<Value> {
    let single = part(options, options.connections, 1).await?;
    let batched = part(options, options.batch_connections, options.batch).await?;
    Ok(json!({
        "single_pushes_per_s": single.per_second(1),
        "p50_ms": single.percentile_ms(50),
        "p99_ms": single.percentile_ms(99),
        "connections": options.connections,
        "batched_ops_per_s": batched.per_second(options.batch),
        "batch_p50_ms": batched.percentile_ms(50),
        "batch_p99_ms": batched.percentile_ms(99),
        "batch": options.batch,
        "batch_connections": options.batch_connections,
        "seconds": options.seconds,
    }))
}

/// How long each answered push took, and all of them together.
struct Part {
    micros: Vec<u64>,
    elapsed: Duration,
}

impl Part {
    fn per_second(&self, ops: u64) -> u64 {
        let total = u128::from(ops) * self.micros.len() as u128 * 1000;
        u64::try_from(total / self.elapsed.as_millis().max(1)).unwrap_or(u64::MAX)
    }
    fn percentile_ms(&self, percent: usize) -> f64 {
        let at = (self.micros.len() * percent / 100).min(self.micros.len().saturating_sub(1));
        self.micros.get(at).map_or(0.0, |micros| *micros as f64 / 1000.0)
    }
}

async fn part(options: &Options, connections: usize, batch: u64) -> Fallible<Part> {
    let run = format!("{:x}", std::process::id());
    let mut clients = Vec::new();
    for index in 0..connections {
        let user = USERS[index % USERS.len()];
        clients.push(Client::open(&options.url, user, format!("load-{run}-{batch}-{index}")).await?);
    }
    let start = Instant::now();
    let end = start + Duration::from_secs(options.seconds);
    let mut tasks = JoinSet::new();
    for client in clients {
        tasks.spawn(client.run(batch, end));
    }
    let mut micros = Vec::new();
    while let Some(done) = tasks.join_next().await {
        micros.extend(done??);
    }
    let elapsed = start.elapsed();
    micros.sort_unstable();
    Ok(Part { micros, elapsed })
}

struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
    host: String,
    user: &'static str,
    client_id: String,
    token: String,
    seq: u64,
}

impl Client {
    async fn open(url: &str, user: &'static str, client_id: String) -> Fallible<Self> {
        let host = url.strip_prefix("http://").ok_or("the URL must begin with http://")?;
        let host = host.trim_end_matches('/').to_owned();
        let stream = TcpStream::connect(&host).await?;
        stream.set_nodelay(true)?;
        let mut client = Self { stream, buffer: Vec::new(), host, user, client_id, token: String::new(), seq: 0 };
        let body = json!({ "user": user, "password": PASSWORD }).to_string();
        let answer: Value = serde_json::from_slice(&client.ask("/auth/login", &body).await?)?;
        client.token = answer["token"].as_str().ok_or("no token: was the server started with --dev?")?.to_owned();
        Ok(client)
    }

    /// Pushes until `end`; the time that each push took.
    async fn run(mut self, batch: u64, end: Instant) -> Fallible<Vec<u64>> {
        let mut micros = Vec::new();
        while Instant::now() < end {
            let body = self.push_body(batch);
            let start = Instant::now();
            let answer = self.ask("/v1/sync/push", &body).await?;
            micros.push(u64::try_from(start.elapsed().as_micros())?);
            let applied = answer.windows(18).filter(|bytes| *bytes == b"\"status\":\"applied\"").count();
            if applied as u64 != batch {
                return Err(format!("not applied: {}", String::from_utf8_lossy(&answer)).into());
            }
        }
        Ok(micros)
    }

    fn push_body(&mut self, batch: u64) -> String {
        let (user, client_id, acked) = (self.user, &self.client_id, self.seq);
        let mut body = format!(
            r#"{{"protocol":1,"user":"{user}","client_id":"{client_id}","first_push":{},"epoch":null,"device":"load","schema_version":1,"acked_through":{acked},"pending_count":{batch},"mutations":["#,
            acked == 0
        );
        for index in 0..batch {
            self.seq += 1;
            let seq = self.seq;
            if index > 0 {
                body.push(',');
            }
            body.push_str(&format!(
                r#"{{"seq":{seq},"scope":"user:{user}","collection":"movies","id":"{client_id}-{seq:08}","op":"create","set":{{"Title":"A film of {client_id}","Director":"Somebody Somewhat Long","Release Date":"Jun 12 1998","IMDB Rating":6.1,"IMDB Votes":{seq},"Major Genre":"Drama","US Gross":146083,"Worldwide Gross":146083,"Distributor":"Gramercy","Running Time min":null}},"base":0,"stamp":"0190f0a1b2c3-0001-{client_id}"}}"#
            ));
        }
        body.push_str("]}");
        body
    }

    /// One request and the body of its answer; anything but 200 is an error.
    async fn ask(&mut self, path: &str, body: &str) -> Fallible<Vec<u8>> {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            self.host,
            self.token,
            body.len()
        );
        let mut request = head.into_bytes();
        request.extend_from_slice(body.as_bytes());
        self.stream.write_all(&request).await?;
        let head_end = loop {
            if let Some(at) = self.buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at + 4;
            }
            self.fill().await?;
        };
        let head = String::from_utf8_lossy(&self.buffer[..head_end]).to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).ok_or("no content-length")?;
        let length: usize = length.trim().parse()?;
        while self.buffer.len() < head_end + length {
            self.fill().await?;
        }
        let answer = self.buffer[head_end..head_end + length].to_vec();
        self.buffer.drain(..head_end + length);
        if head.starts_with("http/1.1 200") {
            Ok(answer)
        } else {
            Err(format!("{path}: {} {}", head.lines().next().unwrap_or_default(), String::from_utf8_lossy(&answer))
                .into())
        }
    }

    async fn fill(&mut self) -> Fallible<()> {
        let mut chunk = [0_u8; 16 * 1024];
        match self.stream.read(&mut chunk).await? {
            0 => Err("the server hung up".into()),
            count => {
                self.buffer.extend_from_slice(&chunk[..count]);
                Ok(())
            }
        }
    }
}
