//! Where a page ended, so that the next one can go on there whatever changed meanwhile.
//!
//! It is a place in the order, not a row: it stays right when its row changes, moves or goes.

use super::condition::{Order, Query};
use super::key::push_field;
use landfall_protocol::codec::{FromJson, Reader, ToJson, from_json, write_hex};
use std::cmp::Ordering;
use xxhash_rust::xxh64::xxh64;

/// The version of the text form; another one is refused.
const VERSION: u64 = 1;

/// A place in the order of a query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The key components (see [`super::key`]) of the fields of the order, each by itself, ascending form.
    pub keys: Vec<String>,
    pub scope: String,
    pub id: String,
}

impl Cursor {
    /// The place of a record.
    pub fn of(order: &[Order], scope: &str, id: &str, fields_text: &str) -> Self {
        let mut keys = Vec::with_capacity(order.len());
        for by in order {
            let mut key = String::new();
            push_field(&mut key, &by.field, id, fields_text);
            keys.push(key);
        }
        Self { keys, scope: scope.to_owned(), id: id.to_owned() }
    }

    /// Which of two places comes first.
    pub fn compare(&self, other: &Self, order: &[Order]) -> Ordering {
        for (by, (a, b)) in order.iter().zip(self.keys.iter().zip(&other.keys)) {
            let way = a.cmp(b);
            if way.is_ne() {
                return if by.descending { way.reverse() } else { way };
            }
        }
        self.scope.cmp(&other.scope).then_with(|| self.id.cmp(&other.id))
    }

    /// The text to hand out: `[checksum,[key…],scope,id]` as JSON. The checksum holds collection and order too, so that
    /// the text fits no other question.
    pub fn to_text(&self, query: &Query) -> String {
        let mut body = String::new();
        self.keys.write(&mut body);
        for part in [&self.scope, &self.id] {
            body.push(',');
            part.write(&mut body);
        }
        let mut text = String::from("[\"");
        write_hex(&mut text, self.sum(query), 16);
        text.push_str("\",");
        text.push_str(&body);
        text.push(']');
        text
    }

    /// Reads what [`to_text`](Self::to_text) gave. `None`: it was not handed out for this collection and order.
    pub fn parse(text: &str, query: &Query) -> Option<Self> {
        let Read { sum, cursor } = from_json(text)?;
        let mut wanted = String::new();
        write_hex(&mut wanted, cursor.sum(query), 16);
        (sum == wanted && cursor.keys.len() == query.order.len()).then_some(cursor)
    }

    fn sum(&self, query: &Query) -> u64 {
        let mut all = String::new();
        query.collection.write(&mut all);
        for by in &query.order {
            by.descending.write(&mut all);
            by.field.write(&mut all);
        }
        self.keys.write(&mut all);
        self.scope.write(&mut all);
        self.id.write(&mut all);
        xxh64(all.as_bytes(), VERSION)
    }
}

/// A cursor as it stands in its text.
struct Read {
    sum: String,
    cursor: Cursor,
}

impl FromJson for Read {
    fn blank() -> Self {
        Self { sum: String::new(), cursor: Cursor::default() }
    }
    fn fill(&mut self, from: &mut Reader<'_>) -> bool {
        let mut count = 0;
        let read = from.list(&mut |from| {
            count += 1;
            match count {
                1 => self.sum.fill(from),
                2 => self.cursor.keys.fill(from),
                3 => self.cursor.scope.fill(from),
                4 => self.cursor.id.fill(from),
                _ => false,
            }
        });
        read && count == 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(field: &str, descending: bool) -> Order {
        Order { field: field.into(), descending }
    }

    #[test]
    fn a_cursor_comes_back_from_its_text_and_fits_no_other_question() {
        let mut query = Query::all("notes");
        query.order = vec![by("n", true), by("s", false)];
        let cursor = Cursor::of(&query.order, "user:ü", "id-1", r#"{"s":"a \"b\"","n":-1.5}"#);
        let text = cursor.to_text(&query);
        assert_eq!(Cursor::parse(&text, &query), Some(cursor));
        let mut other = query.clone();
        other.order[0].descending = false;
        assert_eq!(Cursor::parse(&text, &other), None);
        other = query.clone();
        other.collection = "others".into();
        assert_eq!(Cursor::parse(&text, &other), None);
        assert_eq!(Cursor::parse(&text.replace("id-1", "id-2"), &query), None);
        assert_eq!(Cursor::parse("[]", &query), None);
    }

    #[test]
    fn places_are_in_the_order_of_the_query_and_then_of_scope_and_id() {
        let order = [by("n", true)];
        let at = |scope, id, text| Cursor::of(&order, scope, id, text);
        let sorted = [
            at("a", "1", r#"{"n":[]}"#),
            at("a", "1", r#"{"n":2}"#),
            at("a", "2", r#"{"n":2.0}"#),
            at("b", "1", r#"{"n":2e0}"#),
            at("a", "0", "{}"),
        ];
        for pair in sorted.windows(2) {
            assert_eq!(pair[0].compare(&pair[1], &order), Ordering::Less);
            assert_eq!(pair[1].compare(&pair[0], &order), Ordering::Greater);
        }
        assert_eq!(sorted[0].compare(&sorted[0], &order), Ordering::Equal);
    }
}
