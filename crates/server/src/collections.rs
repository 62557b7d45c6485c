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
//!       "policy": { "fields": { "title": { "manual": { "by": "author" } } }, "else": "merge" },
//!       "equal_within": { "started_at": "60s" }, "not_future": ["started_at"],
//!       "unique": [["device_id", "started_at"], ["title"]],
//!       "references": { "folder_id": { "collection": "folders", "on_delete": "cascade" } }
//!     }
//!   }
//! }
//! ```
//! `scope` is a template. `{user}` stands for the user whose scope it is; any other `{field}` for that field of
//! the record, which must then hold the same text and never changes. `schema` is a JSON Schema (2020-12) of the
//! whole record; `rules` are what it cannot say: a time field that must be later than another one. Roles that are
//! absent mean everybody who was granted the scope. `member_of`, such as `facility:{facility_id}`, names a scope that the
//! writer must hold beside the record's own. `retention`, such as `{ "change_log_days": 90 }`, says how long a replica may be
//! away before it starts again from nothing. `policy` is `server-wins` unless given (docs/protocol.md, and
//! `collections/policy.rs` for its shapes). The first key of `unique` gives a record its id, the others only refuse a second
//! one. `references` may name the collection alone; a parent with children then stays.

use crate::rules::{self, BusinessRules, Write};
use landfall_core::derive::{KeyField, KeyType};
use landfall_core::policy::Policy;
use landfall_core::review::CONFLICTS;
use landfall_core::time::time_nanos;
use landfall_protocol::{CollectionName, Fields, Scope};
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

mod membership;
mod policy;
mod retention;
mod template;
mod words;

use retention::Kept;
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
    policy: Option<Value>,
    equal_within: Option<Value>,
    #[serde(default)]
    not_future: Vec<String>,
    #[serde(default)]
    unique: Vec<Vec<String>>,
    #[serde(default)]
    references: BTreeMap<String, Target>,
    member_of: Option<String>,
    retention: Option<Kept>,
}

/// What a reference names.
#[derive(Deserialize)]
#[serde(untagged)]
enum Target {
    Collection(String),
    Full(FullTarget),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FullTarget {
    collection: String,
    #[serde(default)]
    on_delete: OnDelete,
}

/// What becomes of a parent's delete while a record refers to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnDelete {
    #[default]
    Refuse,
    /// The children are deleted, too.
    Cascade,
}

/// A field that holds the id of another record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    pub field: String,
    pub collection: CollectionName,
    pub on_delete: OnDelete,
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
    /// Times that must not lie ahead of the server's.
    pub not_future: Vec<String>,
    /// The first key gives the id.
    pub unique: Vec<Vec<KeyField>>,
    pub references: Vec<Reference>,
    validator: jsonschema::Validator,
    /// A scope that the writer must hold, made of the record's fields.
    member_of: Option<Template>,
    change_log_ms: Option<u64>,
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

/// The parts of a declaration that decide about writes.
struct Rules {
    policy: Policy,
    unique: Vec<Vec<KeyField>>,
    references: Vec<Reference>,
}

impl Rules {
    fn read(declaration: &Declaration, template: &Template) -> Result<Self, String> {
        let mut policy = declaration.policy.as_ref().map(policy::policy).transpose()?.unwrap_or_default();
        if let Some(within) = &declaration.equal_within {
            policy.equal_within_ms = policy::equal_within(within)?;
        }
        let fixed = |name: &str| template.fields().any(|field| field == name);
        if let Some(name) = policy::names(&policy).into_iter().find(|name| fixed(name)) {
            return Err(format!("policy names {name}, which says whose a record is and never changes"));
        }
        let key_field = |name: &String| {
            let kind = key_type(&declaration.schema, name);
            let kind = kind.ok_or_else(|| format!("unique: the schema does not say that {name} is a text or a number"));
            Ok::<_, String>(KeyField { name: name.clone(), kind: kind? })
        };
        let unique = declaration.unique.iter().map(|key| key.iter().map(key_field).collect());
        let unique: Vec<Vec<KeyField>> = unique.collect::<Result<_, _>>()?;
        if unique.iter().any(Vec::is_empty) {
            return Err("unique: a key has no field".to_owned());
        }
        let in_key = |name: &str| unique.iter().flatten().any(|field| field.name == name);
        if let Some(name) = policy::names(&policy).into_iter().find(|name| in_key(name)) {
            return Err(format!("policy names {name}, which is of a unique key and never changes"));
        }
        let reference = |(field, target): (&String, &Target)| {
            let (collection, on_delete) = match target {
                Target::Collection(collection) => (collection, OnDelete::Refuse),
                Target::Full(full) => (&full.collection, full.on_delete),
            };
            Reference { field: field.clone(), collection: CollectionName(collection.clone()), on_delete }
        };
        Ok(Self { policy, unique, references: declaration.references.iter().map(reference).collect() })
    }
}

/// What the schema says that a field is. `None`: nothing that a key can be made of.
fn key_type(schema: &Value, name: &str) -> Option<KeyType> {
    let property = schema.get("properties")?.get(name)?;
    let named = match property.get("type")? {
        Value::String(only) => only.as_str(),
        Value::Array(types) => types.iter().filter_map(Value::as_str).find(|name| *name != "null")?,
        _ => return None,
    };
    match named {
        "string" if property.get("format").and_then(Value::as_str) == Some("date-time") => Some(KeyType::Time),
        "string" => Some(KeyType::Text),
        "number" | "integer" => Some(KeyType::Number),
        _ => None,
    }
}

