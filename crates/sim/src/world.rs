//! Everything at once: profiles with contexts and disks, the network, the server, the model.

use crate::disk::{DiskFaults, SimRows, Watched, plan};
use crate::exec::{Exec, Owner};
use crate::host::{Locks, SimHost};
use crate::live::{self, LiveFaults};
use crate::model::{Model, ProfileModel};
use crate::net::{Cut, LinkFaults};
use crate::people;
use crate::policy::PolicyKind;
use crate::rng::Rng;
use crate::server::Server;
use landfall_core::lane_index::Tail;
use landfall_core::review::CONFLICTS;
use landfall_core::schedule::Trigger;
use landfall_core::{CollectionConfig, Config};
use landfall_protocol::{CollectionName, Scope};
use landfall_replica::{HttpRequest, HttpResponse, Notice, Replica, Settings};
use landfall_storage::faulty::{FaultPlan, FaultyRowStore};
use landfall_storage::memory::{Disk, MemoryRowStore};
use landfall_storage::{Declared, Key, Manifest, Records, RowKind, Schema, StoreName, decode};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use xxhash_rust::xxh64::xxh64;

/// When every world begins.
pub const START_MS: u64 = 1_700_000_000_000;
pub const SHARED: &str = "facility:1";
/// The field of a child that names its parent.
pub const PARENT: &str = "up";
pub const COLLECTIONS: [&str; 3] = ["notes", "tasks", "stock"];

pub type SimReplica = Rc<Replica<SimHost>>;

/// What only who has the role may do with `stock`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Guard {
    #[default]
    Nothing,
    Write,
    /// And write.
    Read,
}

/// What the delete of a parent does to its children.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDelete {
    #[default]
    Nothing,
    Refuse,
    Cascade,
}

/// What a history needs to be set up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Setup {
    pub seed: u64,
    pub users: usize,
    /// Users who hold the shared scope.
    pub sharing: usize,
    /// User of each profile.
    pub profiles: Vec<usize>,
    /// Context slots of a profile.
    pub slots: u32,
    pub link: LinkFaults,
    pub disk: DiskFaults,
    /// Longest storage call, ms.
    pub disk_ms: u64,
    pub locks_broken: bool,
    pub notices_lost: u32,
    pub page_limit: usize,
    pub batch_count: usize,
    pub attempts_max: u32,
    pub token_ms: Option<u64>,
    pub body_bytes_max: Option<usize>,
    pub relaxed: bool,
    pub pokes: bool,
    pub live: LiveFaults,
    /// 0: no filler row.
    pub filler_bytes: usize,
    /// From how much on the undecided log is indexed, and not read at open; `None`: never in a history.
    pub tail: Option<Tail>,
    /// `stock`, which has the higher priority, refers to `tasks`.
    pub families: bool,
    pub on_delete: OnDelete,
    /// The role is given and taken.
    pub roles: bool,
    pub guard: Guard,
    /// Conflicts in `tasks` wait for who has the role, and are decided on devices.
    pub reviewers: bool,
    /// A task is known by its field `k`, from which its id follows.
    pub unique: bool,
    /// How often somebody ends a conflict, as a weight among the steps.
    pub resolves: u64,
    /// Of each collection.
    pub policies: [PolicyKind; 3],
}

/// One browser profile of one user.
pub struct Profile {
    pub user: String,
    pub disk: MemoryRowStore,
    pub plan: FaultPlan,
    pub locks: Rc<Locks>,
    pub rng: Rng,
    pub link: LinkFaults,
    pub cut: Cell<Cut>,
    /// The socket hears nothing before this time.
    pub deaf_until: Cell<u64>,
    /// What its clock shows beyond the true time, ms.
    pub clock_ahead_ms: Cell<i64>,
    pub contexts: RefCell<BTreeMap<u32, Context>>,
    /// An earlier copy of disk and model, to roll back to.
    pub copy: RefCell<Option<(Disk, ProfileModel)>>,
    pub transcript: Cell<u64>,
    pub hint_offline: Cell<bool>,
    /// Rows with a changed byte: changing it again would mend them.
    pub flipped: RefCell<BTreeSet<(StoreName, Key)>>,
}

