//! The real process: killed in the middle of work, stopped gracefully, and started wrongly.
#![allow(clippy::unwrap_used, reason = "a test ends where its set-up fails")]

mod support;

use serde_json::json;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use support::{Device, SECRET};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

struct Process {
    child: Child,
    address: std::net::SocketAddr,
}

impl Process {
    fn start(data: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_landfall-server"))
            .args(["--dev", "--listen", "127.0.0.1:0", "--collections", &support::collections_file(), "--data"])
            .arg(data)
            .env("LANDFALL_JWT_SECRET", SECRET)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").unwrap().parse().unwrap();
        Self { child, address }
    }
    /// SIGKILL.
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Pushes until the server is gone; how many pushes were answered.
async fn push_until_gone(device: Device) -> u64 {
    let mut device = device;
    let mut answered = 0;
    loop {
        let attempt = tokio::spawn({
            let device = device.clone();
            let mutations = pair(&device, answered);
            async move { device.push(&mutations).await.status }
        });
        match attempt.await {
            Ok(200) => answered += 1,
            Ok(status) => panic!("answered {status}"),
            // The connection broke: nobody knows whether this one counts.
            Err(_) => return answered,
        }
        device.first_push = false;
    }
}

fn pair(device: &Device, push: u64) -> [String; 2] {
    let id = |n: u64| format!("{}-{push:05}-{n}", device.client_id);
    [device.create(push * 2 + 1, &id(0), &json!({"n": push})), device.create(push * 2 + 2, &id(1), &json!({"n": push}))]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s6_what_was_answered_survives_kill_9_and_the_rest_can_be_sent_again() {
    const CLIENTS: usize = 4;
    let data = tempfile::tempdir().unwrap();
    let mut answered = [0_u64; CLIENTS];
    for round in 0..3_u64 {
        let mut process = Process::start(data.path());
        let device = |client: usize| Device::new(process.address, "ada", &format!("c{round}-{client}"));
        let pushers: Vec<_> = (0..CLIENTS).map(|client| tokio::spawn(push_until_gone(device(client)))).collect();
        // The middle of the work: a part of it was answered.
        let watcher = Device::new(process.address, "ada", "watcher");
        while watcher.count("changes").await < (round + 1) * 60 {
            tokio::task::yield_now().await;
        }
        process.kill();
        for (client, pusher) in pushers.into_iter().enumerate() {
            answered[client] = pusher.await.unwrap();
        }
        // The same bytes again, with one more push that may or may not have arrived before.
        let mut process = Process::start(data.path());
        for (client, answered) in answered.iter().enumerate() {
            let mut device = Device::new(process.address, "ada", &format!("c{round}-{client}"));
            for push in 0..=*answered {
                for result in device.results(&pair(&device, push)).await {
                    assert_eq!((&result["status"], &result["version"]), (&json!("applied"), &json!(1)));
                }
                device.first_push = false;
            }
        }
        let device = Device::new(process.address, "ada", "reader");
        let rows = device.stored().await;
        let mine = rows.iter().filter(|row| row["client_id"].as_str().unwrap().starts_with(&format!("c{round}-")));
        let expected: u64 = answered.iter().map(|count| (count + 1) * 2).sum();
        assert_eq!(mine.count() as u64, expected);
        assert!(rows.iter().all(|row| row["version"] == 1), "a repeat had a second effect");
        assert_eq!(device.count("changes").await, rows.len() as u64);
        process.kill();
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_graceful_stop_answers_the_push_that_is_running() {
    let data = tempfile::tempdir().unwrap();
    let mut process = Process::start(data.path());
    let device = Device::new(process.address, "ada", "c1");
    let body = device.push_body(&[device.create(1, "a", &json!({}))]);
    let head = format!(
        "POST /v1/sync/push HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-length: {}\r\nexpect: 100-continue\r\n\r\n",
        device.token,
        body.len()
    );
    let mut stream = tokio::net::TcpStream::connect(process.address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    // It asks for the body, so it is at work when the signal comes.
    let mut go_on = [0_u8; 25];
    stream.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    assert!(Command::new("kill").arg(process.child.id().to_string()).status().unwrap().success());
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(process.child.wait().unwrap().success());
    let mut process = Process::start(data.path());
    assert_eq!(Device::new(process.address, "ada", "c2").stored().await.len(), 1);
    process.kill();
}

#[test]
fn a_server_that_cannot_be_safe_does_not_start() {
    let data = tempfile::tempdir().unwrap();
    let start = |arguments: &[&str], secret: Option<&str>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_landfall-server"));
        command.args(["--listen", "127.0.0.1:0", "--data"]).arg(data.path());
        command.args(arguments).env_remove("LANDFALL_JWT_SECRET");
        if let Some(secret) = secret {
            command.env("LANDFALL_JWT_SECRET", secret);
        }
        let output = command.output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(start(&[], None).contains("a secret is needed"));
    assert!(start(&["--dev"], Some("short")).contains("at least 32"));
    assert!(start(&["--dev", "--collections", "missing.json"], None).contains("missing.json"));
}
