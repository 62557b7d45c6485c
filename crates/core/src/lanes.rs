//! Lanes: the undecided entries of one record, in order, and what each of them stands on.

use crate::plant::{Plant, planted};
use crate::rows::Entry;
use crate::state::State;
use crate::view::fold;
use landfall_protocol::{EntryId, GroupId, Map, Object, Op, RecordKey, ResultStatus, Seq, Version};

/// One or more entries of one record that travel as one mutation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coalesced {
    pub key: RecordKey,
    pub entries: Vec<EntryId>,
    /// `None`: created and deleted, nothing to send.
    pub op: Option<Op>,
    pub set: Object,
    pub unset: Vec<String>,
    /// The newest entry's.
    pub stamp: landfall_protocol::Stamp,
    /// The oldest entry's.
    pub on: Version,
    pub origin: EntryId,
}

/// Mutations that are sent, decided and parked as one: a coalesced run of a lane, or a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    pub group: Option<GroupId>,
    pub members: Vec<Coalesced>,
    pub priority: i32,
}

/// Joins entries of one lane, in lane order.
pub fn coalesce(state: &State, key: RecordKey, ids: &[EntryId]) -> Option<Coalesced> {
    let mut entries = ids.iter().filter_map(|id| Some((*id, state.entries.get(id)?)));
    let (first, entry) = entries.next()?;
    // Only a record that nobody has heard of yet can be created and deleted without a word to the server. A blind create
    // may stand on one that another context made.
    let is_unheard = ids.len() > 1
        && entry.on == Version::ZERO
        && state.lanes.get(&key).and_then(|lane| lane.first()) == Some(&first)
        && state.settled_of(&key).next().is_none();
    let mut joined = Coalesced {
        key,
        entries: vec![first],
        op: Some(entry.op),
        set: Object::new(),
        unset: entry.unset.clone(),
        stamp: entry.stamp.clone(),
        on: entry.on,
        origin: entry.origin.unwrap_or(first),
    };
    let mut whole = vec![entry];
    for (id, entry) in entries {
        joined.entries.push(id);
        joined.stamp = joined.stamp.max(entry.stamp.clone());
        if join(&mut joined, entry, is_unheard) {
            whole.push(entry);
        }
    }
    joined.set = fold(Object::new(), &whole);
    Some(joined)
}

/// Joins what an entry does and unsets; the fields that are set follow in one go. False: it is left out.
fn join(joined: &mut Coalesced, entry: &Entry, is_unheard: bool) -> bool {
    joined.op = match (joined.op, entry.op) {
        (Some(Op::Create), Op::Delete) if planted(Plant::CoalesceDropsDelete) => return false,
        (Some(Op::Create), Op::Delete) if is_unheard => None,
        (Some(Op::Create), Op::Delete) => Some(Op::Delete),
        (Some(Op::Update | Op::Delete), Op::Delete) => Some(Op::Delete),
        (None, Op::Delete) => None,
        (Some(Op::Create) | None, Op::Create | Op::Update) => Some(Op::Create),
        // Deleted and made anew under one id: the server sees one update of everything.
        (Some(Op::Delete), Op::Create | Op::Update) => Some(Op::Create),
        // Another context saw no record and made one: of what was there before nothing stays.
        (Some(Op::Update), Op::Create) => Some(Op::Create),
        (Some(Op::Update), Op::Update) => Some(Op::Update),
    };
    match entry.op {
        Op::Delete | Op::Create => joined.unset.clear(),
        Op::Update => {
            for name in &entry.unset {
                if joined.op == Some(Op::Update) && !joined.unset.contains(name) {
                    joined.unset.push(name.clone());
                }
            }
            if !joined.unset.is_empty() {
                entry.set.each(&mut |name, _| joined.unset.retain(|other| *other != name));
            }
        }
    }
    true
}

/// True when two neighbours of a lane may become one mutation.
///
/// A delete followed by a create stays two: the server then keeps the tombstone's version between them.
pub fn may_join(before: &Entry, after: &Entry) -> bool {
    before.group.is_none()
        && after.group.is_none()
        && !(before.op == Op::Delete && after.op != Op::Delete)
        && before.place.is_none() == after.place.is_none()
}

/// What a mutation says it stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stand {
    Base(Version),
    /// Behind a mutation of the same client that has no outcome yet.
    After(Seq, Version),
}

impl Stand {
    /// The server version under it, as far as this client knows.
    pub fn base(self) -> Version {
        match self {
            Self::Base(version) | Self::After(_, version) => version,
        }
    }
}

/// The base of a mutation, fixed when its descriptor is built (docs/protocol.md).
///
/// `travelling` holds, for each record, the last mutation that is earlier in this batch, with its base.
/// The writer may not have known of its predecessor (writes are blind), so the predecessor's outcome counts even when
/// the entry was written on an older view: an own later edit never conflicts with an own earlier one (L5).
pub fn stand(
    state: &State,
    epoch: Option<&landfall_protocol::Epoch>,
    member: &Coalesced,
    travelling: &Map<RecordKey, (Seq, Version)>,
) -> Stand {
    if planted(Plant::FollowerWithoutAfter) {
        return Stand::Base(member.on);
    }
    if let Some((seq, base)) = travelling.get(&member.key) {
        return Stand::After(*seq, (*base).max(member.on));
    }
    let first = member.entries.first().copied().unwrap_or_default();
    // An entry queued again after a restored backup must not stand on what was written after it.
    let own = state.entries.get(&first).and_then(|entry| entry.place).unwrap_or(first);
    let mut base = member.on;
    let goes_again = state.client.requeues.contains_key(&first);
    for settled in state.settled_of(&member.key).rev() {
        if let Some(outcome) = settled.mutation.outcome.as_ref().filter(|_| goes_again)
            && outcome.code.as_deref() == Some(landfall_protocol::RejectCode::STALE)
        {
            // It was rebased on what the server said then.
            base = base.max(outcome.version.unwrap_or_default());
        }
        let is_before = settled.mutation.lane_place().is_some_and(|place| place < own);
        if !is_before || !crate::view::same_epoch(settled.epoch, epoch) {
            continue;
        }
        let Some(outcome) = &settled.mutation.outcome else { continue };
        let version = match outcome.status {
            ResultStatus::Applied | ResultStatus::Merged | ResultStatus::Recreated => outcome.version,
            // Written on what lost: stands where its predecessor stood, unless its writer saw the server's value.
            ResultStatus::Superseded | ResultStatus::Conflict | ResultStatus::Rejected => Some(settled.mutation.base),
            ResultStatus::AlreadySettled | ResultStatus::KeyReused => None,
        };
        base = base.max(version.unwrap_or_default());
        // One without effect stood on what was before it; its own predecessor may have had one since.
        if outcome.took_effect() {
            break;
        }
    }
    Stand::Base(base)
}
