//! Scope templates: `user:{user}`, `facility:{facility_id}`.

use landfall_protocol::{Fields, Scope};
use std::collections::BTreeMap;

/// The variable that is no field of the record.
const USER: &str = "user";

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Variable(String),
}

/// Text with `{variables}`, each followed by fixed text or the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

impl Template {
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (fixed, after) = rest.split_at(rest.find('{').unwrap_or(rest.len()));
            if !fixed.is_empty() {
                parts.push(Part::Text(fixed.to_owned()));
            }
            let Some(inner) = after.strip_prefix('{') else { break };
            let (name, next) = inner.split_once('}').ok_or("scope has a { without }")?;
            if name.is_empty() {
                return Err("scope has a variable without a name".to_owned());
            }
            if matches!(parts.last(), Some(Part::Variable(_))) {
                return Err("scope has two variables with nothing between them".to_owned());
            }
            parts.push(Part::Variable(name.to_owned()));
            rest = next;
        }
        match parts.first() {
            Some(Part::Text(_)) => Ok(Self { parts }),
            _ => Err("scope must begin with fixed text such as user:".to_owned()),
        }
    }

    /// True for a scope of this template.
    pub fn fits(&self, scope: &Scope) -> bool {
        self.values(scope).is_some()
    }

    /// Names of the record's fields that the scope fixes.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Variable(name) if name != USER => Some(name.as_str()),
            Part::Variable(_) | Part::Text(_) => None,
        })
    }

    /// The scope that a record's fields make; `None` where one of them is missing. `{user}` is no field.
    pub fn filled(&self, fields: &Fields) -> Option<Scope> {
        let text = |part: &Part| match part {
            Part::Text(text) => Some(text.clone()),
            Part::Variable(name) => fields.get(name).and_then(landfall_protocol::Json::as_string),
        };
        self.parts.iter().map(text).collect::<Option<String>>().map(Scope)
    }

    /// What the record's fields must be in `scope`, by name, where they are not.
    pub fn mismatches(&self, scope: &Scope, fields: &Fields) -> BTreeMap<String, String> {
        let values = self.values(scope).unwrap_or_default();
        self.fields()
            .filter_map(|name| {
                let wanted = values.get(name)?;
                let found = fields.get(name).and_then(landfall_protocol::Json::as_string);
                (found.as_ref() != Some(wanted)).then(|| {
                    (name.to_owned(), format!("must be {wanted}, as the scope of the record says, and cannot change"))
                })
            })
            .collect()
    }

    /// What each variable is in `scope`; `None` for a scope of another template.
    pub fn values(&self, scope: &Scope) -> Option<BTreeMap<&str, String>> {
        let mut values = BTreeMap::new();
        let mut rest = scope.as_str();
        for (at, part) in self.parts.iter().enumerate() {
            match part {
                Part::Text(text) => rest = rest.strip_prefix(text.as_str())?,
                Part::Variable(name) => {
                    let end = match self.parts.get(at + 1) {
                        Some(Part::Text(text)) => rest.find(text.as_str())?,
                        Some(Part::Variable(_)) | None => rest.len(),
                    };
                    let (value, after) = rest.split_at(end);
                    if value.is_empty() {
                        return None;
                    }
                    values.insert(name.as_str(), value.to_owned());
                    rest = after;
                }
            }
        }
        rest.is_empty().then_some(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_fits_its_template_only() {
        let user = Template::parse("user:{user}").unwrap();
        assert!(user.fits(&"user:ada".into()));
        assert!(!user.fits(&"user:".into()) && !user.fits(&"facility:7".into()));
        let two = Template::parse("site:{site}/room:{room}").unwrap();
        assert!(two.fits(&"site:a/room:b".into()) && !two.fits(&"site:a".into()));
        assert_eq!(two.fields().collect::<Vec<_>>(), ["site", "room"]);
        assert_eq!(user.fields().count(), 0);
    }

    #[test]
    fn the_fields_of_the_template_must_say_what_the_scope_says() {
        let template = Template::parse("facility:{facility_id}").unwrap();
        let fields = |text: &str| serde_json::from_str::<Fields>(text).unwrap();
        let scope = Scope::from("facility:7");
        assert!(template.mismatches(&scope, &fields(r#"{"facility_id":"7"}"#)).is_empty());
        assert!(template.mismatches(&scope, &fields(r#"{"facility_id":"8"}"#)).contains_key("facility_id"));
        assert!(template.mismatches(&scope, &fields("{}")).contains_key("facility_id"));
    }
}
