//! A history: how a world is set up, and what happens in it, one step after the other. All of it follows from a seed.

use crate::net::Cut;
use crate::server::CrashAt;
use crate::world::Setup;

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
    /// A context stands still for so long, with whatever it holds.
    Freeze {
        profile: usize,
        slot: u32,
        ms: u64,
    },
    /// Everybody is away, and hours pass.
    Night {
        ms: u64,
    },
    /// The worker flushes, and is stopped in the middle of it.
    StopWorker {
        profile: usize,
        ms: u64,
    },
    /// The browser needed room: the database is gone.
    Evict {
        profile: usize,
    },
    /// The device has room for so many more bytes, for so long.
    Full {
        profile: usize,
        room: u64,
        ms: u64,
    },
    /// A clock stands still for so long.
    ClockStuck {
        profile: usize,
        ms: u64,
    },
    /// The app has another user's token all of a sudden.
    SwitchUser {
        profile: usize,
        slot: u32,
        other: usize,
    },
    /// The server starts again, with a clock that went back.
    ServerClock {
        back_ms: u64,
        ms: u64,
    },
    /// The server forgets what was deleted.
    Forget,
    /// The page is loaded again as a newer version of the app, with one more collection and index.
    UpgradeClient {
        profile: usize,
        slot: u32,
    },
    /// The server knows that collection, too.
    UpgradeServer,
    /// Only time passes.
    Nothing,
}

impl What {
    /// The device that it happens to.
    pub fn profile_mut(&mut self) -> Option<&mut usize> {
        match self {
            Self::Write { profile, .. }
            | Self::Mend { profile, .. }
            | Self::Decide { profile, .. }
            | Self::Read { profile, .. }
            | Self::Sync { profile, .. }
            | Self::Open { profile, .. }
            | Self::Kill { profile, .. }
            | Self::PowerCut { profile }
            | Self::Offline { profile, .. }
            | Self::Online { profile }
            | Self::ClockJump { profile, .. }
            | Self::Copy { profile }
            | Self::Rollback { profile }
            | Self::HalfOpen { profile, .. }
            | Self::Clone { profile }
            | Self::Flip { profile, .. }
            | Self::Freeze { profile, .. }
            | Self::StopWorker { profile, .. }
            | Self::Evict { profile }
            | Self::Full { profile, .. }
            | Self::ClockStuck { profile, .. }
            | Self::SwitchUser { profile, .. }
            | Self::UpgradeClient { profile, .. } => Some(profile),
            Self::ServerCrash { .. }
            | Self::ServerDown { .. }
            | Self::Burst { .. }
            | Self::Backup
            | Self::Restore
            | Self::Prune { .. }
            | Self::ExpireTokens { .. }
            | Self::RefreshFails { .. }
            | Self::Revoke { .. }
            | Self::Grant { .. }
            | Self::Role { .. }
            | Self::Night { .. }
            | Self::ServerClock { .. }
            | Self::Forget
            | Self::UpgradeServer
            | Self::Nothing => None,
        }
    }
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

impl History {
    /// The same where no device is cloned, rolled back, evicted or damaged, and no backup comes back.
    #[must_use]
    pub fn without_lost_devices(mut self) -> Self {
        self.steps.retain(|step| {
            !matches!(
                step.what,
                What::Clone { .. } | What::Rollback { .. } | What::Evict { .. } | What::Flip { .. } | What::Restore
            )
        });
        self
    }

    /// The same without what these users do: for I1.
    pub fn only_users(&self, users: &[usize]) -> Self {
        let mut other = self.clone();
        let own = |profile: &usize| self.setup.profiles.get(*profile).is_some_and(|user| users.contains(user));
        let mut skipped = 0;
        other.steps = Vec::new();
        for step in &self.steps {
            let keeps = match &step.what {
                What::ExpireTokens { user }
                | What::RefreshFails { user, .. }
                | What::Revoke { user }
                | What::Grant { user }
                | What::Role { user, .. } => users.contains(user),
                what => what.clone().profile_mut().is_none_or(|profile| own(profile)),
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
