//! When to do what: triggers, back-off, authentication and connectivity, without a clock of its own.
//!
//! Contract: tell it what happened ([`Schedule::handle`]), ask what to do next ([`Schedule::next`]), say that it begins
//! ([`Schedule::begin`]), do that, tell it the answer. Time and randomness come in with every call.

use crate::plant::{Plant, planted};
use landfall_protocol::{UnixMillis, limits};

/// How many changes to ask for after a page of `limit` that came, or that a slow line did not bring in its time.
#[inline]
pub fn page_limit(limit: u32, came: bool) -> u32 {
    if came { (limit * 2).min(limits::PAGE_COUNT_MAX as u32) } else { (limit / 4).max(15) }
}

/// Something that makes a sync worth while, or impossible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    Start,
    Online,
    Offline,
    Foreground,
    /// A token came in.
    Login,
    Write {
        immediate: bool,
    },
    /// Another context wrote to the outbox.
    Remote,
    Poke,
    SyncEvent,
    /// A person retried, edited or resolved something.
    Resolution,
    /// A person asked.
    Now,
}

/// What a request was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    Push,
    Pull,
    Probe,
    Refresh,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 2xx and understood. `more`: there is more of the same to do.
    Done { more: bool },
    /// No answer: refused connection, time-out, truncated body, 408, 425.
    Lost,
    /// 401, or a token of another user.
    Unauthorized,
    /// 429 or 503; nobody's fault.
    Busy { retry_after_ms: Option<u64> },
    /// 5xx other than 503, or an answer that makes no sense: can be the batch's fault.
    Faulty,
    /// The step was overtaken by another context; do it again.
    Stale,
    /// Any other 4xx for the envelope: a person must look.
    Refused,
    /// The storage did not take it.
    Storage,
}

/// What the outbox and the base look like when the question is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// A batch is stored and unanswered.
    pub in_flight: bool,
    /// Entries wait that could travel.
    pub sendable: bool,
    /// A pull to head must go before the next push.
    pub pull_first: bool,
    /// No request before this time, by an answer to any context.
    pub hold_until: Option<UnixMillis>,
    /// There is no token that still counts.
    pub token_missing: bool,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Push,
    Pull,
    /// `GET /v1/sync/status`: is the server well?
    Probe,
    Refresh,
    /// Nothing before this time, or before the next trigger.
    Wait(Option<UnixMillis>),
}

/// How well the server can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connectivity {
    Online,
    Limited,
    Offline,
}

/// Where authentication stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    Ok,
    /// 401 was answered: refresh once.
    Refreshing,
    /// A person must sign in.
    Required,
}

/// Settings in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intervals {
    pub debounce: u64,
    pub push: u64,
    pub pull: u64,
}

const HEARTBEAT_MS: u64 = 30_000;
/// While the server is well, what failed is tried again this often.
const REARM_MS: u64 = 3_600_000;
const BACKOFF_BASE_MS: u64 = 1_000;
const BACKOFF_MAX_MS: u64 = 60_000;
const SLOW_MS: u64 = 3_000;
const RECENT: usize = 5;

/// The machine.
#[derive(Clone, Debug)]
pub struct Schedule {
    intervals: Intervals,
    /// `navigator.onLine`: only a hint.
    hint: bool,
    auth: Auth,
    /// A refresh was tried since the last good answer.
    refreshed: bool,
    /// Consecutive answers that ask for patience.
    backoff: u32,
    not_before: UnixMillis,
    /// When that was said.
    backed_off_at: UnixMillis,
    push_at: Option<UnixMillis>,
    pull_at: Option<UnixMillis>,
    last_request: UnixMillis,
    /// When it last pushed and pulled: the timers count from there, heartbeats must not put them off.
    last_push: UnixMillis,
    last_pull: UnixMillis,
    /// Of the last requests: time taken and whether an answer came.
    recent: Vec<(u64, bool)>,
    /// A faulty answer waits for the probe that makes it count.
    suspect: bool,
    /// Consecutive ones that counted. They hold pushes back and nothing else: the server is well.
    faults: u32,
    push_not_before: UnixMillis,
    /// Stopped by an answer that a person must look at.
    refused: bool,
    /// What failed is to be tried once more; and when that was last so.
    rearm: bool,
    rearmed_at: UnixMillis,
}

