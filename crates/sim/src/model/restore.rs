//! A server that came back from a backup: what it lost, and who has to bring it again.

use super::{Model, Truth};

impl Model {
    /// A backup of then is the server now.
    pub fn restored(&mut self, backup: Truth) {
        let before = std::mem::replace(&mut self.truth, backup);
        for (id, given) in before.given {
            if given.outcome.took_effect() && !self.truth.given.contains_key(&id) {
                self.lost.insert(id);
            }
        }
        self.restores += 1;
    }

    /// R6: what a restore took back and its client had settled was queued again.
    pub fn check_requeued(&mut self) {
        let mut forgotten = None;
        for (index, known) in self.profiles.iter().enumerate() {
            // The ledger speaks of one client id; a profile that changed its own cannot ask for the former one's.
            if known.is_tainted || known.is_torn || known.has_leapt || known.is_evicted || known.clients.len() != 1 {
                continue;
            }
            for id in &self.lost {
                let Some((true, entries)) = known.stored.get(id) else { continue };
                let Some(first) = entries.first() else { continue };
                let root = known.durable.get(first).and_then(|entry| entry.place).map_or(*first, |id| id.get());
                let again = known.durable.values().any(|entry| entry.place.is_some_and(|place| place.get() == root));
                if !again && !self.truth.given.contains_key(id) {
                    forgotten = Some((index, id.clone(), root));
                }
            }
        }
        if let Some((profile, (client, seq), root)) = forgotten {
            self.violate("R6", || {
                format!("the backup lost seq {seq} of {client}; profile {profile} did not queue entry {root} again")
            });
        }
    }
}
