//! Waiting: for a time, or until somebody says that there is something to do.

use crate::idb::wait::Wait;
use gloo_timers::callback::Timeout;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Poll, Waker};

/// Longest single wait, ms: a device that slept must not oversleep its schedule by a day.
const WAIT_MS_MAX: u64 = 60 * 60 * 1000;

pub(crate) async fn pause(ms: u64) {
    let wait = Wait::new();
    let over = wait.clone();
    let _timer = Timeout::new(ms.min(WAIT_MS_MAX) as u32, move || over.deliver(()));
    wait.await;
}

/// Wakes one waiting loop. A wake while nobody waits is kept.
#[derive(Default)]
pub(crate) struct Signal {
    raised: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Signal {
    pub(crate) fn raise(&self) {
        self.raised.set(true);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Returns when raised, or after `ms` (`None`: only when raised).
    pub(crate) async fn wait(&self, ms: Option<u64>) {
        let mut timeout = pin!(async {
            match ms {
                Some(ms) => pause(ms).await,
                None => std::future::pending().await,
            }
        });
        poll_fn(|context| {
            if self.raised.replace(false) {
                return Poll::Ready(());
            }
            *self.waker.borrow_mut() = Some(context.waker().clone());
            timeout.as_mut().poll(context)
        })
        .await;
    }
}
