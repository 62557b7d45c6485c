//! Parents and children: a child needs its parent, and a delete is refused or takes its children along.

use super::push::Push;
use crate::model::Cascaded;
use crate::world::{OnDelete, PARENT};
use landfall_core::authority::Stored;
use landfall_core::plant::{Plant, planted};
use landfall_protocol::{CollectionName, Json, Mutation, Op, Outcome, RecordId, RecordKey, RejectCode, Version};

impl Push<'_> {
    /// Why a record can't be stored, or deleted.
    pub(super) fn family_refusal(
        &self,
        mutation: &Mutation,
        before: Option<&Stored>,
        after: &Stored,
    ) -> Option<Outcome> {
        let on_delete = self.server.on_delete;
        if after.deleted {
            let has_children = on_delete == OnDelete::Refuse && !self.children(mutation).is_empty();
            let text = "Other records belong to this one.";
            return has_children.then(|| Outcome::rejected(mutation.seq, RejectCode::HAS_CHILDREN, text));
        }
        let was = before.filter(|before| !before.deleted).and_then(|before| before.fields.get(PARENT));
        let now = after.fields.get(PARENT);
        // A server without rules for deletes looks at what is said only.
        let named = if on_delete == OnDelete::Nothing { mutation.set.get(PARENT) } else { now.filter(|_| was != now) };
        let id = RecordId::from(named.filter(|_| mutation.op != Op::Delete)?.text().trim_matches('"'));
        let parent = RecordKey { scope: mutation.scope.clone(), collection: CollectionName::from("tasks"), id };
        let is_there = self.stored(&parent).is_some_and(|stored| !stored.deleted);
        (!is_there).then(|| Outcome::rejected(mutation.seq, RejectCode::MISSING_PARENT, "It has no parent."))
    }

    /// Live records that refer to the one that is to be deleted.
    pub(super) fn children(&self, mutation: &Mutation) -> Vec<(RecordKey, Stored)> {
        let stock = CollectionName::from("stock");
        let scope = self.server.data.scopes.get(&mutation.scope).filter(|_| mutation.collection.as_str() == "tasks");
        let records = scope.and_then(|scope| scope.records.get(&stock)).into_iter().flatten();
        let parent = Json::string(mutation.id.as_str());
        let children = records.filter(|(_, (_, stored))| !stored.deleted && stored.fields.get(PARENT) == Some(&parent));
        let key =
            |id: &RecordId| RecordKey { scope: mutation.scope.clone(), collection: stock.clone(), id: id.clone() };
        children.map(|(id, (_, stored))| (key(id), stored.clone())).collect()
    }

    /// Children go with their parent, at its position.
    pub(super) fn cascade(&mut self, mutation: &Mutation, parent: &Stored, position: u64) {
        if self.server.on_delete != OnDelete::Cascade || !parent.deleted || planted(Plant::CascadeForgotten) {
            return;
        }
        let floor = self.server.data.scopes.get(&mutation.scope).map_or(0, |scope| scope.version_floor);
        for (key, child) in self.children(mutation) {
            let stored = Stored {
                version: child.version.max(Version(floor)).next(),
                deleted: true,
                stamp: parent.stamp.clone().max(child.stamp.clone()),
                client: parent.client.clone(),
                seq: parent.seq,
                ..child
            };
            self.write(&key, &stored, position);
            let gone = Cascaded { key, version: stored.version.get(), stamp: stored.stamp.0 };
            self.cascades.push((mutation.seq, gone));
        }
    }
}
