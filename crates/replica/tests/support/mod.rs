//! One context of a replica with nothing real around it: rows in memory, a clock that only waiting moves, a server that
//! answers from a script. Equal scripts give equal rows.
#![allow(dead_code)] // Each test file uses a part of it.

use landfall_core::lane_index::Tail;
use landfall_protocol::codec::{from_json, to_json};
use landfall_protocol::{
    CollectionName, Json, Mutation, Object, PullRequest, PullResponse, PushRequest, RecordId, RecordSum, UnixMillis,
    Version,
};
use landfall_replica::{
    Host, HttpRequest, HttpResponse, LockWait, NetworkError, Notice, Replica, Settings, Task, Token, WriteKind, WriteOp,
};
use landfall_storage::memory::MemoryRowStore;
use landfall_storage::{
    Declared, Durability, Key, Manifest, RowKind, RowStore, Schema, StoreName, Txn, decode, encode,
};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

pub const START_MS: u64 = 1_790_000_000_000;
pub const USER: &str = "ada";
pub const SCOPE: &str = "user:ada";

/// What the server is asked and says: a push's mutations as their results, a pull as the next page.
#[derive(Default)]
pub struct Server {
    /// Nobody answers.
    pub is_down: Cell<bool>,
    /// The answer to the next pull; without one it hears what was pushed, and the head.
    pub page: RefCell<Option<String>>,
    pub position: Cell<u64>,
    /// Collections that were asked for by the last pull.
    pub asked: RefCell<Vec<CollectionName>>,
    live: RefCell<BTreeMap<(String, String), u64>>,
    /// What was pushed and not pulled yet.
    pushed: RefCell<Vec<Stored>>,
    /// A collection that the client did not ask for, and what it has.
    left_out: RefCell<Option<(String, Vec<Stored>)>>,
}

/// Collection, id, fields, position.
type Stored = (String, String, String, u64);

impl Server {
    fn answer(&self, request: &HttpRequest) -> Result<HttpResponse, NetworkError> {
        if self.is_down.get() {
            return Err(NetworkError);
        }
        let body = request.body.as_deref().unwrap_or_default();
        let body = match request.path.as_str() {
            "/push" => self.push(body),
            _ => {
                let asked: PullRequest = from_json(body).expect("a pull");
                *self.asked.borrow_mut() = asked.collections;
                let page = self.page.borrow_mut().take();
                page.unwrap_or_else(|| self.page(&[], &[]))
            }
        };
        Ok(HttpResponse { status: 200, retry_after_ms: None, body })
    }

    /// The client does not know this collection.
    pub fn leave_out(&self, collection: &str) {
        *self.left_out.borrow_mut() = Some((collection.to_owned(), Vec::new()));
    }
    /// It does now: the next page has all of it.
    pub fn let_in(&self) {
        let held = self.left_out.borrow_mut().take().map(|(_, held)| held);
        self.pushed.borrow_mut().extend(held.unwrap_or_default());
    }

    fn next_position(&self) -> u64 {
        self.position.set(self.position.get() + 1);
        self.position.get()
    }

    /// The id of a record says what becomes of its mutations.
    fn push(&self, body: &str) -> String {
        let request: PushRequest = from_json(body).expect("a push");
        let mut results = Vec::new();
        for text in &request.mutations {
            let mutation: Mutation<Object> = from_json(text.text()).expect("a mutation");
            let (seq, id) = (mutation.seq, mutation.id.as_str());
            results.push(if id.starts_with("refused") {
                format!(
                    r#"{{"seq":{seq},"status":"rejected","code":"validation","message":"Some values are not valid.","fields":{{"title":"must not be empty"}}}}"#
                )
            } else if id.starts_with("lost") {
                let position = self.next_position();
                let fields = r#"{"title":"The server's"}"#.to_owned();
                self.pushed.borrow_mut().push((mutation.collection.0.clone(), id.to_owned(), fields, position));
                format!(
                    r#"{{"seq":{seq},"status":"superseded","scope":"{SCOPE}","position":{position},"version":{position},"record":{{"title":"The server's"}}}}"#
                )
            } else {
                let position = self.next_position();
                let fields = mutation.set.text().to_owned();
                self.pushed.borrow_mut().push((mutation.collection.0.clone(), id.to_owned(), fields, position));
                format!(
                    r#"{{"seq":{seq},"status":"applied","scope":"{SCOPE}","position":{position},"version":{position}}}"#
                )
            });
        }
        let position = self.position.get();
        format!(
            r#"{{"server_time":{START_MS},"epoch":"e1","head":{{"{SCOPE}":{position}}},"results":[{}]}}"#,
            results.join(",")
        )
    }