/// A tab, worker or service worker.
#[derive(Clone)]
pub struct Context {
    pub owner: Owner,
    /// `None` while it opens.
    pub replica: Option<SimReplica>,
}

pub struct World {
    pub exec: Exec,
    pub setup: Setup,
    pub server: RefCell<Server>,
    pub model: Rc<RefCell<Model>>,
    profiles: RefCell<Vec<Rc<Profile>>>,
    /// Heal: nothing fails any more.
    pub is_calm: Rc<Cell<bool>>,
    pub faults: Cell<u64>,
    /// Kinds of faults and of doings that this history had.
    pub kinds: RefCell<BTreeSet<&'static str>>,
    next_owner: Cell<Owner>,
    pub hash: Cell<u64>,
    /// Kept only when a person will read it.
    pub trace: RefCell<Option<Vec<String>>>,
}

/// Streams of chance for profiles that are cloned during a history.
pub const SPARE_PROFILES: usize = 3;

impl World {
    pub fn new(setup: &Setup, traces: bool) -> Rc<Self> {
        let count = setup.profiles.len() + SPARE_PROFILES;
        let streams = (0..=count).map(|index| Rng::stream(setup.seed, 1_000 + index as u64)).collect();
        let model = Rc::new(RefCell::new(Model::default()));
        let mut server = Server::new(Rc::clone(&model));
        server.collections = COLLECTIONS.iter().map(|name| CollectionName::from(*name)).collect();
        for (name, kind) in COLLECTIONS.iter().zip(setup.policies) {
            server.policies.insert(CollectionName::from(*name), kind.policy());
            model.borrow_mut().policies.insert((*name).to_owned(), kind);
        }
        server.guard = setup.guard;
        server.on_delete = setup.on_delete;
        model.borrow_mut().on_delete = setup.on_delete;
        if setup.guard != Guard::Nothing {
            model.borrow_mut().guarded.insert("stock");
        }
        if setup.reviewers {
            server.collections.insert(CollectionName::from(CONFLICTS));
        } else {
            server.reviews = Some(Rng::stream(setup.seed, 3));
        }
        server.is_unique = setup.unique;
        model.borrow_mut().is_unique = setup.unique;
        server.page_limit = setup.page_limit;
        server.token_ms = setup.token_ms;
        server.body_bytes_max = setup.body_bytes_max.unwrap_or(usize::MAX);
        for user in 0..setup.users {
            let mut scopes = BTreeSet::from([Scope(format!("user:{}", user_name(user)))]);
            if user < setup.sharing {
                scopes.insert(Scope::from(SHARED));
            }
            server.grants.insert(user_name(user), scopes);
        }
        let world = Rc::new(Self {
            exec: Exec::new(START_MS, streams),
            setup: setup.clone(),
            server: RefCell::new(server),
            model,
            profiles: RefCell::default(),
            is_calm: Rc::default(),
            faults: Cell::new(0),
            kinds: RefCell::default(),
            next_owner: Cell::new(1),
            hash: Cell::new(setup.seed),
            trace: RefCell::new(traces.then(Vec::new)),
        });
        for user in &setup.profiles {
            world.add_profile(&user_name(*user), Disk::default(), ProfileModel::default());
        }
        world
    }

