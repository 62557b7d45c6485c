//! The BroadcastChannel between the contexts of one database. Late and lost notices are harmless: readers look at the rows.

use landfall_replica::Notice;
use wasm_bindgen::prelude::*;
use web_sys::{BroadcastChannel, MessageEvent};

pub(crate) struct Channel {
    channel: Option<BroadcastChannel>,
    _listener: Option<Closure<dyn FnMut(MessageEvent)>>,
}

impl Channel {
    /// Without BroadcastChannel there is no channel: the contexts then meet in the rows only.
    pub(crate) fn open(name: &str, mut heard: impl FnMut(Notice) + 'static) -> Self {
        let Ok(channel) = BroadcastChannel::new(name) else { return Self { channel: None, _listener: None } };
        let listener = Closure::<dyn FnMut(MessageEvent)>::new(move |event: MessageEvent| {
            if let Some(notice) = event.data().as_string().and_then(|text| serde_json::from_str(&text).ok()) {
                heard(notice);
            }
        });
        channel.set_onmessage(Some(listener.as_ref().unchecked_ref()));
        Self { channel: Some(channel), _listener: Some(listener) }
    }

    pub(crate) fn say(&self, notice: &Notice) {
        if let (Some(channel), Ok(text)) = (&self.channel, serde_json::to_string(notice)) {
            // A closed channel has nobody to tell.
            let _ = channel.post_message(&JsValue::from_str(&text));
        }
    }

    pub(crate) fn close(&self) {
        if let Some(channel) = &self.channel {
            channel.set_onmessage(None);
            channel.close();
        }
    }
}
