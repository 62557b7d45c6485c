//! Which way to the records of a query: by id, through an index, or over all of them.
//!
//! An index holds the entries of one (scope, collection), sorted by (key, id). Read backwards, entries of equal keys
//! come in descending id order, and an index with more fields than the order needs sorts ties by those; both are
//! told by [`IndexAccess::run_fields`], and the reader puts such runs in id order again.

use super::condition::{Condition, Query};
use super::key::{Range, push_component, successor};
use landfall_protocol::map::sort;
use landfall_protocol::{Listed, Value};
use std::cmp::Reverse;

/// What is known of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexInfo {
    pub name: String,
    pub fields: Vec<String>,
    /// False while it is being built: it is not used.
    pub ready: bool,
    pub entries: u64,
}

/// The way to the records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// These ids, ascending, each once; none: nothing fits.
    Ids(Vec<String>),
    Index(IndexAccess),
    Scan,
}

/// How an index is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexAccess {
    /// Its place in the list that was given.
    pub index: usize,
    /// Ascending, apart from each other, none of them empty; none: nothing fits.
    pub ranges: Vec<Range>,
    pub backwards: bool,
    /// The records come in the order that is asked, once runs are put right.
    pub ordered: bool,
    /// Entries that have the first so many components of the key in common
    /// ([`prefix_len`](super::key::prefix_len)) are ties: each such run is to be sorted by id before it is handed on.
    /// `None`: they come right as they are.
    pub run_fields: Option<usize>,
    /// The fields whose conditions the ranges say in full.
    pub covered: Vec<String>,
    /// The fields that the ranges bind by `eq` or `in`, and one more if by a range.
    pub bound: usize,
}

/// How a query is answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub access: Access,
    /// The conditions that each record is still to be asked.
    pub filter: Vec<(String, Condition)>,
    /// The records are to be sorted when all are found.
    pub sort: bool,
    /// Reading can end when enough records are found.
    pub early_stop: bool,
}

/// Up to this many ranges of one index are read for an `in`; more are a filter.
const RANGES_MAX: usize = 100;

/// An index that only gives the order, with conditions left to ask, is worth its scattered reads when so many times the
/// wanted records are there.
const ORDER_ONLY_FACTOR: u64 = 64;

/// Chooses the way. `records` counts those of the collection; `cluster` names the fields that the stored rows are sorted
/// by, along which reading through an index touches few rows.
pub fn plan(query: &Query, indexes: &[IndexInfo], records: u64, cluster: &[String]) -> Plan {
    if let Some(condition) = query.condition("id")
        && let Some(ids) = ids(condition)
    {
        // What else is asked of the id stays to be asked.
        let whole = !condition.is_range() && (condition.equal.is_none() || condition.one_of.is_none());
        let filter = without(query, &|name| whole && name == "id");
        let sort = !query.count && !query.order.is_empty();
        return Plan { access: Access::Ids(ids), filter, sort, early_stop: false };
    }
    let mut best: Option<(Rank, IndexAccess)> = None;
    for (index, info) in indexes.iter().enumerate().filter(|(_, info)| info.ready) {
        let access = through(query, index, info);
        let Some(rank) = rank(query, info, &access, records, cluster) else { continue };
        if best.as_ref().is_none_or(|(known, _)| rank > *known) {
            best = Some((rank, access));
        }
    }
    let Some((_, access)) = best else {
        let filter = query.conditions.clone();
        return Plan { access: Access::Scan, filter, sort: !query.count, early_stop: false };
    };
    Plan {
        filter: without(query, &|name| access.covered.iter().any(|covered| covered == name)),
        sort: !query.count && !access.ordered,
        early_stop: !query.count && access.ordered && query.limit.is_some(),
        access: Access::Index(access),
    }
}

/// The conditions but for some.
fn without(query: &Query, gone: &dyn Fn(&str) -> bool) -> Vec<(String, Condition)> {
    query.conditions.iter().filter(|(name, _)| !gone(name)).cloned().listed()
}

