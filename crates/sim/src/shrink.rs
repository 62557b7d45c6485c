//! From a failing history to a small one that fails in the same way.

use crate::disk::DiskFaults;
use crate::history::History;
use crate::net::LinkFaults;
use crate::run::{Ended, run};
use crate::world::Setup;
use landfall_core::plant::Plant;

/// Runs that shrinking may take.
const RUNS_MAX: u32 = 600;

struct Shrinker {
    bug: Option<Plant>,
    promise: &'static str,
    left: u32,
    best: History,
}

impl Shrinker {
    /// Keeps a smaller history if it breaks the same promise.
    fn keeps(&mut self, smaller: History) -> bool {
        if self.left == 0 || smaller == self.best {
            return false;
        }
        self.left -= 1;
        let fails = run(&smaller, self.bug, false).violation.is_some_and(|found| found.promise == self.promise);
        if fails {
            self.best = smaller;
        }
        fails
    }

    /// Leaves out runs of steps, halves first, single ones last.
    fn steps(&mut self) {
        let mut size = self.best.steps.len().div_ceil(2).max(1);
        loop {
            let mut at = 0;
            while at < self.best.steps.len() {
                let mut smaller = self.best.clone();
                let end = (at + size).min(smaller.steps.len());
                smaller.steps.drain(at..end);
                if !self.keeps(smaller) {
                    at += size;
                }
            }
            if size == 1 || self.left == 0 {
                return;
            }
            size /= 2;
        }
    }

    fn setup(&mut self, change: impl Fn(&mut Setup)) {
        let mut smaller = self.best.clone();
        change(&mut smaller.setup);
        self.keeps(smaller);
    }
}

/// The smallest history found, and how it ends, with its trace.
pub fn shrink(history: &History, bug: Option<Plant>, promise: &'static str) -> (History, Ended) {
    let mut shrinker = Shrinker { bug, promise, left: RUNS_MAX, best: history.clone() };
    shrinker.steps();
    let calms: [fn(&mut Setup); 19] = [
        |setup| setup.link = LinkFaults::default(),
        |setup| setup.disk = DiskFaults::default(),
        |setup| setup.link.request_lost = 0,
        |setup| setup.link.answer_lost = 0,
        |setup| setup.link.answer_cut = 0,
        |setup| setup.link.duplicated = 0,
        |setup| setup.link.slow = 0,
        |setup| setup.link.error_500 = 0,
        |setup| setup.disk.read = 0,
        |setup| setup.locks_broken = false,
        |setup| setup.notices_lost = 0,
        |setup| setup.token_ms = None,
        |setup| setup.disk_ms = 0,
        |setup| setup.page_limit = 100,
        |setup| setup.dies = 0,
        |setup| setup.link.replayed = 0,
        |setup| setup.link.corrupt = 0,
        |setup| setup.strange = false,
        |setup| setup.timed = false,
    ];
    for calm in calms {
        shrinker.setup(calm);
    }
    for calm in [|history: &mut History| history.newcomers = false, |history: &mut History| history.quiet = false] {
        let mut smaller = shrinker.best.clone();
        calm(&mut smaller);
        shrinker.keeps(smaller);
    }
    shrinker.steps();
    for at in 0..shrinker.best.steps.len() {
        let mut smaller = shrinker.best.clone();
        smaller.steps[at].wait_ms = 0;
        shrinker.keeps(smaller);
    }
    let ended = run(&shrinker.best, bug, true);
    (shrinker.best, ended)
}
