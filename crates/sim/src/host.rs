//! The world as one context sees it: the simulator's [`Host`].

use crate::disk::SimRows;
use crate::exec::{Notify, Owner};
use crate::net;
use crate::world::World;
use landfall_protocol::UnixMillis;
use landfall_replica::{Host, HttpRequest, HttpResponse, LockWait, NetworkError, Notice, Task, Token};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Locks of one profile by name: who holds them.
#[derive(Default)]
pub struct Locks {
    held: RefCell<BTreeMap<String, u64>>,
    next: std::cell::Cell<u64>,
    /// The browser has no locks worth the name: everybody gets every one.
    pub is_broken: bool,
    /// A frozen context holds all of them and does not let go: nobody else gets one.
    pub is_stuck: std::cell::Cell<bool>,
}

impl Locks {
    pub fn new(is_broken: bool) -> Self {
        Self { is_broken, ..Self::default() }
    }
    fn take(self: &Rc<Self>, name: &str) -> Option<LockGuard> {
        let mut held = self.held.borrow_mut();
        if self.is_stuck.get() || (held.contains_key(name) && !self.is_broken) {
            return None;
        }
        let id = self.next.get() + 1;
        self.next.set(id);
        held.insert(name.to_owned(), id);
        Some(LockGuard { locks: Rc::clone(self), name: name.to_owned(), id })
    }
}

/// Released when dropped: at the end of a step, and with its context.
pub struct LockGuard {
    locks: Rc<Locks>,
    name: String,
    id: u64,
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        let mut held = self.locks.held.borrow_mut();
        if held.get(&self.name) == Some(&self.id) {
            held.remove(&self.name);
        }
    }
}

pub struct SimHost {
    pub world: Rc<World>,
    pub profile: usize,
    pub owner: Owner,
    pub rows: SimRows,
    pub notify: Rc<Notify>,
}

impl Host for SimHost {
    type Rows = SimRows;
    type Lock = LockGuard;

    fn rows(&self) -> &SimRows {
        &self.rows
    }
    fn now(&self) -> UnixMillis {
        UnixMillis(self.world.clock_ms(self.profile))
    }
    fn random(&self) -> u64 {
        self.world.profile(self.profile).rng.next()
    }
    async fn fetch(&self, request: HttpRequest) -> Result<HttpResponse, NetworkError> {
        net::fetch(&self.world, self.profile, request).await
    }
    async fn lock(&self, name: &str, wait: LockWait) -> Option<LockGuard> {
        let locks = Rc::clone(&self.world.profile(self.profile).locks);
        let until = match wait {
            LockWait::IfFree => 0,
            LockWait::Millis(ms) => self.world.exec.now_ms() + ms,
        };
        loop {
            if let Some(guard) = locks.take(name) {
                return Some(guard);
            }
            if self.world.exec.now_ms() >= until {
                return None;
            }
            self.world.exec.sleep(25).await;
        }
    }
    fn notice(&self, notice: &Notice) {
        self.world.notice(self.profile, self.owner, notice);
    }
    async fn pause(&self, ms: u64) {
        self.world.exec.sleep(ms).await;
    }
    async fn ask_token(&self) -> Option<Token> {
        None
    }
    fn spawn(&self, task: Task) {
        self.world.exec.spawn(self.owner, self.profile, task);
    }
    fn changed(&self) {}
    fn wake(&self) {
        self.notify.set();
    }
}