/// All declared collections.
pub struct Collections {
    by_name: BTreeMap<CollectionName, Collection>,
    rules: BusinessRules,
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
            let member_of = declaration.member_of.as_deref().map(Template::parse).transpose().map_err(fail)?;
            if name.starts_with('_') {
                return Err(fail("names with _ are the server's own".to_owned()));
            }
            let rules = Rules::read(&declaration, &template).map_err(fail)?;
            let collection = Collection {
                template,
                policy: rules.policy,
                not_future: declaration.not_future,
                unique: rules.unique,
                references: rules.references,
                validator,
                member_of,
                change_log_ms: declaration.retention.as_ref().map(Kept::change_log_ms).transpose().map_err(fail)?,
                rules: declaration.rules,
                read_roles: declaration.read_roles,
                write_roles: declaration.write_roles,
            };
            by_name.insert(CollectionName(name), collection);
        }
        for (name, collection) in &by_name {
            for reference in &collection.references {
                if !by_name.contains_key(&reference.collection) {
                    let reason = format!("reference {} names a collection that is not declared", reference.field);
                    return Err(CollectionsError::Collection { name: name.0.clone(), reason });
                }
            }
        }
        Ok(Self { by_name, rules: rules::none() })
    }

    pub fn with_rules(self, rules: BusinessRules) -> Self {
        Self { rules, ..self }
    }

    /// What is wrong with a valid record by the rules of who runs this server.
    pub fn broken_rules(&self, write: &Write<'_>) -> BTreeMap<String, String> {
        (self.rules)(write)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&CollectionName, &Collection)> {
        self.by_name.iter()
    }

    /// True when this user may see and decide what waits for a role in `scope`: one of those roles is theirs, and
    /// they may read whatever the rows can speak of.
    pub fn may_review(&self, scope: &Scope, roles: &BTreeSet<String>) -> bool {
        let asking =
            |collection: &&Collection| collection.template.fits(scope) && !collection.policy.reviewers().is_empty();
        let mut asking = self.by_name.values().filter(asking).peekable();
        let mut is_asked = false;
        asking.peek().is_some()
            && asking.all(|collection| {
                is_asked |= !collection.policy.reviewers().is_disjoint(roles);
                collection.may_read(roles)
            })
            && is_asked
    }

    pub fn get(&self, name: &CollectionName) -> Option<&Collection> {
        self.by_name.get(name)
    }

    /// True when this user may pull `name` in `scope`.
    pub fn readable(&self, name: &CollectionName, scope: &Scope, roles: &BTreeSet<String>) -> bool {
        if name.as_str() == CONFLICTS {
            return self.may_review(scope, roles);
        }
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

    #[test]
    fn a_rule_that_makes_no_sense_is_refused_with_its_collections_name() {
        let read = |more: &str| {
            let schema = r#"{"properties":{"a":{"type":"string"},"t":{"type":["string","null"],"format":"date-time"},"l":{"type":"array"}}}"#;
            let text =
                format!(r#"{{"version":1,"collections":{{"x":{{"scope":"s:{{site}}","schema":{schema},{more}}}}}}}"#);
            Collections::parse(&text).map(|_| ()).map_err(|error| error.to_string())
        };
        assert_eq!(read(r#""unique":[["a","t"]],"references":{"a":"x"},"not_future":["t"]"#), Ok(()));
        for (bad, word) in [
            (r#""policy":"sometimes""#, "sometimes"),
            (r#""policy":{"fields":{"site":"client-wins"}}"#, "never changes"),
            (r#""unique":[["a"]],"policy":{"fields":{"a":"client-wins"}}"#, "unique key"),
            (r#""equal_within":{"t":"soon"}"#, "equal_within of t"),
            (r#""unique":[["l"]]"#, "that l is"),
            (r#""unique":[["nowhere"]]"#, "nowhere"),
            (r#""unique":[[]]"#, "no field"),
            (r#""references":{"a":"elsewhere"}"#, "not declared"),
        ] {
            let error = read(bad).unwrap_err();
            assert!(error.starts_with("collection x: ") && error.contains(word), "{bad}: {error}");
        }
        assert!(read(r#""references":{"a":{"collection":"x","on_delete":"explode"}}"#).is_err());
        assert!(read(r#""polices":"merge""#).is_err(), "an unknown key is a typing error");
        let own = r#"{"version":1,"collections":{"_conflicts":{"scope":"s:x","schema":{}}}}"#;
        assert!(Collections::parse(own).is_err());
    }

    #[test]
    fn c4_only_a_role_that_is_asked_and_may_read_what_it_is_asked_about_sees_what_waits() {
        let collections = Collections::parse(
            r#"{"version":1,"collections":{
                "open":{"scope":"s:{site}","schema":{},"policy":{"manual":{"by":"manager"}}},
                "shut":{"scope":"s:{site}","schema":{},"policy":{"manual":{"by":"auditor"}},"read_roles":["auditor"]},
                "plain":{"scope":"user:{user}","schema":{}}}}"#,
        )
        .unwrap();
        let may = |scope: &str, roles: &[&str]| {
            let roles = roles.iter().map(|role| (*role).to_owned()).collect();
            collections.readable(&CONFLICTS.into(), &Scope::from(scope), &roles)
        };
        assert!(may("s:1", &["auditor"]) && may("s:1", &["auditor", "manager"]));
        assert!(!may("s:1", &["manager"]), "rows of `shut` would show what managers may not read");
        assert!(!may("s:1", &["staff"]) && !may("user:ada", &["auditor"]));
    }
}
