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
    /// A cursor is the time of the last change, not a position (R2).
    CursorByTime,
    /// Whatever the server answers is taken for success (L4).
    AnyAnswerIsSuccess,
    /// A refused change is rolled back to what was there when it was refused, not to what is there now (C3).
    RollbackToSnapshot,
    /// Nothing is sent while something that was refused waits for a person (R1).
    PoisonBlocksQueue,
    /// `already_settled` is taken for an outcome (S2).
    AlreadySettledIsOutcome,
    /// Attempts are counted for answers that never came (S7).
    OutageCounts,
    /// A unit that used up its attempts leaves its seqs without an outcome (S2).
    FailedWithoutVoid,
    /// A batch is stored without a look at what another context stored meanwhile (S4).
    StaleDescriptor,
    /// A derived id depends on the zone in which a time is written (C1).
    DerivedIdByTimeZone,
    /// Tombstones go before everybody has heard of them (R5).
    TombstoneDroppedEarly,
    /// A clean-up of tombstones does not raise the floor of versions (R5).
    CleanUpKeepsFloor,
    /// What a notice says is believed without reading the log (L5).
    NoticeTrusted,
    /// A commit of unknown fate is reported as one that failed (L3).
    UnknownIsRejected,
    /// The same seq with other bytes gets the answer of the first (S3).
    ServerIgnoresHash,
    /// The server answers first and commits later (S6).
    AnswerBeforeCommit,
    /// What changes during a cold start is not pulled again (R4).
    ScanWithoutReplay,
    /// Pokes go to everybody, whatever they hold (I1).
    PokeToAll,
    /// The server takes a batch for its sender's, whoever wrote it (I2).
    UserNotCompared,
    /// An edit writes the fields that its app knows and no others (I5).
    UnknownFieldDropped,
    /// A pull stores nothing before it has seen the head (I6).
    PullsToHeadInMemory,
}

impl Plant {
    pub const ALL: [Self; 56] = [
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
        Self::CursorByTime,
        Self::AnyAnswerIsSuccess,
        Self::RollbackToSnapshot,
        Self::PoisonBlocksQueue,
        Self::AlreadySettledIsOutcome,
        Self::OutageCounts,
        Self::FailedWithoutVoid,
        Self::StaleDescriptor,
        Self::DerivedIdByTimeZone,
        Self::TombstoneDroppedEarly,
        Self::CleanUpKeepsFloor,
        Self::NoticeTrusted,
        Self::UnknownIsRejected,
        Self::ServerIgnoresHash,
        Self::AnswerBeforeCommit,
        Self::ScanWithoutReplay,
        Self::PokeToAll,
        Self::UserNotCompared,
        Self::UnknownFieldDropped,
        Self::PullsToHeadInMemory,
    ];

    /// The promise that it breaks (docs/promises.md).
    pub const fn promise(self) -> &'static str {
        match self {
            Self::AckBeforeComplete => "L1",
            Self::HealAppendsTwice => "L2",
            Self::UnknownIsRejected => "L3",
            Self::RemoveBeforeSettle | Self::NoAccessDropsOutbox | Self::AnyAnswerIsSuccess => "L4",
            Self::FollowerWithoutAfter
            | Self::OverlayFallsEarly
            | Self::ColdLaneTakenAsWhole
            | Self::LaneIndexForgets
            | Self::NoticeTrusted => "L5",
            Self::RebuildOnRetry | Self::ServerKeepsNoOutcome => "S1",
            Self::AckBeyondSettled | Self::AlreadySettledIsOutcome | Self::FailedWithoutVoid => "S2",
            Self::ServerIgnoresHash => "S3",
            Self::SettleBlind | Self::ParentAfterChild | Self::StaleDescriptor => "S4",
            Self::GroupSplit | Self::PageSplitsPush => "S5",
            Self::AnswerBeforeCommit => "S6",
            Self::OutageCounts => "S7",
            Self::CoalesceDropsDelete
            | Self::PokeDuringPullForgotten
            | Self::ReadyWithoutPull
            | Self::AccessStaysVisible
            | Self::PoisonBlocksQueue => "R1",
            Self::PokeIsCovered | Self::OldRowsInNewEpoch | Self::CursorByTime => "R2",
            Self::CursorBeforeRows => "R3",
            Self::ScanWithoutReplay => "R4",
            Self::RecreateBelowFloor | Self::TombstoneDroppedEarly | Self::CleanUpKeepsFloor => "R5",
            Self::ResetDropsOutbox | Self::LedgerNotAsked => "R6",
            Self::MergeIgnoresFieldVersion
            | Self::ManualWrites
            | Self::ReviewDecidedTwice
            | Self::CascadeForgotten
            | Self::DerivedIdByTimeZone
            | Self::ServerIgnoresBase => "C1",
            Self::LoserNotKept | Self::OverruledNotTold => "C2",
            Self::RejectedStaysVisible | Self::RollbackToSnapshot => "C3",
            Self::RoleFromPayload => "C4",
            Self::PokeToAll => "I1",
            Self::UserNotCompared => "I2",
            Self::CorruptReadAsAbsent => "I3",
            Self::LwwByRawClock => "I4",
            Self::UnknownFieldDropped => "I5",
            Self::PullsToHeadInMemory => "I6",
        }
    }
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
