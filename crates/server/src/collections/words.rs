//! A schema error in words that the person who filled in the form understands.

use jsonschema::ValidationError;
use jsonschema::error::ValidationErrorKind as Kind;
use serde_json::Value;

/// The field at fault (empty for the record as a whole) and what is wrong with it.
pub(super) fn describe(error: &ValidationError<'_>) -> (String, String) {
    let path = error.instance_path().as_str().to_owned();
    let mut steps = path.split('/').skip(1).map(|step| step.replace("~1", "/").replace("~0", "~"));
    let field = steps.next().unwrap_or_default();
    let text = match error.kind() {
        Kind::Required { property } => {
            let name = property.as_str().unwrap_or_default().to_owned();
            return if field.is_empty() { (name, "is required".to_owned()) } else { (field, format!("needs {name}")) };
        }
        Kind::AdditionalProperties { unexpected } if field.is_empty() => {
            return (unexpected.first().cloned().unwrap_or_default(), "is not a field of this collection".to_owned());
        }
        Kind::Type { kind } => format!("must be {}", expected_type(&format!("{kind:?}"))),
        Kind::Format { format } => format!("must be {}", expected_format(format)),
        Kind::MinLength { limit: 1 } => "must not be empty".to_owned(),
        Kind::MinLength { limit } => format!("must have at least {limit} characters"),
        Kind::MaxLength { limit } => format!("must have at most {limit} characters"),
        Kind::Minimum { limit } => format!("must be at least {limit}"),
        Kind::Maximum { limit } => format!("must be at most {limit}"),
        Kind::Enum { options } => format!("must be one of {}", options_text(options)),
        Kind::Pattern { .. } => "does not have the expected form".to_owned(),
        _ => "is not valid".to_owned(),
    };
    (field, text)
}

fn options_text(options: &Value) -> String {
    let list = options.as_array().map(Vec::as_slice).unwrap_or_default();
    let texts: Vec<String> =
        list.iter().map(|option| option.as_str().map_or_else(|| option.to_string(), str::to_owned)).collect();
    texts.join(", ")
}

fn expected_type(debug: &str) -> String {
    let names = [
        ("String", "text"),
        ("Integer", "a whole number"),
        ("Number", "a number"),
        ("Boolean", "yes or no"),
        ("Array", "a list"),
        ("Object", "an object"),
        ("Null", "empty"),
    ];
    let found: Vec<&str> = names.iter().filter(|(name, _)| debug.contains(name)).map(|(_, words)| *words).collect();
    if found.is_empty() { "of another type".to_owned() } else { found.join(" or ") }
}

fn expected_format(format: &str) -> String {
    match format {
        "date-time" => "a date and time such as 2026-01-31T08:00:00Z".to_owned(),
        "date" => "a date such as 2026-01-31".to_owned(),
        "email" => "an e-mail address".to_owned(),
        "uuid" => "a UUID".to_owned(),
        "uri" => "a web address".to_owned(),
        other => format!("of the form {other}"),
    }
}
