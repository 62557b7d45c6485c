//! A server in a directory of its own, and clients that speak to it in plain HTTP.
#![allow(dead_code, reason = "each test file uses its part")]

pub mod ledger;
pub mod patient;
pub mod process;

use clap::Parser;
use hmac::{Hmac, Mac};
use landfall_server::{BusinessRules, Config, Server};
use serde_json::{Value, json};
use sha2::Sha256;
use std::net::SocketAddr;
use std::path::Path;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

pub const SECRET: &str = "a secret that only these tests know about";
pub const FAR_FUTURE_SECONDS: u64 = 4_000_000_000;
pub const STAMP: &str = "0190f0a1b2c3-0001-c";

/// The path of the collections file of the demo.
pub fn collections_file() -> String {
    format!("{}/../../www/collections.json", env!("CARGO_MANIFEST_DIR"))
}

pub struct TestServer {
    pub address: SocketAddr,
    pub data: tempfile::TempDir,
    stop: Option<oneshot::Sender<()>>,
    running: Option<tokio::task::JoinHandle<()>>,
}

impl TestServer {
    pub async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), &[]).await
    }

    pub async fn start_in(data: tempfile::TempDir, more: &[&str]) -> Self {
        let (address, stop, running) = launch(data.path(), more).await;
        Self { address, data, stop: Some(stop), running: Some(running) }
    }

    /// With other collections than the demo's.
    pub async fn start_with(data: tempfile::TempDir, collections: &Value) -> Self {
        let file = data.path().join("collections.json");
        std::fs::write(&file, collections.to_string()).unwrap();
        let (address, stop, running) = launch_with(data.path(), file.to_str().unwrap(), &[]).await;
        Self { address, data, stop: Some(stop), running: Some(running) }
    }

    /// The same with a rule of the business.
    pub async fn start_with_rules(data: tempfile::TempDir, collections: &Value, rules: BusinessRules) -> Self {
        let file = data.path().join("collections.json");
        std::fs::write(&file, collections.to_string()).unwrap();
        let (address, stop, running) = launch_by(data.path(), file.to_str().unwrap(), &[], Some(rules)).await;
        Self { address, data, stop: Some(stop), running: Some(running) }
    }

    /// A client of somebody with these roles, in the scope `s:1`.
    pub fn writer(&self, user: &str, roles: &[&str]) -> Device {
        let mut device = self.device(user, &format!("client-of-{user}"));
        let mut claims = claims(user, &["s:1", "s:2"], FAR_FUTURE_SECONDS);
        claims["roles"] = json!(roles);
        device.token = token(&claims);
        device
    }

    /// Stops gracefully; the data directory stays.
    pub async fn stop(mut self) -> tempfile::TempDir {
        self.stop.take().unwrap().send(()).unwrap();
        self.running.take().unwrap().await.unwrap();
        self.data
    }

    pub fn device(&self, user: &str, client_id: &str) -> Device {
        Device::new(self.address, user, client_id)
    }
}

async fn launch(data: &Path, more: &[&str]) -> (SocketAddr, oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
    launch_with(data, &collections_file(), more).await
}

async fn launch_with(
    data: &Path,
    collections: &str,
    more: &[&str],
) -> (SocketAddr, oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
    launch_by(data, collections, more, None).await
}

async fn launch_by(
    data: &Path,
    collections: &str,
    more: &[&str],
    rules: Option<BusinessRules>,
) -> (SocketAddr, oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
    let mut arguments = vec!["landfall-server", "--dev", "--listen", "127.0.0.1:0", "--jwt-secret", SECRET];
    arguments.extend(["--data", data.to_str().unwrap(), "--collections", collections]);
    arguments.extend(more);
    let config = Config::parse_from(arguments);
    let server = match rules {
        Some(rules) => Server::start_with(&config, rules).await.unwrap(),
        None => Server::start(&config).await.unwrap(),
    };
    let address = server.address();
    let (stop, stopped) = oneshot::channel();
    let running = tokio::spawn(async move {
        server.run(async move { drop(stopped.await) }).await.unwrap();
    });
    (address, stop, running)
}

