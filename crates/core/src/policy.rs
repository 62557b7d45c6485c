//! Policies: what becomes of a mutation that met a record that its writer did not know.
//!
//! One function from state to plan ([`Rule::plan`]) and one judge that applies it to a record as a whole or to each field
//! ([`judge`]). Pure: the same code runs in the server and in the simulator; the client links none of it.
//! The authority asks only when two writers did not know of each other; a current base never comes here.

use crate::plant::{Plant, planted};
use crate::time::time_nanos;
use landfall_protocol::{Fields, Json, Map, Mutation, Op, Seq, Stamp, Value, Version};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Who wins one clash.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Rule {
    /// What is there stays.
    #[default]
    ServerWins,
    /// What arrives is taken.
    ClientWins,
    /// The greater stamp wins: the hybrid clock of the devices, clamped to the server's.
    LastStamp,
    /// Whoever arrives later wins, which is always the mutation.
    LastArrival,
    /// Nobody: the client rebases its change on the server's record and sends it once more.
    Reapply,
    /// The author decides, on the client.
    Author,
    /// Somebody with this role decides, by a row of `_conflicts`.
    Review(String),
}

/// What a mutation is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// The record's version (of [`Rule::LastStamp`]: its stamp); taken or refused whole.
    Whole(Rule),
    /// Field by field: a field clashes iff it changed after the mutation's base. The rule is for those that do.
    Merge(Rule),
}

impl Default for Way {
    fn default() -> Self {
        Self::Whole(Rule::ServerWins)
    }
}

/// The one refinement that a policy may have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Refinement {
    #[default]
    None,
    /// Rules of single fields; the others follow the policy. Judged field by field.
    Fields(Map<String, Rule>),
    /// This role wins against writers without it.
    Role(String),
    /// A field of the record names the policy, where the writer's role may choose.
    Record(Choice),
}

/// A policy chosen by record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// The field that names it.
    pub field: String,
    /// Who may set that field.
    pub roles: BTreeSet<String>,
    /// What it may say.
    pub allowed: Map<String, Way>,
}

/// The policy of a collection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    pub way: Way,
    pub refinement: Refinement,
    /// Time fields that are equal when they differ by at most so many milliseconds.
    pub equal_within_ms: Map<String, u64>,
}

/// Who wrote a field last, and when.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    pub version: Version,
    pub stamp: Stamp,
    /// User and client, as [`crate::authority::Situation::writer`] has it.
    pub writer: String,
    pub seq: Seq,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub role: String,
}

/// The marks of a record's fields; kept only where the policy needs them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    /// A field without a mark changed at this version at the latest.
    pub floor: Version,
    pub by_name: Map<String, Mark>,
}

/// What two writers did without knowing of each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clash {
    CreateOnCreate,
    UpdateOnUpdated,
    /// An update, or a create, of a record that was deleted.
    WriteOnDeleted,
    DeleteOnUpdated,
}

/// Which of two writers of one thing was later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Newer,
    Older,
}

/// What is to be done about a clash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// The server's value stays.
    Keep,
    /// The mutation takes effect over what is there.
    Take,
    /// The record lives again: its last values, and the mutation's over them.
    Recreate,
    /// Some fields are taken and the others stay.
    Merge(Merged),
    /// The client is to rebase.
    Stale,
    AskAuthor,
    AskRole(String),
}

/// A record put together of two writers' fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    pub fields: Fields,
    /// Fields of the mutation that took effect.
    pub taken: Vec<String>,
    /// Fields of the mutation that lost.
    pub lost: Vec<String>,
    /// What another writer had put there and this mutation overwrites.
    pub overwritten: Fields,
}

impl Rule {
    /// True when a mutation may take away what its writer has not seen.
    fn overrules(&self) -> bool {
        matches!(self, Self::ClientWins | Self::LastStamp | Self::LastArrival)
    }

    /// State to plan, for one thing: a record or a field.
    pub fn plan(&self, clash: Clash, order: Order) -> Plan {
        match (self, order, clash) {
            (Self::ServerWins, _, _) | (Self::LastStamp, Order::Older, _) => Plan::Keep,
            (Self::ClientWins | Self::LastArrival, _, Clash::WriteOnDeleted)
            | (Self::LastStamp, Order::Newer, Clash::WriteOnDeleted) => Plan::Recreate,
            (
                Self::ClientWins | Self::LastArrival,
                _,
                Clash::CreateOnCreate | Clash::UpdateOnUpdated | Clash::DeleteOnUpdated,
            )
            | (
                Self::LastStamp,
                Order::Newer,
                Clash::CreateOnCreate | Clash::UpdateOnUpdated | Clash::DeleteOnUpdated,
            ) => Plan::Take,
            (Self::Reapply, _, _) => Plan::Stale,
            (Self::Author, _, _) => Plan::AskAuthor,
            (Self::Review(role), _, _) => Plan::AskRole(role.clone()),
        }
    }
}

