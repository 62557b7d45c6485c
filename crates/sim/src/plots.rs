//! What happens to devices beyond their requests and disks: they stand still, are full, lose their database, their clock or
//! their user.

use crate::model::ProfileModel;
use crate::run::Player;
use crate::world::{SPARE_SUCCESSORS, user_name};
use landfall_storage::memory::Disk;
use std::cell::Cell;
use std::rc::Rc;

/// From so many ms on a wrong clock is wrong by years.
const FAR_MS: i64 = 30 * 24 * 3_600_000;
const DAY_MS: i64 = 24 * 3_600_000;

impl Player {
    pub(crate) fn clock_jumps(&self, profile: usize, ms: i64) {
        let world = &self.world;
        world.met(if ms < 0 { "clock_backwards" } else { "clock_ahead" }, profile);
        world.note(profile, || format!("clock jumps by {ms} ms"));
        let clock = world.profile(profile);
        let most =
            if ms.abs() > FAR_MS { ms.abs() + DAY_MS / 2 } else { clock.clock_ahead_ms.get().abs().max(DAY_MS / 2) };
        let ahead = (clock.clock_ahead_ms.get() + ms).clamp(-most, most);
        clock.clock_ahead_ms.set(ahead);
        if ahead.abs() > FAR_MS {
            world.met("clock_off_by_a_year", profile);
        }
        if ms > FAR_MS {
            // By this clock a day has passed, after which acknowledged changes are let go of (R6).
            world.model.borrow_mut().profiles[profile].has_leapt = true;
        }
    }

    pub(crate) fn clock_stops(&self, profile: usize, ms: u64) {
        let world = Rc::clone(&self.world);
        world.met("clock_stuck", profile);
        let now = world.clock_ms(profile);
        world.profile(profile).clock_stuck.set(Some(now));
        world.exec.clone().spawn(0, profile, async move {
            world.exec.sleep(ms).await;
            let clock = world.profile(profile);
            if clock.clock_stuck.take().is_some() {
                // It goes on from where it stood.
                let behind = now as i64 - world.exec.now_ms() as i64;
                clock.clock_ahead_ms.set(behind);
            }
        });
    }

    /// A tab stands still, with its locks and in the middle of whatever it does.
    pub(crate) fn freeze(&self, profile: usize, slot: u32, ms: u64) {
        let world = Rc::clone(&self.world);
        let owner = world.profile(profile).contexts.borrow().get(&slot).map(|context| context.owner);
        let Some(owner) = owner else { return };
        world.met("frozen", profile);
        if world.profile(profile).locks.is_held_by(owner) {
            world.met("frozen_with_lock", profile);
        }
        world.note(profile, || format!("context {slot} stands still"));
        world.exec.freeze(owner);
        world.exec.clone().spawn(0, profile, async move {
            world.exec.sleep(ms).await;
            world.exec.thaw(owner);
        });
    }

    /// Nobody is there; what was kept on the way arrives.
    pub(crate) fn night(&self, ms: u64) {
        let world = &self.world;
        world.met("night", 0);
        let mut owners = Vec::new();
        for index in 0..world.profile_count() {
            owners.extend(world.profile(index).contexts.borrow().values().map(|context| context.owner));
        }
        owners.iter().for_each(|owner| world.exec.freeze(*owner));
        self.go(ms);
        owners.iter().for_each(|owner| world.exec.thaw(*owner));
    }

    /// A worker that the browser stops in the middle of its flush.
    pub(crate) fn stop_worker(&self, profile: usize, ms: u64) {
        const WORKER: u32 = 2;
        let is_done = Rc::new(Cell::new(false));
        let done = Rc::clone(&is_done);
        self.with(profile, WORKER, async move |_, _, replica| {
            replica.flush(150_000).await;
            done.set(true);
        });
        let world = Rc::clone(&self.world);
        let owner = world.profile(profile).contexts.borrow().get(&WORKER).map(|context| context.owner);
        world.exec.clone().spawn(0, profile, async move {
            world.exec.sleep(ms).await;
            let now = world.profile(profile).contexts.borrow().get(&WORKER).map(|context| context.owner);
            if now == owner && now.is_some() && !world.is_calm.get() {
                if !is_done.get() {
                    world.met("worker_stopped_in_flush", profile);
                }
                world.kill(profile, WORKER);
            }
        });
    }

    /// The browser takes the database with all that is in it. What its device does next begins from nothing, as another client.
    pub(crate) fn evict(&self, profile: usize) {
        let world = &self.world;
        let evicted = (0..world.profile_count()).filter(|index| world.is_retired(*index)).count();
        if evicted >= SPARE_SUCCESSORS {
            return;
        }
        world.met("evicted", profile);
        self.lost(profile);
        world.kill_all(profile);
        let old = world.profile(profile);
        old.disk.clear();
        world.model.borrow_mut().profiles[profile].is_evicted = true;
        let next = world.add_profile(&old.user, Disk::default(), ProfileModel::default());
        let new = world.profile(next);
        new.cut.set(old.cut.get());
        new.clock_ahead_ms.set(old.clock_ahead_ms.get());
        new.version.set(old.version.get());
        old.successor.set(Some(next));
        world.open(next, 0);
    }

    /// The device has little room left, for a while.
    pub(crate) fn fill(&self, profile: usize, room: u64, ms: u64) {
        let world = Rc::clone(&self.world);
        world.met("device_full", profile);
        let full = world.profile(profile);
        full.plan.limit_room(&full.disk, Some(full.disk.row_bytes() + room as usize));
        world.exec.clone().spawn(0, profile, async move {
            world.exec.sleep(ms).await;
            let full = world.profile(profile);
            full.plan.limit_room(&full.disk, None);
        });
    }

    /// The app gets the token of somebody else who signed in, while this user's changes are on their way.
    pub(crate) fn switch_user(&self, profile: usize, slot: u32, other: usize) {
        let other = user_name(other);
        self.with(profile, slot, async move |world, profile, replica| {
            if world.profile(profile).user == other {
                return;
            }
            let now = world.exec.now_ms();
            let token = world.server.borrow().token(now, &other);
            world.note(profile, || format!("{other} signs in"));
            let _ = replica.set_token(Some(token)).await;
        });
    }
}
