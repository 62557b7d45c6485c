//! One thread, virtual time: futures are polled in an order that the seed gives.
//!
//! Invariant: nothing here looks at a real clock, and the order among the tasks of one stream depends on that stream
//! only, so that one profile's story is the same with or without the others (I1).

use crate::rng::Rng;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

/// Who dies with a task: a context, or nobody (0).
pub type Owner = u32;

type Work = Pin<Box<dyn Future<Output = ()>>>;

struct TaskWake {
    id: u64,
    is_queued: AtomicBool,
    woken: Arc<Mutex<Vec<u64>>>,
}

impl Wake for TaskWake {
    fn wake(self: Arc<Self>) {
        if !self.is_queued.swap(true, Ordering::Relaxed)
            && let Ok(mut woken) = self.woken.lock()
        {
            woken.push(self.id);
        }
    }
}

struct Task {
    owner: Owner,
    stream: usize,
    /// Taken out while it is polled.
    work: Option<Work>,
    wake: Arc<TaskWake>,
}

struct Inner {
    now_ms: Cell<u64>,
    next_id: Cell<u64>,
    tasks: RefCell<BTreeMap<u64, Task>>,
    timers: RefCell<BTreeMap<(u64, u64), Waker>>,
    woken: Arc<Mutex<Vec<u64>>>,
    ready: RefCell<BTreeSet<(u64, u64)>>,
    /// Owners that stand still, and what of theirs was woken meanwhile.
    frozen: RefCell<BTreeSet<Owner>>,
    held: RefCell<Vec<u64>>,
    streams: Vec<Rng>,
}

/// The executor; clones share it.
#[derive(Clone)]
pub struct Exec {
    inner: Rc<Inner>,
}

/// Polls between two looks at the clock before it counts as a loop that never rests.
const POLLS_MAX: u64 = 2_000_000;

impl Exec {
    /// `streams`: one order of polling each.
    pub fn new(now_ms: u64, streams: Vec<Rng>) -> Self {
        Self {
            inner: Rc::new(Inner {
                now_ms: Cell::new(now_ms),
                next_id: Cell::new(1),
                tasks: RefCell::default(),
                timers: RefCell::default(),
                woken: Arc::default(),
                ready: RefCell::default(),
                frozen: RefCell::default(),
                held: RefCell::default(),
                streams,
            }),
        }
    }

    pub fn now_ms(&self) -> u64 {
        self.inner.now_ms.get()
    }

    fn id(&self) -> u64 {
        let id = self.inner.next_id.get();
        self.inner.next_id.set(id + 1);
        id
    }

    pub fn spawn(&self, owner: Owner, stream: usize, work: impl Future<Output = ()> + 'static) {
        let id = self.id();
        let wake = Arc::new(TaskWake { id, is_queued: AtomicBool::new(false), woken: Arc::clone(&self.inner.woken) });
        let task = Task { owner, stream, work: Some(Box::pin(work)), wake: Arc::clone(&wake) };
        self.inner.tasks.borrow_mut().insert(id, task);
        wake.wake();
    }

    /// Drops all tasks of an owner, wherever they are.
    pub fn kill(&self, owner: Owner) {
        self.inner.frozen.borrow_mut().remove(&owner);
        let dead: Vec<Task> = {
            let mut tasks = self.inner.tasks.borrow_mut();
            let ids: Vec<u64> = tasks.iter().filter(|(_, task)| task.owner == owner).map(|(id, _)| *id).collect();
            ids.iter().filter_map(|id| tasks.remove(id)).collect()
        };
        drop(dead);
    }

    /// All tasks of an owner stand still, wherever they are, with whatever they hold.
    pub fn freeze(&self, owner: Owner) {
        self.inner.frozen.borrow_mut().insert(owner);
    }

    /// They go on where they stood. Those of others keep their places: who thaws is nothing to them (I1).
    pub fn thaw(&self, owner: Owner) {
        if self.inner.frozen.borrow_mut().remove(&owner)
            && let Ok(mut woken) = self.inner.woken.lock()
        {
            let tasks = self.inner.tasks.borrow();
            let is_own = |id: &mut u64| tasks.get(id).is_some_and(|task| task.owner == owner);
            woken.extend(self.inner.held.borrow_mut().extract_if(.., is_own));
        }
    }

