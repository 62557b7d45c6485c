//! A plan told as JSON, for the person who wonders why a query is slow.

use super::condition::Query;
use super::plan::{Access, IndexInfo, Plan};
use landfall_protocol::codec::{write_number, write_string};

/// `{"access":"index","index":"supplier_id,date","bounds":{"supplier_id":"eq","date":"range"},"order":"index",
/// "filter":["status"],"early_stop":true}`.
///
/// `access` is `id` (with the number of `ids`), `index` or `scan`. `order` says what gives the order: the `index`, the
/// `id`, a `sort` at the end, or `none` when only the number is wanted. `filter` names the fields that each record is
/// still asked for. `indexes` is what the plan was made with.
pub fn explain(query: &Query, plan: &Plan, indexes: &[IndexInfo]) -> String {
    let mut out = String::from("{\"access\":");
    let mut ordered = "id";
    match &plan.access {
        Access::Ids(ids) => {
            out.push_str("\"id\",\"ids\":");
            write_number(&mut out, ids.len() as u64);
        }
        Access::Index(access) => {
            ordered = "index";
            out.push_str("\"index\",\"index\":");
            let info = indexes.get(access.index);
            write_string(&mut out, info.map_or("", |info| &info.name));
            out.push_str(",\"bounds\":{");
            let fields = info.map_or(&[][..], |info| &info.fields);
            for (at, field) in fields.iter().take(access.bound).enumerate() {
                comma(&mut out, at);
                write_string(&mut out, field);
                let how = match query.condition(field) {
                    Some(condition) if condition.equal.is_some() => ":\"eq\"",
                    Some(condition) if condition.one_of.is_some() => ":\"in\"",
                    _ => ":\"range\"",
                };
                out.push_str(how);
            }
            out.push('}');
        }
        Access::Scan => out.push_str("\"scan\""),
    }
    out.push_str(",\"order\":");
    let order = match (query.count, plan.sort) {
        (true, _) => "none",
        (false, true) => "sort",
        (false, false) => ordered,
    };
    write_string(&mut out, order);
    out.push_str(",\"filter\":[");
    for (at, (field, _)) in plan.filter.iter().enumerate() {
        comma(&mut out, at);
        write_string(&mut out, field);
    }
    out.push_str("],\"early_stop\":");
    out.push_str(if plan.early_stop { "true}" } else { "false}" });
    out
}

fn comma(out: &mut String, at: usize) {
    if at > 0 {
        out.push(',');
    }
}
