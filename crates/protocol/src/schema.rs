//! JSON Schemas of what is no plain struct.

use crate::{Json, Map, Mutation, Object, PushMutation, RecordSum, Seq};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::borrow::Cow;

impl JsonSchema for PushMutation {
    fn schema_name() -> Cow<'static, str> {
        "PushMutation".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let void = json_schema!({
            "type": "object",
            "description": "The word that this seq will never be a mutation.",
            "required": ["seq", "void"],
            "properties": { "seq": generator.subschema_for::<Seq>(), "void": { "const": true } },
        });
        json_schema!({ "anyOf": [generator.subschema_for::<Mutation>(), void] })
    }
}

macro_rules! inlined {
    ($type:ty, $name:literal, $schema:expr) => {
        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    };
}

inlined!(Json, "Json", Schema::from(true));
inlined!(Object, "Object", json_schema!({ "type": "object" }));
inlined!(RecordSum, "RecordSum", json_schema!({ "type": "string", "pattern": "^[0-9a-f]{16}$" }));

impl<K, V: JsonSchema> JsonSchema for Map<K, V> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        format!("MapOf{}", V::schema_name()).into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "additionalProperties": generator.subschema_for::<V>() })
    }
}
