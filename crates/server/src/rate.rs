//! Rate limits by user: so many requests of a kind in any span of so long.
//!
//! The times of the requests that were let through are kept, not a count by the clock: no two neighbouring spans can hold
//! twice the limit between them, and what `Retry-After` promises is exact. A refused request is not counted, so waiting
//! always helps.

use crate::error::ServerError;
use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;
use std::collections::{HashMap, VecDeque};
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Users and kinds that are remembered before those that asked nothing lately are forgotten.
const KEPT_MAX: usize = 16_384;
/// Largest limit: the time of each request is kept.
const COUNT_MAX: usize = 100_000;

/// What is counted by itself: a client that polls too often may still push, and the other way round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Push,
    /// Pull and status.
    Poll,
    Attendance,
    Grades,
    Insight,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Poll => "poll",
            Self::Attendance => "attendance",
            Self::Grades => "grades",
            Self::Insight => "insight",
        }
    }
}

/// `count` requests in any `window`; on the command line `20/300` (seconds) or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    Off,
    Of { count: usize, window: Duration },
}

impl Rate {
    pub const fn of(count: usize, seconds: u64) -> Self {
        Self::Of { count, window: Duration::from_secs(seconds) }
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let read = |text: &str| {
            let (count, seconds) = text.split_once('/')?;
            Some((count.parse::<usize>().ok()?, seconds.parse::<u64>().ok()?))
        };
        match read(text) {
            Some((count @ 1..=COUNT_MAX, seconds @ 1..=86_400)) => Ok(Self::of(count, seconds)),
            _ => Err(format!("REQUESTS/SECONDS such as 20/300 (at most {COUNT_MAX} and a day), or off")),
        }
    }
}

/// The limit of each kind.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    pub push: Rate,
    pub poll: Rate,
    pub attendance: Rate,
    pub grades: Rate,
    pub insight: Rate,
}

impl Rates {
    fn of(&self, kind: Kind) -> Rate {
        match kind {
            Kind::Push => self.push,
            Kind::Poll => self.poll,
            Kind::Attendance => self.attendance,
            Kind::Grades => self.grades,
            Kind::Insight => self.insight,
        }
    }
}

/// How a user stands to a limit, as `RateLimit-*` headers say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    pub limit: usize,
    pub remaining: usize,
    /// Until there is room for one more than now.
    pub reset: Duration,
}

impl Allowance {
    pub fn write(self, response: &mut Response) {
        let seconds = self.reset.as_millis().div_ceil(1000).to_string();
        for (name, value) in [
            ("ratelimit-limit", self.limit.to_string()),
            ("ratelimit-remaining", self.remaining.to_string()),
            ("ratelimit-reset", seconds),
        ] {
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().insert(HeaderName::from_static(name), value);
            }
        }
    }
}

/// Requests of late, by kind and user.
pub struct Limiter {
    rates: Rates,
    start: Instant,
    taken: Mutex<HashMap<(Kind, String), VecDeque<Duration>>>,
}

impl Limiter {
    pub fn new(rates: Rates) -> Self {
        Self { rates, start: Instant::now(), taken: Mutex::default() }
    }

    /// Counts a request, or refuses it. `None`: this kind has no limit.
    pub fn take(&self, kind: Kind, sub: &str) -> Result<Option<Allowance>, ServerError> {
        self.take_at(kind, sub, self.start.elapsed())
    }

    fn take_at(&self, kind: Kind, sub: &str, now: Duration) -> Result<Option<Allowance>, ServerError> {
        let Rate::Of { count, window } = self.rates.of(kind) else { return Ok(None) };
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.len() >= KEPT_MAX {
            taken.retain(|(kind, _), times| match (self.rates.of(*kind), times.back()) {
                (Rate::Of { window, .. }, Some(last)) => now < *last + window,
                (Rate::Off | Rate::Of { .. }, _) => false,
            });
        }
        let times = taken.entry((kind, sub.to_owned())).or_default();
        while times.front().is_some_and(|first| *first + window <= now) {
            times.pop_front();
        }
        let is_allowed = times.len() < count;
        if is_allowed {
            times.push_back(now);
        }
        let reset = times.front().map_or(window, |first| (*first + window).saturating_sub(now));
        let allowance = Allowance { limit: count, remaining: count - times.len(), reset };
        if is_allowed { Ok(Some(allowance)) } else { Err(ServerError::RateLimited(allowance)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn rates(push: Rate, poll: Rate) -> Rates {
        Rates { push, poll, attendance: Rate::Off, grades: Rate::Off, insight: Rate::Off }
    }
    fn limiter() -> Limiter {
        Limiter::new(rates(Rate::of(20, 300), Rate::of(2, 10)))
    }
    fn reset(refused: Result<Option<Allowance>, ServerError>) -> Duration {
        match refused {
            Err(ServerError::RateLimited(allowance)) => allowance.reset,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn twenty_in_any_five_minutes_and_what_retry_after_promises_is_exact() {
        let limiter = limiter();
        let take = |at| limiter.take_at(Kind::Push, "ada", at);
        for n in 0..20_u32 {
            let allowance = take(SECOND * n * 10).unwrap().unwrap();
            assert_eq!(allowance.remaining, 19 - n as usize);
        }
        // The first was at 0 s, so there is room again at 300 s and not a moment sooner.
        let wait = reset(take(SECOND * 200));
        assert_eq!(wait, SECOND * 100);
        assert!(take(SECOND * 300 - Duration::from_nanos(1)).is_err());
        assert!(take(SECOND * 300).is_ok());
        // The second was at 10 s: no burst at the edge of a window.
        assert_eq!(reset(take(SECOND * 300)), SECOND * 10);
    }

    #[test]
    fn users_and_kinds_do_not_use_up_each_others_room_and_off_means_off() {
        let limiter = limiter();
        let take = |kind, sub| limiter.take_at(kind, sub, SECOND);
        assert!(take(Kind::Poll, "ada").is_ok() && take(Kind::Poll, "ada").is_ok());
        assert!(take(Kind::Poll, "ada").is_err());
        assert!(take(Kind::Poll, "grace").is_ok() && take(Kind::Push, "ada").is_ok());
        let without = Limiter::new(rates(Rate::Off, Rate::Off));
        let taken = (0..1000).map(|_| without.take_at(Kind::Push, "ada", SECOND).unwrap());
        assert_eq!(taken.filter(Option::is_none).count(), 1000);
    }

    #[test]
    fn users_who_asked_nothing_lately_are_forgotten_when_there_are_many() {
        let limiter = limiter();
        for n in 0..KEPT_MAX {
            assert!(limiter.take_at(Kind::Poll, &n.to_string(), Duration::ZERO).is_ok());
        }
        assert!(limiter.take_at(Kind::Poll, "late", SECOND * 10).is_ok());
        assert_eq!(limiter.taken.lock().unwrap().len(), 1);
    }

    #[test]
    fn a_rate_is_read_from_the_command_line_or_refused() {
        assert_eq!("20/300".parse(), Ok(Rate::of(20, 300)));
        assert_eq!("off".parse(), Ok(Rate::Off));
        for bad in ["", "20", "0/5", "5/0", "-1/5", "20/5m", "100001/1"] {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
    }
}
