//! A history: how a world is set up, and what happens in it, one step after the other. All of it follows from a seed.

use crate::net::Cut;
use crate::rng::Rng;
use crate::server::CrashAt;
use crate::swarm::setup;
use crate::world::{OnDelete, Setup};

/// What a write asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Put,
    Create,
    Update,
    Delete,
}

/// One write of the app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    pub kind: Kind,
    pub collection: usize,
    pub record: u64,
    /// Field and value; a value above 0 is used once in a history, 0 is one that everybody writes.
    pub fields: Vec<(&'static str, u64)>,
    /// The server will not have it.
    pub bad: bool,
}

/// What a person does with a parked change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mend {
    Retry,
    Edit,
    Discard,
    /// Of what lost or waits for its author: what this device wanted, what stands, or other fields.
    Local,
    Server,
    Merged,
}

/// What somebody with the role says of a conflict that waits for one.
pub const DECISIONS: [&str; 3] =
    [r#"{"decision":"local"}"#, r#"{"decision":"server"}"#, r#"{"decision":"merged","merged":{"a":"reviewed"}}"#];

/// One thing that happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    Write {
        profile: usize,
        slot: u32,
        writes: Vec<Write>,
        atomic: bool,
    },
    Mend {
        profile: usize,
        slot: u32,
        pick: u64,
        how: Mend,
    },
    Decide {
        profile: usize,
        slot: u32,
        pick: u64,
        said: usize,
    },
    Read {
        profile: usize,
        slot: u32,
    },
    Sync {
        profile: usize,
        slot: u32,
    },
    Open {
        profile: usize,
        slot: u32,
    },
    Kill {
        profile: usize,
        slot: u32,
    },
    PowerCut {
        profile: usize,
    },
    Offline {
        profile: usize,
        cut: Cut,
        hint: bool,
    },
    Online {
        profile: usize,
    },
    ClockJump {
        profile: usize,
        ms: i64,
    },
    Copy {
        profile: usize,
    },
    Rollback {
        profile: usize,
    },
    /// Its live socket is half open for so long.
    HalfOpen {
        profile: usize,
        ms: u64,
    },
    Clone {
        profile: usize,
    },
    Flip {
        profile: usize,
        pick: u64,
    },
    ServerCrash {
        at: CrashAt,
        ms: u64,
    },
    ServerDown {
        ms: u64,
    },
    Burst {
        status: u16,
        ms: u64,
        retry_after_ms: Option<u64>,
    },
    Backup,
    Restore,
    Prune {
        keep: u64,
    },
    ExpireTokens {
        user: usize,
    },
    RefreshFails {
        user: usize,
        fails: bool,
    },
    Revoke {
        user: usize,
    },
    Grant {
        user: usize,
    },
    /// A user has the role from now on, or not; old tokens count on, or are refused from now on.
    Role {
        user: usize,
        has: bool,
        at_once: bool,
    },
    /// Only time passes.
    Nothing,
}

/// After so many milliseconds, this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub wait_ms: u64,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    pub setup: Setup,
    pub steps: Vec<Step>,
    /// At heal a new device of each user joins (R4).
    pub newcomers: bool,
    /// At heal no event tells anybody: timers alone must do.
    pub quiet: bool,
}

const FIELDS: [&str; 4] = ["a", "b", "c", "d"];

impl History {
    /// The history of a seed.
    pub fn generate(seed: u64) -> Self {
        let rng = Rng::stream(seed, 1);
        let setup = setup(seed, &rng);
        let weights = Weights::draw(&rng, &setup);
        let count = if rng.chance(1, 10) { rng.between(50, 150) } else { rng.between(30, 45) };
        let pace = *[0, 20, 300, 3_000].get(rng.index(4)).unwrap_or(&20);
        let mut maker = Maker { rng: rng.clone(), setup: &setup, weights, value: 0 };
        let steps = (0..count).map(|_| Step { wait_ms: maker.wait(pace), what: maker.what() }).collect();
        Self { newcomers: rng.chance(1, 4), quiet: rng.chance(1, 4), setup, steps }
    }

    /// The same without what these users do: for I1.
    pub fn only_users(&self, users: &[usize]) -> Self {
        let mut other = self.clone();
        let own = |profile: &usize| self.setup.profiles.get(*profile).is_some_and(|user| users.contains(user));
        let mut skipped = 0;
        other.steps = Vec::new();
        for step in &self.steps {
            let keeps = match &step.what {
                What::Write { profile, .. }
                | What::Mend { profile, .. }
                | What::Decide { profile, .. }
                | What::Read { profile, .. }
                | What::Sync { profile, .. }
                | What::Open { profile, .. }
                | What::Kill { profile, .. }
                | What::PowerCut { profile }
                | What::Offline { profile, .. }
                | What::Online { profile }
                | What::ClockJump { profile, .. }
                | What::Copy { profile }
                | What::Rollback { profile }
                | What::HalfOpen { profile, .. }
                | What::Clone { profile }
                | What::Flip { profile, .. } => own(profile),
                What::ExpireTokens { user }
                | What::RefreshFails { user, .. }
                | What::Revoke { user }
                | What::Grant { user }
                | What::Role { user, .. } => users.contains(user),
                _ => true,
            };
            if keeps {
                other.steps.push(Step { wait_ms: step.wait_ms + skipped, what: step.what.clone() });
                skipped = 0;
            } else {
                skipped += step.wait_ms;
            }
        }
        other.steps.push(Step { wait_ms: skipped, what: What::Nothing });
        other
    }
}

