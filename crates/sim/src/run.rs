//! Plays a history in a world: first with its faults, then healed, until every replica has arrived.

use crate::checks;
use crate::export;
use crate::history::{DECISIONS, History, Mend, Step, What};
use crate::live;
use crate::model::{ProfileModel, Violation};
use crate::net::Cut;
use crate::people::{decide, mend, read, write};
use crate::rows;
use crate::world::{LATER, SHARED, START_MS, SimReplica, World, user_name};
use landfall_core::plant::{self, Plant};
use landfall_core::schedule::Trigger;
use landfall_protocol::{CollectionName, Scope};
use landfall_storage::faulty::flip_byte;
use landfall_storage::memory::Disk;
use landfall_storage::run::Run;
use landfall_storage::{Key, Manifest, RowId, RowKind, StoreName, decode};
use serde_json::json;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;

/// How long a healed world may take until all replicas are at the server's state, ms (R1).
pub const CONVERGE_MS: u64 = 60_000;

/// The same when nothing but timers tells a client to look: a back-off, a request that hangs, the pull timer.
pub const QUIET_MS: u64 = 700_000;

/// How often an exported history that goes on after its end is looked at again.
const RESTS_MAX: usize = 5;

/// How a history ended.
#[derive(Clone, Debug)]
pub struct Ended {
    pub violation: Option<Violation>,
    /// Over everything that went over the wire and how it ended.
    pub hash: u64,
    pub faults: u64,
    /// Kinds of faults that it had.
    pub kinds: BTreeSet<&'static str>,
    pub trace: Vec<String>,
    /// The history as data, if somebody asked for it.
    pub exported: Option<String>,
    /// Steps that were played.
    pub steps: u64,
    /// How long after the faults were over everybody had arrived, ms; and whether only timers told them to look.
    pub healed_ms: Option<(u64, bool)>,
    /// What each profile sent and heard before the world was healed.
    pub transcripts: Vec<u64>,
}

/// Plays a history, with a bug planted or none.
pub fn run(history: &History, bug: Option<Plant>, traces: bool) -> Ended {
    run_in(history, bug, traces, &|_| {})
}

/// As [`run`], in a world that is made ready first: a fault at a certain call, a lock that is held for ever.
pub fn run_in(history: &History, bug: Option<Plant>, traces: bool, prepare: &dyn Fn(&Rc<World>)) -> Ended {
    plant::plant(bug);
    let world = World::new(&history.setup, traces);
    prepare(&world);
    let player = Player { world: Rc::clone(&world), healed_ms: Cell::default() };
    let mut steps = 0;
    for (index, _) in history.setup.profiles.iter().enumerate() {
        world.open(index, 0);
    }
    player.go(20);
    for step in &history.steps {
        player.go(step.wait_ms);
        if player.is_over() {
            break;
        }
        player.play(step);
        steps += 1;
    }
    // How long the healing takes depends on the slowest of all.
    let transcripts = (0..world.profile_count()).map(|index| world.profile(index).transcript.get()).collect();
    if !player.is_over() {
        player.heal(history);
    }
    world.mix(
        &(world.model.borrow().profiles.iter().map(|known| known.durable.len() as u64).sum::<u64>()).to_le_bytes(),
    );
    let exported = export::finish(&world);
    let violation = world.model.borrow_mut().violation.take();
    let ended = Ended {
        violation,
        hash: world.hash.get(),
        faults: world.fault_count(),
        kinds: world.kinds.take().union(&world.model.borrow().kinds).copied().collect(),
        trace: world.trace.borrow_mut().take().unwrap_or_default(),
        steps,
        exported,
        healed_ms: player.healed_ms.get().map(|ms| (ms, history.quiet)),
        transcripts,
    };
    world.end();
    plant::plant(None);
    ended
}

pub(crate) struct Player {
    pub(crate) world: Rc<World>,
    healed_ms: Cell<Option<u64>>,
}

impl Player {
    fn is_over(&self) -> bool {
        let model = self.world.model.borrow();
        model.violation.is_some() && !model.goes_on
    }

