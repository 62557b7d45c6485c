//! Writing: from what the app asks to entries, and from entries to one blind append a commit group.
//!
//! One transaction is in flight; writes that arrive meanwhile wait as they are and form the next group. They are made
//! entries when it is their turn, so that what they stand on is stored, or stored with them. A write resolves when its
//! row is durable (L1) and rejects only when the row is known to be absent (L3).

mod append;
mod convert;

use crate::Replica;
use crate::error::SyncError;
use crate::host::Host;
use convert::{Answer, Checked, Converted};
use futures_channel::oneshot;
use landfall_core::plant::{Plant, planted};
use landfall_core::rows::LogRow;
use landfall_core::schedule::Trigger;
use landfall_protocol::codec::{ToJson, write_object};
use landfall_protocol::{CollectionName, EntryId, GroupId, Json, Listed, RecordId, Scope};
use std::rc::Rc;

/// What the app asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteKind {
    /// The record is this, whatever was there.
    Put,
    /// As put, and refused when it is there.
    Create,
    /// These fields, of a record that is there.
    Update,
    Delete,
}

landfall_protocol::wire_names!(WriteKind { Put: "put", Create: "create", Update: "update", Delete: "delete" });

/// One write of the app. `fields` is the JSON text of an object without the id.
#[derive(Clone, Debug)]
pub struct WriteOp {
    pub op: WriteKind,
    pub collection: CollectionName,
    pub scope: Option<Scope>,
    pub id: Option<RecordId>,
    pub fields: Option<Json>,
}

landfall_protocol::wire_in!(WriteOp { op: Need, collection: Need, scope: Keep, id: Keep, fields: Keep });

/// What became of a write: where it is in the log, or that it changed nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    pub id: RecordId,
    pub scope: Scope,
    pub entry: Option<EntryId>,
}

landfall_protocol::wire_out!(Written { id: Need, scope: Need, entry: Keep });

/// The answer to one write of several that need not stand together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteAnswer {
    Done(Written),
    Refused { error: SyncError },
}

impl ToJson for WriteAnswer {
    fn write(&self, out: &mut String) {
        match self {
            Self::Done(written) => written.write(out),
            Self::Refused { error } => write_object(out, "error!", &[error]),
        }
    }
}

/// Writes that were asked for in one call and wait for their turn.
pub(crate) struct Call {
    writes: Vec<Result<Checked, SyncError>>,
    /// All of them or none.
    together: bool,
    /// All or none at the server too.
    group: Option<GroupId>,
    done: oneshot::Sender<Vec<WriteAnswer>>,
}

impl<H: Host> Replica<H> {
    /// Stores writes that stand for themselves: one that is refused leaves the others alone. Resolves when all that
    /// were not refused are durable.
    pub async fn write_each(self: &Rc<Self>, ops: Vec<Result<WriteOp, SyncError>>) -> Vec<WriteAnswer> {
        let writes: Vec<_> = ops
            .into_iter()
            .map(|op| {
                self.check_open()?;
                self.checked(op?)
            })
            .listed();
        let count = writes.len();
        let waiting = self.enqueue(writes, false, None);
        waiting
            .await
            .unwrap_or_else(|_| (0..count).map(|_| WriteAnswer::Refused { error: SyncError::closed() }).listed())
    }

    /// Stores the writes; resolves when they are durable. `atomic`: all or none, here and at the server.
    pub async fn write(self: &Rc<Self>, ops: Vec<WriteOp>, atomic: bool) -> Result<Vec<Written>, SyncError> {
        self.check_open()?;
        let mut writes = Vec::new();
        for op in ops {
            writes.push(Ok(self.checked(op)?));
        }
        let group = (atomic && writes.len() > 1).then(|| GroupId(self.uuid()));
        let answers = self.enqueue(writes, true, group).await.map_err(|_| SyncError::closed())?;
        let mut all = Vec::new();
        for answer in answers {
            match answer {
                WriteAnswer::Done(written) => all.push(written),
                WriteAnswer::Refused { error } => return Err(error),
            }
        }
        Ok(all)
    }

