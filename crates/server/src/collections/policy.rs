//! `policy` and `equal_within` of a declaration, from JSON to the types of core.

use landfall_core::policy::{Choice, Policy, Refinement, Rule, Way};
use landfall_protocol::Map;
use serde_json::{Map as Object, Value};

/// Reads a policy. Errors say what is wrong with it, for the person who wrote the file.
pub fn policy(value: &Value) -> Result<Policy, String> {
    let Some(object) = value.as_object() else { return Ok(Policy { way: way(value)?, ..Policy::default() }) };
    let refinement = match object.keys().find(|key| ["wins", "fields", "record"].contains(&key.as_str())) {
        None => return Ok(Policy { way: way(value)?, ..Policy::default() }),
        Some(key) => {
            only(object, &[key, "else"])?;
            match key.as_str() {
                "wins" => Refinement::Role(text(&object[key], "wins")?),
                "fields" => Refinement::Fields(fields(&object[key])?),
                _ => Refinement::Record(choice(&object[key])?),
            }
        }
    };
    let way = object.get("else").map(way).transpose()?.unwrap_or_default();
    Ok(Policy { way, refinement, ..Policy::default() })
}

/// The fields that a policy names.
pub fn names(policy: &Policy) -> Vec<&str> {
    match &policy.refinement {
        Refinement::Fields(fields) => fields.keys().map(String::as_str).collect(),
        Refinement::Record(choice) => vec![choice.field.as_str()],
        Refinement::None | Refinement::Role(_) => Vec::new(),
    }
}

/// `60000`, `"60s"`, `"500ms"` or `"5m"`, by field.
pub fn equal_within(value: &Value) -> Result<Map<String, u64>, String> {
    let fields = value.as_object().ok_or("equal_within must name fields")?;
    let millis = |value: &Value| match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => {
            let digits = text.bytes().take_while(u8::is_ascii_digit).count();
            let (number, unit) = text.split_at(digits);
            let factor = match unit {
                "ms" => 1,
                "s" => 1_000,
                "m" => 60_000,
                _ => return None,
            };
            number.parse::<u64>().ok()?.checked_mul(factor)
        }
        _ => None,
    };
    let read = |(name, value): (&String, &Value)| {
        let wrong = || format!("equal_within of {name} must be milliseconds above 0, or a text such as 60s");
        let millis = millis(value).filter(|millis| (1..=1_000_000_000_000).contains(millis)).ok_or_else(wrong)?;
        Ok((name.clone(), millis))
    };
    fields.iter().map(read).collect()
}

fn way(value: &Value) -> Result<Way, String> {
    let rule = match one(value)? {
        ("merge", None) => return Ok(Way::Merge(Rule::ServerWins)),
        ("merge", Some(clash)) => return Ok(Way::Merge(rule(clash)?)),
        ("server-wins", None) => Rule::ServerWins,
        ("client-wins", None) => Rule::ClientWins,
        ("reapply", None) => Rule::Reapply,
        ("last-write-wins", None) => Rule::LastStamp,
        ("last-write-wins", Some(more)) => match by(more, "last-write-wins")?.as_str() {
            "stamp" => Rule::LastStamp,
            "arrival" => Rule::LastArrival,
            _ => return Err("last-write-wins goes by stamp or by arrival".to_owned()),
        },
        ("manual", Some(more)) => match by(more, "manual")? {
            author if author == "author" => Rule::Author,
            role => Rule::Review(role),
        },
        ("manual", None) => return Err("manual needs to know by whom: {\"manual\":{\"by\":\"author\"}}".to_owned()),
        (name, _) => return Err(format!("policy {name} is not known")),
    };
    Ok(Way::Whole(rule))
}

/// A way that decides one clash, not how to look for them.
fn rule(value: &Value) -> Result<Rule, String> {
    match way(value)? {
        Way::Whole(rule) => Ok(rule),
        Way::Merge(_) => Err("a field has nothing to merge".to_owned()),
    }
}

/// `"name"`, or `{ "name": more }`.
fn one(value: &Value) -> Result<(&str, Option<&Value>), String> {
    match value {
        Value::String(name) => Ok((name, None)),
        Value::Object(object) if object.len() == 1 => {
            let (name, more) = object.iter().next().ok_or("a policy is empty")?;
            Ok((name, Some(more)))
        }
        _ => Err("a policy is a name, or an object with one name".to_owned()),
    }
}

fn by(value: &Value, policy: &str) -> Result<String, String> {
    let object = value.as_object().ok_or_else(|| format!("{policy} must be an object with by"))?;
    only(object, &["by"])?;
    text(object.get("by").unwrap_or(&Value::Null), "by")
}

