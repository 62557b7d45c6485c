//! Everything at once: profiles with contexts and disks, the network, the server, the model.

use crate::disk::{DiskFaults, SimRows, Watched, plan};
use crate::exec::{Exec, Owner};
use crate::export;
use crate::host::{Locks, SimHost};
use crate::live::{self, LiveFaults};
use crate::model::{Model, ProfileModel};
use crate::net::{Cut, LinkFaults};
use crate::people;
use crate::policy::PolicyKind;
use crate::rng::Rng;
use crate::server::{CrashAt, Server};
use landfall_core::lane_index::Tail;
use landfall_core::review::CONFLICTS;
use landfall_core::schedule::Trigger;
use landfall_core::{CollectionConfig, Config};
use landfall_protocol::{CollectionName, Scope};
use landfall_replica::{HttpRequest, HttpResponse, Notice, Replica, Settings};
use landfall_storage::faulty::{FaultPlan, FaultyRowStore};
use landfall_storage::memory::{Disk, MemoryRowStore};
use landfall_storage::{Declared, Key, Manifest, Records, RowKind, Schema, StoreName, decode};
use serde_json::json;
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
/// A collection that a later version of app and server knows, and its place behind the others.
pub const LATER: &str = "later";
pub const LATER_AT: usize = COLLECTIONS.len();

/// The name of a collection by its place.
pub fn collection_name(at: usize) -> &'static str {
    COLLECTIONS.get(at).copied().unwrap_or(LATER)
}

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
    /// Of the second generation: locks of frozen contexts are stolen, clocks are wrong by years.
    pub deep: bool,
    /// How often a context dies at a commit or with a push on its way, out of 1,000.
    pub dies: u32,
    /// App and server get a new version.
    pub upgrades: bool,
    /// The key of a task is a time, which each device writes in its own zone.
    pub timed: bool,
    /// Some records have a field that only another version of the app knows.
    pub strange: bool,
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
    /// A context that is gone had said that a row is damaged.
    pub told_damage: Cell<bool>,
    /// Cursors that some context has stored or tried to, where a pull stores every page.
    pub cursors: RefCell<BTreeSet<String>>,
    pub hint_offline: Cell<bool>,
    /// Rows with a changed byte: changing it again would mend them.
    pub flipped: RefCell<BTreeSet<(StoreName, Key)>>,
    /// What its clock shows while it stands still.
    pub clock_stuck: Cell<Option<u64>>,
    /// Contexts that open from now on are of this version of the app.
    pub version: Cell<u32>,
    /// Pushes under way.
    pub pushes: Cell<u32>,
    /// Requests sent, and the latest of them that has arrived.
    sent_count: Cell<u64>,
    arrived_last: Cell<u64>,
    /// Its database was evicted: what comes of this device is another profile now.
    pub successor: Cell<Option<usize>>,
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
    pub kinds: Rc<RefCell<BTreeSet<&'static str>>>,
    next_owner: Cell<Owner>,
    pub hash: Cell<u64>,
    /// Kept only when a person will read it.
    pub trace: RefCell<Option<Vec<String>>>,
}

/// Streams of chance for profiles that are cloned during a history.
pub const SPARE_PROFILES: usize = 3;
/// The same for those that take the place of evicted ones.
pub const SPARE_SUCCESSORS: usize = 2;

