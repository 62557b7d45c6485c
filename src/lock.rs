//! Web Locks: they save double work between contexts and keep no order (the rows do that).
//!
//! A lock is held for one bounded step. A waiter that was refused for a minute takes it from its holder, who may be
//! frozen; that is harmless for the same reason.

use crate::convert::property;
use crate::task::spawn;
use crate::{clock, timer};
use js_sys::{Function, Object, Promise, Reflect};
use landfall_protocol::Map;
use landfall_replica::LockWait;
use std::cell::RefCell;
use std::rc::Rc;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

/// Refused for this long, ms: the holder is taken for frozen. A step lasts at most 40 s.
const STEAL_AFTER_MS: u64 = 60_000;

thread_local! {
    /// The locks of this instance, for the one moment when it must let go of all of them.
    static HELD: RefCell<Vec<Function>> = const { RefCell::new(Vec::new()) };
}

/// Releases every lock of this instance, which is about to be replaced after a trap, or to stand still in a frozen page.
/// A step that is under way goes on without, or when the page wakes: the rows keep the order.
pub(crate) fn release_all() {
    let held = HELD.with(|held| held.try_borrow().map(|held| held.clone()).unwrap_or_default());
    for release in held {
        let _ = release.call0(&JsValue::UNDEFINED);
    }
}

/// Held until dropped.
pub(crate) struct Lock(Option<Function>);

impl Lock {
    fn held(release: Function) -> Self {
        HELD.with(|held| held.borrow_mut().push(release.clone()));
        Self(Some(release))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Some(release) = &self.0 {
            HELD.with(|held| held.borrow_mut().retain(|other| other != release));
            // Resolving a promise throws nothing.
            let _ = release.call0(&JsValue::UNDEFINED);
        }
    }
}

/// The locks of one context.
#[derive(Default)]
pub(crate) struct Locks {
    refused_since: RefCell<Map<String, u64>>,
    /// This context's last request for each lock: settled when the browser has really freed it, which is some tasks
    /// after it was released. Asking before that would be refused on its own account.
    last: RefCell<Map<String, Promise>>,
}

impl Locks {
    /// Asks for a lock. Without Web Locks everybody gets it.
    pub(crate) async fn take(&self, name: &str, wait: LockWait) -> Option<Lock> {
        let locks = property(&property(&js_sys::global(), "navigator"), "locks");
        let Ok(request) = property(&locks, "request").dyn_into::<Function>() else { return Some(Lock(None)) };
        let until = match wait {
            LockWait::IfFree => 0,
            LockWait::Millis(ms) => clock::now().get() + ms,
        };
        loop {
            let last = self.last.borrow_mut().remove(name);
            if let Some(last) = last {
                // Rejected when it was stolen: free as well.
                let _ = JsFuture::from(last).await;
            }
            let since = self.refused_since.borrow().get(name).copied();
            let steal = since.is_some_and(|since| clock::now().get().saturating_sub(since) > STEAL_AFTER_MS);
            if let Some((lock, request)) = ask(&locks, &request, name, steal).await {
                self.refused_since.borrow_mut().remove(name);
                self.last.borrow_mut().insert(name.to_owned(), request);
                return Some(lock);
            }
            self.refused_since.borrow_mut().entry(name.to_owned()).or_insert_with(|| clock::now().get());
            if clock::now().get() >= until {
                return None;
            }
            timer::pause(50).await;
        }
    }
}

/// One request with `ifAvailable` or `steal`; neither waits.
async fn ask(locks: &JsValue, request: &Function, name: &str, steal: bool) -> Option<(Lock, Promise)> {
    let options = Object::new();
    let key = if steal { "steal" } else { "ifAvailable" };
    Reflect::set(&options, &key.into(), &JsValue::TRUE).ok()?;
    let granted: Rc<RefCell<Option<Function>>> = Rc::default();
    let slot = Rc::clone(&granted);
    let requested: Rc<RefCell<Option<Promise>>> = Rc::default();
    let requesting = Rc::clone(&requested);
    let answer = Promise::new(&mut |answered, _| {
        let slot = Rc::clone(&slot);
        let callback = Closure::once_into_js(move |lock: JsValue| -> JsValue {
            let result = if lock.is_null() {
                JsValue::UNDEFINED
            } else {
                Promise::new(&mut |release, _| *slot.borrow_mut() = Some(release)).into()
            };
            let _ = answered.call0(&JsValue::UNDEFINED);
            result
        });
        let held = request.call3(locks, &name.into(), &options, &callback);
        *requesting.borrow_mut() = held.ok().and_then(|held| held.dyn_into::<Promise>().ok());
    });
    let request = requested.borrow_mut().take()?;
    // A stolen lock rejects its holder's request; the holder's step goes on, guarded by the rows.
    let watched = request.clone();
    spawn(async move {
        let _ = JsFuture::from(watched).await;
    });
    JsFuture::from(answer).await.ok()?;
    let release = granted.borrow_mut().take()?;
    Some((Lock::held(release), request))
}
