//! The pure half of queries: what is asked, the text keys of indexes, the filter on stored bytes, the plan.
//!
//! Nothing here reads a row. One order rules all of it, that of [`Value::compare`](landfall_protocol::Value::compare):
//! index keys sort by it as bytes, filters hold by it, pages end and go on by it; the last tie-break is
//! (scope, id), ascending.

pub mod condition;
pub mod cursor;
pub mod explain;
pub mod filter;
pub mod key;
pub mod plan;
#[cfg(test)]
mod samples;
pub mod scan;

pub use condition::{Condition, Order, Query, QueryError};
pub use cursor::Cursor;
pub use filter::Filter;
pub use key::Range;
pub use plan::{Access, IndexInfo, Plan, plan};
