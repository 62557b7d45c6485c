//! The server's verdicts: once for each seq, in order, each effect on what was there, groups whole.

use super::family::Cascaded;
use super::truth::Given;
use super::{Model, Plain, StateAt};
use landfall_core::review::CONFLICTS;
use landfall_protocol::limits::HLC_AHEAD_MS_MAX;
use landfall_protocol::{Mutation, Op, Outcome, ResultStatus};
use std::collections::BTreeMap;

/// A mutation's verdict, as the server tells it.
pub struct Verdict<'a> {
    pub profile: usize,
    pub client: &'a str,
    /// Whom the server took its sender for.
    pub user: &'a str,
    pub token: &'a str,
    pub sent: &'a str,
    pub mutation: Option<&'a Mutation>,
    pub outcome: &'a Outcome,
    pub answer: &'a str,
    /// The server's clock.
    pub now: u64,
    /// The stamp that was stored with the effect.
    pub stamp: Option<&'a str>,
    /// What was written: position, version, fields of a live record.
    pub effect: Option<(u64, u64, Option<Plain>)>,
    /// What went with it.
    pub cascaded: &'a [Cascaded],
}

impl Model {
    /// A push says that its client needs no outcome up to here any more.
    pub fn acknowledged_through(&mut self, profile: usize, client: &str, through: u64) {
        let before = self.acked_through.get(client).copied().unwrap_or(0);
        for seq in before + 1..=through {
            let key = (client.to_owned(), seq);
            let known = &self.profiles[profile];
            if known.is_torn {
                continue;
            }
            if !self.ever.contains_key(&key) {
                self.violate("S2", || format!("{client} acknowledged seq {seq}, which was never answered"));
            } else if !known.stored.contains_key(&key) && !known.is_tainted {
                self.violate("S2", || format!("{client} acknowledged seq {seq} without its outcome stored"));
            }
        }
        if through > before {
            self.acked_through.insert(client.to_owned(), through);
        }
    }

    /// An answer goes out.
    pub fn answered(&mut self, client: &str, seq: u64, sent: &str, outcome: &Outcome, answer: &str) {
        let given = self.truth.given.get(&(client.to_owned(), seq));
        match outcome.status {
            ResultStatus::AlreadySettled => {
                if self.acked_through.get(client).is_none_or(|through| *through < seq) {
                    self.violate("S2", || format!("seq {seq} of {client} is called settled and was not acknowledged"));
                }
            }
            ResultStatus::KeyReused => {
                if given.is_none_or(|given| given.sent == sent) {
                    self.violate("S3", || format!("seq {seq} of {client} is called reused and is not"));
                }
            }
            ResultStatus::Applied
            | ResultStatus::Merged
            | ResultStatus::Superseded
            | ResultStatus::Recreated
            | ResultStatus::Conflict
            | ResultStatus::Rejected => {
                let is_void = |text: &str| text.contains("\"void\":true");
                if given.is_some_and(|given| given.sent != sent && !is_void(sent) && !is_void(&given.sent)) {
                    self.violate("S3", || {
                        format!("seq {seq} of {client} was answered as {answer} with other bytes: {sent}")
                    });
                }
                let given = self.truth.given.get(&(client.to_owned(), seq));
                let same = given.is_some_and(|given| given.answer == answer);
                if !same {
                    let first = given.map(|given| given.answer.clone()).unwrap_or_default();
                    self.violate("S2", || format!("seq {seq} of {client}: first {first}, then {answer}"));
                }
            }
        }
    }

