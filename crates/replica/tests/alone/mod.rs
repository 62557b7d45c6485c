//! One context on rows alone: no network, no other context, a clock that stands still.

use landfall_core::Config;
use landfall_protocol::{CollectionName, UnixMillis};
use landfall_replica::{
    Host, HttpRequest, HttpResponse, LockWait, NetworkError, Notice, Replica, Settings, SyncError, Task, Token,
};
use landfall_storage::RowStore;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

type Tasks = Rc<RefCell<Vec<Task>>>;

pub struct AloneHost<R> {
    rows: R,
    tasks: Tasks,
    random: Cell<u64>,
}

impl<R: RowStore + 'static> Host for AloneHost<R> {
    type Rows = R;
    type Lock = ();
    fn rows(&self) -> &R {
        &self.rows
    }
    fn now(&self) -> UnixMillis {
        UnixMillis(1_750_000_000_000)
    }
    fn random(&self) -> u64 {
        self.random.set(self.random.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        self.random.get() >> 3
    }
    async fn fetch(&self, _: HttpRequest) -> Result<HttpResponse, NetworkError> {
        Err(NetworkError)
    }
    async fn lock(&self, _: &str, _: LockWait) -> Option<()> {
        Some(())
    }
    fn notice(&self, _: &Notice) {}
    async fn pause(&self, _: u64) {}
    async fn ask_token(&self) -> Option<Token> {
        None
    }
    fn spawn(&self, task: Task) {
        self.tasks.borrow_mut().push(task);
    }
    fn changed(&self) {}
    fn wake(&self) {}
}

/// A replica and the tasks that it spawned.
pub struct Alone<R: RowStore + 'static> {
    pub replica: Rc<Replica<AloneHost<R>>>,
    tasks: Tasks,
}

impl<R: RowStore + 'static> Alone<R> {
    /// Opens a database with the collections `notes`, of the user, and `tasks`, of the facility in the record.
    pub fn open(rows: R) -> Self {
        let tasks = Tasks::default();
        let host = AloneHost { rows, tasks: Rc::clone(&tasks), random: Cell::new(1) };
        let mut config = Config::new("ada");
        for (name, scope) in [("notes", "user:{user}"), ("tasks", "facility:{facility}")] {
            let collection = landfall_core::CollectionConfig { scope: scope.to_owned(), ..Default::default() };
            config.collections.insert(CollectionName::from(name), collection);
        }
        match run(&tasks, Replica::open(host, config, Settings::default())) {
            Ok(replica) => Self { replica, tasks },
            Err(SyncError { message, .. }) => panic!("a new database does not open: {message}"),
        }
    }

    /// Runs a future and, between its polls, the spawned tasks.
    pub fn run<T>(&self, work: impl Future<Output = T>) -> T {
        run(&self.tasks, work)
    }
}

fn run<T>(tasks: &RefCell<Vec<Task>>, work: impl Future<Output = T>) -> T {
    let mut context = Context::from_waker(Waker::noop());
    let mut work = pin!(work);
    loop {
        if let Poll::Ready(value) = work.as_mut().poll(&mut context) {
            return value;
        }
        let mut turn = std::mem::take(&mut *tasks.borrow_mut());
        turn.retain_mut(|task| Pin::new(task).poll(&mut context).is_pending());
        tasks.borrow_mut().extend(turn);
    }
}
