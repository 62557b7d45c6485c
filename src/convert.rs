//! Lists and records on their way to JavaScript go as JSON text.

use landfall_protocol::codec::{ToJson, write_string};

/// An object with these fields.
pub(crate) fn object(fields: &[(&str, &dyn ToJson)]) -> String {
    let mut json = String::from("{");
    for (name, value) in fields {
        if json.len() > 1 {
            json.push(',');
        }
        write_string(&mut json, name);
        json.push(':');
        value.write(&mut json);
    }
    json.push('}');
    json
}