/// How often each kind of step comes; drawn for each history anew, so that histories differ in kind (swarm testing).
struct Weights {
    all: Vec<(u64, Pick)>,
    records: u64,
    bad: u64,
    atomic: u64,
    deletes: u64,
}

#[derive(Clone, Copy, Debug)]
enum Pick {
    Write,
    Mend,
    Read,
    Sync,
    Open,
    Kill,
    PowerCut,
    Offline,
    Online,
    ClockJump,
    Copy,
    Rollback,
    HalfOpen,
    Clone,
    Flip,
    ServerCrash,
    ServerDown,
    Burst,
    Backup,
    Restore,
    Prune,
    ExpireTokens,
    RefreshFails,
    Revoke,
    Grant,
    Role,
    Resolve,
    Decide,
}

impl Weights {
    fn draw(rng: &Rng, setup: &Setup) -> Self {
        let some = |of: u64, weight: u64| if rng.chance(1, of) { weight } else { 0 };
        let copies = some(12, 2);
        let restores = match some(8, 2) {
            0 if Rng::stream(setup.seed, 5).chance(1, 10) => 2,
            drawn => drawn,
        };
        let revokes = if setup.sharing > 0 { some(8, 2) } else { 0 };
        let offline = some(2, 4);
        let bad = if rng.chance(1, 2) { rng.between(3, 20) } else { 0 };
        let all = vec![
            (40, Pick::Write),
            (if bad > 0 || setup.body_bytes_max.is_some() || revokes > 0 { 6 } else { 1 }, Pick::Mend),
            (10, Pick::Read),
            (8, Pick::Sync),
            (6, Pick::Open),
            (some(2, 6), Pick::Kill),
            (some(3, 3), Pick::PowerCut),
            (offline, Pick::Offline),
            (offline * 2, Pick::Online),
            (some(4, 2), Pick::ClockJump),
            (copies, Pick::Copy),
            (copies, Pick::Rollback),
            (some(16, 2), Pick::Clone),
            (some(10, 2), Pick::Flip),
            (some(3, 4), Pick::ServerCrash),
            (some(4, 2), Pick::ServerDown),
            (some(4, 3), Pick::Burst),
            (restores * 2, Pick::Backup),
            (restores, Pick::Restore),
            (some(8, 2), Pick::Prune),
            (some(4, 2), Pick::ExpireTokens),
            (some(6, 2), Pick::RefreshFails),
            (revokes, Pick::Revoke),
            (revokes, Pick::Grant),
            (setup.live.half_open, Pick::HalfOpen),
            (if setup.roles { 3 } else { 0 }, Pick::Role),
            (setup.resolves, Pick::Resolve),
            (if setup.reviewers { 20 } else { 0 }, Pick::Decide),
        ];
        Self {
            all,
            records: rng.between(1, 6),
            bad,
            atomic: *[0, 10, 30].get(rng.index(3)).unwrap_or(&0),
            deletes: *[3, 10, 30].get(rng.index(3)).unwrap_or(&3),
        }
    }
}

struct Maker<'a> {
    rng: Rng,
    setup: &'a Setup,
    weights: Weights,
    value: u64,
}

