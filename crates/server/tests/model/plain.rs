//! The server as docs/protocol.md says it is: a map of records, a list of changes, a table of answers.

use crate::support::mutation;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Collections, and what becomes there of who did not know the record as it is.
pub const COLLECTIONS: [(&str, Policy); 3] =
    [("standard", Policy::ServerWins), ("client", Policy::ClientWins), ("again", Policy::Reapply)];
pub const SCOPES: [&str; 2] = ["s:1", "s:2"];
pub const RECORDS: u64 = 4;
pub const CLIENTS: usize = 4;

#[derive(Clone, Copy, PartialEq)]
pub enum Policy {
    ServerWins,
    ClientWins,
    Reapply,
}

pub type Fields = Map<String, Value>;
pub type Key = (String, String, String);

#[derive(Clone, PartialEq, Debug)]
pub struct Record {
    pub version: u64,
    pub deleted: bool,
    pub fields: Fields,
    pub writer: (usize, u64),
}

/// What a mutation asks for, as it is sent.
#[derive(Clone)]
pub struct Wanted {
    pub seq: u64,
    pub key: Key,
    pub op: &'static str,
    pub set: Fields,
    pub unset: Vec<String>,
    pub base: Option<u64>,
    pub after: Option<u64>,
    pub group: Option<String>,
    pub is_void: bool,
}

impl Wanted {
    pub fn text(&self) -> String {
        if self.is_void {
            return json!({"seq": self.seq, "void": true}).to_string();
        }
        let mut more = json!({});
        if let Some(base) = self.base {
            more["base"] = json!(base);
        }
        if let Some(after) = self.after {
            more["after"] = json!(after);
        }
        if !self.unset.is_empty() {
            more["unset"] = json!(self.unset);
        }
        if let Some(group) = &self.group {
            more["group"] = json!(group);
        }
        let (scope, collection, id) = &self.key;
        mutation(self.seq, scope, collection, id, self.op, &Value::Object(self.set.clone()), &more)
    }
}

/// A verdict of the model: status with code, the version after it, and the record to write.
#[derive(Clone, PartialEq, Debug)]
pub struct Verdict {
    pub word: String,
    pub version: Option<u64>,
    pub effect: Option<Record>,
}

impl Verdict {
    fn rejected(code: &str) -> Self {
        Self { word: format!("rejected({code})"), version: None, effect: None }
    }
    pub fn took_effect(&self) -> bool {
        ["applied", "recreated"].contains(&self.word.as_str())
    }
}

/// What a client was answered under a seq, and for which bytes; none for a void.
#[derive(Clone)]
pub struct Answered {
    pub sent: Option<String>,
    pub result: Value,
    pub verdict: Verdict,
}

#[derive(Default)]
pub struct Model {
    pub records: BTreeMap<Key, Record>,
    /// Changes of a scope by position.
    pub log: BTreeMap<String, BTreeMap<u64, Vec<(Key, Record)>>>,
    pub answered: BTreeMap<(usize, u64), Answered>,
    pub acked_through: [u64; CLIENTS],
}

impl Model {
    pub fn head(&self, scope: &str) -> u64 {
        self.log.get(scope).and_then(|log| log.keys().next_back()).copied().unwrap_or(0)
    }

    fn judge(&self, client: usize, wanted: &Wanted) -> Verdict {
        if wanted.is_void {
            return Verdict::rejected("void");
        }
        let (scope, collection, _) = &wanted.key;
        if !SCOPES.contains(&scope.as_str()) {
            return Verdict::rejected("forbidden");
        }
        let Some((_, policy)) = COLLECTIONS.iter().find(|(name, _)| name == collection) else {
            return Verdict::rejected("unknown_collection");
        };
        let after = wanted.after.map(|seq| self.answered.get(&(client, seq)).map(|answered| &answered.verdict));
        if let Some(after) = after
            && after.is_none_or(|verdict| verdict.word.starts_with("rejected"))
        {
            return Verdict::rejected("blocked");
        }
        let stored = self.records.get(&wanted.key);
        let is_current = stored.is_some_and(|stored| match (wanted.after, after.flatten()) {
            (Some(seq), Some(verdict)) => {
                stored.writer == (client, seq) || (verdict.took_effect() && verdict.version == Some(stored.version))
            }
            _ => wanted.base == Some(stored.version),
        });
        let verdict = Self::verdict(*policy, stored, is_current, client, wanted);
        match &verdict.effect {
            Some(record) if !record.deleted => Self::invalid(wanted, &record.fields).unwrap_or(verdict),
            _ => verdict,
        }
    }

