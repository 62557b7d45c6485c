//! Membership: a record may name a scope that its writer must hold beside the record's own.

use super::Collection;
use landfall_protocol::{Fields, Scope};
use std::collections::{BTreeMap, BTreeSet};

impl Collection {
    /// The scope that a record names beside its own.
    pub fn named_scope(&self, fields: &Fields) -> Option<Scope> {
        self.member_of.as_ref()?.filled(fields)
    }

    /// What is wrong with a record of somebody who holds `scopes`, by field.
    pub fn refusals(&self, fields: &Fields, scopes: &BTreeSet<Scope>) -> BTreeMap<String, String> {
        let mut wrong = self.validate(fields);
        if let Some(template) = &self.member_of
            && template.filled(fields).is_some_and(|scope| !scopes.contains(&scope))
        {
            for field in template.fields() {
                // The same words for one that does not exist.
                wrong.entry(field.to_owned()).or_insert_with(|| "is none that you have access to".to_owned());
            }
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::super::Collections;
    use super::*;

    #[test]
    fn a_scope_that_the_writer_does_not_hold_is_refused_by_its_field_like_one_that_is_not_there() {
        let text = r#"{"version":1,"collections":{"shifts":
            {"scope":"user:{user}","schema":{},"member_of":"facility:{facility_id}"}}}"#;
        let collections = Collections::parse(text).unwrap();
        let shifts = collections.get(&"shifts".into()).unwrap();
        let held = BTreeSet::from(["user:ada".into(), "facility:main".into()]);
        let refusals = |record: &str| shifts.refusals(&serde_json::from_str(record).unwrap(), &held);
        assert!(refusals(r#"{"facility_id":"main"}"#).is_empty());
        assert!(refusals("{}").is_empty());
        let foreign = refusals(r#"{"facility_id":"north"}"#);
        assert_eq!(foreign.keys().collect::<Vec<_>>(), ["facility_id"]);
        assert_eq!(refusals(r#"{"facility_id":"nowhere"}"#), foreign);
    }
}
