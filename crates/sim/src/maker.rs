//! Makes the history of a seed: which steps it has, how often, and at which pace.
//!
//! There are two generations. [`History::early`] is the one in which the seeds of older bugs were found, kept as it was;
//! [`History::generate`] goes on from there with more steps and more kinds of faults, drawn from streams of their own.

use crate::history::{DECISIONS, History, Kind, Mend, Step, What, Write};
use crate::net::Cut;
use crate::rng::Rng;
use crate::server::CrashAt;
use crate::swarm::{deepen, setup};
use crate::world::{LATER_AT, OnDelete, Setup};

const FIELDS: [&str; 4] = ["a", "b", "c", "d"];
const HOUR_MS: u64 = 3_600_000;
const YEAR_MS: i64 = 365 * 24 * 3_600_000;

impl History {
    /// The history of a seed as it was in the first generation.
    pub fn early(seed: u64) -> Self {
        let rng = Rng::stream(seed, 1);
        let setup = setup(seed, &rng);
        let weights = Weights::draw(&rng, &setup);
        let count = if rng.chance(1, 10) { rng.between(50, 150) } else { rng.between(30, 45) };
        let pace = *[0, 20, 300, 3_000].get(rng.index(4)).unwrap_or(&20);
        let mut maker = Maker { rng: rng.clone(), setup: &setup, weights, value: 0 };
        let steps = (0..count).map(|_| Step { wait_ms: maker.wait(pace), what: maker.what() }).collect();
        Self { newcomers: rng.chance(1, 4), quiet: rng.chance(1, 4), setup, steps }
    }