impl World {
    pub fn new(setup: &Setup, traces: bool) -> Rc<Self> {
        let count = setup.profiles.len() + SPARE_PROFILES + SPARE_SUCCESSORS;
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
        server.raises_all = setup.deep;
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
            kinds: Rc::default(),
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
            plan: plan(setup.disk, disk_rng, Rc::clone(&self.is_calm), Rc::clone(&self.kinds)),
            locks: Rc::new(Locks::new(setup.locks_broken)),
            rng,
            link: setup.link,
            cut: Cell::default(),
            deaf_until: Cell::new(0),
            clock_ahead_ms: Cell::new(0),
            contexts: RefCell::default(),
            copy: RefCell::default(),
            told_damage: Cell::default(),
            cursors: RefCell::default(),
            transcript: Cell::new(0),
            hint_offline: Cell::new(false),
            flipped: RefCell::default(),
            clock_stuck: Cell::default(),
            version: Cell::new(0),
            pushes: Cell::new(0),
            sent_count: Cell::new(0),
            arrived_last: Cell::new(0),
            successor: Cell::default(),
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

    /// A pull stores each page by itself, or a few together.
    pub fn stores_every_page(&self) -> bool {
        self.setup.seed.is_multiple_of(2)
    }

    pub fn clock_ms(&self, profile: usize) -> u64 {
        let profiles = self.profiles.borrow();
        let clock = &profiles[profile];
        clock.clock_stuck.get().unwrap_or((self.exec.now_ms() as i64 + clock.clock_ahead_ms.get()).max(1) as u64)
    }

    /// The profile that has the place of this one now.
    pub fn current(&self, profile: usize) -> usize {
        let mut at = profile;
        while let Some(next) = self.profile(at).successor.get() {
            at = next;
        }
        at
    }
    /// Evicted: nobody opens it any more.
    pub fn is_retired(&self, profile: usize) -> bool {
        self.profile(profile).successor.get().is_some()
    }
    pub fn is_full_of_profiles(&self) -> bool {
        self.profile_count() >= self.setup.profiles.len() + SPARE_PROFILES
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

    /// Notes something for who exports this history.
    pub fn export(&self, note: impl FnOnce(&mut export::Record)) {
        if let Some(record) = &mut self.model.borrow_mut().record {
            note(record);
        }
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

    pub fn config(&self, user: &str, version: u32) -> Config {
        let mut config = Config::new(user);
        if version > 0 {
            config.schema_version = version + 1;
            let later = CollectionConfig { scope: SHARED.to_owned(), ..Default::default() };
            config.collections.insert(CollectionName::from(LATER), later);
        }
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
            world: Rc::clone(self),
            profile: index,
            owner,
            unstored: Rc::default(),
            slow_ms: self.setup.disk_ms,
        };
        SimHost {
            world: Rc::clone(self),
            profile: index,
            owner,
            unstored: Rc::clone(&rows.unstored),
            rows,
            notify: Rc::default(),
            last_cursor: RefCell::default(),
            refused_since: RefCell::default(),
        }
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
        let start = self.model.borrow_mut().record.as_mut().map_or(0, crate::export::Record::tick);
        self.note(index, || format!("context {slot} opens"));
        let world = Rc::clone(self);
        self.exec.spawn(owner, index, async move { world.live(index, slot, owner, start).await });
    }

    async fn live(self: &Rc<Self>, index: usize, slot: u32, owner: Owner, start: u64) {
        let profile = self.profile(index);
        let version = profile.version.get();
        let settings = Settings {
            database: format!("landfall:sim:{}", profile.user),
            refresh_url: Some("/auth/refresh".to_owned()),
            cookie_auth: false,
            relaxed: self.setup.relaxed,
            patient: slot == 2,
            schema: schema(version),
            // Next to nothing: rows come and go in memory.
            memory_bytes: 4_096,
            // A page or a few, so that a pull stores some while it asks for others.
            pull_bytes: if self.stores_every_page() { 1 } else { 1_000 },
            filler_bytes: self.setup.filler_bytes,
            tail: self.setup.tail,
        };
        let replica = loop {
            let host = self.host(index, owner);
            match Replica::open(host, self.config(&profile.user, version), settings.clone()).await {
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
        let place = export::place(self, index, owner);
        if let Some(record) = &mut self.model.borrow_mut().record {
            record.opened(owner, place, start);
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
            if context.replica.is_some_and(|replica| replica.status().storage.quarantined > 0) {
                self.profile(index).told_damage.set(true);
            }
            self.met("killed", index);
            let session = format!("p{index}/{slot}#{}", context.owner);
            export::dies(self, context.owner);
            self.export(|record| record.fault("killed", json!({ "device": format!("p{index}"), "session": session })));
            self.note(index, || format!("context {slot} is gone"));
            self.exec.kill(context.owner);
        }
    }

    /// A context dies by chance, where it hurts most. True: it just did.
    pub fn dies(&self, index: usize, owner: Owner, kind: &'static str) -> bool {
        let profile = self.profile(index);
        if self.is_calm.get() || !profile.rng.chance(self.setup.dies.into(), 1_000) {
            return false;
        }
        let slot = profile.contexts.borrow().iter().find(|(_, it)| it.owner == owner).map(|(slot, _)| *slot);
        let Some(slot) = slot else { return false };
        self.kinds.borrow_mut().insert(kind);
        self.kill(index, slot);
        true
    }

    /// A push of this profile is under way from now on.
    pub fn push_begins(&self, index: usize) {
        let profile = self.profile(index);
        profile.pushes.set(profile.pushes.get() + 1);
        if profile.pushes.get() > 1 {
            self.kinds.borrow_mut().insert("two_flushers");
        }
    }

    /// Requests of a profile in the order of sending.
    pub fn sent_number(&self, index: usize) -> u64 {
        let profile = self.profile(index);
        profile.sent_count.set(profile.sent_count.get() + 1);
        profile.sent_count.get()
    }
    pub fn arrived(&self, index: usize, number: u64) {
        let profile = self.profile(index);
        if number < profile.arrived_last.get() {
            self.met("reordered", index);
        }
        profile.arrived_last.set(profile.arrived_last.get().max(number));
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
                self.met("notice_lost", index);
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
        let crash = self.server.borrow().crash.map(|(at, _)| at).filter(|_| request.path == "/push");
        let handled = self.server.borrow_mut().handle(now, index, request);
        let sent = request.body.as_deref().unwrap_or_default();
        let Some((response, moved)) = handled else {
            let crashed = self.server.borrow().crash.is_none();
            match crash.filter(|_| crashed) {
                Some(CrashAt::BeforeCommit) => self.met("crash_before_commit", index),
                Some(CrashAt::Between | CrashAt::AfterCommit) => self.met("crash_after_commit", index),
                None => self.met("server_down", index),
            }
            self.note(index, || format!("{} met a server that is down", request.path));
            return None;
        };
        if before.is_some_and(|(until, ..)| now < until) {
            let kind = match response.status {
                429 => "storm_429",
                503 => "storm_503",
                _ => "storm_500",
            };
            self.met(kind, index);
        }
        if request.path == "/auth/refresh" && self.setup.token_ms.is_some() {
            self.kinds.borrow_mut().insert("token_expired");
        }
        if response.status == 401 {
            let is_expired = response.body.contains("token_expired");
            self.met(if is_expired { "token_expired" } else { "token_refused" }, index);
        }
        if response.status == 403 {
            self.met("user_switched", index);
        }
        if response.status == 409 {
            let is_fork = response.body.contains("client_fork");
            self.kinds.borrow_mut().insert(if is_fork { "fork" } else { "reset" });
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
        self.met("power_cut", index);
        // Who asked for relaxed commits gave the newest writes away.
        let fault = if self.setup.relaxed { "lost_storage" } else { "power_cut" };
        self.export(|record| record.fault(fault, json!({ "device": format!("p{index}") })));
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
fn schema(version: u32) -> Schema {
    let fields = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<String>>();
    let mut schema = Schema::new();
    for name in COLLECTIONS {
        let indexes = vec![fields(&["a"]), fields(&["b", "a"])];
        let cluster = if name == "stock" { fields(&["b"]) } else { Vec::new() };
        schema.insert(CollectionName::from(name), Declared { indexes, cluster });
    }
    if version > 0 {
        // One more index on what is there, and one on what is new.
        if let Some(tasks) = schema.get_mut(&CollectionName::from("tasks")) {
            tasks.indexes.push(fields(&["c"]));
        }
        let indexes = vec![fields(&["a"])];
        schema.insert(CollectionName::from(LATER), Declared { indexes, cluster: Vec::new() });
    }
    schema
}