/// The ids that can fit, if the condition names them.
fn ids(condition: &Condition) -> Option<Vec<String>> {
    let mut ids: Vec<String> = Vec::new();
    for value in named(condition)? {
        // Ids are strings; anything else is nobody's.
        if let Value::String(id) = value {
            ids.push(id.clone());
        }
    }
    Some(in_order(ids))
}

/// The values that can fit, if the condition names them.
fn named(condition: &Condition) -> Option<&[Value]> {
    match &condition.equal {
        Some(value) => Some(std::slice::from_ref(value)),
        None => condition.one_of.as_deref(),
    }
}

/// Ascending, each once.
fn in_order(mut texts: Vec<String>) -> Vec<String> {
    sort(&mut texts, &String::cmp);
    texts.dedup();
    texts
}

/// The better of two ways is the greater: in the order that is asked if there is a limit, most fields bound, in order all
/// the same, along the clustered field, fewest fields, fewest entries. Of equals the first.
type Rank = (bool, usize, bool, bool, Reverse<usize>, Reverse<u64>);

/// `None`: reading everything is better.
fn rank(query: &Query, info: &IndexInfo, access: &IndexAccess, records: u64, cluster: &[String]) -> Option<Rank> {
    let limited = access.ordered && !query.count && query.limit.is_some();
    if access.bound == 0 {
        if !limited {
            return None;
        }
        let wanted = query.limit.unwrap_or(0).saturating_add(query.offset) as u64;
        if !query.conditions.is_empty() && wanted.saturating_mul(ORDER_ONLY_FACTOR) > records {
            return None;
        }
    }
    let clustered = cluster.first().is_some_and(|first| info.fields.first() == Some(first));
    Some((
        // An index that binds nothing is no better than one that does for the sake of the order.
        limited && access.bound > 0,
        access.bound,
        access.ordered,
        clustered,
        Reverse(info.fields.len()),
        Reverse(info.entries),
    ))
}

/// The best that one index can do.
fn through(query: &Query, index: usize, info: &IndexInfo) -> IndexAccess {
    let mut prefixes = vec![String::new()];
    let mut ranges: Vec<Range> = Vec::new();
    let mut covered: Vec<String> = Vec::new();
    // Leading fields with one value each, leading fields bound, and whether a range ends them.
    let (mut equal, mut bound, mut several) = (0, 0, false);
    for field in &info.fields {
        let Some(condition) = query.condition(field) else { break };
        let Some(values) = named(condition).filter(|values| values.len() * prefixes.len() <= RANGES_MAX) else {
            if condition.is_range() {
                ranges = prefixes.iter().map(|prefix| Range::of(prefix, condition)).listed();
                bound += 1;
                // An `in` that is too long for ranges is still to be asked.
                if condition.one_of.is_none() {
                    covered.push(field.clone());
                }
            }
            break;
        };
        several |= values.len() != 1;
        prefixes = extended(&prefixes, values);
        bound += 1;
        equal += usize::from(!several);
        if !condition.is_range() && (condition.equal.is_none() || condition.one_of.is_none()) {
            covered.push(field.clone());
        }
    }
    let prefix = prefixes.first().cloned().unwrap_or_default();
    if ranges.is_empty() {
        ranges = prefixes.iter().map(|prefix| Range::within(prefix)).listed();
    }
    let mut access = IndexAccess { index, ranges, backwards: false, ordered: false, run_fields: None, covered, bound };
    if !several && !query.count {
        order(query, info, equal, &prefix, &mut access);
    }
    access.ranges.retain(|range| !range.is_empty());
    access
}

/// Every prefix with every value behind it, ascending, each once.
fn extended(prefixes: &[String], values: &[Value]) -> Vec<String> {
    let mut longer = Vec::with_capacity(prefixes.len() * values.len());
    for prefix in prefixes {
        for value in values {
            let mut key = prefix.clone();
            push_component(&mut key, value);
            longer.push(key);
        }
    }
    in_order(longer)
}

