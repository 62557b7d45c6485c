//! The live channel: a WebSocket that says "there is something new", nothing more.
//!
//! It belongs to one visible page at a time and closes when that page is hidden or frozen. Losing it loses nothing:
//! the timer pulls, and the first thing after every connect is a pull.

use crate::task::{Handler, handler, spawn};
use crate::{clock, timer};
use landfall_protocol::codec::to_json;
use landfall_protocol::{ClientLiveMessage, LiveMessage};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use wasm_bindgen::prelude::*;
use web_sys::{MessageEvent, WebSocket};

/// Waits between two tries, ms: doubled each time, with jitter.
const RETRY_MS_MIN: u64 = 1_000;
const RETRY_MS_MAX: u64 = 60_000;

struct Socket {
    socket: WebSocket,
    _handlers: [Handler; 3],
}

/// The socket of one context.
pub(crate) struct Live {
    url: String,
    user: String,
    socket: RefCell<Option<Socket>>,
    retry_ms: Cell<u64>,
    not_before: Cell<u64>,
}

impl Live {
    /// `sync_url` is where push and pull are; the live channel is beside them. `None`: an address without WebSocket.
    pub(crate) fn new(sync_url: &str, user: &str) -> Option<Self> {
        let rest = sync_url.strip_prefix("http")?;
        Some(Self {
            url: ["ws", rest, "/live"].concat(),
            user: user.to_owned(),
            socket: RefCell::new(None),
            retry_ms: Cell::new(RETRY_MS_MIN),
            not_before: Cell::new(0),
        })
    }

    /// Connects if there is no socket and the last failure is long enough ago. `poked` is called on every poke.
    /// `lost` is called when it is time to look again.
    pub(crate) fn ensure(self: &Rc<Self>, token: &str, poked: impl Fn() + 'static, lost: impl Fn() + 'static) {
        let now = clock::now().get();
        if self.socket.borrow().is_some() || now < self.not_before.get() {
            return;
        }
        let wait = self.retry_ms.get();
        self.not_before.set(now + wait / 2 + clock::random() % (wait / 2));
        self.retry_ms.set((wait * 2).min(RETRY_MS_MAX));
        let Ok(socket) = WebSocket::new(&self.url) else { return };
        let hello = ClientLiveMessage::Auth { token: token.to_owned(), user: self.user.clone() };
        let hello = to_json(&hello);
        let opening = socket.clone();
        let open = handler(move |_| {
            // A socket that closed meanwhile says so by its close event.
            let _ = opening.send_with_str(&hello);
        });
        let this = Rc::downgrade(self);
        let message = handler(move |event| {
            let event: &MessageEvent = event.unchecked_ref();
            let text = event.data().as_string().unwrap_or_default();
            match LiveMessage::parse(&text) {
                Some(LiveMessage::Poke { .. }) => poked(),
                Some(LiveMessage::Ready) => {
                    if let Some(live) = this.upgrade() {
                        live.retry_ms.set(RETRY_MS_MIN);
                    }
                    // What happened while nobody listened.
                    poked();
                }
                // The close event follows.
                Some(LiveMessage::Bye { .. }) | None => {}
            }
        });
        let this = Rc::downgrade(self);
        let lost = Rc::new(lost);
        let close = handler(move |_| {
            if let Some(live) = this.upgrade() {
                // Not dropped here: this closure is running inside it.
                let ended = live.socket.borrow_mut().take();
                let wait = live.not_before.get().saturating_sub(clock::now().get());
                let lost = Rc::clone(&lost);
                spawn(async move {
                    drop(ended);
                    timer::pause(wait + 1).await;
                    lost();
                });
            }
        });
        socket.set_onopen(Some(open.as_ref().unchecked_ref()));
        socket.set_onmessage(Some(message.as_ref().unchecked_ref()));
        socket.set_onclose(Some(close.as_ref().unchecked_ref()));
        *self.socket.borrow_mut() = Some(Socket { socket, _handlers: [open, message, close] });
    }

    pub(crate) fn close(&self) {
        if let Some(socket) = self.socket.borrow_mut().take() {
            socket.socket.set_onopen(None);
            socket.socket.set_onmessage(None);
            socket.socket.set_onclose(None);
            let _ = socket.socket.close();
        }
    }
}
