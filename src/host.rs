//! The browser, as the replica sees it.

use crate::channel::Channel;
use crate::clock;
use crate::convert::{property, tell};
use crate::idb::IdbRowStore;
use crate::lock::{Lock, Locks};
use crate::net::Net;
use crate::task::spawn_task;
use crate::timer::{self, Signal};
use js_sys::{Function, Promise};
use landfall_protocol::UnixMillis;
use landfall_replica::{Host, HttpRequest, HttpResponse, LockWait, NetworkError, Notice, Task, Token};
use std::cell::RefCell;
use std::rc::Rc;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

/// What JavaScript gave: `{event(json), token?(), transport?(path, body, token)}`.
pub(crate) struct Hooks {
    event: Option<Function>,
    token: Option<Function>,
    pub(crate) transport: Option<Function>,
}

impl Hooks {
    pub(crate) fn new(hooks: &JsValue) -> Self {
        let function = |name: &str| property(hooks, name).dyn_into::<Function>().ok();
        Self { event: function("event"), token: function("token"), transport: function("transport") }
    }

    pub(crate) fn event(&self, json: &str) {
        if let Some(event) = &self.event {
            tell(event, json);
        }
    }

    /// An event with an answer: true says that it is seen to.
    fn ask(&self, json: &str) -> bool {
        let answer = self.event.as_ref().map(|event| event.call1(&JsValue::UNDEFINED, &json.into()));
        matches!(answer, Some(Ok(answer)) if answer.is_truthy())
    }

    async fn token(&self) -> Option<Token> {
        let value = answer(self.token.as_ref()?.call0(&JsValue::UNDEFINED)).await?;
        let token = property(&value, "token").as_string()?;
        let expires_at = property(&value, "expires_at").as_f64();
        Some(Token { token, expires_at: expires_at.map(|ms| UnixMillis(ms.max(0.0) as u64)) })
    }
}

/// What a function of JavaScript promised, if it kept it.
async fn answer(asked: Result<JsValue, JsValue>) -> Option<JsValue> {
    JsFuture::from(Promise::resolve(&asked.ok()?)).await.ok()
}

/// A request by way of the app's own transport, which sees to its limit of time.
async fn carried(transport: &Function, request: HttpRequest) -> Option<HttpResponse> {
    let (body, token) = (JsValue::from(request.body), JsValue::from(request.token));
    let value = answer(transport.call3(&JsValue::UNDEFINED, &request.path.into(), &body, &token)).await?;
    Some(HttpResponse {
        status: property(&value, "status").as_f64()? as u16,
        retry_after_ms: property(&value, "retry_after_ms").as_f64().map(|ms| ms as u64),
        body: property(&value, "body").as_string()?,
    })
}

pub(crate) struct BrowserHost {
    pub(crate) rows: IdbRowStore,
    pub(crate) net: Net,
    pub(crate) hooks: Rc<Hooks>,
    pub(crate) locks: Locks,
    pub(crate) channel: RefCell<Option<Rc<Channel>>>,
    pub(crate) signal: Rc<Signal>,
    pub(crate) on_changed: RefCell<Option<Rc<dyn Fn()>>>,
}

impl Host for BrowserHost {
    type Rows = IdbRowStore;
    type Lock = Lock;

    fn rows(&self) -> &IdbRowStore {
        &self.rows
    }
    fn now(&self) -> UnixMillis {
        clock::now()
    }
    fn random(&self) -> u64 {
        clock::random()
    }
    async fn fetch(&self, request: HttpRequest) -> Result<HttpResponse, NetworkError> {
        match &self.hooks.transport {
            // The refresh endpoint is an address of its own.
            Some(transport) if request.path.starts_with('/') => carried(transport, request).await.ok_or(NetworkError),
            _ => self.net.fetch(request).await,
        }
    }
    async fn lock(&self, name: &str, wait: LockWait) -> Option<Lock> {
        self.locks.take(name, wait).await
    }
    fn notice(&self, notice: &Notice) {
        if let Some(channel) = &*self.channel.borrow() {
            channel.say(notice);
        }
    }
    async fn pause(&self, ms: u64) {
        timer::pause(ms).await;
    }
    async fn ask_token(&self) -> Option<Token> {
        self.hooks.token().await
    }
    fn spawn(&self, task: Task) {
        spawn_task(task);
    }
    fn changed(&self) {
        let on_changed = self.on_changed.borrow().clone();
        if let Some(on_changed) = on_changed {
            on_changed();
        }
    }
    fn tidies_elsewhere(&self) -> bool {
        self.hooks.ask("{\"type\":\"untidy\"}")
    }
    fn wake(&self) {
        self.signal.raise();
    }
}