    pub(crate) fn go(&self, ms: u64) {
        if !self.world.exec.run_until(self.world.exec.now_ms() + ms) {
            let at = self.world.exec.now_ms() - START_MS;
            self.world.model.borrow_mut().violate("R1", || format!("something never rests at {at} ms"));
        }
    }

    fn play(&self, step: &Step) {
        let world = &self.world;
        let mut what = step.what.clone();
        if let Some(profile) = what.profile_mut() {
            // Of an evicted database the next one has the place.
            *profile = world.current(*profile);
        }
        match &what {
            What::Write { profile, slot, writes, atomic } => {
                world.note(*profile, || {
                    format!("context {slot} writes {} {writes:?}", if *atomic { "as one" } else { "" })
                });
                let (writes, atomic) = (writes.clone(), *atomic);
                self.with(*profile, *slot, async move |world, profile, replica| {
                    write(&world, profile, &replica, &writes, atomic).await;
                });
            }
            What::Mend { profile, slot, pick, how } => {
                let (pick, how) = (*pick, *how);
                self.with(*profile, *slot, async move |world, profile, replica| {
                    mend(&world, profile, &replica, pick, how).await;
                });
            }
            What::Decide { profile, slot, pick, said } => {
                let (pick, said) = (*pick, DECISIONS[*said]);
                self.with(*profile, *slot, async move |world, profile, replica| {
                    decide(&world, profile, &replica, pick, said).await;
                });
            }
            What::Read { profile, slot } => self.with(*profile, *slot, async |world, profile, replica| {
                read(&world, profile, &replica).await;
            }),
            What::Sync { profile, slot } => {
                let is_worker = *slot == 2;
                self.with(*profile, *slot, async move |_, _, replica| {
                    if is_worker {
                        replica.flush(150_000).await;
                    } else {
                        replica.sync_now().await;
                    }
                });
            }
            What::Open { profile, slot } => world.open(*profile, *slot),
            What::Kill { profile, slot } => world.kill(*profile, *slot),
            What::PowerCut { profile } => world.power_cut(*profile),
            What::Offline { profile, cut, hint } => {
                world.met("offline", *profile);
                world.note(*profile, || format!("cut off: {cut:?}"));
                world.profile(*profile).cut.set(*cut);
                if *hint {
                    world.profile(*profile).hint_offline.set(true);
                    world.trigger(*profile, Trigger::Offline);
                }
            }
            What::Online { profile } => self.online(*profile),
            What::ClockJump { profile, ms } => {
                self.clock_jumps(*profile, *ms);
            }
            What::Copy { profile } => {
                let known = world.model.borrow().profiles[*profile].clone();
                let kept = world.profile(*profile);
                *kept.copy.borrow_mut() = Some((kept.disk.snapshot(), known));
            }
            What::HalfOpen { profile, ms } => live::half_open(world, *profile, *ms),
            What::Rollback { profile } => self.roll_back(*profile),
            What::Clone { profile } => {
                if !world.is_full_of_profiles() {
                    world.met("profile_cloned", *profile);
                    world.model.borrow_mut().profiles[*profile].is_tainted = true;
                    let known = world.model.borrow().profiles[*profile].clone();
                    let (user, disk) = (known.user.clone(), world.profile(*profile).disk.snapshot());
                    let index = world.add_profile(&user, disk, known);
                    self.lost(*profile);
                    self.lost(index);
                    world.open(index, 0);
                }
            }
            What::Flip { profile, pick } => self.flip(*profile, *pick),
            What::ServerCrash { at, ms } => {
                world.server.borrow_mut().crash = Some((*at, world.exec.now_ms() + ms));
            }
            What::ServerDown { ms } => {
                world.met("server_down", 0);
                world.server.borrow_mut().down_until = world.exec.now_ms() + ms;
            }
            What::Burst { status, ms, retry_after_ms } => {
                let until = world.exec.now_ms() + ms;
                world.server.borrow_mut().burst = Some((until, *status, *retry_after_ms));
            }
            What::Nothing => {}
            What::Backup => world.server.borrow_mut().backup(),
            What::Restore => {
                if world.server.borrow_mut().restore() {
                    world.met("restore", 0);
                    let epoch = world.server.borrow().epoch().0;
                    world.export(|record| record.fault("restored", json!({ "epoch": epoch })));
                }
            }
            What::Freeze { profile, slot, ms } => self.freeze(*profile, *slot, *ms),
            What::Night { ms } => self.night(*ms),
            What::StopWorker { profile, ms } => self.stop_worker(*profile, *ms),
            What::Evict { profile } => self.evict(*profile),
            What::Full { profile, room, ms } => self.fill(*profile, *room, *ms),
            What::ClockStuck { profile, ms } => self.clock_stops(*profile, *ms),
            What::SwitchUser { profile, slot, other } => self.switch_user(*profile, *slot, *other),
            What::ServerClock { back_ms, ms } => {
                world.met("server_clock_back", 0);
                let mut server = world.server.borrow_mut();
                server.behind_ms += back_ms;
                server.down_until = server.down_until.max(world.exec.now_ms() + ms);
            }
            What::Forget => {
                world.export(|record| record.fault("cleaned", json!({})));
                let is_away = (0..world.profile_count()).any(|index| world.profile(index).cut.get().is_all());
                if world.server.borrow_mut().forget() && is_away {
                    world.met("tombstones_cleaned_while_away", 0);
                }
            }
            What::UpgradeClient { profile, slot } => {
                world.met("client_upgrade", *profile);
                world.profile(*profile).version.set(1);
                world.kill(*profile, *slot);
                world.open(*profile, *slot);
            }
            What::UpgradeServer => {
                world.met("server_upgrade", 0);
                world.server.borrow_mut().collections.insert(CollectionName::from(LATER));
            }
            What::Prune { keep } => {
                world.kinds.borrow_mut().insert("pruned");
                world.export(|record| record.fault("pruned", json!({})));
                world.server.borrow_mut().prune(*keep);
            }
            What::ExpireTokens { user } => {
                world.met("tokens_end", 0);
                world.note(0, || format!("those of user {user}"));
                *world.server.borrow_mut().generation.entry(user_name(*user)).or_default() += 1;
            }
            What::RefreshFails { user, fails } => {
                world.met("refresh_fails", 0);
                world.note(0, || format!("of user {user}: {fails}"));
                let mut server = world.server.borrow_mut();
                if *fails {
                    server.refresh_fails.insert(user_name(*user));
                } else {
                    server.refresh_fails.remove(&user_name(*user));
                }
            }
            What::Revoke { user } => {
                world.met("revoke", 0);
                self.access(*user);
                let (name, scope) = (user_name(*user), Scope::from(SHARED));
                let mut server = world.server.borrow_mut();
                world.model.borrow_mut().revoked(&name, &scope, server.head(&scope));
                if let Some(scopes) = server.grants.get_mut(&name) {
                    scopes.remove(&scope);
                }
            }
            What::Role { user, has, at_once } => {
                self.access(*user);
                world.met(if *has { "role_given" } else { "role_taken" }, 0);
                let mut server = world.server.borrow_mut();
                if *has {
                    server.managers.insert(user_name(*user));
                } else {
                    server.managers.remove(&user_name(*user));
                }
                if *at_once {
                    *server.generation.entry(user_name(*user)).or_default() += 1;
                }
            }
            What::Grant { user } => {
                if *user < world.setup.sharing
                    && let Some(scopes) = world.server.borrow_mut().grants.get_mut(&user_name(*user))
                {
                    scopes.insert(Scope::from(SHARED));
                    world.kinds.borrow_mut().insert("grant");
                    self.access(*user);
                }
            }
        }
    }

