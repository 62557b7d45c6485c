//! What is asked: conditions on fields, an order, a part of the answer; and how it is read from JSON.

use super::cursor::Cursor;
use landfall_protocol::codec::{FromJson, Reader};
use landfall_protocol::{CollectionName, Listed, Map, Scope, Value};
use std::cmp::Ordering;

/// What a field must be. All given parts hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Condition {
    pub equal: Option<Value>,
    pub one_of: Option<Vec<Value>>,
    pub gt: Option<Value>,
    pub gte: Option<Value>,
    pub lt: Option<Value>,
    pub lte: Option<Value>,
    pub prefix: Option<String>,
}

impl Condition {
    /// Whether a value is what is asked. A missing field is null. Ranges hold between values of one kind only: null is
    /// not less than 5.
    pub fn holds(&self, value: &Value) -> bool {
        let is = |wanted: &Value| value.compare(wanted).is_eq();
        let range = |wanted: &Option<Value>, holds: fn(Ordering) -> bool| {
            wanted.as_ref().is_none_or(|wanted| value.rank() == wanted.rank() && holds(value.compare(wanted)))
        };
        let starts = |prefix: &String| matches!(value, Value::String(text) if text.starts_with(prefix));
        self.equal.as_ref().is_none_or(is)
            && self.one_of.as_ref().is_none_or(|all| all.iter().any(is))
            && self.prefix.as_ref().is_none_or(starts)
            && range(&self.gt, Ordering::is_gt)
            && range(&self.gte, Ordering::is_ge)
            && range(&self.lt, Ordering::is_lt)
            && range(&self.lte, Ordering::is_le)
    }

    /// True if it has a `gt`, `gte`, `lt`, `lte` or `prefix`.
    pub fn is_range(&self) -> bool {
        self.prefix.is_some() || [&self.gt, &self.gte, &self.lt, &self.lte].iter().any(|limit| limit.is_some())
    }
}

impl FromJson for Condition {
    fn blank() -> Self {
        Self::default()
    }
    /// `eq: null` asks for null; a missing `eq` asks for nothing.
    fn fill(&mut self, from: &mut Reader<'_>) -> bool {
        if from.peek() != b'{' {
            return self.equal.insert(Value::Null).fill(from);
        }
        from.object(&mut |key, from| match key {
            "eq" => self.equal.insert(Value::Null).fill(from),
            "in" => self.one_of.fill(from),
            "gt" => self.gt.fill(from),
            "gte" => self.gte.fill(from),
            "lt" => self.lt.fill(from),
            "lte" => self.lte.fill(from),
            "prefix" => self.prefix.fill(from),
            _ => false,
        })
    }
}

/// One key of the order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    pub field: String,
    pub descending: bool,
}

/// What is asked. Without an order: by (scope, id).
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    pub collection: CollectionName,
    pub scope: Option<Scope>,
    /// Each field once.
    pub conditions: Vec<(String, Condition)>,
    pub order: Vec<Order>,
    /// Records.
    pub limit: Option<usize>,
    /// Records passed over, counted behind `after`.
    pub offset: usize,
    /// Only what comes behind this place in the order.
    pub after: Option<Cursor>,
    /// Only the number of records that fit is wanted.
    pub count: bool,
}

/// Why a text is no query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryError {
    Malformed,
    /// The text was not handed out by a page of this collection in this order.
    ForeignCursor,
}

impl QueryError {
    pub fn message(self) -> &'static str {
        match self {
            Self::Malformed => "This is no query: {collection, scope, where, orderBy, limit, offset, after, count}.",
            Self::ForeignCursor => "`after` is no end of a page of this query.",
        }
    }
}

impl Query {
    /// All of a collection.
    pub fn all(collection: &str) -> Self {
        Self {
            collection: CollectionName::from(collection),
            scope: None,
            conditions: Vec::new(),
            order: Vec::new(),
            limit: None,
            offset: 0,
            after: None,
            count: false,
        }
    }

    /// Reads `{collection, scope?, where?, orderBy?, limit?, offset?, after?, count?}`.
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        let mut query = Self::all("");
        let mut conditions: Map<String, Condition> = Map::new();
        let mut after: Option<String> = None;
        let mut reader = Reader::new(text);
        let mut named = false;
        let read = reader.object(&mut |key, from| match key {
            "collection" => {
                named = true;
                query.collection.fill(from)
            }
            "scope" => query.scope.fill(from),
            "where" => conditions.fill(from),
            "orderBy" => query.order_by(from),
            "limit" => query.limit.fill(from),
            "offset" => query.offset.fill(from),
            "after" => after.fill(from),
            "count" => query.count.fill(from),
            _ => false,
        });
        if !(read && named && reader.is_done()) {
            return Err(QueryError::Malformed);
        }
        query.conditions = conditions.into_iter().listed();
        if let Some(after) = after {
            query.after = Some(Cursor::parse(&after, &query).ok_or(QueryError::ForeignCursor)?);
        }
        Ok(query)
    }

    /// The names of the fields that it looks at, each once.
    pub fn fields(&self) -> Vec<&str> {
        let names = self.conditions.iter().map(|(name, _)| name).chain(self.order.iter().map(|order| &order.field));
        let mut fields: Vec<&str> = Vec::new();
        for name in names {
            if !fields.contains(&name.as_str()) {
                fields.push(name);
            }
        }
        fields
    }

    /// What is asked of a field, if anything.
    pub fn condition(&self, field: &str) -> Option<&Condition> {
        self.conditions.iter().find(|(name, _)| name == field).map(|(_, condition)| condition)
    }

    /// A field, or a list of `[field, "asc" | "desc"]`.
    fn order_by(&mut self, from: &mut Reader<'_>) -> bool {
        if from.peek() == b'"' {
            self.order.push(Order { field: String::new(), descending: false });
            return self.order.iter_mut().all(|order| order.field.fill(from));
        }
        let mut keys: Vec<(String, String)> = Vec::new();
        let read = from.word("null") || keys.fill(from);
        self.order = keys.into_iter().map(|(field, way)| Order { field, descending: way == "desc" }).listed();
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_whole() {
        let query = Query::parse(
            r#"{"collection":"a","where":{"n":{"gte":1,"in":[1,2]},"s":"x"},"orderBy":[["n","desc"],["s","asc"]],"limit":5,"count":true}"#,
        )
        .unwrap();
        assert_eq!(query.fields(), ["n", "s"]);
        assert_eq!((query.limit, query.offset, query.count, query.after.is_none()), (Some(5), 0, true, true));
        assert_eq!(query.order[0], Order { field: "n".into(), descending: true });
        assert_eq!(query.condition("s").unwrap().equal, Some(Value::String("x".into())));
    }

    #[test]
    fn what_is_no_query_is_refused() {
        for text in ["", "{}", r#"{"collection":"a","where":{"n":{"like":1}}}"#, r#"{"collection":"a","more":1}"#] {
            assert_eq!(Query::parse(text), Err(QueryError::Malformed), "{text}");
        }
        let foreign = r#"{"collection":"a","after":"bogus"}"#;
        assert_eq!(Query::parse(foreign), Err(QueryError::ForeignCursor));
    }
}
