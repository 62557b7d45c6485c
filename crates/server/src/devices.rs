//! When each device last synced, and what it says of itself.
//!
//! Pushes write their client anyway. A pull is a read: it is noted at most every half minute, so that polling costs no
//! commits.

use crate::auth::Identity;
use crate::error::ServerError;
use crate::service::{Service, now};
use crate::store::{DeviceReport, Store};
use landfall_protocol::limits::NUMBER_MAX;
use landfall_protocol::{ClientId, UnixMillis};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// A device that synced within this time is active: three of the polls that a client makes by itself, ms.
pub const ACTIVE_MS: u64 = 15 * 60_000;
/// Pulls of a device are noted this often, ms.
const NOTE_EVERY_MS: u64 = 30_000;
/// Devices that are remembered.
const KNOWN_MAX: usize = 65_536;

/// A device synced after this is active.
pub fn active_since(now: UnixMillis) -> UnixMillis {
    UnixMillis(now.get().saturating_sub(ACTIVE_MS))
}

/// What was written of late, so that it is not written again.
#[derive(Default)]
pub struct Presence {
    known: Mutex<HashMap<(String, ClientId), Noted>>,
}

#[derive(Clone, Copy, Default)]
struct Noted {
    pull_at: UnixMillis,
    failed_count: Option<u64>,
}

impl Presence {
    fn with<T>(&self, sub: &str, client: &ClientId, look: impl FnOnce(&mut Noted) -> T) -> T {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        look(known.entry((sub.to_owned(), client.clone())).or_default())
    }

    /// True when this pull is to be written.
    fn pull_is_due(&self, sub: &str, client: &ClientId, now: UnixMillis) -> bool {
        self.with(sub, client, |noted| {
            let is_due = now.get() >= noted.pull_at.get() + NOTE_EVERY_MS;
            if is_due {
                noted.pull_at = now;
            }
            is_due
        })
    }

    /// What was to be written was not.
    pub fn forget(&self, sub: &str, client: &ClientId) {
        self.with(sub, client, |noted| *noted = Noted::default());
    }

    /// True when the number of failed entries is another one than was written last.
    pub fn failed_is_news(&self, sub: &str, client: &ClientId, failed_count: u64) -> bool {
        self.with(sub, client, |noted| noted.failed_count.replace(failed_count) != Some(failed_count))
    }
}

impl<S: Store> Service<S> {
    /// Notes a pull. What was pulled is right without it, so a store that is busy does not fail the pull.
    pub(crate) async fn note_pull(&self, sub: &str, client: &ClientId) {
        let now = now();
        if !self.presence().pull_is_due(sub, client, now) {
            return;
        }
        let (sub, client) = (sub.to_owned(), client.clone());
        let note = {
            let (sub, client) = (sub.clone(), client.clone());
            self.store().write::<_, ServerError, _>(move |db| Ok(db.note_pull(&sub, &client, now)?))
        };
        let noted = note.await;
        if let Err(error) = noted {
            tracing::warn!(%error, "a pull was not noted");
            self.presence().forget(&sub, &client);
        }
    }

    /// Stores what a device says of itself when it asks for the status.
    pub async fn report(&self, identity: &Identity, client: ClientId, report: DeviceReport) -> Result<(), ServerError> {
        let is_sound = (1..=64).contains(&client.as_str().len())
            && report.pending_count <= NUMBER_MAX
            && report.failed_count <= NUMBER_MAX;
        if !is_sound {
            return Err(ServerError::Malformed("client_id has 1 to 64 bytes, counts are at most 2^53-1".to_owned()));
        }
        let (sub, at) = (identity.sub.clone(), now());
        self.presence().failed_is_news(&sub, &client, report.failed_count);
        self.store().write(move |db| Ok(db.note_report(&sub, &client, report, at)?)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_polls_all_the_time_is_written_twice_a_minute() {
        let (presence, client) = (Presence::default(), ClientId::from("c1"));
        let times = (0..120_u64).map(|second| UnixMillis(1_000_000 + second * 1_000));
        assert_eq!(times.filter(|at| presence.pull_is_due("ada", &client, *at)).count(), 4);
    }

    #[test]
    fn a_failed_count_is_written_when_it_changes_and_once_after_a_start() {
        let (presence, client) = (Presence::default(), ClientId::from("c1"));
        let news: Vec<bool> = [0, 0, 2, 2, 0].map(|count| presence.failed_is_news("ada", &client, count)).to_vec();
        assert_eq!(news, [true, false, true, false, true]);
    }
}