    /// What a device had and had not sent is not promised any more.
    pub(crate) fn lost(&self, profile: usize) {
        self.world.export(|record| record.fault("lost_storage", json!({ "device": format!("p{profile}") })));
    }

    fn access(&self, user: usize) {
        let user = user_name(user);
        self.world.export(|record| record.fault("access", json!({ "user": user, "scopes": [SHARED] })));
    }

    /// Does something in a context, which opens for it if need be and takes it along when it dies.
    pub(crate) fn with<F>(&self, profile: usize, slot: u32, work: F)
    where
        F: AsyncFnOnce(Rc<World>, usize, SimReplica) + 'static,
    {
        self.world.open(profile, slot);
        let owner = self.world.profile(profile).contexts.borrow().get(&slot).map_or(0, |context| context.owner);
        let world = Rc::clone(&self.world);
        self.world.exec.spawn(owner, profile, async move {
            let replica = loop {
                match world.replica(profile, slot) {
                    Some(replica) => break replica,
                    None => world.exec.sleep(3).await,
                }
            };
            work(Rc::clone(&world), profile, replica).await;
        });
    }

    fn online(&self, profile: usize) {
        let link = self.world.profile(profile);
        link.cut.set(Cut::None);
        link.hint_offline.set(false);
        self.world.trigger(profile, Trigger::Online);
    }

