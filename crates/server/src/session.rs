//! Signing in, staying signed in, and which device is asking.
//!
//! The access token lives minutes and is sent by the client; the refresh token lives in an HttpOnly cookie that only
//! `/auth` sees, and as a hash in the database, so that signing out ends it.

use crate::auth::{DEMO_PASSWORD, Person, demo_person};
use crate::body::read_json;
use crate::error::ServerError;
use crate::routes::{App, Shared};
use crate::service::now;
use crate::store::{Store, StoreError};
use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use landfall_protocol::{UnixMillis, hash_text};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const REFRESH_COOKIE: &str = "landfall_refresh";
const REFRESH_SECONDS: u64 = 30 * 24 * 3600;
const DEVICE_COOKIE: &str = "landfall_device";
const DEVICE_SECONDS: u64 = 400 * 24 * 3600;

#[derive(Deserialize, JsonSchema)]
pub struct Login {
    user: String,
    password: String,
}

#[derive(Default, Deserialize)]
struct Refresh {
    user: Option<String>,
}

/// The answer to login and refresh.
#[derive(Serialize, JsonSchema)]
pub struct Session {
    user: &'static str,
    name: &'static str,
    roles: &'static [&'static str],
    token: String,
    /// Milliseconds since 1970.
    expires_at: UnixMillis,
}

pub fn router() -> Router<Shared> {
    Router::new()
        .route("/auth/login", post(login))
        .route("/auth/refresh", post(refresh))
        .route("/auth/logout", post(logout))
}

async fn login(State(app): State<Shared>, headers: HeaderMap, body: Body) -> Result<Response, ServerError> {
    check_origin(&headers)?;
    let asked: Login = read_json(&headers, body).await?;
    let person = demo_person(&asked.user).filter(|_| app.dev && asked.password == DEMO_PASSWORD);
    let Some(person) = person else { return Err(ServerError::Unauthorized) };
    let secret = random_hex(32)?;
    let (hash, expires_at) = (hash_text(&secret), UnixMillis(now().get() + REFRESH_SECONDS * 1000));
    let store = app.service.store();
    store.write::<_, ServerError, _>(move |db| Ok(db.put_refresh_token(&hash, person.sub, expires_at)?)).await?;
    let cookie = app.cookie(REFRESH_COOKIE, &secret, "/auth", REFRESH_SECONDS);
    Ok(with_cookie(session(&app, person)?.into_response(), &cookie))
}

async fn refresh(State(app): State<Shared>, headers: HeaderMap, body: Body) -> Result<Response, ServerError> {
    check_origin(&headers)?;
    // The body is optional.
    let empty = headers.get(header::CONTENT_LENGTH).is_none_or(|length| length.as_bytes() == b"0")
        && !headers.contains_key(header::TRANSFER_ENCODING);
    let asked = if empty { Refresh::default() } else { read_json(&headers, body).await? };
    let secret = cookie_of(&headers, REFRESH_COOKIE).ok_or(ServerError::Unauthorized)?;
    let (hash, at) = (hash_text(secret), now());
    let sub = app.service.store().read::<_, ServerError, _>(move |db| Ok(db.refresh_token(&hash, at)?)).await?;
    let person = sub.as_deref().and_then(demo_person).filter(|_| app.dev).ok_or(ServerError::Unauthorized)?;
    if asked.user.is_some_and(|user| user != person.sub) {
        return Err(ServerError::WrongUser);
    }
    Ok(session(&app, person)?.into_response())
}

async fn logout(State(app): State<Shared>, headers: HeaderMap) -> Result<Response, ServerError> {
    check_origin(&headers)?;
    if let Some(secret) = cookie_of(&headers, REFRESH_COOKIE) {
        let hash = hash_text(secret);
        app.service.store().write::<_, ServerError, _>(move |db| Ok(db.revoke_refresh_token(&hash)?)).await?;
    }
    let gone = app.cookie(REFRESH_COOKIE, "", "/auth", 0);
    Ok(with_cookie(Json(serde_json::json!({})).into_response(), &gone))
}

fn session(app: &App, person: &'static Person) -> Result<Json<Session>, ServerError> {
    let (token, expires_at) =
        app.tokens.issue(person, now()).map_err(|_| StoreError::Corrupt("BUG: a token cannot be made"))?;
    Ok(Json(Session { user: person.sub, name: person.name, roles: person.roles, token, expires_at }))
}

impl App {
    fn cookie(&self, name: &str, value: &str, path: &str, seconds: u64) -> String {
        let secure = if self.dev { "" } else { "; Secure" };
        format!("{name}={value}; Path={path}; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}")
    }

    /// The device's key from its cookie, or a new one and the cookie that brings it.
    pub(crate) fn device(&self, headers: &HeaderMap) -> Result<(String, Option<String>), ServerError> {
        if let Some(key) = device_of(headers) {
            return Ok((key, None));
        }
        let key = random_hex(16)?;
        let cookie = self.cookie(DEVICE_COOKIE, &key, "/v1/sync", DEVICE_SECONDS);
        Ok((key, Some(cookie)))
    }
}

/// The device's key, if it has one.
pub(crate) fn device_of(headers: &HeaderMap) -> Option<String> {
    let key = cookie_of(headers, DEVICE_COOKIE)?;
    (key.len() == 32 && key.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| key.to_owned())
}

pub(crate) fn with_cookie(mut response: Response, cookie: &str) -> Response {
    if let Ok(value) = HeaderValue::from_str(cookie) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
    response
}

/// A page of another origin must not act here, even where a cookie would go along.
pub(crate) fn check_origin(headers: &HeaderMap) -> Result<(), ServerError> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let authority = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    if authority.is_some() && authority == host {
        Ok(())
    } else {
        Err(ServerError::Forbidden("this page may not ask that"))
    }
}

fn cookie_of<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let texts = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    texts
        .flat_map(|text| text.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(found, _)| *found == name)
        .map(|(_, value)| value)
}

pub(crate) fn random_hex(bytes: usize) -> Result<String, ServerError> {
    let mut random = vec![0_u8; bytes];
    getrandom::fill(&mut random).map_err(|_| StoreError::Corrupt("no random numbers"))?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}