    fn verdict(policy: Policy, stored: Option<&Record>, is_current: bool, client: usize, wanted: &Wanted) -> Verdict {
        let write = |word: &str, deleted: bool, fields: Fields| {
            let version = stored.map_or(0, |stored| stored.version) + 1;
            let effect = Record { version, deleted, fields, writer: (client, wanted.seq) };
            Verdict { word: word.to_owned(), version: Some(version), effect: Some(effect) }
        };
        let keep = |word: &str| Verdict {
            word: word.to_owned(),
            version: Some(stored.map_or(0, |stored| stored.version)),
            effect: None,
        };
        let Some(stored) = stored else {
            return match wanted.op {
                "create" => write("applied", false, wanted.set.clone()),
                "delete" => keep("applied"),
                _ => Verdict::rejected("gone"),
            };
        };
        let mut patched = if wanted.op == "create" { Fields::new() } else { stored.fields.clone() };
        patched.extend(wanted.set.clone());
        patched.retain(|name, _| !wanted.unset.contains(name));
        let is_there = wanted.set.iter().all(|(name, value)| stored.fields.get(name) == Some(value))
            && wanted.unset.iter().all(|name| !stored.fields.contains_key(name))
            && (wanted.op != "create" || stored.fields.len() == wanted.set.len());
        match (wanted.op, stored.deleted, is_current) {
            ("delete", true, _) => keep("applied"),
            ("delete", false, true) => write("applied", true, stored.fields.clone()),
            ("create", true, true) => write("applied", false, patched),
            (_, false, true) if patched == stored.fields => keep("applied"),
            (_, false, true) => write("applied", false, patched),
            ("create" | "update", false, false) if is_there => keep("applied"),
            (op, deleted, _) => match policy {
                Policy::ServerWins => keep("superseded"),
                Policy::Reapply => Verdict { word: "rejected(stale)".to_owned(), ..keep("") },
                Policy::ClientWins if op == "delete" => write("applied", true, stored.fields.clone()),
                // An update brings the last values back, a create says all that there is.
                Policy::ClientWins if deleted => write("recreated", false, patched),
                Policy::ClientWins => write("applied", false, patched),
            },
        }
    }

    /// The scope's template, then the schema.
    fn invalid(wanted: &Wanted, fields: &Fields) -> Option<Verdict> {
        let site = wanted.key.0.strip_prefix("s:").map(Value::from);
        if fields.get("site") != site.as_ref() {
            return Some(Verdict::rejected(if wanted.op == "update" { "immutable" } else { "validation" }));
        }
        let is_whole = fields.get("n").is_none_or(Value::is_u64);
        (!is_whole).then(|| Verdict::rejected("validation"))
    }