    pub fn add_profile(&self, user: &str, disk: Disk, model: ProfileModel) -> usize {
        let setup = &self.setup;
        let mut profiles = self.profiles.borrow_mut();
        let index = profiles.len();
        let rng = Rng::stream(setup.seed, 2_000 + index as u64);
        let disk_rng = Rng::stream(setup.seed, 3_000 + index as u64);
        profiles.push(Rc::new(Profile {
            user: user.to_owned(),
            disk: MemoryRowStore::with_disk(disk),
            plan: plan(setup.disk, disk_rng, Rc::clone(&self.is_calm)),
            locks: Rc::new(Locks::new(setup.locks_broken)),
            rng,
            link: setup.link,
            cut: Cell::default(),
            deaf_until: Cell::new(0),
            clock_ahead_ms: Cell::new(0),
            contexts: RefCell::default(),
            copy: RefCell::default(),
            transcript: Cell::new(0),
            hint_offline: Cell::new(false),
            flipped: RefCell::default(),
        }));
        let mut model_of = model;
        model_of.user = user.to_owned();
        self.model.borrow_mut().profiles.push(model_of);
        index
    }

    pub fn profile(&self, index: usize) -> Rc<Profile> {
        Rc::clone(&self.profiles.borrow()[index])
    }
    pub fn profile_count(&self) -> usize {
        self.profiles.borrow().len()
    }

    pub fn clock_ms(&self, profile: usize) -> u64 {
        let ahead = self.profiles.borrow()[profile].clock_ahead_ms.get();
        (self.exec.now_ms() as i64 + ahead).max(1) as u64
    }

    /// Takes something into the hash of this history, and into its trace.
    pub fn note(&self, profile: usize, text: impl FnOnce() -> String) {
        if let Some(trace) = self.trace.borrow_mut().as_mut() {
            trace.push(format!("{:>9} p{profile} {}", self.exec.now_ms() - START_MS, text()));
        }
    }
    pub fn mix(&self, bytes: &[u8]) {
        self.hash.set(xxh64(bytes, self.hash.get() ^ self.exec.now_ms()));
    }
    pub fn fault(&self, profile: usize, text: impl FnOnce() -> String) {
        self.faults.set(self.faults.get() + 1);
        self.note(profile, || format!("fault: {}", text()));
    }

    /// A fault of a kind that is counted by itself.
    pub fn met(&self, kind: &'static str, profile: usize) {
        self.kinds.borrow_mut().insert(kind);
        self.fault(profile, || kind.to_owned());
    }

    /// Faults so far, those of the disks included.
    pub fn fault_count(&self) -> u64 {
        let disks: u64 = self.profiles.borrow().iter().map(|profile| profile.plan.injected_count()).sum();
        self.faults.get() + disks
    }

    // ---- contexts ----

    pub fn config(&self, user: &str) -> Config {
        let mut config = Config::new(user);
        for name in COLLECTIONS {
            let scope = if name == "notes" { "user:{user}" } else { SHARED };
            let mut collection = CollectionConfig {
                scope: scope.to_owned(),
                priority: i32::from(name == "stock"),
                ..Default::default()
            };
            if name == "stock" && self.setup.families {
                collection.references.push((PARENT.to_owned(), CollectionName::from("tasks")));
            }
            config.collections.insert(CollectionName::from(name), collection);
        }
        if self.setup.reviewers {
            let rows = CollectionConfig { scope: SHARED.to_owned(), ..Default::default() };
            config.collections.insert(CollectionName::from(CONFLICTS), rows);
        }
        config.batch_count = self.setup.batch_count;
        config.attempts_max = self.setup.attempts_max;
        config
    }

    /// What the disk of a profile holds of the base, all of it in memory.
    pub fn stored_base(&self, index: usize) -> Records {
        let disk = self.profile(index).disk.snapshot();
        let mut base = Records::default();
        base.budget = usize::MAX;
        let manifest = disk.row(StoreName::Meta, &Key::text("manifest"));
        if let Some(Ok(manifest)) = manifest.map(|row| decode::<Manifest>(RowKind::Manifest, row)) {
            base.manifest = manifest;
        }
        loop {
            base.touch_all();
            let missing = base.missing();
            if missing.is_empty() {
                return base;
            }
            for id in missing {
                let (store, key) = id.place();
                let row = disk.row(store, &key).map(str::to_owned);
                // What is damaged or gone has nothing, and that is what is then compared.
                if !base.give(id, row).unwrap_or(true) {
                    base.mark_broken(id);
                }
            }
        }
    }