    /// A page to the head with these live records `(collection, id, fields)` and these deleted ones.
    pub fn page(&self, records: &[(&str, String, String)], deleted: &[(&str, &str)]) -> String {
        let mut changes: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut live = self.live.borrow_mut();
        let mut all = std::mem::take(&mut *self.pushed.borrow_mut());
        for (collection, id, fields) in records {
            all.push(((*collection).to_owned(), id.clone(), fields.clone(), self.next_position()));
        }
        let mut left_out = self.left_out.borrow_mut();
        for (collection, id, fields, position) in all {
            if let Some((_, held)) = left_out.as_mut().filter(|(name, _)| *name == collection) {
                held.push((collection, id, fields, position));
                continue;
            }
            changes.entry(collection.clone()).or_default().push(format!(
                r#"{{"scope":"{SCOPE}","id":"{id}","version":{position},"position":{position},"fields":{fields}}}"#
            ));
            live.insert((collection, id), position);
        }
        let mut tombstones: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (collection, id) in deleted {
            let position = self.next_position();
            tombstones
                .entry((*collection).to_owned())
                .or_default()
                .push(format!(r#"{{"scope":"{SCOPE}","id":"{id}","version":{position},"position":{position}}}"#));
            live.remove(&((*collection).to_owned(), (*id).to_owned()));
        }
        let lists = |lists: &BTreeMap<String, Vec<String>>| {
            let parts: Vec<String> =
                lists.iter().map(|(name, list)| format!(r#""{name}":[{}]"#, list.join(","))).collect();
            parts.join(",")
        };
        let mut covered = Vec::new();
        let mut checksums = Vec::new();
        let is_known = |name: &&str| left_out.as_ref().is_none_or(|(out, _)| out != name);
        for collection in ["notes", "tasks"].into_iter().filter(is_known) {
            let mut sum = RecordSum::default();
            for ((_, id), version) in live.iter().filter(|((of, _), _)| of == collection) {
                sum.add(&RecordId::from(id.as_str()), Version(*version));
            }
            covered.push(format!(r#""{collection}":{}"#, self.position.get()));
            checksums.push(format!(r#""{collection}":{}"#, to_json(&sum)));
        }
        let text = format!(
            r#"{{"server_time":{START_MS},"epoch":"e1","changes":{{{}}},"tombstones":{{{}}},"cursor":"c{}","covered":{{"{SCOPE}":{{{}}}}},"has_more":false,"checksums":{{"{SCOPE}":{{{}}}}}}}"#,
            lists(&changes),
            lists(&tombstones),
            self.position.get(),
            covered.join(","),
            checksums.join(","),
        );
        assert!(from_json::<PullResponse<Json>>(&text).is_some(), "a page: {text}");
        text
    }
}

pub struct TestHost {
    pub rows: MemoryRowStore,
    pub server: Rc<Server>,
    now: Cell<u64>,
    chance: Cell<u64>,
    tasks: RefCell<Vec<Task>>,
    /// There is a worker that can be asked to compact.
    pub has_worker: Cell<bool>,
    pub asked_worker: Cell<usize>,
}

impl TestHost {
    pub fn new(rows: &MemoryRowStore, server: &Rc<Server>, now: u64) -> Self {
        Self {
            rows: rows.clone(),
            server: Rc::clone(server),
            now: Cell::new(now),
            chance: Cell::new(now),
            tasks: RefCell::default(),
            has_worker: Cell::default(),
            asked_worker: Cell::default(),
        }
    }
    pub fn wait(&self, ms: u64) {
        self.now.set(self.now.get() + ms);
    }
}

impl Host for TestHost {
    type Rows = MemoryRowStore;
    type Lock = ();

    fn rows(&self) -> &MemoryRowStore {
        &self.rows
    }
    fn now(&self) -> UnixMillis {
        UnixMillis(self.now.get())
    }
    /// SplitMix64.
    fn random(&self) -> u64 {
        self.chance.set(self.chance.get().wrapping_add(0x9e37_79b9_7f4a_7c15));
        let mut z = self.chance.get();
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    async fn fetch(&self, request: HttpRequest) -> Result<HttpResponse, NetworkError> {
        self.now.set(self.now.get() + 20);
        self.server.answer(&request)
    }
    async fn lock(&self, _name: &str, _wait: LockWait) -> Option<()> {
        Some(())
    }
    fn notice(&self, _notice: &Notice) {}
    async fn pause(&self, ms: u64) {
        self.now.set(self.now.get() + ms);
    }
    async fn ask_token(&self) -> Option<Token> {
        None
    }
    fn spawn(&self, task: Task) {
        self.tasks.borrow_mut().push(task);
    }
    fn changed(&self) {}
    fn tidies_elsewhere(&self) -> bool {
        self.asked_worker.set(self.asked_worker.get() + usize::from(self.has_worker.get()));
        self.has_worker.get()
    }
    fn wake(&self) {}
}

pub type TestReplica = Rc<Replica<TestHost>>;

/// Runs a future and the tasks that it starts to their end. Nothing here ever waits for anything else.
pub fn run<T>(replica: &TestReplica, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..10_000 {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
        let tasks = std::mem::take(&mut *replica.host.tasks.borrow_mut());
        for mut task in tasks {
            if task.as_mut().poll(&mut context).is_pending() {
                replica.host.tasks.borrow_mut().push(task);
            }
        }
    }
    panic!("it waits for something that never happens");
}

/// Collections `notes` (two indexes) and `tasks` (clustered), and more indexes of `notes` if given.
pub fn schema(more: &[&str]) -> Schema {
    let fields = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<String>>();
    let mut notes = vec![fields(&["title"]), fields(&["list", "title"])];
    notes.extend(more.iter().map(|name| fields(&[name])));
    let mut schema = Schema::new();
    schema.insert(CollectionName::from("notes"), Declared { indexes: notes, cluster: Vec::new() });
    schema.insert(CollectionName::from("tasks"), Declared { indexes: Vec::new(), cluster: fields(&["list"]) });
    schema
}

pub fn open(
    rows: &MemoryRowStore,
    server: &Rc<Server>,
    now: u64,
    collections: &[&str],
    schema: Schema,
) -> Result<TestReplica, landfall_replica::SyncError> {
    open_with(TestHost::new(rows, server, now), collections, schema, None)
}

pub fn open_with(
    host: TestHost,
    collections: &[&str],
    schema: Schema,
    tail: Option<Tail>,
) -> Result<TestReplica, landfall_replica::SyncError> {
    let mut config = landfall_core::Config::new(USER);
    for name in collections {
        let scope = "user:{user}".to_owned();
        let collection = landfall_core::CollectionConfig { scope, ..Default::default() };
        config.collections.insert(CollectionName::from(*name), collection);
    }
    let settings = Settings { database: "landfall:test:ada".to_owned(), schema, tail, ..Settings::default() };
    let mut opening = pin!(Replica::open(host, config, settings));
    match opening.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(opened) => opened,
        Poll::Pending => panic!("opening waits for something that never happens"),
    }
}

/// A write of `notes`; `fields` is JSON.
pub fn note(op: WriteKind, id: &str, fields: Option<&str>) -> WriteOp {
    let fields = fields.map(|text| Json::parse(text).expect("JSON"));
    WriteOp { op, collection: CollectionName::from("notes"), scope: None, id: Some(RecordId::from(id)), fields }
}

/// Signs in, and makes the next pull one of 400 `notes` and 40 `tasks`.
pub fn full(replica: &TestReplica) {
    let token = Token { token: "t0ken".to_owned(), expires_at: Some(UnixMillis(START_MS + 864_000_000)) };
    run(replica, replica.set_token(Some(token))).expect("a token");
    let list = |n: u64| ["home", "work", "f\u{fc}r sp\u{e4}ter"][n as usize % 3];
    let mut records = Vec::new();
    for n in 0..400 {
        let title = n * 7 % 400;
        let fields = format!(r#"{{"title":"Note {title}","list":"{}","n":{n},"tags":["a",null,1.5e3]}}"#, list(n));
        records.push(("notes", format!("n{n:03}"), fields));
    }
    for n in 0..40 {
        records.push(("tasks", format!("t{n:02}"), format!(r#"{{"list":"{}","done":{}}}"#, list(n), n % 2 == 0)));
    }
    let server = &replica.host.server;
    let page = server.page(&records, &[]);
    *server.page.borrow_mut() = Some(page);
}

/// A database with 400 synced notes.
pub fn filled() -> MemoryRowStore {
    let rows = MemoryRowStore::new();
    let replica =
        open(&rows, &Rc::new(Server::default()), START_MS, &["notes", "tasks"], schema(&[])).expect("it opens");
    full(&replica);
    run(&replica, replica.sync_now());
    replica.close();
    rows
}

/// Changes the manifest as another context would.
pub fn manifest(rows: &MemoryRowStore, change: impl FnOnce(&mut Manifest)) {
    let key = Key::text("manifest");
    let mut manifest: Manifest =
        decode(RowKind::Manifest, rows.snapshot().row(StoreName::Meta, &key).expect("a manifest")).expect("whole");
    manifest.rev += 1;
    change(&mut manifest);
    let mut txn = Txn::new("test", Durability::Relaxed);
    txn.put(StoreName::Meta, key, encode(RowKind::Manifest, &manifest));
    let mut commit = pin!(rows.commit(txn));
    assert!(commit.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
}