    fn roll_back(&self, profile: usize) {
        let world = &self.world;
        let kept = world.profile(profile);
        let Some((disk, before)) = kept.copy.borrow().clone() else { return };
        world.kill_all(profile);
        world.met("profile_rolled_back", profile);
        self.lost(profile);
        kept.disk.restore(disk);
        let (torn, life) = {
            let known = &world.model.borrow().profiles[profile];
            (known.is_torn, known.life + 1)
        };
        world.model.borrow_mut().profiles[profile] = before;
        {
            let known = &mut world.model.borrow_mut().profiles[profile];
            known.is_tainted = true;
            known.is_torn |= torn;
            known.life = life;
        }
        world.open(profile, 0);
    }

    /// Changes one byte of the medium; whoever opens the database next must say so (I3).
    fn flip(&self, profile: usize, pick: u64) {
        let world = &self.world;
        world.kill_all(profile);
        let at = world.profile(profile);
        let disk = at.disk.snapshot();
        let mut rows = flippable(&disk);
        rows.retain(|row| !at.flipped.borrow().contains(row));
        if rows.is_empty() {
            return;
        }
        let (store, key) = rows[(pick % rows.len() as u64) as usize].clone();
        let Some(mut row) = disk.row(store, &key).map(str::to_owned) else { return };
        flip_byte(&mut row);
        at.flipped.borrow_mut().insert((store, key.clone()));
        world.met("corrupt_at_rest", profile);
        self.lost(profile);
        world.note(profile, || format!("a byte of {}/{key} flips", store.as_str()));
        world.model.borrow_mut().profiles[profile].is_torn = true;
        at.disk.tamper(store, key.clone(), Some(row));
        at.told_damage.set(false);
        let said = Rc::new(Cell::new(false));
        self.with(profile, 0, async move |world, profile, replica| {
            // Storage may fail meanwhile; whoever reads the row in the end must say so.
            for _ in 0..100 {
                let _ = replica.refresh().await;
                let _ = replica.warm().await;
                let told = world.replicas(profile).iter().any(|(_, replica)| replica.status().storage.quarantined > 0);
                if told || world.profile(profile).told_damage.get() {
                    said.set(true);
                    break;
                }
                world.exec.sleep(100).await;
            }
            // A base that starts cold drops its rows unread.
            let is_base = matches!(store, StoreName::Seg | StoreName::Idx);
            let is_dropped = is_base && world.profile(profile).disk.snapshot().row(store, &key).is_none();
            if !said.get() && !is_dropped {
                let name = store.as_str();
                world
                    .model
                    .borrow_mut()
                    .violate("I3", || format!("profile {profile}: a flipped byte in {name}/{key} is not reported"));
            }
        });
    }