    fn host(self: &Rc<Self>, index: usize, owner: Owner) -> SimHost {
        let profile = self.profile(index);
        let watched = Watched { disk: profile.disk.clone(), model: Rc::clone(&self.model), profile: index };
        let rows = SimRows {
            store: FaultyRowStore::new(watched, profile.plan.clone()),
            exec: self.exec.clone(),
            rng: profile.rng.clone(),
            slow_ms: self.setup.disk_ms,
        };
        SimHost { world: Rc::clone(self), profile: index, owner, rows, notify: Rc::default() }
    }

    /// Opens a context; it is there when its database is.
    pub fn open(self: &Rc<Self>, index: usize, slot: u32) {
        let profile = self.profile(index);
        if profile.contexts.borrow().contains_key(&slot) {
            return;
        }
        let owner = self.next_owner.get();
        self.next_owner.set(owner + 1);
        profile.contexts.borrow_mut().insert(slot, Context { owner, replica: None });
        self.note(index, || format!("context {slot} opens"));
        let world = Rc::clone(self);
        self.exec.spawn(owner, index, async move { world.live(index, slot, owner).await });
    }

    async fn live(self: &Rc<Self>, index: usize, slot: u32, owner: Owner) {
        let profile = self.profile(index);
        let settings = Settings {
            database: format!("landfall:sim:{}", profile.user),
            refresh_url: Some("/auth/refresh".to_owned()),
            cookie_auth: false,
            relaxed: self.setup.relaxed,
            patient: slot == 2,
            schema: schema(),
            // Next to nothing: rows come and go in memory.
            memory_bytes: 4_096,
            // A page or a few, so that a pull stores some while it asks for others.
            pull_bytes: if self.setup.seed.is_multiple_of(2) { 1 } else { 1_000 },
            filler_bytes: self.setup.filler_bytes,
            tail: self.setup.tail,
        };
        let replica = loop {
            let host = self.host(index, owner);
            match Replica::open(host, self.config(&profile.user), settings.clone()).await {
                Ok(replica) => break replica,
                // A person reloads the page.
                Err(_) => self.exec.sleep(500).await,
            }
        };
        if profile.hint_offline.get() {
            replica.trigger(Trigger::Offline);
        }
        if let Some(context) = profile.contexts.borrow_mut().get_mut(&slot).filter(|context| context.owner == owner) {
            context.replica = Some(Rc::clone(&replica));
        }
        // What a page asks for when it opens is answered before the first sync begins.
        people::look_at_some(self, index, &replica).await;
        let notify = Rc::clone(&replica.host.notify);
        while !replica.is_closed() {
            let until = replica.run_due().await;
            let sleep = until.map(|at| self.exec.sleep(at.get().saturating_sub(self.clock_ms(index)).max(1)));
            notify.wait(sleep).await;
        }
    }

    /// A context that is open and ready, if there is one in this slot.
    pub fn replica(&self, index: usize, slot: u32) -> Option<SimReplica> {
        self.profile(index).contexts.borrow().get(&slot).and_then(|context| context.replica.clone())
    }

    pub fn replicas(&self, index: usize) -> Vec<(u32, SimReplica)> {
        let profile = self.profile(index);
        let contexts = profile.contexts.borrow();
        contexts.iter().filter_map(|(slot, context)| Some((*slot, context.replica.clone()?))).collect()
    }

    /// The context is gone between two of its steps, wherever it was.
    pub fn kill(&self, index: usize, slot: u32) {
        let context = self.profile(index).contexts.borrow_mut().remove(&slot);
        if let Some(context) = context {
            self.fault(index, || format!("context {slot} is killed"));
            self.exec.kill(context.owner);
        }
    }

    pub fn kill_all(&self, index: usize) {
        let slots: Vec<u32> = self.profile(index).contexts.borrow().keys().copied().collect();
        for slot in slots {
            self.kill(index, slot);
        }
    }

