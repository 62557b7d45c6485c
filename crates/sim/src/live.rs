//! The live channel of a profile: pokes on their way to the one context that listens, and what a page does with them.
//!
//! The page's side is that of src/live.rs: every poke asks for a pull, and so does every new connection.

use crate::net::Cut;
use crate::world::{SimReplica, World};
use landfall_core::plant::{Plant, planted};
use landfall_core::schedule::Trigger;
use landfall_protocol::{LiveMessage, Position, Scope};
use std::rc::Rc;

/// How often a channel fails, out of 1,000 pokes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LiveFaults {
    pub lost: u32,
    pub doubled: u32,
    /// Those after it overtake it.
    pub late: u32,
    /// With it comes one for a scope that this user does not hold (any more).
    pub stray: u32,
    /// Longest delay of a late one, ms.
    pub late_ms: u32,
    /// How often the socket gets half open, as a weight among the steps.
    pub half_open: u64,
}

/// The server tells all who hold a scope where it is now.
pub fn poke(world: &Rc<World>, scope: &Scope, position: u64) {
    if !world.setup.pokes && !world.is_calm.get() {
        return;
    }
    for index in 0..world.profile_count() {
        let profile = world.profile(index);
        let holds = world.server.borrow().grants.get(&profile.user).is_some_and(|scopes| scopes.contains(scope));
        let holds = holds || planted(Plant::PokeToAll);
        if !holds || profile.cut.get().takes_pokes() {
            if holds && profile.cut.get() == Cut::Live {
                world.met("cut_live", index);
            }
            continue;
        }
        if world.exec.now_ms() < profile.deaf_until.get() {
            world.met("half_open", index);
            continue;
        }
        let faults = if world.is_calm.get() { LiveFaults::default() } else { world.setup.live };
        let rng = &profile.rng;
        let soon = rng.between(1, 50);
        if faults == LiveFaults::default() {
            send(world, index, scope, position, soon);
            continue;
        }
        if rng.chance(faults.lost.into(), 1_000) {
            world.met("poke_lost", index);
            continue;
        }
        let is_late = rng.chance(faults.late.into(), 1_000);
        let delay = if is_late { rng.between(500, faults.late_ms.into()) } else { soon };
        if is_late {
            world.met("poke_late", index);
        }
        send(world, index, scope, position, delay);
        if rng.chance(faults.doubled.into(), 1_000) {
            world.met("poke_doubled", index);
            send(world, index, scope, position, rng.between(1, 2_000));
        }
        if rng.chance(faults.stray.into(), 1_000) {
            world.met("poke_stray", index);
            send(world, index, &Scope::from("facility:99"), position, rng.between(1, 100));
        }
    }
}

fn send(world: &Rc<World>, index: usize, scope: &Scope, position: u64, delay_ms: u64) {
    let message = LiveMessage::Poke { scope: scope.clone(), position: Position(position) };
    deliver(world, index, &message, delay_ms);
}

/// The socket of a profile hears nothing any more and looks open, until its page notices and connects anew.
pub fn half_open(world: &Rc<World>, index: usize, ms: u64) {
    let profile = world.profile(index);
    let until = world.exec.now_ms() + ms;
    profile.deaf_until.set(profile.deaf_until.get().max(until));
    let then = Rc::clone(world);
    world.exec.spawn(0, index, async move {
        then.exec.sleep(ms).await;
        if then.exec.now_ms() >= then.profile(index).deaf_until.get() {
            deliver(&then, index, &LiveMessage::Ready, 1);
        }
    });
}

/// A message on its way to the context that has the socket; it dies with that context.
fn deliver(world: &Rc<World>, index: usize, message: &LiveMessage, delay_ms: u64) {
    let profile = world.profile(index);
    let first = profile.contexts.borrow().iter().next().map(|(slot, context)| (*slot, context.owner));
    let Some((slot, owner)) = first else { return };
    let text = serde_json::to_string(message).unwrap_or_default();
    let world = Rc::clone(world);
    world.exec.clone().spawn(owner, index, async move {
        world.exec.sleep(delay_ms).await;
        if let Some(replica) = world.replica(index, slot) {
            hear(&replica, &text);
        }
    });
}

/// What a page does with a message (src/live.rs).
fn hear(replica: &SimReplica, text: &str) {
    match LiveMessage::parse(text) {
        Some(LiveMessage::Poke { scope, position }) if planted(Plant::PokeIsCovered) => {
            let mut db = replica.db.borrow_mut();
            let pairs = db.base.manifest.pairs.iter_mut().filter(|row| row.pair.0 == scope && !row.cold);
            pairs.for_each(|row| row.covered = row.covered.max(Some(position)));
        }
        Some(LiveMessage::Ready) if planted(Plant::ReadyWithoutPull) => {}
        Some(LiveMessage::Poke { .. } | LiveMessage::Ready) => replica.trigger(Trigger::Poke),
        Some(LiveMessage::Bye { .. }) | None => {}
    }
}
