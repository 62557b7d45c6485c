//! What a settle stores: every outcome that was given, and of what did not take effect the values.

use super::{Model, patch, plain, said};
use landfall_core::rows::{ConflictRow, Entry, LocalEnd, SettledRow};
use landfall_protocol::{Mutation, Object, Op, ResultStatus};
use std::collections::BTreeSet;

impl Model {
    pub(super) fn settled(
        &mut self,
        profile: usize,
        name: &'static str,
        key: &str,
        row: &SettledRow,
        conflicts: &[ConflictRow],
        waiting: &BTreeSet<u64>,
    ) {
        let tick = self.tick();
        let requeues = row.mutations.iter().any(|settled| {
            let seq = settled.outcome.as_ref().map_or(0, |outcome| outcome.seq.get());
            let code = settled.outcome.as_ref().and_then(|outcome| outcome.code.as_deref());
            matches!(code, Some("blocked" | "missing_parent" | "stale"))
                || (code == Some("void") && self.profiles[profile].again.contains(&seq))
        });
        let client = row.client_id.as_str().to_owned();
        for settled in &row.mutations {
            let entries: Vec<u64> = settled.entries.iter().map(|id| id.get()).collect();
            let known = &mut self.profiles[profile];
            let (torn, tainted) = (known.is_torn, known.is_tainted);
            let repeats = entries.iter().all(|id| known.decided.get(id).is_some_and(|(row, _)| row == key));
            if repeats && !entries.is_empty() {
                continue;
            }
            if let Some(id) = entries.iter().find(|id| !known.durable.contains_key(id))
                && !torn
            {
                self.violate("L4", || format!("{name} decided entry {id}, which is not stored"));
                return;
            }
            let known = &mut self.profiles[profile];
            for id in &entries {
                let before = known.decided.insert(*id, (key.to_owned(), tick));
                if let Some((before, _)) = before.filter(|(before, _)| before != key && !torn) {
                    self.violate("L4", || format!("{name} decided entry {id} again, after {before}"));
                    return;
                }
            }
            let all_parked = entries.iter().all(|id| waiting.contains(id));
            let word = match (&settled.outcome, settled.local) {
                (Some(outcome), _) => Some(Ok(outcome)),
                (None, Some(LocalEnd::Cancelled)) => Some(Err("cancelled")),
                (None, Some(LocalEnd::Discarded)) if name == "discard" => Some(Err("discarded")),
                (None, Some(LocalEnd::Parked)) if all_parked => Some(Err("parked")),
                // Nobody asked for it, and nothing keeps it: that is no word on it.
                (None, _) => None,
            };
            if let (Some(record), Some(word)) = (&mut self.record, word) {
                let epoch = row.epoch.as_ref().map(|epoch| epoch.0.clone());
                record.outcome(profile, &entries, &settled.key, (&client, epoch), word);
            }
            let known = &mut self.profiles[profile];
            match (&settled.outcome, settled.local) {
                (Some(outcome), _) => {
                    let seq = outcome.seq.get();
                    known.stored.insert((client.clone(), seq), (outcome.took_effect(), entries.clone()));
                    let text = serde_json::to_string(outcome).unwrap_or_default();
                    let given = self.ever.get(&(client.clone(), seq)).is_some_and(|all| all.contains(&text));
                    if !given {
                        self.violate("L4", || format!("{name} stored an outcome that was never given: {text}"));
                    }
                    match outcome.status {
                        ResultStatus::Applied | ResultStatus::Recreated => {}
                        ResultStatus::Merged => {
                            let text = settled.text.as_ref().map_or("", |text| text.text());
                            let lost = serde_json::from_str::<Mutation>(text)
                                .is_ok_and(|mutation| !holds(outcome.record.as_ref(), &mutation));
                            if lost && !conflicts.iter().any(|kept| kept.seq == outcome.seq) {
                                self.violate("C2", || format!("what a merge dropped of seq {seq} was not kept"));
                            }
                        }
                        ResultStatus::Conflict if outcome.to.as_deref() == Some("review") => {
                            // Who gives up a seq that another copy of the profile has used is told what became of that: a group of
                            // which only a part is so parks, as any that was refused.
                            let parks = tainted && all_parked;
                            if !parks && (!conflicts.iter().any(|kept| kept.seq == outcome.seq) || entries.is_empty()) {
                                self.violate("C2", || {
                                    format!("seq {seq} of {client} waits for a role and is not kept")
                                });
                            }
                        }
                        ResultStatus::Superseded => {
                            if !conflicts.iter().any(|kept| kept.seq == outcome.seq) {
                                self.violate("C2", || format!("what lost as seq {seq} of {client} was not kept"));
                            }
                        }
                        ResultStatus::Rejected | ResultStatus::Conflict => {
                            if entries.is_empty() && !requeues {
                                self.violate("C3", || format!("seq {seq} of {client} was refused and stays: {text}"));
                            }
                            if !all_parked {
                                self.violate("C2", || format!("seq {seq} of {client} was refused and is not kept"));
                            }
                        }
                        ResultStatus::AlreadySettled | ResultStatus::KeyReused => {
                            self.violate("L4", || format!("{text} was stored as an outcome"));
                        }
                    }
                }
                (None, Some(LocalEnd::Cancelled)) => {
                    let parts: Vec<&Entry> = entries.iter().filter_map(|id| known.durable.get(id)).collect();
                    let left = parts
                        .iter()
                        .fold(None, |record, entry| patch(record, entry.op, said(&entry.set), &entry.unset));
                    let fits = left.is_none() && parts.iter().any(|entry| entry.op == Op::Create);
                    if !fits {
                        self.violate("L4", || format!("{name} cancelled {entries:?}, which is no create and delete"));
                    }
                }
                (None, Some(LocalEnd::Discarded)) if name == "discard" => {}
                (None, Some(LocalEnd::Parked)) if all_parked => {}
                (None, local) => {
                    self.violate("L4", || format!("{name} ended {entries:?} without an outcome: {local:?}"));
                }
            }
        }
    }
}

/// A record shows what a mutation asked for.
fn holds(record: Option<&Object>, mutation: &Mutation) -> bool {
    let Some(record) = record.map(said) else { return true };
    let set = plain(&mutation.set);
    set.iter().all(|(name, value)| record.get(name) == Some(value))
        && mutation.unset.iter().all(|name| !record.contains_key(name))
}