impl Schedule {
    pub fn new(intervals: Intervals, online: bool, now: UnixMillis) -> Self {
        Self {
            intervals,
            hint: online,
            auth: Auth::Ok,
            refreshed: false,
            backoff: 0,
            not_before: UnixMillis::ZERO,
            backed_off_at: UnixMillis::ZERO,
            push_at: Some(now),
            pull_at: Some(now),
            last_request: now,
            last_push: now,
            last_pull: now,
            recent: Vec::new(),
            suspect: false,
            faults: 0,
            push_not_before: UnixMillis::ZERO,
            refused: false,
            rearm: true,
            rearmed_at: now,
        }
    }

    /// Takes in what happened.
    pub fn handle(&mut self, now: UnixMillis, trigger: Trigger) {
        self.rearm |= matches!(trigger, Trigger::Start | Trigger::Online | Trigger::Login);
        match trigger {
            Trigger::Offline => self.hint = false,
            Trigger::Online => {
                self.hint = true;
                self.recent.clear();
                self.soon(now);
            }
            Trigger::Start | Trigger::Foreground => {
                self.push_at = Some(now);
                self.pull_at = Some(now);
            }
            Trigger::Login => {
                self.auth = Auth::Ok;
                self.refreshed = false;
                self.soon(now);
            }
            Trigger::SyncEvent => {
                self.hint = true;
                self.soon(now);
            }
            Trigger::Resolution | Trigger::Now => self.soon(now),
            Trigger::Write { immediate } => {
                let at = UnixMillis(now.get() + if immediate { 0 } else { self.intervals.debounce });
                self.push_at = Some(self.push_at.map_or(at, |old| old.min(at)));
            }
            Trigger::Remote => {
                let at = UnixMillis(now.get() + 4 * self.intervals.debounce);
                self.push_at = Some(self.push_at.map_or(at, |old| old.min(at)));
            }
            Trigger::Poke => self.pull_at = Some(now),
        }
    }

    fn soon(&mut self, now: UnixMillis) {
        self.backoff = 0;
        self.not_before = UnixMillis::ZERO;
        self.push_well();
        self.refused = false;
        self.push_at = Some(now);
        self.pull_at = Some(now);
    }

    /// A request is about to go. A poke that comes while a pull is under way may speak of what that pull does not see
    /// any more: it asks for another one.
    pub fn begin(&mut self, request: Request) {
        if request == Request::Pull {
            self.pull_at = None;
        }
    }

