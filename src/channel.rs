//! The BroadcastChannel between the contexts of one database. Late and lost notices are harmless: readers look at the rows.

use crate::task::{Handler, handler, spawn};
use crate::timer;
use landfall_replica::Notice;
use std::cell::RefCell;
use std::rc::Rc;
use wasm_bindgen::prelude::*;
use web_sys::{BroadcastChannel, MessageEvent};

/// How long a notice about the log waits for the next one, ms: it only says how far the log reaches.
const GATHER_MS: u64 = 5;

pub(crate) struct Channel {
    name: String,
    /// `None` while nobody listens.
    channel: RefCell<Option<BroadcastChannel>>,
    gathered: RefCell<Option<Notice>>,
    listener: Handler,
}

impl Channel {
    pub(crate) fn open(name: &str, mut heard: impl FnMut(Notice) + 'static) -> Rc<Self> {
        let listener = handler(move |event| {
            let event: &MessageEvent = event.unchecked_ref();
            if let Some(notice) = event.data().as_string().and_then(|text| Notice::parse(&text)) {
                heard(notice);
            }
        });
        let (channel, gathered) = Default::default();
        let this = Rc::new(Self { name: name.to_owned(), channel, gathered, listener });
        this.listen();
        this
    }

    /// Hears notices from now on. Without BroadcastChannel nobody does: the contexts then meet in the rows only.
    pub(crate) fn listen(&self) {
        if self.channel.borrow().is_none()
            && let Ok(channel) = BroadcastChannel::new(&self.name)
        {
            channel.set_onmessage(Some(self.listener.as_ref().unchecked_ref()));
            self.channel.replace(Some(channel));
        }
    }

    /// Hears none any more. A page in the back/forward cache to which a message comes is thrown out of it.
    pub(crate) fn close(&self) {
        if let Some(channel) = self.channel.take() {
            channel.set_onmessage(None);
            channel.close();
        }
    }

    pub(crate) fn say(self: &Rc<Self>, notice: &Notice) {
        if !matches!(notice, Notice::Log { .. }) {
            self.post(notice);
            return;
        }
        let waits = self.gathered.borrow_mut().replace(notice.clone()).is_some();
        if !waits {
            let this = Rc::clone(self);
            spawn(async move {
                timer::pause(GATHER_MS).await;
                let notice = this.gathered.take();
                if let Some(notice) = notice {
                    this.post(&notice);
                }
            });
        }
    }

    /// Who has stopped listening, because its page is about to leave, still says what it did.
    fn post(&self, notice: &Notice) {
        let open = self.channel.borrow().clone();
        let is_open = open.is_some();
        if let Some(channel) = open.or_else(|| BroadcastChannel::new(&self.name).ok()) {
            // Nobody to tell is fine.
            let _ = channel.post_message(&JsValue::from_str(&notice.to_text()));
            if !is_open {
                channel.close();
            }
        }
    }
}
