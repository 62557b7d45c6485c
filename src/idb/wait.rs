//! A value that arrives once, from a browser event, for everybody who waits for it.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

struct Slot<T> {
    value: Option<T>,
    wakers: Vec<Waker>,
}

/// Clones wait for the same value. Dropping one while it waits harms nobody.
pub(crate) struct Wait<T> {
    slot: Rc<RefCell<Slot<T>>>,
}

impl<T> Clone for Wait<T> {
    fn clone(&self) -> Self {
        Self { slot: Rc::clone(&self.slot) }
    }
}

impl<T: Clone> Wait<T> {
    pub(crate) fn new() -> Self {
        Self { slot: Rc::new(RefCell::new(Slot { value: None, wakers: Vec::new() })) }
    }

    /// The first value wins; a later one is dropped.
    pub(crate) fn deliver(&self, value: T) {
        let mut slot = self.slot.borrow_mut();
        if slot.value.is_some() {
            drop(slot); // The value goes after the borrow: dropping a connection runs code.
            return;
        }
        slot.value = Some(value);
        let wakers = std::mem::take(&mut slot.wakers);
        drop(slot);
        for waker in wakers {
            waker.wake();
        }
    }
}

impl<T: Clone> Future for Wait<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let mut slot = self.slot.borrow_mut();
        match &slot.value {
            Some(value) => Poll::Ready(value.clone()),
            None => {
                slot.wakers.push(context.waker().clone());
                Poll::Pending
            }
        }
    }
}
