//! One context on a disk in memory, with a server that is a closure: for stories that need no whole world.

#![allow(dead_code)] // Each test file uses its own part.
#![allow(clippy::unwrap_used)] // A test that cannot go on says so by panicking.

use landfall_core::lane_index::Tail;
use landfall_core::{CollectionConfig, Config};
use landfall_protocol::{CollectionName, Json, RecordId, UnixMillis};
use landfall_replica::{
    Host, HttpRequest, HttpResponse, LockWait, NetworkError, Notice, Replica, Settings, SyncError, Task, Token,
    WriteKind, WriteOp,
};
use landfall_storage::faulty::{FaultPlan, FaultyRowStore};
use landfall_storage::memory::MemoryRowStore;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

type Serve = dyn FnMut(&HttpRequest) -> Option<HttpResponse>;

/// The world: a disk and a server, which outlive contexts.
#[derive(Clone, Default)]
pub struct Lab {
    pub disk: MemoryRowStore,
    pub plan: FaultPlan,
    pub now: Rc<Cell<u64>>,
    /// Mutations in one push.
    pub batch_count: Rc<Cell<usize>>,
    /// Bytes of pages in one transaction; 0: the default.
    pub pull_bytes: Rc<Cell<usize>>,
    pub filler_bytes: Rc<Cell<usize>>,
    pub tail: Rc<Cell<Option<Tail>>>,
    pub random: Rc<Cell<u64>>,
    /// Answers are on their way until this is taken back.
    pub holds: Rc<Cell<bool>>,
    serve: Rc<RefCell<Option<Box<Serve>>>>,
}

pub struct LabHost {
    lab: Lab,
    rows: FaultyRowStore<MemoryRowStore>,
    tasks: RefCell<Vec<Task>>,
}

pub type Opened = Rc<Replica<LabHost>>;

impl Lab {
    pub fn new() -> Self {
        let lab = Self::default();
        lab.now.set(1_700_000_000_000);
        lab.batch_count.set(100);
        lab
    }

    /// Answers requests from now on. `None`: the answer is lost.
    pub fn serve(&self, serve: impl FnMut(&HttpRequest) -> Option<HttpResponse> + 'static) {
        *self.serve.borrow_mut() = Some(Box::new(serve));
    }

    pub fn open(&self) -> Result<Opened, SyncError> {
        Ok(self.open_with(&[])?.0)
    }

    pub fn open_with(&self, also: &[&str]) -> Result<(Opened, Vec<Option<String>>), SyncError> {
        let rows = FaultyRowStore::new(self.disk.clone(), self.plan.clone());
        let host = LabHost { lab: self.clone(), rows, tasks: RefCell::default() };
        let mut config = Config::new("u");
        config.collections.insert(CollectionName::from("notes"), CollectionConfig::default());
        config.batch_count = self.batch_count.get();
        let settings = Settings {
            database: "lab".to_owned(),
            refresh_url: Some("/refresh".to_owned()),
            pull_bytes: self.pull_bytes.get(),
            filler_bytes: self.filler_bytes.get(),
            tail: self.tail.get(),
            ..Settings::default()
        };
        at_once(Replica::open_with(host, config, settings, also))
    }

    /// The same disk and clock with another server, which may be asked while this one answers.
    pub fn beside(&self) -> Self {
        Self { serve: Rc::default(), plan: FaultPlan::default(), ..self.clone() }
    }

    pub fn answer(body: String) -> Option<HttpResponse> {
        Some(HttpResponse { status: 200, retry_after_ms: None, body })
    }
}

/// A put of these fields.
pub fn op(id: &str, fields: &str) -> WriteOp {
    WriteOp {
        op: WriteKind::Put,
        collection: CollectionName::from("notes"),
        scope: None,
        id: Some(RecordId::from(id)),
        fields: Json::parse(fields).ok(),
    }
}

/// Stores one record.
pub fn put(replica: &Opened, id: &str, fields: &str) -> Result<(), SyncError> {
    write(replica, vec![op(id, fields)], false)
}

/// Stores writes in one log row; `atomic`: as a group.
pub fn write(replica: &Opened, ops: Vec<WriteOp>, atomic: bool) -> Result<(), SyncError> {
    let mut write = pin!(replica.write(ops, atomic));
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..100 {
        if let Poll::Ready(result) = write.as_mut().poll(&mut context) {
            return result.map(|_| ());
        }
        run_tasks(replica);
    }
    panic!("the write never ended");
}

/// Runs what the context has spawned.
pub fn run_tasks(replica: &Opened) {
    let tasks = std::mem::take(&mut *replica.host.tasks.borrow_mut());
    for mut task in tasks {
        if task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            replica.host.tasks.borrow_mut().push(task);
        }
    }
}

/// What a future gives when everything under it answers at once.
pub fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("something waits"),
    }
}

impl Host for LabHost {
    type Rows = FaultyRowStore<MemoryRowStore>;
    type Lock = ();

    fn rows(&self) -> &Self::Rows {
        &self.rows
    }
    fn now(&self) -> UnixMillis {
        UnixMillis(self.lab.now.get())
    }
    fn random(&self) -> u64 {
        self.lab.random.set(self.lab.random.get() + 1);
        self.lab.random.get()
    }
    async fn fetch(&self, request: HttpRequest) -> Result<HttpResponse, NetworkError> {
        let answer = self.lab.serve.borrow_mut().as_mut().and_then(|serve| serve(&request));
        poll_fn(|_| if self.lab.holds.get() { Poll::Pending } else { Poll::Ready(()) }).await;
        answer.ok_or(NetworkError)
    }
    async fn lock(&self, _: &str, _: LockWait) -> Option<()> {
        Some(())
    }
    fn notice(&self, _: &Notice) {}
    async fn pause(&self, ms: u64) {
        self.lab.now.set(self.lab.now.get() + ms);
    }
    async fn ask_token(&self) -> Option<Token> {
        None
    }
    fn spawn(&self, task: Task) {
        self.tasks.borrow_mut().push(task);
    }
    fn changed(&self) {}
    fn wake(&self) {}
}