    /// The history of a seed: 50 to 500 steps, most of them short, and every kind of fault in a part of them.
    pub fn generate(seed: u64) -> Self {
        let rng = Rng::stream(seed, 21);
        let mut setup = setup(seed, &rng);
        deepen(&mut setup);
        let weights = Weights::draw(&rng, &setup);
        let count = match rng.below(100) {
            0..=91 => rng.between(50, 54),
            92..=97 => rng.between(55, 150),
            _ => rng.between(150, 500),
        };
        let pace = *[0, 20, 300, 3_000].get(rng.index(4)).unwrap_or(&20);
        let mut maker = Maker { rng: rng.clone(), setup: &setup, weights, value: 0 };
        let mut steps: Vec<Step> = (0..count).map(|_| Step { wait_ms: maker.wait(pace), what: maker.what() }).collect();
        maker.plots(&mut steps, pace);
        Self { newcomers: rng.chance(1, 4), quiet: rng.chance(1, 4), setup, steps }
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

/// What is put into a history at places of its own, as a little plot: steps that need each other.
impl Maker<'_> {
    fn plots(&mut self, steps: &mut Vec<Step>, pace: u64) {
        let rng = Rng::stream(self.setup.seed, 22);
        let profiles = self.setup.profiles.len();
        let one = |rng: &Rng| (rng.index(profiles), rng.below(self.setup.slots.into()) as u32);
        let at = |wait_ms, what| Step { wait_ms, what };
        let mut plots: Vec<Vec<Step>> = Vec::new();
        let times = |percent: u64, most: u64| if rng.chance(percent, 100) { rng.between(1, most) } else { 0 };
        // A request that somebody kept, hours later; and now and then everybody sleeps without that.
        let nights = if self.setup.link.replayed > 0 { 1 } else { times(3, 1) };
        let counts = [
            nights,
            times(14, 3),
            times(14, 3),
            times(7, 1),
            times(12, 2),
            times(9, 2),
            times(8, 2),
            times(10, 3),
            times(9, 2),
            times(5, 1),
            times(22, 3),
            times(9, 2),
            times(8, 2),
            times(3, 2),
        ];
        for (kind, count) in counts.into_iter().enumerate() {
            for _ in 0..count {
                let (profile, slot) = one(&rng);
                plots.push(match kind {
                    0 => vec![at(100, What::Night { ms: rng.between(2, 9) * HOUR_MS })],
                    1 => vec![
                        at(0, What::Sync { profile, slot }),
                        at(rng.between(1, 30), What::Freeze { profile, slot, ms: rng.between(1_000, 150_000) }),
                    ],
                    2 => vec![at(0, What::StopWorker { profile, ms: rng.between(1, 80) })],
                    3 => vec![at(0, What::Evict { profile })],
                    4 => vec![at(0, What::Full { profile, room: rng.below(3_000), ms: rng.between(500, 60_000) })],
                    5 => {
                        let ms = if rng.chance(1, 2) { YEAR_MS } else { -YEAR_MS };
                        vec![at(0, What::ClockJump { profile, ms })]
                    }
                    6 => vec![at(0, What::ClockStuck { profile, ms: rng.between(1_000, 120_000) })],
                    7 => {
                        let own = self.setup.profiles.get(profile).copied().unwrap_or(0);
                        let other = (own + 1) % self.setup.users;
                        vec![
                            at(0, What::Sync { profile, slot }),
                            at(rng.below(25), What::SwitchUser { profile, slot, other }),
                        ]
                    }
                    8 => vec![at(
                        0,
                        What::ServerClock { back_ms: rng.between(1, 3_600) * 1_000, ms: rng.between(10, 2_000) },
                    )],
                    9 => vec![at(0, What::Clone { profile })],
                    10 => vec![
                        at(0, What::Offline { profile, cut: Cut::Live, hint: false }),
                        at(rng.below(pace * 20 + 1), What::Online { profile }),
                    ],
                    11 => vec![
                        at(0, What::Offline { profile, cut: Cut::Pull, hint: false }),
                        at(rng.below(pace * 20 + 1), What::Online { profile }),
                    ],
                    12 => vec![
                        at(0, What::Offline { profile, cut: Cut::Push, hint: false }),
                        at(rng.below(pace * 20 + 1), What::Online { profile }),
                    ],
                    _ => vec![at(0, What::Flip { profile, pick: rng.next() })],
                });
            }
        }
        if rng.chance(20, 100) {
            plots.push(self.away(&rng));
        }
        for plot in plots {
            scatter(steps, plot, &rng);
        }
        if self.setup.upgrades {
            let plot = self.upgrade(&rng);
            scatter(steps, plot, &rng);
        }
    }

    /// A device is away while others delete and the server forgets what was deleted.
    fn away(&mut self, rng: &Rng) -> Vec<Step> {
        let at = |wait_ms, what| Step { wait_ms, what };
        let profile = rng.index(self.setup.profiles.len());
        let others = (0..self.setup.profiles.len()).filter(|other| *other != profile);
        let collection = if self.setup.sharing > 0 { 1 } else { 0 };
        let mut plot = vec![at(0, What::Offline { profile, cut: Cut::All, hint: false })];
        for other in others {
            let writes = (0..4)
                .map(|record| Write { kind: Kind::Delete, collection, record, fields: Vec::new(), bad: false })
                .collect();
            plot.push(at(10, What::Write { profile: other, slot: 0, writes, atomic: false }));
        }
        plot.push(at(3_000, What::Forget));
        plot.push(at(1_000, What::Online { profile }));
        plot
    }

    /// App and server learn of another collection, each when its turn comes.
    fn upgrade(&mut self, rng: &Rng) -> Vec<Step> {
        let at = |wait_ms, what| Step { wait_ms, what };
        let profile = rng.index(self.setup.profiles.len());
        let mut plot = vec![at(0, What::UpgradeClient { profile, slot: 0 })];
        for record in 0..rng.between(2, 6) {
            self.value += 1;
            let fields = vec![("a", self.value)];
            let write = Write { kind: Kind::Put, collection: LATER_AT, record: record % 3, fields, bad: false };
            plot.push(at(20, What::Write { profile, slot: 0, writes: vec![write], atomic: false }));
        }
        if rng.chance(2, 3) {
            let other = rng.index(self.setup.profiles.len());
            plot.push(at(20, What::UpgradeClient { profile: other, slot: 0 }));
        }
        plot.insert(rng.index(plot.len() + 1), at(50, What::UpgradeServer));
        plot
    }
}

/// Puts steps into others, in their order; those that wait for each other by milliseconds stay together.
fn scatter(steps: &mut Vec<Step>, plot: Vec<Step>, rng: &Rng) {
    let is_close = plot.len() == 2 && plot.iter().all(|step| step.wait_ms < 100);
    let mut from = rng.index(steps.len() + 1);
    for (index, step) in plot.into_iter().enumerate() {
        if index > 0 {
            let room = (steps.len() - from).min(20);
            from += if is_close { 1 } else { 1 + rng.index(room.max(1)) };
        }
        from = from.min(steps.len());
        steps.insert(from, step);
    }
}