    /// A seq got its verdict.
    pub fn decided(&mut self, verdict: &Verdict<'_>) {
        let seq = verdict.outcome.seq.get();
        let id = (verdict.client.to_owned(), seq);
        self.ever.entry(id.clone()).or_default().push(verdict.answer.to_owned());
        if self.truth.given.contains_key(&id) {
            self.violate("S1", || format!("seq {seq} of {} was judged twice", verdict.client));
        }
        let stands = verdict.mutation.map_or(0, |mutation| self.stands(verdict.client, mutation));
        let given = Given {
            answer: verdict.answer.to_owned(),
            outcome: verdict.outcome.clone(),
            sent: verdict.sent.to_owned(),
            stands,
        };
        self.truth.given.insert(id, given);
        let Some(mutation) = verdict.mutation else { return };
        if verdict.effect.is_some() && verdict.user != self.profiles[verdict.profile].user {
            let user = self.profiles[verdict.profile].user.clone();
            self.violate("I2", || format!("seq {seq} of {user} took effect as {}'s", verdict.user));
        }
        if mutation.collection.as_str() == CONFLICTS {
            self.check_decision(verdict, mutation);
        } else {
            self.check_policy(verdict, mutation, stands);
            self.check_family(verdict, mutation);
        }
        match &verdict.effect {
            Some((position, version, fields)) => {
                self.losses(verdict, mutation, stands, *position, fields.as_ref());
                self.effect(verdict, mutation, *position, *version, fields.as_ref());
                self.cascaded(verdict, mutation, *position);
            }
            None if verdict.outcome.status == ResultStatus::Superseded => self.superseded(verdict, mutation, stands),
            None => {}
        }
    }

    /// The version that a mutation stands on; of a follower, what its predecessor left or stood on itself.
    fn stands(&self, client: &str, mutation: &Mutation) -> u64 {
        let Some(after) = mutation.after else { return mutation.base.map_or(0, |base| base.get()) };
        let Some(given) = self.truth.given.get(&(client.to_owned(), after.get())) else { return u64::MAX };
        if given.outcome.took_effect() {
            given.outcome.version.map_or(0, |version| version.get())
        } else {
            given.stands
        }
    }

    fn effect(
        &mut self,
        verdict: &Verdict<'_>,
        mutation: &Mutation,
        position: u64,
        version: u64,
        fields: Option<&Plain>,
    ) {
        let (profile, client, seq) = (verdict.profile, verdict.client.to_owned(), mutation.seq.get());
        let key = mutation.key();
        let is_manager = self.tokens.get(verdict.token).copied().unwrap_or(false);
        if self.guarded.contains(mutation.collection.as_str()) && !is_manager {
            self.violate("C4", || format!("seq {seq} of {client} wrote {key:?} without the role that this takes"));
        }
        let before = self.truth.states_of(&key).last().cloned();
        let current = before.as_ref().map_or(0, |state| state.version);
        if version <= current {
            self.violate("R5", || format!("{key:?} went from version {current} to {version}"));
        }
        let known = &self.profiles[profile];
        let entries = known.sent.get(verdict.sent).cloned().unwrap_or_default();
        let newest = entries.iter().map(|id| known.place(*id)).max().unwrap_or(0);
        // What was joined is of one piece: nothing of its lane goes between its oldest and its newest entry.
        let oldest = entries.iter().map(|id| known.place(*id)).min().unwrap_or(0);
        let roots: Vec<u64> = entries
            .iter()
            .map(|id| known.durable.get(id).and_then(|entry| entry.origin).map_or(*id, |origin| origin.get()))
            .collect();
        let is_own = !known.is_tainted && !known.is_torn;
        let life = known.life;
        // Two copies of a profile that a restored server has both acknowledged and forgotten queue the same again, each for itself,
        // and until their next seqs clash the server takes them for one device. What was rolled back is such a copy, too.
        let is_one = |state: &StateAt| (state.profile, state.life) == (profile, life) || self.restores == 0;
        let late = self.truth.states_of(&key).iter().find(|state| {
            (state.client == client && state.seq >= seq && !state.is_indirect && is_one(state))
                || (is_own && state.profile == profile && state.entry > oldest)
        });
        if let Some(state) = late.cloned() {
            self.violate("S4", || {
                format!(
                    "seq {seq} of {client} (entry {newest}) took effect on {key:?} after seq {} (entry {})",
                    state.seq, state.entry
                )
            });
        }
        if is_own {
            for root in roots {
                if !self.truth.effected.insert((profile, root)) {
                    self.violate("S1", || format!("entry {root} of profile {profile} took effect twice, now as {seq}"));
                }
            }
        }
        let own = mutation.stamp.clamped(verdict.now, HLC_AHEAD_MS_MAX);
        // What was forgotten orders nothing any more.
        let before = before.filter(|_| !self.truth.known_of(&key).is_empty());
        let stamp = match &before {
            Some(before) if before.stamp >= own.0 => after(&before.stamp, verdict.client),
            Some(_) | None => own.0,
        };
        self.check_key(&key, fields);
        // Decisions are in the order in which they come, whatever their stamps.
        let is_row = key.collection.as_str() == CONFLICTS;
        if !is_row && verdict.stamp.is_some_and(|stored| stored != stamp) {
            self.violate("I4", || format!("{key:?} should be stamped {stamp} and is {:?}", verdict.stamp));
        }
        let state = StateAt {
            position,
            version,
            fields: fields.cloned(),
            profile,
            life,
            client,
            seq,
            is_manager,
            is_indirect: false,
            stamp,
            is_create: mutation.op == Op::Create,
            entry: newest,
        };
        self.state(&key, state);
    }

