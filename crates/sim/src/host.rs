//! The world as one context sees it: the simulator's [`Host`].

use crate::disk::SimRows;
use crate::exec::{Notify, Owner};
use crate::net;
use crate::world::World;
use landfall_protocol::UnixMillis;
use landfall_replica::{Host, HttpRequest, HttpResponse, LockWait, NetworkError, Notice, Task, Token};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

/// Locks of one profile by name: who holds them.
#[derive(Default)]
pub struct Locks {
    held: RefCell<BTreeMap<String, (u64, Owner)>>,
    next: Cell<u64>,
    /// The browser has no locks worth the name: everybody gets every one.
    pub is_broken: bool,
    /// A frozen context holds all of them and does not let go: nobody else gets one.
    pub is_stuck: Cell<bool>,
}

impl Locks {
    pub fn new(is_broken: bool) -> Self {
        Self { is_broken, ..Self::default() }
    }
    /// Some lock is in the hands of this context.
    pub fn is_held_by(&self, owner: Owner) -> bool {
        self.held.borrow().values().any(|(_, holder)| *holder == owner)
    }
    fn take(self: &Rc<Self>, name: &str, owner: Owner, steals: bool) -> Option<LockGuard> {
        let mut held = self.held.borrow_mut();
        if self.is_stuck.get() || (held.contains_key(name) && !self.is_broken && !steals) {
            return None;
        }
        let id = self.next.get() + 1;
        self.next.set(id);
        held.insert(name.to_owned(), (id, owner));
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
        if held.get(&self.name).is_some_and(|(id, _)| *id == self.id) {
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
    /// Pages that this context has got and not begun to store, and the cursor of the last one.
    pub unstored: Rc<Cell<u32>>,
    pub last_cursor: RefCell<String>,
    /// Since when each lock was refused, by this context's clock.
    pub refused_since: RefCell<BTreeMap<String, u64>>,
}

/// Refused for this long, ms, a lock is taken from its holder, as src/lock.rs does.
const STEAL_AFTER_MS: u64 = 60_000;

/// A pull that stores every page by itself has one that it stores and one that it got (I6). In one context two pulls may be
/// under way, its own and that of a flush, and what a third of them got may have been thrown away as stale.
const UNSTORED_MAX: u32 = 6;

/// The cursor in a request, an answer or a manifest, as its text.
pub fn cursor_of(body: &str) -> &str {
    let rest = body.find("\"cursor\":").map_or("", |at| &body[at + 9..]);
    &rest[..rest.find("}}\"").unwrap_or(0)]
}

impl SimHost {
    fn page_came(&self, asked: &str, got: &str) {
        let mut goes_on = !asked.is_empty() && *self.last_cursor.borrow() == asked;
        if goes_on && self.world.stores_every_page() {
            // Another context may have stored what this one threw away as stale, and more behind it.
            goes_on = !self.world.profile(self.profile).cursors.borrow().contains(asked);
        }
        self.unstored.set(if goes_on { self.unstored.get() + 1 } else { 1 });
        got.clone_into(&mut self.last_cursor.borrow_mut());
        let count = self.unstored.get();
        if self.world.stores_every_page() && count > UNSTORED_MAX {
            let text = || format!("a pull of profile {} has {count} pages in memory", self.profile);
            self.world.model.borrow_mut().violate("I6", text);
        }
    }
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
        let asked =
            (request.path == "/pull").then(|| cursor_of(request.body.as_deref().unwrap_or_default()).to_owned());
        let answer = net::fetch(&self.world, self.profile, self.owner, request).await;
        if let (Some(asked), Ok(response)) = (asked, &answer)
            && response.status == 200
        {
            self.page_came(&asked, cursor_of(&response.body));
        }
        answer
    }
    async fn lock(&self, name: &str, wait: LockWait) -> Option<LockGuard> {
        let locks = Rc::clone(&self.world.profile(self.profile).locks);
        let until = match wait {
            LockWait::IfFree => 0,
            LockWait::Millis(ms) => self.world.exec.now_ms() + ms,
        };
        loop {
            let now = self.world.clock_ms(self.profile);
            let since = self.refused_since.borrow().get(name).copied();
            let steals = self.world.setup.deep && since.is_some_and(|since| now.saturating_sub(since) > STEAL_AFTER_MS);
            if let Some(guard) = locks.take(name, self.owner, steals) {
                self.refused_since.borrow_mut().remove(name);
                return Some(guard);
            }
            self.refused_since.borrow_mut().entry(name.to_owned()).or_insert(now);
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
