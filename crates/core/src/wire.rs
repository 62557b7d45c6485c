//! The rows' JSON: fields in the order in which serde wrote them, so that no stored row ever changes.
//!
//! A field that is added to a type in [`crate::rows`] is added here too (the compiler asks for it): `Need` must be
//! there, `Keep` may be missing, `Skip` may be missing and is left out when blank.

use crate::rows::{
    ClientRow, ConflictRow, Descriptor, Entry, InFlight, LocalEnd, LogRow, ParkedChange, ParkedRow, Reason,
    SettledMutation, SettledRow, Window,
};
use landfall_protocol::{wire, wire_names};

wire!(Entry {
    scope: Need,
    collection: Need,
    id: Need,
    op: Need,
    set: Skip,
    unset: Skip,
    stamp: Need,
    group: Skip,
    on: Need,
    origin: Skip,
    place: Skip
});
wire!(LogRow { commit_id: Need, at: Need, entries: Need });
wire!(ClientRow {
    rev: Need,
    client_id: Need,
    user: Need,
    next_seq: Need,
    acked_through: Need,
    first_push: Need,
    pull_first: Skip,
    requeues: Skip,
    hold_until: Skip,
    held_at: Skip,
    recent: Keep
});
wire!(InFlight { seq: Need, entries: Need, text: Need, base: Need, void: Skip, again: Skip });
wire!(Descriptor { mutations: Need, attempts: Skip, window: Skip });
wire!(Window { from: Need, to: Need, sibling_failed: Need });
wire_names!(LocalEnd { Cancelled: "cancelled", Discarded: "discarded", Parked: "parked", Replaced: "replaced" });
wire!(SettledMutation { key: Need, entries: Need, text: Skip, base: Need, place: Skip, outcome: Skip, local: Skip });
wire!(SettledRow { client_id: Need, epoch: Keep, at: Need, mutations: Need, gone: Skip });
wire!(Reason { code: Need, message: Need, fields: Skip });
wire!(ParkedChange { entry: Need, entries: Need, base: Skip, server: Skip });
wire!(ParkedRow { id: Need, at: Need, reason: Need, changes: Need, failed: Skip });
wire!(ConflictRow { seq: Need, entry: Need, at: Need, key: Need, op: Need, set: Need, unset: Skip, outcome: Need });