impl Policy {
    pub fn whole(rule: Rule) -> Self {
        Self { way: Way::Whole(rule), ..Self::default() }
    }
    pub fn merge(rule: Rule) -> Self {
        Self { way: Way::Merge(rule), ..Self::default() }
    }

    /// True when the server must keep a mark of each field: to judge them one by one, or to know whose value it was that an
    /// old base took away (C2).
    pub fn needs_marks(&self) -> bool {
        let by_field = |way: &Way| match way {
            Way::Merge(_) => true,
            Way::Whole(rule) => rule.overrules(),
        };
        by_field(&self.way)
            || match &self.refinement {
                Refinement::Fields(_) | Refinement::Role(_) => true,
                Refinement::Record(choice) => choice.allowed.values().any(by_field),
                Refinement::None => false,
            }
    }

    /// The role that counts in this policy, if the writer has it.
    pub fn role_of(&self, roles: &BTreeSet<String>) -> String {
        match &self.refinement {
            Refinement::Role(role) if roles.contains(role) => role.clone(),
            Refinement::Role(_) | Refinement::None | Refinement::Fields(_) | Refinement::Record(_) => String::new(),
        }
    }

    /// The roles that this policy asks to decide.
    pub fn reviewers(&self) -> BTreeSet<String> {
        let mut ways = vec![&self.way];
        let mut rules: Vec<&Rule> = Vec::new();
        match &self.refinement {
            Refinement::Fields(fields) => rules.extend(fields.values()),
            Refinement::Record(choice) => ways.extend(choice.allowed.values()),
            Refinement::None | Refinement::Role(_) => {}
        }
        rules.extend(ways.into_iter().map(|way| match way {
            Way::Whole(rule) | Way::Merge(rule) => rule,
        }));
        let role = |rule: &Rule| match rule {
            Rule::Review(role) => Some(role.clone()),
            Rule::ServerWins
            | Rule::ClientWins
            | Rule::LastStamp
            | Rule::LastArrival
            | Rule::Reapply
            | Rule::Author => None,
        };
        rules.into_iter().filter_map(role).collect()
    }

    /// Two values of a field that mean the same to this policy.
    pub fn same(&self, name: &str, a: Option<&Json>, b: Option<&Json>) -> bool {
        if a == b {
            return true;
        }
        let (Some(a), Some(b), Some(within)) = (a, b, self.equal_within_ms.get(name)) else { return false };
        let (Some(a), Some(b)) = (nanos(a), nanos(b)) else { return false };
        a.abs_diff(b) <= u128::from(*within) * 1_000_000
    }

    /// Where a record's own field chooses: what it says now, or what the mutation makes it say.
    fn way<'a>(&'a self, stored: &Fields, mutation: &Mutation) -> &'a Way {
        let Refinement::Record(choice) = &self.refinement else { return &self.way };
        let said = mutation.set.get(&choice.field).or_else(|| stored.get(&choice.field));
        said.and_then(Json::as_string).and_then(|said| choice.allowed.get(said.as_str())).unwrap_or(&self.way)
    }
}

/// A time as text, or as milliseconds since 1970.
pub fn nanos(value: &Json) -> Option<i128> {
    match Value::of(value.text()) {
        Value::String(text) => time_nanos(&text),
        #[allow(clippy::cast_possible_truncation, reason = "a time, and a JSON number is exact to 2^53")]
        Value::Number(millis) if millis.abs() < 1e15 => Some(millis as i128 * 1_000_000),
        _ => None,
    }
}

/// The record that a mutation clashes with.
#[derive(Clone, Copy, Debug)]
pub struct Met<'a> {
    pub clash: Clash,
    pub fields: &'a Fields,
    /// Of the record's last writer.
    pub mark: &'a Mark,
    pub marks: Option<&'a Marks>,
}

/// The mutation's writer.
#[derive(Clone, Copy, Debug)]
pub struct By<'a> {
    /// The version that it knew, resolved through its predecessors.
    pub base: Version,
    /// Clamped to the server's clock.
    pub stamp: &'a Stamp,
    pub writer: &'a str,
    pub seq: Seq,
    /// The role that counts, by [`Policy::role_of`].
    pub role: &'a str,
}

/// What becomes of a mutation that clashes.
pub fn judge(policy: &Policy, met: Met<'_>, by: By<'_>, mutation: &Mutation) -> Plan {
    let way = policy.way(met.fields, mutation);
    let (rule, by_field) = match way {
        Way::Whole(rule) => (rule, matches!(policy.refinement, Refinement::Fields(_))),
        Way::Merge(rule) => (rule, true),
    };
    let plan = |rule: &Rule, mark: &Mark| {
        let rule = by_role(policy, rule, mark, by);
        rule.plan(met.clash, order(mark, by))
    };
    match (met.clash, by_field) {
        (Clash::CreateOnCreate | Clash::UpdateOnUpdated, true) => merge(policy, rule, met, by, mutation),
        // A merge has nothing to put together where one side has no fields.
        (Clash::WriteOnDeleted | Clash::DeleteOnUpdated, true) if matches!(way, Way::Merge(_)) => {
            plan(&Rule::ServerWins, met.mark)
        }
        (Clash::WriteOnDeleted | Clash::DeleteOnUpdated, true) | (_, false) => plan(rule, met.mark),
    }
}