impl Maker<'_> {
    fn wait(&self, pace: u64) -> u64 {
        match self.rng.below(10) {
            0..=3 => 0,
            4..=7 => self.rng.below(pace + 1),
            8 => self.rng.below(2_000),
            _ => self.rng.below(pace * 10 + 1),
        }
    }

    fn what(&mut self) -> What {
        let rng = self.rng.clone();
        let total: u64 = self.weights.all.iter().map(|(weight, _)| weight).sum();
        let mut draw = rng.below(total);
        let mut pick = Pick::Write;
        for (weight, candidate) in &self.weights.all {
            if draw < *weight {
                pick = *candidate;
                break;
            }
            draw -= weight;
        }
        let profile = rng.index(self.setup.profiles.len());
        let slot = rng.below(self.setup.slots.into()) as u32;
        let user = rng.index(self.setup.users);
        match pick {
            Pick::Write => self.write(profile, slot),
            Pick::Mend => {
                let how =
                    *[Mend::Retry, Mend::Edit, Mend::Edit, Mend::Discard].get(rng.index(4)).unwrap_or(&Mend::Edit);
                What::Mend { profile, slot, pick: rng.next(), how }
            }
            Pick::Resolve => {
                let how = *[Mend::Local, Mend::Server, Mend::Merged].get(rng.index(3)).unwrap_or(&Mend::Server);
                What::Mend { profile, slot, pick: rng.next(), how }
            }
            Pick::Decide => What::Decide { profile, slot, pick: rng.next(), said: rng.index(DECISIONS.len()) },
            Pick::Read => What::Read { profile, slot },
            Pick::Sync => What::Sync { profile, slot },
            Pick::Open => What::Open { profile, slot },
            Pick::Kill => What::Kill { profile, slot },
            Pick::PowerCut => What::PowerCut { profile },
            Pick::Offline => {
                let cut = *[Cut::All, Cut::All, Cut::Push, Cut::Pull].get(rng.index(4)).unwrap_or(&Cut::All);
                What::Offline { profile, cut, hint: cut == Cut::All && rng.chance(1, 2) }
            }
            Pick::Online => What::Online { profile },
            Pick::ClockJump => {
                let hours = rng.between(1, 12) as i64 * 3_600_000;
                let ms = rng.between(1, 100_000) as i64;
                let ms = if rng.chance(1, 3) { hours } else { ms };
                What::ClockJump { profile, ms: if rng.chance(1, 2) { ms } else { -ms } }
            }
            Pick::Copy => What::Copy { profile },
            Pick::Rollback => What::Rollback { profile },
            Pick::HalfOpen => What::HalfOpen { profile, ms: rng.between(1_000, 50_000) },
            Pick::Clone => What::Clone { profile },
            Pick::Flip => What::Flip { profile, pick: rng.next() },
            Pick::ServerCrash => {
                let at = [CrashAt::BeforeCommit, CrashAt::Between, CrashAt::AfterCommit];
                What::ServerCrash {
                    at: *at.get(rng.index(3)).unwrap_or(&CrashAt::AfterCommit),
                    ms: rng.between(10, 5_000),
                }
            }
            Pick::ServerDown => What::ServerDown { ms: rng.between(100, 60_000) },
            Pick::Burst => {
                let status = *[429, 503, 500, 500].get(rng.index(4)).unwrap_or(&500);
                let retry_after_ms = (status != 500 && rng.chance(2, 3)).then(|| rng.between(100, 20_000));
                What::Burst { status, ms: rng.between(100, 40_000), retry_after_ms }
            }
            Pick::Backup => What::Backup,
            Pick::Restore => What::Restore,
            Pick::Prune => What::Prune { keep: rng.below(5) },
            Pick::ExpireTokens => What::ExpireTokens { user },
            Pick::RefreshFails => What::RefreshFails { user, fails: rng.chance(1, 2) },
            Pick::Revoke => What::Revoke { user },
            Pick::Grant => What::Grant { user },
            Pick::Role => What::Role { user, has: rng.chance(1, 2), at_once: rng.chance(1, 2) },
        }
    }

    fn write(&mut self, profile: usize, slot: u32) -> What {
        let rng = self.rng.clone();
        let user = self.setup.profiles.get(profile).copied().unwrap_or(0);
        // Who does not hold the shared scope writes there now and then, in vain.
        let shares = user < self.setup.sharing || rng.chance(1, 30);
        let atomic = rng.chance(self.weights.atomic, 100);
        let count = if atomic {
            rng.between(2, 4)
        } else if rng.chance(1, 8) {
            rng.between(2, 5)
        } else {
            1
        };
        let family = self.setup.on_delete != OnDelete::Nothing;
        let is_close = family || self.setup.reviewers;
        let home = if shares && (is_close || rng.chance(2, 3)) { [1, 2] } else { [0, 0] };
        let writes = (0..count)
            .map(|_| {
                let collection = home[rng.index(2)];
                let kind = match rng.below(100) {
                    draw if draw < self.weights.deletes => Kind::Delete,
                    draw if family && collection == 1 && draw < 30 => Kind::Delete,
                    draw if draw < 40 => Kind::Update,
                    draw if draw < 50 => Kind::Create,
                    _ => Kind::Put,
                };
                // Few parents have many children, and few records many conflicts.
                let records = if is_close && collection == 1 { 2 } else { self.weights.records };
                let mut fields = Vec::new();
                for name in FIELDS {
                    let wanted = if kind == Kind::Put { rng.chance(2, 3) } else { rng.chance(2, 5) };
                    if wanted && kind != Kind::Delete {
                        self.value += 1;
                        fields.push((name, if rng.chance(1, 12) { 0 } else { self.value }));
                    }
                }
                if fields.is_empty() && kind != Kind::Delete {
                    self.value += 1;
                    fields.push(("a", self.value));
                }
                // Who says so in a record has no role for it.
                if self.setup.roles && kind != Kind::Delete && rng.chance(1, 4) {
                    fields.push(("role", 0));
                }
                let bad = kind != Kind::Delete && rng.chance(self.weights.bad, 100);
                Write { kind, collection, record: rng.below(records), fields, bad }
            })
            .collect();
        What::Write { profile, slot, writes, atomic }
    }
}
