//! The declaration of collections: what may be stored where, and who may read and write it.
//!
//! Shape of the file (`www/collections.json` is one):
//! ```json
//! {
//!   "version": 1,
//!   "collections": {
//!     "notes": {
//!       "scope": "user:{user}",
//!       "schema": { "type": "object", "required": ["title"], "properties": { "title": { "type": "string" } } },
//!       "rules": [{ "field": "ends_at", "later_than": "starts_at", "message": "The end must be after the start." }],
//!       "read_roles": ["staff"], "write_roles": ["staff"],
//!       "policy": "server-wins"
//!     }
//!   }
//! }
//! ```
//! `scope` is a template. `{user}` stands for the user whose scope it is; any other `{field}` for that field of
//! the record, which must then hold the same text and never changes. `schema` is a JSON Schema (2020-12) of the
//! whole record; `rules` are what it cannot say: a time field that must be later than another one. Roles that are
//! absent mean everybody who was granted the scope. `policy` is `server-wins` unless given.

use landfall_core::policy::Policy;
use landfall_core::time::time_nanos;
use landfall_protocol::{CollectionName, Fields, Scope};
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

mod template;
mod words;

pub use template::Template;

/// Why a declaration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CollectionsError {
    #[error("collections file: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("collections file: version {0} is not known")]
    Version(u32),
    #[error("collection {name}: {reason}")]
    Collection { name: String, reason: String },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    collections: BTreeMap<String, Declaration>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Declaration {
    scope: String,
    schema: Value,
    #[serde(default)]
    rules: Vec<Rule>,
    read_roles: Option<BTreeSet<String>>,
    write_roles: Option<BTreeSet<String>>,
    #[serde(default)]
    policy: PolicyName,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum PolicyName {
    #[default]
    ServerWins,
}

/// `field` must be a later time than `later_than`, where both are given.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    field: String,
    later_than: String,
    message: String,
}

/// One declared collection.
pub struct Collection {
    pub template: Template,
    pub policy: Policy,
    validator: jsonschema::Validator,
    rules: Vec<Rule>,
    read_roles: Option<BTreeSet<String>>,
    write_roles: Option<BTreeSet<String>>,
}

impl Collection {
    pub fn may_read(&self, roles: &BTreeSet<String>) -> bool {
        self.read_roles.as_ref().is_none_or(|needed| !needed.is_disjoint(roles))
    }
    pub fn may_write(&self, roles: &BTreeSet<String>) -> bool {
        self.write_roles.as_ref().is_none_or(|needed| !needed.is_disjoint(roles))
    }
    /// What is wrong with a record, by field, in words for a person. Empty when nothing is.
    pub fn validate(&self, fields: &Fields) -> BTreeMap<String, String> {
        let record: Value = Value::Object(fields.iter().map(|(name, value)| (name.clone(), value.value())).collect());
        let mut wrong = BTreeMap::new();
        for error in self.validator.iter_errors(&record) {
            let (field, text) = words::describe(&error);
            wrong.entry(field).or_insert(text);
        }
        for rule in &self.rules {
            let time = |name: &str| record.get(name).and_then(Value::as_str).and_then(time_nanos);
            if let (Some(late), Some(early)) = (time(&rule.field), time(&rule.later_than))
                && late <= early
            {
                wrong.entry(rule.field.clone()).or_insert_with(|| rule.message.clone());
            }
        }
        wrong
    }
}

/// All declared collections.
pub struct Collections {
    by_name: BTreeMap<CollectionName, Collection>,
}

impl Collections {
    /// Reads a collections file's text.
    pub fn parse(text: &str) -> Result<Self, CollectionsError> {
        let file: File = serde_json::from_str(text)?;
        if file.version != 1 {
            return Err(CollectionsError::Version(file.version));
        }
        let mut by_name = BTreeMap::new();
        for (name, declaration) in file.collections {
            let fail = |reason: String| CollectionsError::Collection { name: name.clone(), reason };
            let template = Template::parse(&declaration.scope).map_err(fail)?;
            let validator = jsonschema::options()
                .should_validate_formats(true)
                .build(&declaration.schema)
                .map_err(|error| fail(error.to_string()))?;
            let PolicyName::ServerWins = declaration.policy;
            let collection = Collection {
                template,
                policy: Policy::default(),
                validator,
                rules: declaration.rules,
                read_roles: declaration.read_roles,
                write_roles: declaration.write_roles,
            };
            by_name.insert(CollectionName(name), collection);
        }
        Ok(Self { by_name })
    }

    pub fn get(&self, name: &CollectionName) -> Option<&Collection> {
        self.by_name.get(name)
    }

    /// True when this user may pull `name` in `scope`.
    pub fn readable(&self, name: &CollectionName, scope: &Scope, roles: &BTreeSet<String>) -> bool {
        self.get(name).is_some_and(|collection| collection.may_read(roles) && collection.template.fits(scope))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demo() -> Collections {
        Collections::parse(include_str!("../../../www/collections.json")).unwrap()
    }
    fn fields(text: &str) -> Fields {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn the_demo_file_says_in_words_what_is_wrong_by_field() {
        let collections = demo();
        let attendance = collections.get(&"attendance".into()).unwrap();
        let good = r#"{"facility_id":"main","clock_in":"2026-01-31T08:00:00Z","clock_out":null,"extra":[1]}"#;
        assert!(attendance.validate(&fields(good)).is_empty());
        let wrong = attendance.validate(&fields(r#"{"clock_in":"yesterday","latitude":"north","note":7}"#));
        let names: Vec<&str> = wrong.keys().map(String::as_str).collect();
        assert_eq!(names, ["clock_in", "facility_id", "latitude", "note"]);
        assert_eq!(wrong["facility_id"], "is required");
        assert!(wrong["clock_in"].contains("date and time"), "{wrong:?}");
    }

    #[test]
    fn a_time_that_must_be_later_is_compared_across_offsets() {
        let collections = demo();
        let attendance = collections.get(&"attendance".into()).unwrap();
        let out = |clock_out: &str| {
            let text =
                format!(r#"{{"facility_id":"m","clock_in":"2026-01-31T08:00:00+02:00","clock_out":"{clock_out}"}}"#);
            attendance.validate(&fields(&text))
        };
        assert!(out("2026-01-31T06:00:00.001Z").is_empty());
        assert!(out("2026-01-31T05:59:59Z").contains_key("clock_out"));
    }

    #[test]
    fn a_declaration_that_is_no_schema_or_template_is_refused_by_name() {
        let text = |scope: &str, schema: &str| {
            format!(r#"{{"version":1,"collections":{{"x":{{"scope":"{scope}","schema":{schema}}}}}}}"#)
        };
        assert!(Collections::parse(&text("user:{user}", "{}")).is_ok());
        for bad in [text("user:{user", "{}"), text("user:{user}", r#"{"type":"strange"}"#), text("", "{}")] {
            let error = Collections::parse(&bad).err().unwrap().to_string();
            assert!(error.starts_with("collection x: "), "{error}");
        }
    }
}
