//! Planted bugs: named faults that the simulator switches on to prove that its checks can fail.
//!
//! Without the feature `plants` every [`planted`] is a constant `false` and leaves no code behind.

/// A bug that can be planted; each is an error somebody made in a real sync engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Plant {
    /// The outbox forgets an entry when it is sent, not when its outcome is stored (L4).
    RemoveBeforeSettle,
    /// A retry builds its bytes anew under a new seq instead of sending the stored ones (S1).
    RebuildOnRetry,
    /// A follower stands on its old base instead of on its lane predecessor (L5).
    FollowerWithoutAfter,
    /// The cursor is stored although the page's rows were not (R3).
    CursorBeforeRows,
    /// An overlay falls at settle, before the pull that holds its effect (L5).
    OverlayFallsEarly,
    /// A reset of the cursor throws the outbox away (R6).
    ResetDropsOutbox,
    /// `acked_through` runs ahead of what is settled (S2).
    AckBeyondSettled,
    /// A rejected write stays visible (C3).
    RejectedStaysVisible,
    /// The value that lost is not kept (C2).
    LoserNotKept,
    /// A group is cut where the batch is full (S5).
    GroupSplit,
    /// Settle does not look whether its descriptor is still there (S4).
    SettleBlind,
    /// A commit of unknown fate is appended again without a look (L2).
    HealAppendsTwice,
    /// Writes resolve before their transaction is complete (L1).
    AckBeforeComplete,
    /// A create that was followed by a delete is sent as a create (R1).
    CoalesceDropsDelete,
    /// The server forgets to keep the outcome (S1).
    ServerKeepsNoOutcome,
    /// A page ends in the middle of a push (S5).
    PageSplitsPush,
    /// A row with a wrong checksum is read as "not there" in silence (I3).
    CorruptReadAsAbsent,
    /// A child is sent before the create of its parent (S4).
    ParentAfterChild,
    /// The server applies a mutation whose base is old (R1 holds, C1 does not).
    ServerIgnoresBase,
    /// Last-write-wins goes by the clock that a device claims, not by the clamped one (I4).
    LwwByRawClock,
    /// A merge takes every field, whoever changed it since (C1).
    MergeIgnoresFieldVersion,
    /// A record that lives again starts its versions anew (R5).
    RecreateBelowFloor,
    /// What waits for a person is written all the same (C1).
    ManualWrites,
    /// Of two decisions on one conflict both take effect (C1).
    ReviewDecidedTwice,
    /// A poke that comes while a pull is under way is forgotten (R1).
    PokeDuringPullForgotten,
    /// The position that a poke names is taken for what is covered (R2).
    PokeIsCovered,
    /// A live channel that connects anew asks for no pull (R1).
    ReadyWithoutPull,
    /// A reset of the cursor does not ask for the ledger of the new epoch (R6).
    LedgerNotAsked,
    /// What its author lost to somebody who had not seen it is not told (C2).
    OverruledNotTold,
    /// What was pulled of the old epoch is taken into the new one (R2).
    OldRowsInNewEpoch,
    /// A role is what a mutation says it is, not what the token says (C4).
    RoleFromPayload,
    /// What was taken away stays visible (R1).
    AccessStaysVisible,
    /// What waits for what was taken away is given up in silence (L4).
    NoAccessDropsOutbox,
    /// Children stay when their parent is deleted (C1).
    CascadeForgotten,
    /// A record whose changes are not read yet is shown without them (L5).
    ColdLaneTakenAsWhole,
    /// Runs of the lane index that are joined lose what the older one knew (L5).
    LaneIndexForgets,
}

impl Plant {
    pub const ALL: [Self; 36] = [
        Self::RemoveBeforeSettle,
        Self::RebuildOnRetry,
        Self::FollowerWithoutAfter,
        Self::CursorBeforeRows,
        Self::OverlayFallsEarly,
        Self::ResetDropsOutbox,
        Self::AckBeyondSettled,
        Self::RejectedStaysVisible,
        Self::LoserNotKept,
        Self::GroupSplit,
        Self::SettleBlind,
        Self::HealAppendsTwice,
        Self::AckBeforeComplete,
        Self::CoalesceDropsDelete,
        Self::ServerKeepsNoOutcome,
        Self::PageSplitsPush,
        Self::CorruptReadAsAbsent,
        Self::ParentAfterChild,
        Self::ServerIgnoresBase,
        Self::LwwByRawClock,
        Self::MergeIgnoresFieldVersion,
        Self::RecreateBelowFloor,
        Self::ManualWrites,
        Self::ReviewDecidedTwice,
        Self::PokeDuringPullForgotten,
        Self::PokeIsCovered,
        Self::ReadyWithoutPull,
        Self::LedgerNotAsked,
        Self::OverruledNotTold,
        Self::OldRowsInNewEpoch,
        Self::RoleFromPayload,
        Self::AccessStaysVisible,
        Self::NoAccessDropsOutbox,
        Self::CascadeForgotten,
        Self::ColdLaneTakenAsWhole,
        Self::LaneIndexForgets,
    ];
}

#[cfg(feature = "plants")]
mod active {
    use super::Plant;
    use std::cell::Cell;

    thread_local! {
        static ACTIVE: Cell<Option<Plant>> = const { Cell::new(None) };
    }

    /// Plants one bug in this thread, or none.
    pub fn plant(bug: Option<Plant>) {
        ACTIVE.with(|active| active.set(bug));
    }
    pub fn planted(bug: Plant) -> bool {
        ACTIVE.with(|active| active.get() == Some(bug))
    }
}

#[cfg(feature = "plants")]
pub use active::{plant, planted};

#[cfg(not(feature = "plants"))]
pub const fn planted(_: Plant) -> bool {
    false
}