    /// Judges a push unit by unit; what each element is to be answered, and at which position.
    pub fn push(&mut self, client: usize, elements: &[Wanted]) -> Vec<Expected> {
        let mut expected = Vec::new();
        // Of another copy of the client nothing new is judged.
        if elements.iter().any(|it| matches!(self.known(client, it), Some(Expected::Reused))) {
            return elements.iter().map(|it| self.known(client, it).unwrap_or(Expected::Reused)).collect();
        }
        let mut run: Option<(String, u64)> = None;
        let mut from = 0;
        while from < elements.len() {
            let group = &elements[from].group;
            let to =
                from + 1 + elements[from + 1..].iter().take_while(|it| group.is_some() && it.group == *group).count();
            let unit = &elements[from..to];
            from = to;
            if let [only] = unit
                && let Some(known) = self.known(client, only)
            {
                expected.push(known);
                continue;
            }
            // Into a scope that is held, a transaction for each run of it.
            for wanted in unit.iter().filter(|it| !it.is_void && self.enters(it)) {
                if run.as_ref().is_none_or(|(scope, _)| *scope != wanted.key.0) {
                    run = Some((wanted.key.0.clone(), self.head(&wanted.key.0)));
                }
            }
            let before = (unit.len() > 1).then(|| (self.records.clone(), self.log.clone()));
            let blocked = if unit.len() > 1 { self.blocked_in(client, unit) } else { None };
            let (mut verdicts, mut stood) = (Vec::new(), Vec::new());
            for wanted in unit {
                let verdict = match blocked {
                    Some(_) => Verdict::rejected("blocked"),
                    None => self.judge(client, wanted),
                };
                if let Some(record) = &verdict.effect {
                    let (_, start) = run.as_ref().unwrap();
                    let log = self.log.entry(wanted.key.0.clone()).or_default();
                    log.entry(start + 1).or_default().push((wanted.key.clone(), record.clone()));
                    self.records.insert(wanted.key.clone(), record.clone());
                }
                verdicts.push(verdict);
                // Position and record as of its own turn: a later one of the same push may change them.
                let record = self.records.get(&wanted.key).filter(|record| !record.deleted);
                stood.push((self.head(&wanted.key.0), record.map(|record| record.fields.clone())));
                // What comes after it in its group may name it.
                let last = verdicts.last().unwrap().clone();
                let sent = (!wanted.is_void).then(|| wanted.text());
                self.answered.insert((client, wanted.seq), Answered { sent, result: Value::Null, verdict: last });
            }
            if let Some(before) = before
                && let Some(at) = blocked.or_else(|| verdicts.iter().position(|verdict| !verdict.took_effect()))
            {
                (self.records, self.log) = before;
                for (wanted, stood) in unit.iter().zip(&mut stood) {
                    let record = self.records.get(&wanted.key).filter(|record| !record.deleted);
                    *stood = (self.head(&wanted.key.0), record.map(|record| record.fields.clone()));
                }
                let cause = verdicts[at].clone();
                for (index, verdict) in verdicts.iter_mut().enumerate() {
                    let stands = self.records.get(&unit[index].key).map(|record| record.version);
                    *verdict = match (cause.word.as_str(), index == at) {
                        ("superseded", _) => Verdict { word: "superseded".to_owned(), version: stands, effect: None },
                        (_, true) => cause.clone(),
                        _ => Verdict::rejected("group_refused"),
                    };
                    self.answered.get_mut(&(client, unit[index].seq)).unwrap().verdict = verdict.clone();
                }
            }
            for ((wanted, verdict), (position, record)) in unit.iter().zip(verdicts).zip(stood) {
                expected.push(Expected::New { seq: wanted.seq, verdict, position, record });
            }
        }
        expected
    }

    /// The first member of a group that stands on a refused mutation before the group.
    fn blocked_in(&self, client: usize, unit: &[Wanted]) -> Option<usize> {
        unit.iter().position(|wanted| {
            let before = wanted.after.filter(|seq| unit.iter().all(|other| other.seq != *seq));
            let is_refused = |seq: u64| {
                let answered = self.answered.get(&(client, seq));
                answered.is_none_or(|answered| answered.verdict.word.starts_with("rejected"))
            };
            !wanted.is_void && SCOPES.contains(&wanted.key.0.as_str()) && before.is_some_and(is_refused)
        })
    }

    fn enters(&self, wanted: &Wanted) -> bool {
        let is_known = COLLECTIONS.iter().any(|(name, _)| *name == wanted.key.1);
        !wanted.is_void && SCOPES.contains(&wanted.key.0.as_str()) && is_known
    }

    fn known(&self, client: usize, wanted: &Wanted) -> Option<Expected> {
        if wanted.seq <= self.acked_through[client] {
            return Some(Expected::Settled);
        }
        let answered = self.answered.get(&(client, wanted.seq))?;
        let is_same = wanted.is_void || answered.sent.as_ref().is_none_or(|sent| *sent == wanted.text());
        Some(if is_same { Expected::Repeat(wanted.seq) } else { Expected::Reused })
    }

    /// Records of a pair as of a position.
    pub fn at(&self, scope: &str, collection: &str, position: u64) -> BTreeMap<String, (u64, Fields)> {
        let mut records = BTreeMap::new();
        for (key, record) in self.log.get(scope).into_iter().flat_map(|log| log.range(..=position)).flat_map(|it| it.1)
        {
            if key.1 == collection && record.deleted {
                records.remove(&key.2);
            } else if key.1 == collection {
                records.insert(key.2.clone(), (record.version, record.fields.clone()));
            }
        }
        records
    }
}

pub enum Expected {
    New {
        seq: u64,
        verdict: Verdict,
        position: u64,
        record: Option<Fields>,
    },
    /// Word for word what was answered under this seq.
    Repeat(u64),
    Settled,
    Reused,
}
