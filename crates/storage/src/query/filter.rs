//! Conditions on stored bytes: one pass over the top level of a record, which ends as soon as the answer is known.

use super::condition::Condition;
use super::scan::{Seen, Top};
use landfall_protocol::{Listed, Value};
use std::cmp::Ordering;

/// The conditions of a query, made ready for many records. Says what [`Condition::holds`] says, sooner.
pub struct Filter {
    slots: Vec<Slot>,
    turn: u64,
}

struct Slot {
    name: String,
    condition: Condition,
    /// The turn in which its field was last seen.
    turn: u64,
}

impl Filter {
    /// All conditions must hold. The field `id` is the record's id.
    pub fn new(conditions: &[(String, Condition)]) -> Self {
        let slot = |(name, condition): &(String, Condition)| Slot {
            name: name.clone(),
            condition: condition.clone(),
            turn: 0,
        };
        Self { slots: conditions.iter().map(slot).listed(), turn: 0 }
    }

    /// True without conditions.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Whether a record fits; `fields_text` is its JSON object without the id.
    pub fn matches(&mut self, id: &str, fields_text: &str) -> bool {
        self.turn += 1;
        let turn = self.turn;
        let mut left = 0;
        for slot in &mut self.slots {
            if slot.name != "id" {
                left += 1;
            } else {
                slot.turn = turn;
                if !holds(&slot.condition, &Seen::Text(id)) {
                    return false;
                }
            }
        }
        if left == 0 {
            return true;
        }
        let mut top = Top::new(fields_text);
        while let Some(field) = top.next_field() {
            for slot in &mut self.slots {
                if slot.turn != turn && field.is(&slot.name) {
                    slot.turn = turn;
                    left -= 1;
                    if !holds(&slot.condition, &Seen::of(field.value)) {
                        return false;
                    }
                }
            }
            if left == 0 {
                return true;
            }
        }
        self.slots.iter().all(|slot| slot.turn == turn || holds(&slot.condition, &Seen::Null))
    }
}

fn holds(condition: &Condition, seen: &Seen<'_>) -> bool {
    if let Some(wanted) = &condition.equal
        && seen.compare(wanted).is_ne()
    {
        return false;
    }
    if let Some(all) = &condition.one_of
        && !all.iter().any(|wanted| seen.compare(wanted).is_eq())
    {
        return false;
    }
    if let Some(prefix) = &condition.prefix
        && !seen.as_text().is_some_and(|text| text.as_bytes().starts_with(prefix.as_bytes()))
    {
        return false;
    }
    let range = |limit: &Option<Value>, fits: fn(Ordering) -> bool| match limit {
        Some(wanted) => seen.rank() == wanted.rank() && fits(seen.compare(wanted)),
        None => true,
    };
    range(&condition.gt, Ordering::is_gt)
        && range(&condition.gte, Ordering::is_ge)
        && range(&condition.lt, Ordering::is_lt)
        && range(&condition.lte, Ordering::is_le)
}

#[cfg(test)]
mod tests {
    use super::super::samples::Samples;
    use super::*;
    use landfall_protocol::Map;
    use landfall_protocol::codec::from_json;

    const NAMES: &[&str] = &["a", "b", "id", "c c", "long_name_of_a_field"];

    fn condition(samples: &mut Samples) -> Condition {
        let mut condition = Condition::default();
        let value = |samples: &mut Samples| Some(Value::of(&samples.json(1)));
        match samples.below(9) {
            0 | 1 => condition.equal = value(samples),
            2 => condition.one_of = Some((0..4).filter_map(|_| value(samples)).collect()),
            3 => condition.gt = value(samples),
            4 => condition.gte = value(samples),
            5 => condition.lt = value(samples),
            6 => condition.lte = value(samples),
            7 => condition.prefix = Some(samples.string()),
            _ => (condition.gte, condition.lt) = (value(samples), value(samples)),
        }
        condition
    }

    #[test]
    fn a_filter_says_of_every_record_what_its_conditions_say_of_the_values() {
        let mut samples = Samples::new(11);
        let mut fitting = 0;
        for _ in 0..3_000 {
            let mut conditions: Map<String, Condition> = Map::new();
            for _ in 0..=samples.below(2) {
                conditions.insert(NAMES[samples.below(NAMES.len())].to_owned(), condition(&mut samples));
            }
            let conditions: Vec<(String, Condition)> = conditions.into_iter().collect();
            let mut filter = Filter::new(&conditions);
            for _ in 0..10 {
                let (id, text) = (samples.string(), samples.object(NAMES, 2));
                let fields: Map<String, Value> = from_json(&text).unwrap();
                let wanted = conditions.iter().all(|(name, condition)| {
                    let id = Value::String(id.clone());
                    let value = if name == "id" { Some(&id) } else { fields.get(name) };
                    condition.holds(value.unwrap_or(&Value::Null))
                });
                assert_eq!(filter.matches(&id, &text), wanted, "{id} {text} {conditions:?}");
                fitting += usize::from(wanted);
            }
        }
        assert!(fitting > 1_000, "{fitting}");
    }

    #[test]
    fn i3_a_damaged_text_makes_no_panic() {
        let mut samples = Samples::new(13);
        let conditions = [("a".to_owned(), condition(&mut samples)), ("zz".to_owned(), condition(&mut samples))];
        let mut filter = Filter::new(&conditions);
        let mut read = 0;
        for _ in 0..20_000 {
            let mut bytes = samples.object(NAMES, 3).into_bytes();
            for _ in 0..=samples.below(4) {
                let (at, byte) = (samples.below(bytes.len()), b"{}[]\",:\\ a1-\0"[samples.below(13)]);
                match samples.below(3) {
                    0 => bytes[at] = byte,
                    1 => bytes.truncate(at + 1),
                    _ => bytes.insert(at, byte),
                }
            }
            let text = String::from_utf8_lossy(&bytes);
            filter.matches("x", &text);
            let mut top = Top::new(&text);
            while let Some(field) = top.next_field() {
                assert!(!field.value.is_empty());
                read += 1;
            }
        }
        assert!(read > 10_000, "{read}");
    }
}