    /// Takes in how a request ended. `jitter` is uniform in 0..2³². Returns true when the push that failed now counts
    /// as its batch's own fault.
    pub fn answered(
        &mut self,
        now: UnixMillis,
        request: Request,
        answer: Answer,
        started: UnixMillis,
        jitter: u32,
    ) -> bool {
        let took = now.get().saturating_sub(started.get());
        self.last_request = now;
        match request {
            Request::Push => self.last_push = now,
            Request::Pull => self.last_pull = now,
            Request::Probe | Request::Refresh => {}
        }
        let rested = now < self.rearmed_at || now.get() >= self.rearmed_at.get() + REARM_MS;
        self.rearm |= rested && matches!(answer, Answer::Done { .. });
        match answer {
            Answer::Stale | Answer::Storage => {}
            Answer::Lost => self.note(took, false),
            Answer::Done { .. } | Answer::Unauthorized | Answer::Busy { .. } | Answer::Faulty | Answer::Refused => {
                self.note(took, true)
            }
        }
        if request == Request::Pull && !matches!(answer, Answer::Done { .. }) {
            self.pull_at.get_or_insert(now);
        }
        match (request, answer) {
            (_, Answer::Lost) => self.back_off(now, started, None, jitter),
            (Request::Refresh, Answer::Done { .. }) => {
                self.auth = Auth::Ok;
                self.refreshed = true;
            }
            (Request::Refresh, Answer::Busy { retry_after_ms }) => self.back_off(now, started, retry_after_ms, jitter),
            (Request::Refresh, Answer::Faulty) => self.back_off(now, started, None, jitter),
            (Request::Refresh, Answer::Unauthorized | Answer::Refused) => self.auth = Auth::Required,
            (Request::Refresh, Answer::Stale | Answer::Storage) => {}
            (Request::Push | Request::Pull | Request::Probe, Answer::Unauthorized) => {
                // Once: a fresh token that is refused too needs a person.
                self.auth = if self.refreshed { Auth::Required } else { Auth::Refreshing };
            }
            (Request::Push | Request::Pull | Request::Probe, Answer::Busy { retry_after_ms }) => {
                self.back_off(now, started, retry_after_ms, jitter);
            }
            (Request::Push, Answer::Faulty) => {
                self.suspect = true;
                self.back_off(now, started, None, jitter);
            }
            (Request::Pull | Request::Probe, Answer::Faulty) => self.back_off(now, started, None, jitter),
            (Request::Push | Request::Pull | Request::Probe, Answer::Refused) => self.refused = true,
            (Request::Push | Request::Pull | Request::Probe, Answer::Storage) => {
                self.back_off(now, started, None, jitter)
            }
            (Request::Push | Request::Pull | Request::Probe, Answer::Stale) => {}
            (Request::Probe, Answer::Done { .. }) => {
                // Whatever the browser thinks: the server was reached.
                self.hint = true;
                self.well();
                if std::mem::take(&mut self.suspect) {
                    self.faults += 1;
                    self.push_not_before = UnixMillis(now.get() + delay(self.faults, jitter));
                    return true;
                }
            }
            (Request::Push, Answer::Done { more }) => {
                self.well();
                self.push_well();
                self.suspect = false;
                if more {
                    self.push_at = Some(now);
                } else {
                    self.push_at = None;
                    // What was accepted becomes the base only by a pull.
                    self.pull_at = Some(now);
                }
            }
            (Request::Pull, Answer::Done { more }) => {
                self.well();
                if planted(Plant::PokeDuringPullForgotten) {
                    self.pull_at = None;
                }
                // Else as it was set since the pull began.
                if more {
                    self.pull_at = Some(now);
                }
            }
        }
        planted(Plant::OutageCounts) && request == Request::Push && matches!(answer, Answer::Lost | Answer::Busy { .. })
    }

    fn well(&mut self) {
        self.backoff = 0;
        self.not_before = UnixMillis::ZERO;
        self.refreshed = false;
        self.refused = false;
    }

    fn push_well(&mut self) {
        self.faults = 0;
        self.push_not_before = UnixMillis::ZERO;
    }

    fn back_off(&mut self, now: UnixMillis, started: UnixMillis, retry_after_ms: Option<u64>, jitter: u32) {
        let asked = UnixMillis(now.get() + retry_after_ms.unwrap_or(0).min(limits::RETRY_AFTER_MS_MAX));
        // What went before the last one that failed came back says nothing new: of several on their way together one counts.
        if self.backoff > 0 && started < self.backed_off_at && self.backed_off_at <= now {
            self.not_before = self.not_before.max(asked);
            return;
        }
        self.backoff += 1;
        self.not_before = asked.max(UnixMillis(now.get() + delay(self.backoff, jitter)));
        self.backed_off_at = now;
    }

    fn note(&mut self, took_ms: u64, answered: bool) {
        self.recent.push((took_ms, answered));
        if self.recent.len() > RECENT {
            self.recent.remove(0);
        }
    }

