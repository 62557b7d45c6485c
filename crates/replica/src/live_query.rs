//! Live queries: an answer that is kept up to date, record by record, instead of being asked for again.
//!
//! What changes is looked at alone: it leaves its old place and takes its new one. Behind the limit some rows are kept in
//! reserve, so that one that leaves is replaced at once; only when the reserve is used up, or a collection changed as
//! a whole, the question is asked again. The listener is told what is between the unchanged beginning and end.

use crate::Replica;
use crate::db::Touched;
use crate::error::SyncError;
use crate::host::Host;
use crate::query::{Query, Row, Rows, asks, row_of, seen_text, write_rows};
use landfall_protocol::codec::write_number;
use landfall_protocol::{Listed, RecordKey};
use landfall_storage::query::Filter;
use std::rc::Rc;

/// Rows that are kept behind the limit.
const RESERVE: usize = 64;

/// One live query.
pub struct LiveQuery {
    pub query: Query,
    filter: Filter,
    /// In order, from the first one on, the reserve behind them.
    rows: Vec<Rc<Row>>,
    /// There may be more behind the last one.
    is_cut: bool,
    /// What the listener was told of last.
    told: Vec<Rc<Row>>,
    is_told: bool,
}

impl LiveQuery {
    pub fn new(query: Query) -> Self {
        let filter = Filter::new(&query.conditions);
        Self { query, filter, rows: Vec::new(), is_cut: true, told: Vec::new(), is_told: false }
    }

    /// Rows that are shown, and those in reserve.
    fn end(&self) -> usize {
        self.query.limit.map_or(usize::MAX, |limit| self.query.offset.saturating_add(limit))
    }

    /// What the listener has not been told: `{"start":…,"gone":…,"rows":[…],"meta":[…]}`: from `start` on, `gone` rows are
    /// replaced by these; a null `start` begins anew. `None`: nothing.
    pub fn news(&mut self) -> Option<String> {
        let from = self.query.offset.min(self.rows.len());
        let now = self.rows.get(from..self.end().min(self.rows.len()).max(from)).unwrap_or_default();
        let old = &self.told;
        let same = |(a, b): &(&Rc<Row>, &Rc<Row>)| Rc::ptr_eq(a, b);
        let start = now.iter().zip(old).take_while(same).count();
        let rest = now.len().min(old.len()) - start;
        let end = now.iter().rev().zip(old.iter().rev()).take(rest).take_while(same).count();
        let gone = old.len() - start - end;
        let fresh = now.get(start..now.len() - end).unwrap_or_default();
        if self.is_told && gone == 0 && fresh.is_empty() {
            return None;
        }
        let mut out = String::from("{\"start\":");
        match self.is_told {
            true => write_number(&mut out, start as u64),
            false => out.push_str("null"),
        }
        out.push_str(",\"gone\":");
        write_number(&mut out, gone as u64);
        out.push(',');
        let fresh: Vec<Row> = fresh.iter().map(|row| Row::clone(row)).listed();
        write_rows(&mut out, &fresh);
        out.push('}');
        self.told = now.to_vec();
        self.is_told = true;
        Some(out)
    }

    /// Takes a whole answer. Rows that did not change stay the ones they were.
    fn take(&mut self, rows: Vec<Row>, is_cut: bool) {
        let mut fresh: Vec<Rc<Row>> = Vec::with_capacity(rows.len());
        for row in rows {
            let order = &self.query.order;
            let at = self.rows.partition_point(|old| old.place.compare(&row.place, order).is_lt());
            let old = self.rows.get(at).filter(|old| ***old == row);
            fresh.push(old.map_or_else(|| Rc::new(row), Rc::clone));
        }
        self.rows = fresh;
        self.is_cut = is_cut;
    }

    /// Puts one record where it belongs now. False: the answer can't be known from what is here.
    fn put(&mut self, key: &RecordKey, row: Option<Row>) -> bool {
        let is_it = |old: &Rc<Row>| old.place.id == key.id.as_str() && old.place.scope == key.scope.as_str();
        let old = self.rows.iter().position(is_it);
        if let (Some(at), Some(row)) = (old, &row)
            && *self.rows[at] == *row
        {
            return true;
        }
        if let Some(at) = old {
            self.rows.remove(at);
        }
        if let Some(row) = row {
            let order = &self.query.order;
            let at = self.rows.partition_point(|other| other.place.compare(&row.place, order).is_lt());
            // Behind the last one that is known there may be others before it.
            if at < self.rows.len() || !self.is_cut {
                self.rows.insert(at, Rc::new(row));
            }
        }
        let most = self.end().saturating_add(RESERVE * 2);
        if self.rows.len() > most {
            self.rows.truncate(most - RESERVE);
            self.is_cut = true;
        }
        !self.is_cut || self.rows.len() >= self.end()
    }
}

impl<H: Host> Replica<H> {
    /// Asks the whole question.
    pub async fn live_ask(&self, live: &mut LiveQuery) -> Result<(), SyncError> {
        let limit = live.query.limit.map(|_| live.end().saturating_add(RESERVE));
        let query = Query { limit, offset: 0, ..live.query.clone() };
        let Rows { rows, next } = self.query(&query).await?;
        live.take(rows, next.is_some());
        Ok(())
    }

    /// Takes changes into account.
    pub async fn live_changed(&self, live: &mut LiveQuery, touched: &Touched) -> Result<(), SyncError> {
        let mut is_known = !touched.whole.contains(&live.query.collection);
        for key in &touched.records {
            if !is_known || !asks(&live.query, key) {
                continue;
            }
            let row = loop {
                let row = {
                    let db = self.db.borrow();
                    let filter = &mut live.filter;
                    seen_text(&db, key)
                        .filter(|(_, text)| filter.matches(key.id.as_str(), text))
                        .map(|(version, text)| row_of(&db, &live.query, key, version, &text))
                };
                if !self.fetch_missed().await? {
                    break row;
                }
            };
            let after = &live.query.after;
            let row = row
                .filter(|row| after.as_ref().is_none_or(|after| row.place.compare(after, &live.query.order).is_gt()));
            is_known = live.put(key, row);
        }
        if is_known { Ok(()) } else { self.live_ask(live).await }
    }
}