    /// A mutation lost: only another writer can be the reason (L5).
    fn superseded(&mut self, verdict: &Verdict<'_>, mutation: &Mutation, stands: u64) {
        let known = &self.profiles[verdict.profile];
        if known.is_tainted || known.is_torn || self.restores > 0 {
            return;
        }
        let key = mutation.key();
        let states = self.truth.states_of(&key);
        let others = states.iter().any(|state| state.version > stands && state.profile != verdict.profile);
        // Another context deleted the record before this one heard of it: nothing is there to be edited.
        let behind_own_delete = states.last().is_some_and(|state| state.fields.is_none()) && mutation.op == Op::Update;
        // Its own writes were taken from it with the access to their scope, and it has not pulled since it has that back.
        let hidden = known.hidden.get(&key.scope);
        if stands == 0 && states.last().zip(hidden).is_some_and(|(last, hidden)| last.position <= *hidden) {
            return;
        }
        // It stood on what lost itself, for a reason that was looked at then.
        let after = mutation.after.and_then(|after| self.truth.given.get(&(verdict.client.to_owned(), after.get())));
        if after.is_some_and(|given| !given.outcome.took_effect()) {
            return;
        }
        // A group loses as a whole.
        if !others && !behind_own_delete && mutation.group.is_none() {
            let current = states.last().map_or(0, |state| state.version);
            self.violate("L5", || {
                format!(
                    "seq {} of {} lost against its own writes on {key:?}: stood on {stands}, is {current}",
                    mutation.seq, verdict.client
                )
            });
        }
    }

    /// All mutations of one request with their verdicts: groups are whole and of one fate.
    pub fn groups(&mut self, profile: usize, items: &[(&Mutation, &str, &Outcome)]) {
        let mut groups: BTreeMap<String, Vec<(u64, bool)>> = BTreeMap::new();
        for (mutation, sent, outcome) in items {
            let Some(group) = &mutation.group else { continue };
            let entries = self.profiles[profile].sent.get(*sent).cloned().unwrap_or_default();
            if entries.is_empty() {
                // Bytes from before its disk was rolled back.
                return;
            }
            let members = groups.entry(group.0.clone()).or_default();
            members.extend(entries.into_iter().map(|entry| (entry, outcome.took_effect())));
        }
        for (group, members) in groups {
            if members.iter().any(|(_, took)| *took != members[0].1) {
                self.violate("S5", || format!("group {group} took effect in part: {members:?}"));
            }
            let known = &self.profiles[profile];
            let row = members[0].0 / landfall_protocol::EntryId::PER_ROW;
            let whole = known
                .durable
                .range(row * landfall_protocol::EntryId::PER_ROW..(row + 1) * landfall_protocol::EntryId::PER_ROW)
                .filter(|(_, entry)| entry.group.as_ref().is_some_and(|other| other.0 == group))
                .count();
            if whole != members.len() && !known.is_tainted && !known.is_torn {
                self.violate("S5", || format!("group {group} travels as {} of {whole} members", members.len()));
            }
        }
    }
}

/// The next stamp after one: the server orders a write after what it replaces, whatever the clocks say.
fn after(stamp: &str, client: &str) -> String {
    let part =
        |range: std::ops::Range<usize>| u64::from_str_radix(stamp.get(range).unwrap_or_default(), 16).unwrap_or(0);
    let (millis, counter) = (part(0..12), part(13..17) + 1);
    format!("{:012x}-{:04x}-{client}", millis + counter / 65_536, counter % 65_536)
}