fn fields(value: &Value) -> Result<Map<String, Rule>, String> {
    let object = value.as_object().filter(|object| !object.is_empty()).ok_or("fields must name fields")?;
    object.iter().map(|(name, value)| Ok((name.clone(), rule(value)?))).collect()
}

fn choice(value: &Value) -> Result<Choice, String> {
    let object = value.as_object().ok_or("record must be an object")?;
    only(object, &["field", "roles", "allow"])?;
    let field = text(object.get("field").unwrap_or(&Value::Null), "field")?;
    let roles = object.get("roles").and_then(Value::as_array).filter(|roles| !roles.is_empty());
    let roles = roles.ok_or("record needs the roles that may choose")?;
    let roles = roles.iter().map(|role| text(role, "roles")).collect::<Result<_, _>>()?;
    let allowed = object.get("allow").and_then(Value::as_object).filter(|allowed| !allowed.is_empty());
    let allowed = allowed.ok_or("record needs what it allows: a policy by value of the field")?;
    let allowed =
        allowed.iter().map(|(name, value)| Ok::<_, String>((name.clone(), way(value)?))).collect::<Result<_, _>>()?;
    Ok(Choice { field, roles, allowed })
}

fn text(value: &Value, what: &str) -> Result<String, String> {
    let text = value.as_str().filter(|text| !text.is_empty());
    text.map(str::to_owned).ok_or_else(|| format!("{what} must be a text that is not empty"))
}

fn only(object: &Object<String, Value>, known: &[&str]) -> Result<(), String> {
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(format!("policy has a {key} that is not known here")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_policy_is_a_name_or_an_object_and_has_at_most_one_refinement() {
        let whole = |rule: Rule| Ok(Policy::whole(rule));
        assert_eq!(policy(&json!("client-wins")), whole(Rule::ClientWins));
        assert_eq!(policy(&json!("last-write-wins")), whole(Rule::LastStamp));
        assert_eq!(policy(&json!({"last-write-wins": {"by": "arrival"}})), whole(Rule::LastArrival));
        assert_eq!(policy(&json!({"manual": {"by": "author"}})), whole(Rule::Author));
        assert_eq!(policy(&json!({"manual": {"by": "admin"}})), whole(Rule::Review("admin".to_owned())));
        assert_eq!(policy(&json!({"merge": "client-wins"})), Ok(Policy::merge(Rule::ClientWins)));
        let wins = policy(&json!({"wins": "manager", "else": "merge"})).unwrap();
        assert_eq!((wins.way, wins.refinement), (Way::Merge(Rule::ServerWins), Refinement::Role("manager".to_owned())));
        let fields = policy(&json!({"fields": {"grade": {"manual": {"by": "author"}}}})).unwrap();
        assert!(fields.needs_marks() && names(&fields) == ["grade"]);
        let record =
            json!({"record": {"field": "s", "roles": ["staff"], "allow": {"manual": {"manual": {"by": "admin"}}}}});
        assert_eq!(policy(&record).unwrap().reviewers().into_iter().collect::<Vec<_>>(), ["admin"]);
    }

    #[test]
    fn a_policy_that_makes_no_sense_is_refused_in_words() {
        for (bad, word) in [
            (json!("last-writer-wins"), "not known"),
            (json!("manual"), "by whom"),
            (json!({"manual": {"by": ""}}), "by must"),
            (json!({"manual": {"by": "author", "for": "x"}}), "for"),
            (json!({"last-write-wins": {"by": "moon"}}), "stamp or by arrival"),
            (json!({"merge": "merge"}), "nothing to merge"),
            (json!({"fields": {"a": "merge"}}), "nothing to merge"),
            (json!({"fields": {}}), "must name"),
            (json!({"wins": "m", "fields": {"a": "client-wins"}}), "not known here"),
            (json!({"wins": 7}), "wins must"),
            (json!({"record": {"field": "s", "roles": [], "allow": {"a": "merge"}}}), "roles"),
            (json!({"record": {"field": "s", "roles": ["x"], "allow": {}}}), "allows"),
            (json!({}), "one name"),
            (json!(null), "one name"),
        ] {
            let error = policy(&bad).unwrap_err();
            assert!(error.contains(word), "{bad}: {error}");
        }
    }

    #[test]
    fn a_tolerance_is_a_number_or_a_text_with_its_unit() {
        let read = |value: Value| equal_within(&json!({ "t": value })).map(|fields| fields["t"]);
        assert_eq!((read(json!(60_000)), read(json!("60s")), read(json!("1m"))), (Ok(60_000), Ok(60_000), Ok(60_000)));
        for bad in [json!("60"), json!("1h30"), json!(0), json!(-1), json!(1.5), json!("99999999999999999999s")] {
            assert!(read(bad.clone()).is_err(), "{bad}");
        }
    }
}
