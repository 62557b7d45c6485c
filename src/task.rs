//! Work that outlives its caller, and what the browser calls back: each by one type, so that the module holds one machine.

use std::future::Future;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::spawn_local;
use web_sys::Event;

/// The function behind an event handler; gone when it is dropped.
pub(crate) type Handler = Closure<dyn FnMut(Event)>;

/// Runs `work` beside everything else, from the next microtask on.
pub(crate) fn spawn(work: impl Future<Output = ()> + 'static) {
    spawn_task(Box::pin(work));
}

/// Not generic: what [`spawn_local`] is made of exists once.
pub(crate) fn spawn_task(task: landfall_replica::Task) {
    spawn_local(task);
}

/// A handler for any event; who knows its kind casts it.
pub(crate) fn handler(heard: impl FnMut(Event) + 'static) -> Handler {
    handler_of(Box::new(heard))
}

fn handler_of(heard: Box<dyn FnMut(Event)>) -> Handler {
    Closure::wrap(heard)
}
