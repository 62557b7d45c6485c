//! The real process: stopped gracefully, and started wrongly. How it is killed is in `kill.rs`.
#![allow(clippy::unwrap_used, reason = "a test ends where its set-up fails")]

mod support;

use serde_json::json;
use std::process::Command;
use support::Device;
use support::process::Process;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

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
