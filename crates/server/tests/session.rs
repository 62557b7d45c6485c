//! Signing in, the refresh cookie, the device cookie, the live channel and the files of the app.
#![allow(clippy::unwrap_used, reason = "a test ends where its set-up fails")]

mod support;

use landfall_protocol::LiveMessage;
use serde_json::{Value, json};
use std::net::SocketAddr;
use support::{Answer, TestServer, ask, claims, token};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};

fn cookie(answer: &Answer, name: &str) -> String {
    let found = answer.head.lines().filter_map(|line| line.strip_prefix("set-cookie: "));
    let text = found.into_iter().find(|text| text.starts_with(name)).unwrap();
    text.split(';').next().unwrap().to_owned()
}

async fn login(address: SocketAddr, user: &str) -> Answer {
    let body = json!({"user": user, "password": "landfall"}).to_string();
    ask(address, "POST", "/auth/login", &[], body.as_bytes()).await
}

#[tokio::test]
async fn a_login_gives_a_token_that_works_and_a_cookie_that_renews_it_until_logout() {
    let server = TestServer::start().await;
    let answer = login(server.address, "ada").await;
    let body = answer.json();
    assert_eq!((&body["user"], &body["roles"]), (&json!("ada"), &json!(["staff"])));
    assert!(body["expires_at"].as_u64().is_some());
    assert!(answer.head.contains("HttpOnly; SameSite=Strict"));
    let mut device = server.device("ada", "c1");
    device.token = body["token"].as_str().unwrap().to_owned();
    assert_eq!(device.push(&[device.create(1, "a", &json!({}))]).await.status, 200);
    let cookie = cookie(&answer, "landfall_refresh");
    let headers = [("cookie", cookie.as_str())];
    let renewed = ask(server.address, "POST", "/auth/refresh", &headers, b"").await;
    assert_eq!((renewed.status, &renewed.json()["user"]), (200, &json!("ada")));
    let asked = ask(server.address, "POST", "/auth/refresh", &headers, br#"{"user":"ada"}"#).await;
    assert_eq!(asked.status, 200);
    let other = ask(server.address, "POST", "/auth/refresh", &headers, br#"{"user":"grace"}"#).await;
    assert_eq!((other.status, other.code().as_str()), (403, "wrong_user"));
    let foreign = [("cookie", cookie.as_str()), ("origin", "https://evil.example")];
    assert_eq!(ask(server.address, "POST", "/auth/refresh", &foreign, b"").await.status, 403);
    assert_eq!(ask(server.address, "POST", "/auth/logout", &headers, b"").await.status, 200);
    let revoked = ask(server.address, "POST", "/auth/refresh", &headers, b"").await;
    assert_eq!((revoked.status, revoked.code().as_str()), (401, "unauthorized"));
    assert_eq!(ask(server.address, "POST", "/auth/refresh", &[], b"").await.status, 401);
    let wrong = br#"{"user":"ada","password":"guess"}"#;
    assert_eq!(ask(server.address, "POST", "/auth/login", &[], wrong).await.status, 401);
    assert_eq!(login(server.address, "nobody").await.status, 401);
}

#[tokio::test]
async fn the_demo_people_may_do_what_their_pages_need() {
    let server = TestServer::start().await;
    let can = [
        (
            "tess",
            "/api/desktop/sync/ecr-scores",
            json!([{"student_id": "s", "ecr_item_id": "i", "score": 1}]),
            "synced",
        ),
        (
            "sam",
            "/api/v1/sync/push",
            json!({"device_id": "d", "changes":
            {"submissions": [{"id": "s", "form_id": "f", "status": "new"}]}}),
            "applied",
        ),
        (
            "mia",
            "/api/v1/sync/push",
            json!({"device_id": "d", "changes": {"forms": [{"id": "f", "title": "F"}]}}),
            "applied",
        ),
    ];
    for (user, path, body, done) in can {
        let token = login(server.address, user).await.json()["token"].as_str().unwrap().to_owned();
        let headers = [("authorization", format!("Bearer {token}"))];
        let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
        let answer = ask(server.address, "POST", path, &headers, body.to_string().as_bytes()).await.json();
        let count =
            answer[done].as_array().map_or_else(|| answer[done].as_object().map_or(0, |all| all.len()), Vec::len);
        assert_eq!(count, 1, "{user}: {answer}");
    }
    let admin = login(server.address, "root-demo").await.json();
    let bearer = format!("Bearer {}", admin["token"].as_str().unwrap());
    let overview = ask(server.address, "GET", "/v1/admin/overview", &[("authorization", &bearer)], b"").await;
    assert_eq!(overview.status, 200);
    assert_eq!(login(server.address, "carl").await.json()["roles"], json!(["cashier"]));
}

#[tokio::test]
async fn a_device_is_known_by_its_cookie_when_its_storage_is_gone() {
    let server = TestServer::start().await;
    let device = server.device("ada", "c1");
    let pushed = device.push(&[device.create(1, "a", &json!({}))]).await;
    let cookie = cookie(&pushed, "landfall_device");
    let bearer = format!("Bearer {}", device.token);
    let with = [("authorization", bearer.as_str()), ("cookie", cookie.as_str())];
    let status = ask(server.address, "GET", "/v1/sync/status", &with, b"").await.json();
    let row = &status["devices"][0];
    assert_eq!(
        (&row["client_id"], &row["pending_count"], &row["this_device"]),
        (&json!("c1"), &json!(1), &json!(true))
    );
    assert_eq!(status["scopes"]["user:ada"], 1);
    let without = ask(server.address, "GET", "/v1/sync/status", &with[..1], b"").await.json();
    assert_eq!(without["devices"][0].get("this_device"), None);
}

type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

async fn connect(address: SocketAddr, origin: Option<&str>) -> Result<Socket, SocketError> {
    let mut request = format!("ws://{address}/v1/sync/live").into_client_request()?;
    if let Some(origin) = origin {
        request.headers_mut().insert("origin", origin.parse().unwrap());
    }
    tokio_tungstenite::connect_async(request).await.map(|(socket, _)| socket)
}

async fn say(socket: &mut Socket, user: &str, token: &str) {
    use futures_util::SinkExt;
    let text = json!({"type": "auth", "token": token, "user": user}).to_string();
    socket.send(Message::text(text)).await.unwrap();
}

async fn hear(socket: &mut Socket) -> Option<LiveMessage> {
    use futures_util::StreamExt;
    loop {
        match socket.next().await? {
            Ok(Message::Text(text)) => return Some(serde_json::from_str(text.as_str()).unwrap()),
            Ok(Message::Close(_)) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}

fn poke(scope: &str, position: u64) -> Option<LiveMessage> {
    Some(LiveMessage::Poke { scope: scope.into(), position: landfall_protocol::Position(position) })
}

#[tokio::test]
async fn the_live_channel_pokes_after_a_commit_and_only_who_may_know() {
    let server = TestServer::start().await;
    let (ada, grace) = (server.device("ada", "c1"), server.device("grace", "c2"));
    ada.results(&[ada.create(1, "a", &json!({}))]).await;
    let origin = format!("http://{}", server.address);
    let mut socket = connect(server.address, Some(&origin)).await.unwrap();
    say(&mut socket, "ada", &ada.token).await;
    assert_eq!(hear(&mut socket).await, Some(LiveMessage::Ready));
    // Where the scope is now, so that a client that was away sees it is behind.
    assert_eq!(hear(&mut socket).await, poke("user:ada", 1));
    grace.results(&[grace.create(1, "g", &json!({}))]).await;
    ada.results(&[ada.create(2, "b", &json!({}))]).await;
    assert_eq!(hear(&mut socket).await, poke("user:ada", 2));
    // Without an effect there is no poke: the next one is the other scope's.
    ada.results(&[ada.create(2, "b", &json!({}))]).await;
    let set = json!({"facility_id": "main", "name": "M"});
    let shared = support::mutation(2, "facility:main", "facilities", "f", "create", &set, &json!({"base": 0}));
    grace.results(&[shared]).await;
    assert_eq!(hear(&mut socket).await, poke("facility:main", 1));
    let stopped = server.stop();
    let (told, _) = tokio::join!(hear(&mut socket), stopped);
    assert_eq!(told, Some(LiveMessage::Bye { code: "unavailable".to_owned() }));
}

#[tokio::test]
async fn the_live_channel_says_why_it_ends() {
    let server = TestServer::start().await;
    let good = server.device("ada", "c1").token;
    let cases: [(&str, Value, &str); 4] = [
        ("grace", json!(good), "wrong_user"),
        ("ada", json!("junk"), "unauthorized"),
        ("ada", json!(token(&claims("ada", &[], 1_000))), "token_expired"),
        ("ada", json!(7), "malformed"),
    ];
    for (user, token, code) in cases {
        let mut socket = connect(server.address, None).await.unwrap();
        use futures_util::SinkExt;
        let text = json!({"type": "auth", "token": token, "user": user}).to_string();
        socket.send(Message::text(text)).await.unwrap();
        assert_eq!(hear(&mut socket).await, Some(LiveMessage::Bye { code: code.to_owned() }));
        assert_eq!(hear(&mut socket).await, None);
    }
    let foreign = connect(server.address, Some("https://evil.example")).await;
    assert!(matches!(foreign, Err(SocketError::Http(answer)) if answer.status() == 403));
}

#[tokio::test]
async fn a_socket_ends_when_its_token_does() {
    let server = TestServer::start_in(tempfile::tempdir().unwrap(), &["--leeway-seconds", "0"]).await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let mut socket = connect(server.address, None).await.unwrap();
    say(&mut socket, "ada", &token(&claims("ada", &[], now + 2))).await;
    assert_eq!(hear(&mut socket).await, Some(LiveMessage::Ready));
    assert_eq!(hear(&mut socket).await, Some(LiveMessage::Bye { code: "token_expired".to_owned() }));
}

#[tokio::test]
async fn the_files_of_the_app_carry_type_cache_rule_and_policy() {
    let www = tempfile::tempdir().unwrap();
    for (name, text) in [("index.html", "<p>hi"), ("landfall-3f9a1c2b.wasm", "\0asm"), ("service-worker.js", "1")] {
        std::fs::write(www.path().join(name), text).unwrap();
    }
    let directory = www.path().to_str().unwrap();
    let server = TestServer::start_in(tempfile::tempdir().unwrap(), &["--www", directory]).await;
    let get = |path: &'static str| ask(server.address, "GET", path, &[], b"");
    let page = get("/").await;
    assert_eq!((page.status, page.header("cache-control")), (200, Some("no-cache")));
    assert!(page.header("content-security-policy").unwrap().contains("'wasm-unsafe-eval'"));
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    let wasm = get("/landfall-3f9a1c2b.wasm").await;
    assert_eq!(wasm.header("content-type"), Some("application/wasm"));
    assert!(wasm.header("cache-control").unwrap().contains("immutable"));
    assert_eq!(get("/service-worker.js").await.header("cache-control"), Some("no-cache"));
    assert_eq!(get("/missing").await.status, 404);
    assert_eq!(get("/../Cargo.toml").await.status, 404);
    assert_eq!(get("/healthz").await.body, b"ok");
    assert_eq!(get("/v1/sync/nothing").await.code(), "not_found");
}