    fn heal(&self, history: &History) {
        let world = &self.world;
        world.note(0, || "healed".to_owned());
        world.is_calm.set(true);
        world.exec.thaw_all();
        for profile in 0..world.profile_count() {
            let profile = world.profile(profile);
            profile.clock_stuck.set(None);
            profile.plan.limit_room(&profile.disk, None);
        }
        {
            let mut server = world.server.borrow_mut();
            server.burst = None;
            server.crash = None;
            server.down_until = 0;
            server.refresh_fails.clear();
            server.body_bytes_max = usize::MAX;
            if world.setup.upgrades {
                server.collections.insert(CollectionName::from(LATER));
            }
            // A token says what its holder was when it was made; now everybody gets another one.
            let users = if world.setup.roles { world.setup.users } else { 0 };
            for user in 0..users {
                *server.generation.entry(user_name(user)).or_default() += 1;
            }
        }
        if history.newcomers {
            for user in 0..world.setup.users {
                if !world.is_full_of_profiles() {
                    world.add_profile(&user_name(user), Disk::default(), ProfileModel::default());
                }
            }
        }
        for profile in 0..world.profile_count() {
            world.profile(profile).locks.is_stuck.set(false);
            if world.is_retired(profile) {
                continue;
            }
            if world.profile(profile).contexts.borrow().is_empty() {
                world.open(profile, 0);
            }
            if history.quiet && !world.profile(profile).hint_offline.get() {
                world.profile(profile).cut.set(Cut::None);
            } else {
                self.online(profile);
            }
        }
        if world.setup.reviewers {
            // People on several devices look at the same conflicts.
            for (pick, said) in DECISIONS.into_iter().enumerate() {
                self.go(2_000);
                for profile in (0..world.profile_count()).filter(|profile| !world.is_retired(*profile)) {
                    self.with(profile, 0, async move |world, profile, replica| {
                        decide(&world, profile, &replica, pick as u64, said).await;
                    });
                }
            }
        }
        if world.setup.resolves > 0 {
            self.go(5_000);
            for (at, how) in [Mend::Local, Mend::Server, Mend::Merged].into_iter().enumerate() {
                for profile in (0..world.profile_count()).filter(|profile| !world.is_retired(*profile)) {
                    self.with(profile, 0, async move |world, profile, replica| {
                        mend(&world, profile, &replica, at as u64, how).await;
                    });
                }
                self.go(200);
            }
        }
        let began = world.exec.now_ms();
        let most_ms = if history.quiet { QUIET_MS } else { CONVERGE_MS };
        self.go(100);
        let left = self.arrive(history.quiet, began + most_ms);
        self.healed_ms.set(left.is_none().then(|| world.exec.now_ms() - began));
        self.must_have_arrived(left);
        if self.is_over() {
            return;
        }
        let here = || (0..world.profile_count()).filter(|profile| !world.is_retired(*profile));
        let began = world.exec.now_ms();
        for profile in here() {
            world.open(profile, 9);
        }
        self.go(1_000);
        // An open arms again what had failed.
        let left = self.arrive(history.quiet, began + most_ms);
        self.must_have_arrived(left);
        if self.is_over() {
            return;
        }
        self.look_at_rest();
        for _ in 0..RESTS_MAX {
            if !export::has_moved(world) {
                break;
            }
            // What seemed to wait for a person did not.
            self.must_have_arrived(self.arrive(history.quiet, world.exec.now_ms() + most_ms));
            self.look_at_rest();
        }
        world.model.borrow_mut().check_requeued();
        let lost = world.server.borrow().lost(&world.model.borrow().truth);
        if let Some(text) = lost {
            world.model.borrow_mut().violate("S6", || format!("what the server decided is not what it has: {text}"));
        }
    }

    /// Everybody has arrived: what each context shows, and what is on the disks.
    fn look_at_rest(&self) {
        let world = &self.world;
        export::rests(world);
        for profile in (0..world.profile_count()).filter(|profile| !world.is_retired(*profile)) {
            for (slot, _) in world.replicas(profile) {
                self.with(profile, slot, async |world, profile, replica| read(&world, profile, &replica).await);
            }
            if world.replica(profile, 9).is_none() {
                world.model.borrow_mut().violate("L1", || format!("profile {profile} does not open"));
            }
            rows::check(world, profile);
        }
        self.go(1_000);
    }

    /// Lets time pass until everybody is at the server's state, or until then: who is left.
    fn arrive(&self, is_quiet: bool, until: u64) -> Option<(usize, u32, String)> {
        let world = &self.world;
        let mut left = self.not_converged();
        while left.is_some() && world.exec.now_ms() < until && !self.is_over() {
            self.go(if is_quiet { 5_000 } else { 500 });
            self.sign_in();
            self.look_around();
            left = self.not_converged();
        }
        left
    }