/// A token as some other issuer with the same secret would make it.
pub fn token(claims: &Value) -> String {
    use base64::Engine;
    let encode = |bytes: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
    let text = format!("{}.{}", encode(br#"{"alg":"HS256","typ":"JWT"}"#), encode(claims.to_string().as_bytes()));
    let signature = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap().chain_update(&text).finalize();
    format!("{text}.{}", encode(&signature.into_bytes()))
}

pub fn claims(user: &str, scopes: &[&str], exp: u64) -> Value {
    json!({"sub": user, "iss": "landfall", "aud": "landfall-sync", "exp": exp, "roles": ["staff"], "scopes": scopes})
}

pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&self.body)))
    }
    pub fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = |line: &&str| line.split_once(':').is_some_and(|(key, _)| key.eq_ignore_ascii_case(name));
        self.head.lines().find(found).and_then(|line| line.split_once(": ")).map(|(_, value)| value)
    }
}

/// One request on a connection of its own.
pub async fn ask(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    try_ask(address, method, path, headers, body).await.unwrap()
}

/// One request to a server that may go away meanwhile; an answer only if it came whole.
pub async fn try_ask(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> std::io::Result<Answer> {
    let mut request = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request.as_bytes()).await?;
    stream.write_all(body).await?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await?;
    let cut = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
    let at = bytes.windows(4).position(|window| window == b"\r\n\r\n").ok_or_else(cut)?;
    let head = String::from_utf8(bytes[..at].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let answer = Answer { status, head, body: bytes[at + 4..].to_vec() };
    let length = answer.header("content-length").map(|length| length.parse::<usize>().unwrap());
    if length.is_some_and(|length| length != answer.body.len()) { Err(cut()) } else { Ok(answer) }
}

/// A client of a user.
#[derive(Clone)]
pub struct Device {
    pub address: SocketAddr,
    pub user: String,
    pub client_id: String,
    pub token: String,
    pub acked_through: u64,
    pub epoch: Option<String>,
    pub first_push: bool,
}

impl Device {
    pub fn new(address: SocketAddr, user: &str, client_id: &str) -> Self {
        let token = token(&claims(user, &["facility:main"], FAR_FUTURE_SECONDS));
        let (user, client_id) = (user.to_owned(), client_id.to_owned());
        Self { address, user, client_id, token, acked_through: 0, epoch: None, first_push: true }
    }

    pub fn push_body(&self, mutations: &[String]) -> String {
        let epoch = self.epoch.as_ref().map_or("null".to_owned(), |epoch| format!("\"{epoch}\""));
        format!(
            r#"{{"protocol":1,"user":"{}","client_id":"{}","first_push":{},"epoch":{epoch},"device":"test","schema_version":1,"acked_through":{},"pending_count":{},"mutations":[{}]}}"#,
            self.user,
            self.client_id,
            self.first_push,
            self.acked_through,
            mutations.len(),
            mutations.join(",")
        )
    }

    pub async fn post(&self, path: &str, body: &str) -> Answer {
        let bearer = format!("Bearer {}", self.token);
        ask(self.address, "POST", path, &[("authorization", &bearer)], body.as_bytes()).await
    }

    /// The answer of a server that may go away meanwhile.
    pub async fn try_push(&self, mutations: &[String]) -> std::io::Result<Answer> {
        let bearer = format!("Bearer {}", self.token);
        let body = self.push_body(mutations);
        try_ask(self.address, "POST", "/v1/sync/push", &[("authorization", &bearer)], body.as_bytes()).await
    }

    pub async fn push(&self, mutations: &[String]) -> Answer {
        self.post("/v1/sync/push", &self.push_body(mutations)).await
    }

    /// The results of a push that must be answered 200.
    pub async fn results(&self, mutations: &[String]) -> Vec<Value> {
        let answer = self.push(mutations).await;
        assert_eq!(answer.status, 200, "{}", answer.json());
        answer.json()["results"].as_array().unwrap().clone()
    }

    pub async fn pull(&self, cursor: Option<&str>, collections: &[&str], limit: u32) -> Answer {
        self.pull_with(cursor, collections, limit, json!([])).await
    }

    pub async fn pull_with(&self, cursor: Option<&str>, collections: &[&str], limit: u32, resync: Value) -> Answer {
        let body = json!({"protocol": 1, "user": self.user, "client_id": self.client_id, "cursor": cursor,
            "collections": collections, "limit": limit, "resync": resync});
        self.post("/v1/sync/pull", &body.to_string()).await
    }

    pub fn scope(&self) -> String {
        format!("user:{}", self.user)
    }

    pub fn create(&self, seq: u64, id: &str, set: &Value) -> String {
        mutation(seq, &self.scope(), "movies", id, "create", set, &json!({"base": 0}))
    }
    pub fn update(&self, seq: u64, id: &str, set: &Value, base: u64) -> String {
        mutation(seq, &self.scope(), "movies", id, "update", set, &json!({"base": base}))
    }
    pub fn delete(&self, seq: u64, id: &str, base: u64) -> String {
        mutation(seq, &self.scope(), "movies", id, "delete", &json!({}), &json!({"base": base}))
    }

    /// What the server holds of this user's own scope.
    pub async fn stored(&self) -> Vec<Value> {
        let path = format!("/dev/records?scope={}", self.scope());
        ask(self.address, "GET", &path, &[], b"").await.json()["records"].as_array().unwrap().clone()
    }
    pub async fn count(&self, table: &str) -> u64 {
        ask(self.address, "GET", "/dev/ledger", &[], b"").await.json()["counts"][table].as_u64().unwrap()
    }
}

/// The text of a mutation; `more` overrides and adds.
pub fn mutation(seq: u64, scope: &str, collection: &str, id: &str, op: &str, set: &Value, more: &Value) -> String {
    let mut value = json!({"seq": seq, "scope": scope, "collection": collection, "id": id, "op": op, "stamp": STAMP});
    if op != "delete" {
        value["set"] = set.clone();
    }
    for (name, field) in more.as_object().unwrap() {
        value[name] = field.clone();
    }
    value.to_string()
}

/// What a client keeps: live and staged records by pair, as section 7 of the design has it.
#[derive(Default, Debug)]
pub struct Replica {
    pub cursor: Option<String>,
    pub live: std::collections::BTreeMap<(String, String), std::collections::BTreeMap<String, Value>>,
    staged: std::collections::BTreeMap<(String, String), std::collections::BTreeMap<String, Value>>,
    pub covered: std::collections::BTreeMap<(String, String), u64>,
}

impl Replica {
    /// Applies one page; true when there is more.
    pub fn apply(&mut self, page: &Value) -> bool {
        let mut covered = std::collections::BTreeMap::new();
        for (scope, pairs) in page["covered"].as_object().unwrap() {
            for (collection, position) in pairs.as_object().unwrap() {
                covered.insert((scope.clone(), collection.clone()), position.as_u64().unwrap());
            }
        }
        for part in ["changes", "tombstones"] {
            for (collection, rows) in page[part].as_object().unwrap() {
                for row in rows.as_array().unwrap() {
                    let pair = (row["scope"].as_str().unwrap().to_owned(), collection.clone());
                    let rows = if self.covered.contains_key(&pair) {
                        self.live.entry(pair).or_default()
                    } else {
                        self.staged.entry(pair).or_default()
                    };
                    let id = row["id"].as_str().unwrap().to_owned();
                    if part == "changes" {
                        rows.insert(id, row.clone());
                    } else {
                        rows.remove(&id);
                    }
                }
            }
        }
        for (pair, position) in covered {
            let before = self.covered.insert(pair.clone(), position);
            assert!(before.is_none_or(|before| before <= position), "covered went back");
            if before.is_none() {
                let rows = self.staged.remove(&pair).unwrap_or_default();
                self.live.insert(pair, rows);
            }
        }
        self.cursor = Some(page["cursor"].as_str().unwrap().to_owned());
        page["has_more"].as_bool().unwrap()
    }

    /// Forgets a pair, as a resync does.
    pub fn stage_again(&mut self, pair: &(String, String)) {
        self.covered.remove(pair);
        self.staged.remove(pair);
    }

    pub fn records(&self, scope: &str, collection: &str) -> std::collections::BTreeMap<String, Value> {
        self.live.get(&(scope.to_owned(), collection.to_owned())).cloned().unwrap_or_default()
    }
}