/// Sees whether the index gives the order behind `equal` fields of one value each, which make up `prefix`.
fn order(query: &Query, info: &IndexInfo, equal: usize, prefix: &str, access: &mut IndexAccess) {
    // A field of one value orders nothing.
    let fixed = |field: &str| query.condition(field).and_then(named).is_some_and(|values| values.len() == 1);
    let mut fields = equal;
    let mut way: Option<bool> = None;
    // The direction of ties, if the order says it itself.
    let mut id_way = None;
    // Where the last page ended.
    let mut place = prefix.to_owned();
    for (at, by) in query.order.iter().enumerate() {
        if fixed(&by.field) {
            continue;
        }
        if by.field == "id" && info.fields.get(fields).is_none_or(|next| next != "id") {
            // Ids are different, so nothing behind this counts.
            id_way = Some(by.descending);
            break;
        }
        if info.fields.get(fields) != Some(&by.field) || way.is_some_and(|way| way != by.descending) {
            return;
        }
        way = Some(by.descending);
        fields += 1;
        place.push_str(query.after.as_ref().and_then(|after| after.keys.get(at)).map_or("", String::as_str));
    }
    let backwards = way.or(id_way).unwrap_or(false);
    let natural = fields == info.fields.len() && id_way.unwrap_or(false) == backwards;
    if !natural && (way.is_none() || id_way == Some(true)) {
        // A run of everything is a sort, and runs are put in ascending order only.
        return;
    }
    access.ordered = true;
    access.backwards = backwards;
    access.run_fields = (!natural).then_some(fields);
    if let (Some(_), Some(_), Some(range)) = (&query.after, way, access.ranges.first_mut()) {
        // Ties with the last row stay in; by their ids they are before or behind it.
        if backwards {
            range.cut(successor(&place));
        } else {
            range.raise(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::explain::explain;
    use super::*;
    use std::cmp::Ordering;

    fn index(fields: &str) -> IndexInfo {
        let fields: Vec<String> = fields.split(',').map(String::from).collect();
        IndexInfo { name: fields.join(","), fields, ready: true, entries: 100_000 }
    }

    fn asked(rest: &str) -> Query {
        Query::parse(&["{\"collection\":\"a\"", rest, "}"].concat()).unwrap()
    }

    #[test]
    fn each_question_has_its_way() {
        let mut indexes = ["s", "s,d", "d", "s,d,n", "k"].map(index);
        indexes[4].ready = false;
        let table = [
            ("", r#"{"access":"scan","order":"sort","filter":[],"early_stop":false}"#),
            (
                r#","where":{"id":{"in":["b","a","a",1]},"s":1}"#,
                r#"{"access":"id","ids":2,"order":"id","filter":["s"],"early_stop":false}"#,
            ),
            (
                r#","where":{"s":1},"limit":5"#,
                r#"{"access":"index","index":"s","bounds":{"s":"eq"},"order":"index","filter":[],"early_stop":true}"#,
            ),
            (
                r#","where":{"s":1,"k":2},"orderBy":[["d","desc"]],"limit":5"#,
                r#"{"access":"index","index":"s,d","bounds":{"s":"eq"},"order":"index","filter":["k"],"early_stop":true}"#,
            ),
            (
                r#","where":{"s":1,"d":{"gt":2}},"orderBy":"d""#,
                r#"{"access":"index","index":"s,d","bounds":{"s":"eq","d":"range"},"order":"index","filter":[],"early_stop":false}"#,
            ),
            (
                r#","where":{"s":{"in":[1,2]}},"orderBy":"d","limit":5"#,
                r#"{"access":"index","index":"s","bounds":{"s":"in"},"order":"sort","filter":[],"early_stop":false}"#,
            ),
            (
                r#","orderBy":"d","limit":5"#,
                r#"{"access":"index","index":"d","bounds":{},"order":"index","filter":[],"early_stop":true}"#,
            ),
            (r#","orderBy":"d""#, r#"{"access":"scan","order":"sort","filter":[],"early_stop":false}"#),
            (r#","where":{"k":1}"#, r#"{"access":"scan","order":"sort","filter":["k"],"early_stop":false}"#),
            (
                r#","where":{"k":1},"orderBy":"d","limit":50000"#,
                r#"{"access":"scan","order":"sort","filter":["k"],"early_stop":false}"#,
            ),
            (
                r#","where":{"s":1,"d":2,"n":{"gte":1,"in":[3]}},"orderBy":[["n","asc"],["d","desc"]]"#,
                r#"{"access":"index","index":"s,d,n","bounds":{"s":"eq","d":"eq","n":"in"},"order":"index","filter":["n"],"early_stop":false}"#,
            ),
            (
                r#","where":{"s":1,"d":{"prefix":"2026"}},"orderBy":"k","limit":5"#,
                r#"{"access":"index","index":"s,d","bounds":{"s":"eq","d":"range"},"order":"sort","filter":[],"early_stop":false}"#,
            ),
            (
                r#","where":{"s":1},"count":true,"orderBy":"k""#,
                r#"{"access":"index","index":"s","bounds":{"s":"eq"},"order":"none","filter":[],"early_stop":false}"#,
            ),
        ];
        for (rest, wanted) in table {
            let query = asked(rest);
            assert_eq!(explain(&query, &plan(&query, &indexes, 100_000, &[]), &indexes), wanted, "{rest}");
        }
    }

    fn access(rest: &str, fields: &str) -> IndexAccess {
        match plan(&asked(rest), &[index(fields)], 100_000, &[]).access {
            Access::Index(access) => access,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn ties_are_put_right_where_the_index_has_them_otherwise() {
        let table = [
            (r#","where":{"s":1},"orderBy":"d""#, "s,d", (true, false, None)),
            (r#","where":{"s":1},"orderBy":[["d","desc"]]"#, "s,d", (true, true, Some(2))),
            (r#","where":{"s":1},"orderBy":[["d","desc"],["id","desc"]]"#, "s,d", (true, true, None)),
            (r#","where":{"s":1},"orderBy":[["d","asc"],["id","desc"]]"#, "s,d", (false, false, None)),
            (r#","where":{"s":1},"orderBy":"d""#, "s,d,n", (true, false, Some(2))),
            (r#","where":{"s":1},"orderBy":[["d","asc"],["n","desc"]]"#, "s,d,n", (false, false, None)),
            (r#","where":{"s":1},"orderBy":[["id","desc"]]"#, "s", (true, true, None)),
            (r#","where":{"s":1}"#, "s,d", (false, false, None)),
        ];
        for (rest, fields, wanted) in table {
            let access = access(rest, fields);
            assert_eq!((access.ordered, access.backwards, access.run_fields), wanted, "{rest} {fields}");
        }
    }

    #[test]
    fn of_equal_ways_the_clustered_and_then_the_shorter_is_taken() {
        let indexes = ["s", "d", "d,n"].map(index);
        let chosen =
            |cluster: &[String]| match plan(&asked(r#","where":{"s":1,"d":2}"#), &indexes, 1000, cluster).access {
                Access::Index(access) => access.index,
                other => panic!("{other:?}"),
            };
        assert_eq!((chosen(&[]), chosen(&["d".into()])), (0, 1));
    }

    #[test]
    fn a_condition_that_nothing_can_fit_reads_nothing() {
        assert!(access(r#","where":{"s":{"in":[]}}"#, "s").ranges.is_empty());
        assert!(access(r#","where":{"s":{"gt":5,"lt":3}}"#, "s").ranges.is_empty());
        let none = plan(&asked(r#","where":{"id":5}"#), &[], 1000, &[]);
        assert_eq!(none.access, Access::Ids(Vec::new()));
    }

    /// Reads the entries as a store would and compares with sorting everything.
    #[test]
    fn what_an_index_gives_is_what_sorting_gives() {
        use super::super::key::{key_of, prefix_len};
        use super::super::samples::Samples;
        use super::super::{Cursor, Filter};
        let mut samples = Samples::new(21);
        let mut read = 0;
        for round in 0..400 {
            let values = ["1", "2", "null", "\"x\""];
            let mut pick = || values[samples.below(values.len())];
            let records: Vec<(String, String)> = (0..40)
                .map(|id| (id.to_string(), ["{\"s\":", pick(), ",\"d\":", pick(), ",\"n\":", pick(), "}"].concat()))
                .collect();
            let wheres =
                [r#""s":1"#, r#""s":{"in":[2,1]}"#, r#""s":1,"d":{"gte":1}"#, r#""s":1,"d":1"#, r#""s":{"lt":2}"#];
            let orders = [
                r#""d""#,
                r#"[["d","desc"]]"#,
                r#"[["s","desc"],["d","desc"],["n","desc"]]"#,
                r#"[["n","asc"]]"#,
                "null",
            ];
            let (by, of) = (orders[samples.below(orders.len())], wheres[samples.below(wheres.len())]);
            let mut query = asked(&[",\"where\":{", of, "},\"orderBy\":", by].concat());
            let index = index(["s", "s,d", "s,d,n"][round % 3]);
            let sorted_by = |a: &Cursor, b: &Cursor| a.compare(b, &query.order);
            let place = |at: &usize| Cursor::of(&query.order, "x", &records[*at].0, &records[*at].1);
            let mut all: Vec<usize> = (0..records.len()).collect();
            let mut whole = Filter::new(&query.conditions);
            all.retain(|at| whole.matches(&records[*at].0, &records[*at].1));
            all.sort_by(|a, b| sorted_by(&place(a), &place(b)));
            let after = all.get(all.len() / 2).map(place);
            if round % 2 == 0 {
                all.retain(|at| after.as_ref().is_none_or(|after| sorted_by(after, &place(at)) == Ordering::Less));
                query.after = after.clone();
            }

            let plan = plan(&query, std::slice::from_ref(&index), 40, &[]);
            let Access::Index(access) = plan.access else { panic!("{query:?}") };
            let mut entries: Vec<(String, usize)> = (0..records.len())
                .map(|at| {
                    let mut key = String::new();
                    key_of(&records[at].0, &records[at].1, &index.fields, &mut key);
                    (key, at)
                })
                .collect();
            entries.sort_by(|a, b| (&a.0, &records[a.1].0).cmp(&(&b.0, &records[b.1].0)));
            entries.retain(|(key, _)| access.ranges.iter().any(|range| range.contains(key)));
            if access.backwards {
                entries.reverse();
            }
            if let Some(count) = access.run_fields {
                let run = |key: &str| key[..prefix_len(key, count)].to_owned();
                let mut runs: Vec<Vec<(String, usize)>> = Vec::new();
                for entry in entries {
                    match runs.last_mut().filter(|last| run(&last[0].0) == run(&entry.0)) {
                        Some(last) => last.push(entry),
                        None => runs.push(vec![entry]),
                    }
                }
                runs.iter_mut().for_each(|run| run.sort_by(|a, b| records[a.1].0.cmp(&records[b.1].0)));
                entries = runs.concat();
            }
            let mut filter = Filter::new(&plan.filter);
            let mut found: Vec<usize> = entries.into_iter().map(|(_, at)| at).collect();
            found.retain(|at| filter.matches(&records[*at].0, &records[*at].1));
            found.retain(|at| {
                query.after.as_ref().is_none_or(|after| {
                    after.compare(&Cursor::of(&query.order, "x", &records[*at].0, &records[*at].1), &query.order)
                        == Ordering::Less
                })
            });
            if plan.sort {
                let place = |at: &usize| Cursor::of(&query.order, "x", &records[*at].0, &records[*at].1);
                found.sort_by(|a, b| place(a).compare(&place(b), &query.order));
            }
            assert_eq!(found, all, "{query:?} {index:?}");
            read += found.len();
        }
        assert!(read > 500, "{read}");
    }
}