    fn must_have_arrived(&self, left: Option<(usize, u32, String)>) {
        let world = &self.world;
        if let Some((profile, slot, text)) = left {
            let (next, status) = match world.replica(profile, slot) {
                Some(replica) => {
                    let db = replica.db.borrow();
                    let waits: Vec<String> = db.state.entries.iter().map(|(id, it)| format!("{id}: {it:?}")).collect();
                    let parked: Vec<String> = db.state.parked.values().map(|row| format!("{row:?}")).collect();
                    let left = [waits, parked].concat().join("\n");
                    (format!("{:?}", replica.next()), format!("{:?}\n{left}", replica.status()))
                }
                None => Default::default(),
            };
            world.note(profile, || {
                format!("context {slot} is left with {next} at {}: {status}", world.clock_ms(profile))
            });
            world.model.borrow_mut().violate("R1", || format!("profile {profile} context {slot}: {text}"));
        }
    }

    /// A person signs in where nothing else helps.
    fn sign_in(&self) {
        let world = &self.world;
        for profile in 0..world.profile_count() {
            for (slot, replica) in world.replicas(profile) {
                if replica.status().auth == "auth_required" {
                    let token = world.server.borrow().token(world.exec.now_ms(), &world.profile(profile).user);
                    self.with(profile, slot, async move |_, _, replica| {
                        let _ = replica.set_token(Some(token)).await;
                    });
                }
            }
        }
    }

    /// A damaged row is found by whoever reads it, and everything is read some day.
    fn look_around(&self) {
        let world = &self.world;
        for profile in (0..world.profile_count()).filter(|profile| world.model.borrow().profiles[*profile].is_torn) {
            for (slot, _) in world.replicas(profile) {
                self.with(profile, slot, async |_, _, replica| {
                    let _ = replica.warm().await;
                });
            }
        }
    }

    fn not_converged(&self) -> Option<(usize, u32, String)> {
        let world = &self.world;
        for profile in (0..world.profile_count()).filter(|profile| !world.is_retired(*profile)) {
            let replicas = world.replicas(profile);
            if replicas.is_empty() {
                return Some((profile, 0, "no context is open".to_owned()));
            }
            for (slot, replica) in replicas {
                if let Some(text) = checks::not_converged(world, profile, &replica)
                    && !checks::said_so(world, profile, &replica)
                {
                    return Some((profile, slot, text));
                }
            }
        }
        (0..world.profile_count()).filter(|profile| !world.is_retired(*profile)).find_map(|profile| {
            let text = checks::stored_differs(world, profile)?;
            let said = world.replicas(profile).iter().any(|(_, replica)| checks::said_so(world, profile, replica));
            (!said).then_some((profile, 0, text))
        })
    }
}

/// Rows that somebody will read again.
fn flippable(disk: &Disk) -> Vec<(StoreName, Key)> {
    let mut rows: Vec<(StoreName, Key)> =
        disk.rows(StoreName::Log).map(|(key, _)| (StoreName::Log, key.clone())).collect();
    for (key, row) in disk.rows(StoreName::Meta) {
        let text = key.to_string();
        // Nobody reads the filler: it is room, not data.
        if text != "token" && text != "filler" && !text.starts_with("quarantine/") {
            rows.push((StoreName::Meta, key.clone()));
        }
        if text == "manifest"
            && let Ok(manifest) = decode::<Manifest>(RowKind::Manifest, row)
        {
            for pair in &manifest.pairs {
                for reference in &pair.live {
                    let place = RowId::Run(reference.id, reference.rev).place();
                    let run = disk.row(place.0, &place.1).and_then(|row| decode::<Run>(RowKind::Run, row).ok());
                    let fences = run.map(|run| run.fences).unwrap_or_default();
                    rows.extend(fences.iter().map(|fence| RowId::Segment(fence.row).place()));
                    rows.push(place);
                }
                for reference in pair.indexes.iter().flat_map(|index| &index.live) {
                    rows.push(RowId::Run(reference.id, reference.rev).place());
                }
            }
        }
    }
    rows
}