fn by_role<'a>(policy: &Policy, rule: &'a Rule, mark: &Mark, by: By<'_>) -> &'a Rule {
    let Refinement::Role(role) = &policy.refinement else { return rule };
    match (by.role == *role, mark.role == *role) {
        (true, false) => &Rule::ClientWins,
        (false, true) => &Rule::ServerWins,
        (true, true) | (false, false) => rule,
    }
}

/// Between mutations of one client the order is theirs, whatever its clock did.
fn order(mark: &Mark, by: By<'_>) -> Order {
    let is_newer = if mark.writer == by.writer { mark.seq < by.seq } else { mark.stamp < *by.stamp };
    if is_newer { Order::Newer } else { Order::Older }
}

fn merge(policy: &Policy, rule: &Rule, met: Met<'_>, by: By<'_>, mutation: &Mutation) -> Plan {
    let mut merged = Merged { fields: met.fields.clone(), ..Merged::default() };
    let mut stale = false;
    let mut role = None;
    let unset = mutation.unset.iter().map(|name| (name, None));
    for (name, wanted) in mutation.set.iter().map(|(name, value)| (name, Some(value))).chain(unset) {
        let there = met.fields.get(name);
        if policy.same(name, there, wanted) {
            continue;
        }
        let (changed_at, mark, own) = mark_of(met, by, name);
        let rule = match &policy.refinement {
            Refinement::Fields(fields) => fields.get(name).unwrap_or(rule),
            Refinement::None | Refinement::Role(_) | Refinement::Record(_) => rule,
        };
        let clashes = changed_at > by.base && !own && !planted(Plant::MergeIgnoresFieldVersion);
        let plan = if clashes {
            by_role(policy, rule, mark, by).plan(Clash::UpdateOnUpdated, order(mark, by))
        } else {
            Plan::Take
        };
        match plan {
            Plan::Take | Plan::Recreate | Plan::Merge(_) => {
                match wanted {
                    Some(value) => _ = merged.fields.insert(name.clone(), value.clone()),
                    None => _ = merged.fields.remove(name),
                }
                merged.taken.push(name.clone());
                if let Some(there) = there.filter(|_| clashes) {
                    merged.overwritten.insert(name.clone(), there.clone());
                }
            }
            Plan::Keep => merged.lost.push(name.clone()),
            Plan::Stale => stale = true,
            // A mutation is decided whole: one field that needs a person is enough.
            Plan::AskAuthor => return Plan::AskAuthor,
            Plan::AskRole(asked) => role = Some(asked),
        }
    }
    match (role, stale, merged.taken.is_empty()) {
        (Some(role), _, _) => Plan::AskRole(role),
        (None, true, _) => Plan::Stale,
        (None, false, true) => Plan::Keep,
        (None, false, false) => Plan::Merge(merged),
    }
}

/// When a field changed last, by whom as far as is known, and whether that was surely this mutation's own client before.
fn mark_of<'a>(met: Met<'a>, by: By<'_>, name: &str) -> (Version, &'a Mark, bool) {
    let Some(marks) = met.marks else { return (met.mark.version, met.mark, false) };
    match marks.by_name.get(name) {
        Some(mark) => (mark.version, mark, mark.writer == by.writer && mark.seq < by.seq),
        None => (marks.floor, met.mark, false),
    }
}

/// The marks after a write that makes `after` of `before`, both field by field.
pub fn marks_after(op: Op, was: Option<(&Fields, &Mark, Option<&Marks>, bool)>, after: &Fields, mark: &Mark) -> Marks {
    let mut marks = Marks::default();
    let none = Fields::new();
    let before = match was {
        None => &none,
        Some((before, last, known, deleted)) => {
            marks = known.cloned().unwrap_or_else(|| {
                // Written before this collection needed marks: each field is as young as the record.
                let by_name = before.keys().map(|name| (name.clone(), last.clone())).collect();
                Marks { floor: last.version, by_name }
            });
            if deleted && op == Op::Create {
                // What it had went with the delete, and is not taken away again by its new life.
                marks = Marks { floor: last.version, by_name: Map::new() };
                &none
            } else {
                before
            }
        }
    };
    let starts_new = op == Op::Create && marks.by_name.is_empty();
    for (name, value) in after {
        if starts_new || before.get(name) != Some(value) {
            marks.by_name.insert(name.clone(), mark.clone());
        }
    }
    for name in before.keys().filter(|name| !after.contains_key(*name)) {
        marks.by_name.insert(name.clone(), mark.clone());
    }
    marks
}