    fn enqueue(
        self: &Rc<Self>,
        writes: Vec<Result<Checked, SyncError>>,
        together: bool,
        group: Option<GroupId>,
    ) -> oneshot::Receiver<Vec<WriteAnswer>> {
        let (done, waiting) = oneshot::channel();
        self.queue.borrow_mut().push(Call { writes, together, group, done });
        if !self.pumping.replace(true) {
            let replica = Rc::clone(self);
            self.host.spawn(Box::pin(async move { replica.pump().await }));
        }
        waiting
    }

    /// Commits queued writes, group after group, until none is left.
    async fn pump(self: Rc<Self>) {
        loop {
            let calls = std::mem::take(&mut *self.queue.borrow_mut());
            if calls.is_empty() {
                self.pumping.set(false);
                return;
            }
            // A conversion has no effect before its clock and entries are taken over: what it finds missing in memory is
            // read, and the conversion done again.
            let converted = loop {
                let converted = self.convert(&calls);
                match self.fetch_missed().await {
                    Ok(true) => {}
                    Ok(false) => break Ok(converted),
                    Err(error) => break Err(error),
                }
            };
            let Converted { entries, answers, immediate, hlc } = match converted {
                Ok(converted) => converted,
                Err(error) => {
                    // What they stand on can't be read now: none of them is stored.
                    for call in calls {
                        let refused = call.writes.iter().map(|_| Answer { result: Err(error.clone()), waits: false });
                        let refused = refused.listed();
                        call.answer(refused, Ok(&[]));
                    }
                    self.storage_said(&error);
                    continue;
                }
            };
            self.db.borrow_mut().state.hlc = hlc;
            let mut waiting = Vec::new();
            for (call, answers) in calls.into_iter().zip(answers) {
                if !entries.is_empty() && answers.iter().any(|answer| answer.waits) {
                    waiting.push((call, answers));
                } else {
                    call.answer(answers, Ok(&[]));
                }
            }
            if entries.is_empty() {
                continue;
            }
            self.schedule.borrow_mut().handle(self.host.now(), Trigger::Write { immediate });
            let rows = self.rows_of(entries);
            if planted(Plant::AckBeforeComplete) {
                self.pump_without_waiting(waiting, rows);
                continue;
            }
            match self.append(rows).await {
                Ok((ids, touched)) => {
                    for (call, answers) in waiting {
                        call.answer(answers, Ok(&ids));
                    }
                    self.changed(touched);
                    self.storage_ok();
                    if self.queue.borrow().is_empty() {
                        self.enqueued();
                    }
                }
                // What waits behind it was not looked at yet and stands on nothing of this.
                Err(error) => {
                    for (call, answers) in waiting {
                        call.answer(answers, Err(&error));
                    }
                    self.storage_said(&error);
                }
            }
        }
    }

    /// The planted bug: resolves first, stores later.
    fn pump_without_waiting(self: &Rc<Self>, waiting: Vec<(Call, Vec<Answer>)>, rows: Vec<LogRow>) {
        for (call, answers) in waiting {
            call.answer(answers, Ok(&[]));
        }
        let replica = Rc::clone(self);
        self.host.spawn(Box::pin(async move {
            if let Ok((_, touched)) = replica.append(rows).await {
                replica.changed(touched);
            }
        }));
    }
}

impl Call {
    /// Says what became of it. `stored`: the log positions of the new entries, or why none of them is stored.
    fn answer(self, answers: Vec<Answer>, stored: Result<&[EntryId], &SyncError>) {
        let mut said = Vec::new();
        for (write, answer) in self.writes.into_iter().zip(answers) {
            said.push(match (answer.result, write, stored) {
                (_, _, Err(error)) if answer.waits => WriteAnswer::Refused { error: error.clone() },
                (Ok((scope, at)), Ok(Checked { id, .. }), ids) => {
                    // The planted bug answers before there are positions.
                    let entry = at.map(|at| ids.ok().and_then(|ids| ids.get(at).copied()).unwrap_or_default());
                    WriteAnswer::Done(Written { id, scope, entry })
                }
                (Err(error), _, _) | (_, Err(error), _) => WriteAnswer::Refused { error },
            });
        }
        // The caller may be gone; what is durable is so all the same.
        let _ = self.done.send(said);
    }
}