    pub fn thaw_all(&self) {
        let all = self.inner.frozen.borrow().clone();
        all.into_iter().for_each(|owner| self.thaw(owner));
    }

    /// Drops everything: the end of a world.
    pub fn clear(&self) {
        let dead = std::mem::take(&mut *self.inner.tasks.borrow_mut());
        drop(dead);
        self.inner.timers.borrow_mut().clear();
    }

    /// Runs until virtual time reaches `until_ms`. False: something never rested.
    pub fn run_until(&self, until_ms: u64) -> bool {
        let mut polls = 0;
        loop {
            self.gather();
            let first = self.inner.ready.borrow_mut().pop_first();
            if let Some((_, id)) = first {
                polls += 1;
                if polls > POLLS_MAX {
                    return false;
                }
                self.poll(id);
                continue;
            }
            let due = self.inner.timers.borrow().keys().next().copied().filter(|(at, _)| *at <= until_ms);
            let Some((at, _)) = due else {
                self.inner.now_ms.set(until_ms.max(self.now_ms()));
                return true;
            };
            if at > self.now_ms() {
                self.inner.now_ms.set(at);
                polls = 0;
            }
            let later = self.inner.timers.borrow_mut().split_off(&(at + 1, 0));
            let fired = std::mem::replace(&mut *self.inner.timers.borrow_mut(), later);
            fired.into_values().for_each(Waker::wake);
        }
    }

    fn gather(&self) {
        let woken = match self.inner.woken.lock() {
            Ok(mut woken) => std::mem::take(&mut *woken),
            Err(_) => return,
        };
        let tasks = self.inner.tasks.borrow();
        let mut ready = self.inner.ready.borrow_mut();
        for id in woken {
            let Some(task) = tasks.get(&id) else { continue };
            if self.inner.frozen.borrow().contains(&task.owner) {
                self.inner.held.borrow_mut().push(id);
            } else {
                ready.insert((self.inner.streams[task.stream].next() >> 1, id));
            }
        }
    }

    fn poll(&self, id: u64) {
        let taken = self.inner.tasks.borrow_mut().get_mut(&id).and_then(|task| {
            task.wake.is_queued.store(false, Ordering::Relaxed);
            Some((task.work.take()?, Arc::clone(&task.wake)))
        });
        let Some((mut work, wake)) = taken else { return };
        let waker = Waker::from(wake);
        let is_done = work.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        let mut tasks = self.inner.tasks.borrow_mut();
        let mut work = Some(work);
        if is_done {
            tasks.remove(&id);
        } else if let Some(task) = tasks.get_mut(&id) {
            task.work = work.take();
        }
        drop(tasks);
        drop(work);
    }

    pub fn sleep(&self, ms: u64) -> Sleep {
        Sleep { exec: self.clone(), at: self.now_ms() + ms, is_set: false }
    }

    /// Lets the others go first, maybe.
    pub async fn step_aside(&self) {
        let mut is_first = true;
        std::future::poll_fn(|context| {
            if std::mem::take(&mut is_first) {
                context.waker().wake_by_ref();
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        })
        .await;
    }
}

/// Ready when virtual time has come so far.
pub struct Sleep {
    exec: Exec,
    at: u64,
    is_set: bool,
}

impl Future for Sleep {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.exec.now_ms() >= self.at {
            return Poll::Ready(());
        }
        if !self.is_set {
            self.is_set = true;
            let key = (self.at, self.exec.id());
            self.exec.inner.timers.borrow_mut().insert(key, context.waker().clone());
        }
        Poll::Pending
    }
}

/// A flag that one task waits for.
#[derive(Default)]
pub struct Notify {
    is_set: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Notify {
    pub fn set(&self) {
        self.is_set.set(true);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
    /// Waits for the flag or for the end of `sleep`, whichever comes first.
    pub async fn wait(&self, sleep: Option<Sleep>) {
        let mut sleep = sleep;
        std::future::poll_fn(|context| {
            if self.is_set.take() {
                return Poll::Ready(());
            }
            if let Some(sleep) = &mut sleep
                && Pin::new(sleep).poll(context).is_ready()
            {
                return Poll::Ready(());
            }
            *self.waker.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}