    /// What to do now.
    pub fn next(&self, now: UnixMillis, facts: Facts) -> Next {
        if self.auth == Auth::Required {
            return Next::Wait(None);
        }
        // A clock that went back must not stretch a wait (I4).
        let own = if self.backed_off_at > now { UnixMillis::ZERO } else { self.not_before };
        let held = facts.hold_until.unwrap_or_default().max(own);
        let held = if held.get() > now.get() + limits::RETRY_AFTER_MS_MAX { UnixMillis::ZERO } else { held };
        // Of what lies in the future nothing can be said but that it was long enough ago.
        let since = |at: UnixMillis, interval: u64| if at > now { now } else { UnixMillis(at.get() + interval) };
        let sooner = |at: UnixMillis, interval: u64| if at.get() > now.get() + interval { now } else { at };
        if !self.hint {
            // The hint may be wrong: look now and then.
            let probe = since(self.last_request, HEARTBEAT_MS).max(held);
            return if now >= probe { self.or_refresh(Next::Probe, facts) } else { Next::Wait(Some(probe)) };
        }
        if held > now {
            return Next::Wait(Some(held));
        }
        if self.refused {
            return Next::Wait(None);
        }
        if self.auth == Auth::Refreshing {
            return Next::Refresh;
        }
        if self.suspect {
            return self.or_refresh(Next::Probe, facts);
        }
        let work = facts.in_flight || facts.sendable;
        if facts.pull_first {
            return self.or_refresh(Next::Pull, facts);
        }
        let push_due = match self.push_at {
            Some(at) => Some(sooner(at, self.intervals.push)),
            None if work => Some(since(self.last_push, self.intervals.push)),
            None => None,
        };
        let push_due = push_due.map(|at| at.max(sooner(self.push_not_before, BACKOFF_MAX_MS)));
        let pull_due = match self.pull_at {
            Some(at) => sooner(at, self.intervals.pull),
            None => since(self.last_pull, self.intervals.pull),
        };
        if work && push_due.is_some_and(|at| at <= now) {
            return self.or_refresh(Next::Push, facts);
        }
        if pull_due <= now {
            return self.or_refresh(Next::Pull, facts);
        }
        // Nothing was asked for a while: is the server still there?
        let heartbeat = since(self.last_request, HEARTBEAT_MS);
        if heartbeat <= now {
            return self.or_refresh(Next::Probe, facts);
        }
        let due = push_due.filter(|_| work).map_or(pull_due, |push| push.min(pull_due));
        Next::Wait(Some(due.min(heartbeat)))
    }

    fn or_refresh(&self, next: Next, facts: Facts) -> Next {
        if facts.token_missing { Next::Refresh } else { next }
    }

    /// Whether a stored batch may go once more as its page ends, due or not, if nobody asked for patience. That a request just
    /// got no answer says nothing then: browsers end what a page was asking before they tell it that it goes.
    pub fn may_part(&self, now: UnixMillis, facts: Facts) -> bool {
        let is_lost = self.recent.last().is_some_and(|(_, answered)| !answered);
        let held = facts.hold_until.unwrap_or_default().max(if is_lost { UnixMillis::ZERO } else { self.not_before });
        let holds = !self.hint || self.refused || self.suspect || facts.pull_first || facts.token_missing;
        facts.in_flight && self.auth == Auth::Ok && !holds && held.max(self.push_not_before) <= now
    }

    /// True once at start, when the network is back, after a login, and an hour after the last time once the server is
    /// well: units that used up their attempts get one more chance.
    pub fn rearms(&mut self, now: UnixMillis) -> bool {
        if self.rearm {
            self.rearmed_at = now;
        }
        std::mem::take(&mut self.rearm)
    }

    pub fn auth(&self) -> Auth {
        self.auth
    }
    pub fn is_refused(&self) -> bool {
        self.refused
    }
    /// When the next attempt may go, if one is held back.
    pub fn not_before(&self) -> Option<UnixMillis> {
        Some(self.not_before.max(self.push_not_before)).filter(|at| *at > UnixMillis::ZERO)
    }

    pub fn connectivity(&self) -> Connectivity {
        let lost = self.recent.iter().filter(|(_, answered)| !answered).count();
        let last_two = self.recent.iter().rev().take(2).filter(|(_, answered)| !answered).count();
        if !self.hint || (last_two == 2) || (self.recent.len() == 1 && lost == 1) {
            return Connectivity::Offline;
        }
        // The median is above the line when half of them are not below it.
        let fast = self.recent.iter().filter(|(took, _)| *took <= SLOW_MS).count();
        let slow = !self.recent.is_empty() && fast <= self.recent.len() / 2;
        if lost >= 2 || slow { Connectivity::Limited } else { Connectivity::Online }
    }
}