    /// Tells the other contexts of a profile, sooner or later, or never.
    pub fn notice(self: &Rc<Self>, index: usize, from: Owner, notice: &Notice) {
        let profile = self.profile(index);
        let others: Vec<(u32, Owner)> = profile
            .contexts
            .borrow()
            .iter()
            .filter(|(_, context)| context.owner != from)
            .map(|(slot, context)| (*slot, context.owner))
            .collect();
        for (slot, owner) in others {
            if !self.is_calm.get() && profile.rng.chance(self.setup.notices_lost.into(), 1_000) {
                self.fault(index, || format!("notice to context {slot} lost"));
                continue;
            }
            let late = if profile.rng.chance(1, 10) { profile.rng.between(10, 2_000) } else { profile.rng.below(5) };
            let (world, notice) = (Rc::clone(self), notice.clone());
            self.exec.spawn(owner, index, async move {
                world.exec.sleep(late).await;
                if let Some(replica) = world.replica(index, slot) {
                    replica.noticed(&notice).await;
                }
            });
        }
    }

    pub fn trigger(&self, index: usize, trigger: Trigger) {
        for (_, replica) in self.replicas(index) {
            replica.trigger(trigger);
        }
    }

    // ---- the server's end of a link ----

    pub fn serve(self: &Rc<Self>, index: usize, request: &HttpRequest) -> Option<HttpResponse> {
        let now = self.exec.now_ms();
        let before = self.server.borrow().burst;
        let handled = self.server.borrow_mut().handle(now, index, request);
        let sent = request.body.as_deref().unwrap_or_default();
        let Some((response, moved)) = handled else {
            self.fault(index, || format!("{} met a server that is down", request.path));
            return None;
        };
        if before.is_some_and(|(until, ..)| now < until) {
            self.fault(index, || format!("{} answered {}", request.path, response.status));
        }
        self.note(index, || format!("{} {sent}\n{:>13} {} {}", request.path, "=>", response.status, response.body));
        self.mix(sent.as_bytes());
        self.mix(response.body.as_bytes());
        let profile = self.profile(index);
        let mut transcript = xxh64(sent.as_bytes(), profile.transcript.get() ^ now);
        transcript = xxh64(response.body.as_bytes(), transcript);
        profile.transcript.set(transcript);
        for (scope, position) in moved {
            live::poke(self, &scope, position);
        }
        Some(response)
    }

    // ---- the machine of a profile ----

    /// Power is gone: contexts die, what no strict transaction flushed is lost.
    pub fn power_cut(&self, index: usize) {
        self.kill_all(index);
        self.fault(index, || "power cut".to_owned());
        let profile = self.profile(index);
        profile.disk.power_cut();
        let disk = profile.disk.snapshot();
        let log = disk.rows(StoreName::Log).filter_map(|(key, _)| match key {
            Key::Number(key) => Some(*key),
            Key::Text(_) => None,
        });
        let meta = disk.rows(StoreName::Meta).map(|(key, _)| key.to_string());
        let (log, meta) = (log.collect(), meta.collect());
        self.model.borrow_mut().power_cut(index, &log, &meta);
    }

    /// Ends the world: contexts and the world hold each other.
    pub fn end(&self) {
        self.exec.clear();
        for profile in self.profiles.borrow().iter() {
            profile.contexts.borrow_mut().clear();
        }
        self.exec.clear();
    }
}

pub fn user_name(index: usize) -> String {
    format!("u{index}")
}

/// Indexes and clustering, so that pulls and compaction have them to keep.
fn schema() -> Schema {
    let fields = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<String>>();
    let mut schema = Schema::new();
    for name in COLLECTIONS {
        let indexes = vec![fields(&["a"]), fields(&["b", "a"])];
        let cluster = if name == "stock" { fields(&["b"]) } else { Vec::new() };
        schema.insert(CollectionName::from(name), Declared { indexes, cluster });
    }
    schema
}
