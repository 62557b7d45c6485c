//! Answers that can be a batch's own fault: counting them, and finding the unit at fault.
//!
//! Nothing here is ever counted for an outage: network errors, time-outs, 401, 408, 425, 429 and 503 back off and
//! that is all. An answer counts only when the server was seen to be well since (the schedule asks it by a probe).

use crate::plan::OutboxTxn;
use crate::plant::{Plant, planted};
use crate::rows::{InFlight, Window};
use crate::settle::plan_void;
use crate::state::{Base, Config, State};
use landfall_protocol::{Listed, Seq, Set, UnixMillis};

/// Counted answers to the whole batch before it is cut.
pub const WHOLE_ATTEMPTS: u32 = 3;

/// Plans what follows a counted failure of a batch: one more attempt, a cut, or the void of the unit at fault.
pub fn plan_counted(state: &State, base: &dyn Base, config: &Config, row_key: &str, now: UnixMillis) -> OutboxTxn {
    let mut txn = OutboxTxn::new("attempt", state);
    let Some(mut descriptor) = state.descriptors.get(row_key).cloned() else {
        return txn.finish(state, base, now);
    };
    let ends = unit_ends(&descriptor.mutations);
    if ends.len() == 1 {
        descriptor.attempts += 1;
        descriptor.window = None;
        if descriptor.attempts >= config.attempts_max && !descriptor.mutations.iter().all(|mutation| mutation.void) {
            if planted(Plant::FailedWithoutVoid) {
                txn.descriptors.insert(row_key.to_owned(), None);
                return txn.finish(state, base, now);
            }
            let seqs: Set<Seq> = descriptor.mutations.iter().map(|mutation| mutation.seq).collect();
            return plan_void(state, base, row_key, &seqs, now);
        }
        txn.descriptors.insert(row_key.to_owned(), Some(descriptor));
        return txn.finish(state, base, now);
    }
    match descriptor.window {
        None => {
            descriptor.attempts += 1;
            if descriptor.attempts >= WHOLE_ATTEMPTS {
                let to = ends[(ends.len() - 1) / 2];
                descriptor.window = Some(Window { from: 0, to, sibling_failed: false });
            }
        }
        Some(window) if !window.sibling_failed => {
            let end = second_half(&descriptor.mutations, window.to);
            if end > window.to {
                descriptor.window = Some(Window { from: window.to, to: end, sibling_failed: true });
            } else {
                // All of the rest stands on the first half: cut that further.
                let inner = unit_ends(&descriptor.mutations[..window.to]);
                let to = inner[(inner.len() - 1) / 2];
                descriptor.window = Some(Window { from: 0, to, sibling_failed: false });
            }
        }
        Some(_) => {
            // Both halves fail: it is not one unit's fault. Start over, uncounted.
            descriptor.attempts = 0;
            descriptor.window = None;
        }
    }
    txn.descriptors.insert(row_key.to_owned(), Some(descriptor));
    txn.finish(state, base, now)
}

/// Plans that a batch which the server finds too large (413) is sent in halves; a lone unit is given up. `None`: what was
/// `sent` is not what would go now. It may have been cut by this very answer, and nobody heard that this was stored.
pub fn plan_too_large(
    state: &State,
    base: &dyn Base,
    row_key: &str,
    sent: &[InFlight],
    now: UnixMillis,
) -> Option<OutboxTxn> {
    let mut descriptor = state.descriptors.get(row_key).filter(|descriptor| descriptor.sending() == sent)?.clone();
    let mut txn = OutboxTxn::new("too_large", state);
    let sending = unit_ends(sent);
    if sending.len() <= 1 {
        let seqs: Set<Seq> = sent.iter().map(|mutation| mutation.seq).collect();
        return Some(plan_void(state, base, row_key, &seqs, now));
    }
    let from = descriptor.window.map_or(0, |window| window.from);
    let to = from + sending[(sending.len() - 1) / 2];
    descriptor.window = Some(Window { from, to, sibling_failed: false });
    txn.descriptors.insert(row_key.to_owned(), Some(descriptor));
    Some(txn.finish(state, base, now))
}

/// Where each unit of a batch ends (groups whole), as indexes past its last mutation.
pub fn unit_ends(mutations: &[InFlight]) -> Vec<usize> {
    let groups: Vec<_> =
        mutations.iter().map(|mutation| mutation.mutation().and_then(|mutation| mutation.group)).listed();
    (1..=mutations.len())
        .filter(|end| *end == mutations.len() || groups[*end].is_none() || groups[*end] != groups[*end - 1])
        .listed()
}

/// The end of the run from `from` on in which nothing stands on a mutation before `from`.
fn second_half(mutations: &[InFlight], from: usize) -> usize {
    let mut before: Set<Seq> = mutations[..from].iter().map(|mutation| mutation.seq).collect();
    for (index, sent) in mutations.iter().enumerate().skip(from) {
        if sent.mutation().and_then(|mutation| mutation.after).is_some_and(|after| before.contains(&after)) {
            return unit_ends(mutations).into_iter().filter(|end| *end <= index).max().unwrap_or(from).max(from);
        }
        before.remove(&sent.seq);
    }
    mutations.len()
}