/// How long to wait after so many failures in a row, ms. Full jitter: anywhere between now and the cap, so that clients that
/// failed together don't come back together.
fn delay(failures: u32, jitter: u32) -> u64 {
    let cap = (BACKOFF_BASE_MS << failures.min(10)).min(BACKOFF_MAX_MS);
    ((u64::from(jitter) * cap) >> 32).max(50)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule() -> Schedule {
        Schedule::new(Intervals { debounce: 250, push: 30_000, pull: 300_000 }, true, UnixMillis(0))
    }
    const WORK: Facts =
        Facts { in_flight: false, sendable: true, pull_first: false, hold_until: None, token_missing: false };

    #[test]
    fn s7_an_outage_of_ten_minutes_never_counts_and_never_freezes() {
        let mut schedule = schedule();
        let mut now = UnixMillis(0);
        let mut tries = 0;
        while now.get() < 600_000 {
            match schedule.next(now, WORK) {
                Next::Push => {
                    tries += 1;
                    assert!(!schedule.answered(now, Request::Push, Answer::Lost, now, u32::MAX));
                }
                Next::Wait(Some(at)) => {
                    assert!(at > now && at.get() - now.get() <= BACKOFF_MAX_MS);
                    now = at;
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(tries >= 10, "kept trying: {tries}");
        assert_eq!(schedule.connectivity(), Connectivity::Offline);
    }

    #[test]
    fn s7_a_faulty_answer_counts_only_after_the_server_was_seen_well() {
        let mut schedule = schedule();
        let now = UnixMillis(1);
        assert!(!schedule.answered(now, Request::Push, Answer::Faulty, now, 0));
        let later = UnixMillis(70_000);
        assert_eq!(schedule.next(later, WORK), Next::Probe);
        assert!(
            !schedule.answered(later, Request::Probe, Answer::Lost, later, 0),
            "the server is down: nobody's fault"
        );
        let later = UnixMillis(140_000);
        assert_eq!(schedule.next(later, WORK), Next::Probe);
        assert!(schedule.answered(later, Request::Probe, Answer::Done { more: false }, later, 0));
    }

    #[test]
    fn r1_requests_that_failed_together_count_once() {
        let mut schedule = schedule();
        let lost = |schedule: &mut Schedule, started: u64, now: u64| {
            schedule.answered(UnixMillis(now), Request::Push, Answer::Lost, UnixMillis(started), u32::MAX);
            schedule.not_before.get() - now
        };
        let first = lost(&mut schedule, 100, 200);
        // Six more were on their way then.
        (201..207).for_each(|now| _ = lost(&mut schedule, 100, now));
        assert_eq!(schedule.not_before.get() - 200, first, "nobody waits a minute for that");
        // What went since counts, and so does what the clock says nothing of: it went back.
        let second = lost(&mut schedule, 200, 2_000);
        assert!(second > first, "{second}");
        assert!(lost(&mut schedule, 10, 20) > second);
        // An earlier one that was asked for patience has it.
        let busy = Answer::Busy { retry_after_ms: Some(50_000) };
        schedule.answered(UnixMillis(30), Request::Pull, busy, UnixMillis(11), 0);
        assert_eq!((schedule.not_before, schedule.backoff), (UnixMillis(50_030), 3));
        // What was asked before somebody said that the line is there again waits a moment, not longer.
        schedule.handle(UnixMillis(40), Trigger::Online);
        assert_eq!(lost(&mut schedule, 11, 50), first);
    }

    #[test]
    fn s7_what_fails_at_a_server_that_is_well_is_tried_ever_later_and_holds_no_pull_back() {
        let mut schedule = schedule();
        let mut now = UnixMillis(1);
        let (mut pushes, mut pulls) = (Vec::new(), Vec::new());
        while pushes.len() < 9 {
            let done = Answer::Done { more: false };
            match schedule.next(now, WORK) {
                Next::Push => {
                    pushes.push(now.get());
                    schedule.answered(now, Request::Push, Answer::Faulty, now, u32::MAX);
                    // Neither a person who goes on writing nor a poke makes it go sooner.
                    schedule.handle(now, Trigger::Write { immediate: true });
                    schedule.handle(now, Trigger::Poke);
                }
                Next::Probe => {
                    schedule.answered(now, Request::Probe, done, now, u32::MAX);
                }
                Next::Pull => {
                    pulls.push(now.get());
                    schedule.begin(Request::Pull);
                    schedule.answered(now, Request::Pull, done, now, u32::MAX);
                }
                Next::Wait(Some(at)) => now = at,
                other => panic!("{other:?}"),
            }
        }
        // Two seconds until the server was seen to be well, and then.
        let waits: Vec<u64> = pushes.windows(2).map(|two| (two[1] - two[0]).div_ceil(1_000) - 2).collect();
        assert_eq!(waits, [2, 4, 8, 16, 32, 60, 60, 60]);
        for two in pushes.windows(2) {
            let pulled = pulls.iter().find(|at| **at > two[0]);
            assert!(pulled.is_some_and(|at| *at <= two[0] + 2_001), "a poke waits for no push: {pulls:?} {pushes:?}");
        }
        now = UnixMillis(now.get() + 2_000);
        assert_eq!(schedule.next(now, WORK), Next::Probe);
        schedule.answered(now, Request::Probe, Answer::Done { more: false }, now, u32::MAX);
        assert_ne!(schedule.next(now, WORK), Next::Push);
        schedule.handle(now, Trigger::Now);
        assert_eq!(schedule.next(now, WORK), Next::Push, "a person asks for it now");
    }

    #[test]
    fn s7_a_401_refreshes_once_and_then_asks_for_a_person() {
        let mut schedule = schedule();
        let now = UnixMillis(1);
        schedule.answered(now, Request::Push, Answer::Unauthorized, now, 0);
        assert_eq!(schedule.next(now, WORK), Next::Refresh);
        schedule.answered(now, Request::Refresh, Answer::Done { more: false }, now, 0);
        assert_eq!(schedule.next(now, WORK), Next::Push);
        schedule.answered(now, Request::Push, Answer::Unauthorized, now, 0);
        assert_eq!(schedule.auth(), Auth::Required);
        assert_eq!(schedule.next(now, WORK), Next::Wait(None));
        schedule.handle(now, Trigger::Login);
        assert_eq!(schedule.next(now, WORK), Next::Push);
    }

    #[test]
    fn r1_a_poke_in_the_middle_of_a_pull_is_followed_by_another_pull() {
        let idle = Facts { sendable: false, ..WORK };
        let mut schedule = schedule();
        let now = UnixMillis(1);
        assert_eq!(schedule.next(now, idle), Next::Pull);
        schedule.begin(Request::Pull);
        schedule.handle(now, Trigger::Poke);
        schedule.answered(now, Request::Pull, Answer::Done { more: false }, now, 0);
        assert_eq!(schedule.next(now, idle), Next::Pull);
        schedule.begin(Request::Pull);
        schedule.answered(now, Request::Pull, Answer::Done { more: false }, now, 0);
        assert_eq!(schedule.next(now, idle), Next::Wait(Some(UnixMillis(1 + HEARTBEAT_MS))));
    }

    #[test]
    fn r1_heartbeats_do_not_put_the_pull_timer_off() {
        let idle = Facts { sendable: false, ..WORK };
        let mut schedule = schedule();
        let mut now = UnixMillis(1);
        schedule.begin(Request::Pull);
        schedule.answered(now, Request::Pull, Answer::Done { more: false }, now, 0);
        let mut probes = 0;
        loop {
            match schedule.next(now, idle) {
                Next::Wait(Some(at)) => now = at,
                Next::Probe => {
                    schedule.answered(now, Request::Probe, Answer::Done { more: false }, now, 0);
                    probes += 1;
                }
                Next::Pull => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((now, probes), (UnixMillis(300_001), 9));
    }

    #[test]
    fn r1_a_pull_that_got_no_answer_stays_due() {
        let idle = Facts { sendable: false, ..WORK };
        let mut schedule = schedule();
        let now = UnixMillis(1);
        schedule.begin(Request::Pull);
        schedule.answered(now, Request::Pull, Answer::Lost, now, 0);
        assert_eq!(schedule.next(UnixMillis(BACKOFF_MAX_MS + 1), idle), Next::Pull);
    }

    #[test]
    fn what_failed_is_tried_again_at_start_online_login_and_an_hour_later_once_the_server_is_well() {
        const HOUR: u64 = REARM_MS;
        let mut schedule = schedule();
        let at = UnixMillis;
        assert!(schedule.rearms(at(0)) && !schedule.rearms(at(0)), "once at the start");
        for trigger in [Trigger::Online, Trigger::Login, Trigger::Start] {
            schedule.handle(at(1), trigger);
            assert!(schedule.rearms(at(1)) && !schedule.rearms(at(1)), "{trigger:?}");
        }
        for trigger in [Trigger::Foreground, Trigger::Poke, Trigger::Offline, Trigger::Now, Trigger::Remote] {
            schedule.handle(at(2), trigger);
            assert!(!schedule.rearms(at(2)), "{trigger:?}");
        }
        schedule.answered(at(HOUR), Request::Pull, Answer::Done { more: false }, at(HOUR), 0);
        assert!(!schedule.rearms(at(HOUR)), "less than an hour ago");
        schedule.answered(at(2 * HOUR), Request::Pull, Answer::Lost, at(HOUR), 0);
        assert!(!schedule.rearms(at(2 * HOUR)), "nothing says that the server is well");
        schedule.answered(at(2 * HOUR), Request::Probe, Answer::Done { more: false }, at(HOUR), 0);
        assert!(schedule.rearms(at(2 * HOUR)));
        schedule.answered(at(2 * HOUR + 1), Request::Push, Answer::Done { more: false }, at(HOUR), 0);
        assert!(!schedule.rearms(at(2 * HOUR + 1)));
        schedule.answered(at(HOUR), Request::Push, Answer::Done { more: false }, at(HOUR), 0);
        assert!(schedule.rearms(at(HOUR)), "i4: a clock that went back does not stretch the wait");
    }

    #[test]
    fn every_trigger_of_the_design_pushes_or_pulls_when_it_should() {
        let idle = Facts { sendable: false, ..WORK };
        let at = UnixMillis;
        // Everything was done a moment ago.
        let rested = || {
            let mut schedule = schedule();
            schedule.begin(Request::Pull);
            for request in [Request::Push, Request::Pull] {
                schedule.begin(request);
                schedule.answered(at(1_000), request, Answer::Done { more: false }, at(1_000), 0);
            }
            schedule
        };
        assert_eq!(rested().next(at(1_000), WORK), Next::Wait(Some(at(31_000))), "the timer of pushes: 30 s");
        assert_eq!(rested().next(at(31_000), WORK), Next::Push);
        let mut timer = rested();
        timer.answered(at(300_000), Request::Probe, Answer::Done { more: false }, at(300_000), 0);
        assert_eq!(timer.next(at(300_999), idle), Next::Wait(Some(at(301_000))), "the timer of pulls: 5 min");
        assert_eq!(timer.next(at(301_000), idle), Next::Pull);
        for trigger in [Trigger::Start, Trigger::Online, Trigger::Foreground, Trigger::Login, Trigger::SyncEvent] {
            let mut schedule = rested();
            schedule.handle(at(2_000), trigger);
            assert_eq!(schedule.next(at(2_000), WORK), Next::Push, "{trigger:?}");
            assert_eq!(schedule.next(at(2_000), idle), Next::Pull, "{trigger:?}");
        }
        for trigger in [Trigger::Resolution, Trigger::Now] {
            let mut schedule = rested();
            schedule.handle(at(2_000), trigger);
            assert_eq!(schedule.next(at(2_000), WORK), Next::Push, "{trigger:?}");
        }
        let mut poked = rested();
        poked.handle(at(2_000), Trigger::Poke);
        assert_eq!(poked.next(at(2_000), idle), Next::Pull);
        for (immediate, due) in [(false, 2_250), (true, 2_000)] {
            let mut written = rested();
            written.handle(at(2_000), Trigger::Write { immediate });
            assert_eq!(written.next(at(due), WORK), Next::Push);
            if !immediate {
                assert_eq!(
                    written.next(at(due - 1), WORK),
                    Next::Wait(Some(at(due))),
                    "writes are gathered for 250 ms"
                );
            }
        }
        let mut refreshed = rested();
        refreshed.handle(at(2_000), Trigger::Now);
        refreshed.answered(at(2_000), Request::Push, Answer::Unauthorized, at(2_000), 0);
        assert_eq!(refreshed.next(at(2_000), WORK), Next::Refresh);
        refreshed.answered(at(2_100), Request::Refresh, Answer::Done { more: false }, at(2_000), 0);
        assert_eq!(refreshed.next(at(2_100), WORK), Next::Push, "a fresh token sends what waited for it");
    }

    #[test]
    fn retry_after_is_obeyed_whatever_the_jitter_says() {
        let mut schedule = schedule();
        let now = UnixMillis(1_000);
        schedule.answered(now, Request::Push, Answer::Busy { retry_after_ms: Some(90_000) }, now, 0);
        assert_eq!(schedule.next(UnixMillis(90_999), WORK), Next::Wait(Some(UnixMillis(91_000))));
        assert_eq!(schedule.next(UnixMillis(91_000), WORK), Next::Push);
    }
}
