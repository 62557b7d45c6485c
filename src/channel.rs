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
    channel: Option<BroadcastChannel>,
    gathered: Rc<RefCell<Option<Notice>>>,
    _listener: Option<Handler>,
}

impl Channel {
    /// Without BroadcastChannel there is no channel: the contexts then meet in the rows only.
    pub(crate) fn open(name: &str, mut heard: impl FnMut(Notice) + 'static) -> Self {
        let Ok(channel) = BroadcastChannel::new(name) else {
            return Self { channel: None, gathered: Rc::default(), _listener: None };
        };
        let listener = handler(move |event| {
            let event: &MessageEvent = event.unchecked_ref();
            if let Some(notice) = event.data().as_string().and_then(|text| Notice::parse(&text)) {
                heard(notice);
            }
        });
        channel.set_onmessage(Some(listener.as_ref().unchecked_ref()));
        Self { channel: Some(channel), gathered: Rc::default(), _listener: Some(listener) }
    }

    pub(crate) fn say(&self, notice: &Notice) {
        let Some(channel) = &self.channel else { return };
        if !matches!(notice, Notice::Log { .. }) {
            post(channel, notice);
            return;
        }
        let waits = self.gathered.borrow_mut().replace(notice.clone()).is_some();
        if !waits {
            let (channel, gathered) = (channel.clone(), Rc::clone(&self.gathered));
            spawn(async move {
                timer::pause(GATHER_MS).await;
                let notice = gathered.borrow_mut().take();
                if let Some(notice) = notice {
                    post(&channel, &notice);
                }
            });
        }
    }

    pub(crate) fn close(&self) {
        if let Some(channel) = &self.channel {
            channel.set_onmessage(None);
            channel.close();
        }
    }
}

fn post(channel: &BroadcastChannel, notice: &Notice) {
    // A closed channel has nobody to tell.
    let _ = channel.post_message(&JsValue::from_str(&notice.to_text()));
}
