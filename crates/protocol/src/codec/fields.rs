//! What a type says of its fields and names, in place of serde's derives.

/// Lists the fields of a struct for both ways: `wire!(Token { token: Need, expires_at: Keep });`
///
/// `Need`: must be there. `Keep`: may be missing, is always written. `Skip`: may be missing, is left out when blank.
/// A name in front is the name in JSON: `"type" kind: Need`.
#[macro_export]
macro_rules! wire {
    ($type:ty { $($fields:tt)* }) => {
        $crate::wire_in!($type { $($fields)* });
        $crate::wire_out!($type { $($fields)* });
    };
}

/// Lists the fields of a struct that is only read.
#[macro_export]
macro_rules! wire_in {
    ($type:ty { $($($name:literal)? $field:ident: $kind:ident),* $(,)? }) => {
        impl $crate::codec::FromJson for $type {
            fn blank() -> Self {
                Self { $($field: $crate::codec::FromJson::blank()),* }
            }
            fn fill(&mut self, from: &mut $crate::codec::Reader<'_>) -> bool {
                const FIELDS: &str = concat!($($crate::wire_name!($($name)? $field), $crate::wire_mark!($kind)),*);
                $crate::codec::fill_object(from, FIELDS, &mut [$(&mut self.$field),*])
            }
        }
    };
}

/// Lists the fields of a struct that is only written.
#[macro_export]
macro_rules! wire_out {
    ($type:ty { $($($name:literal)? $field:ident: $kind:ident),* $(,)? }) => {
        impl $crate::codec::ToJson for $type {
            fn write(&self, out: &mut String) {
                const FIELDS: &str = concat!($($crate::wire_name!($($name)? $field), $crate::wire_mark!($kind)),*);
                $crate::codec::write_object(out, FIELDS, &[$(&self.$field),*]);
            }
        }
    };
}

/// The name of a field in JSON.
#[doc(hidden)]
#[macro_export]
macro_rules! wire_name {
    ($name:literal $field:ident) => {
        $name
    };
    ($field:ident) => {
        stringify!($field)
    };
}

/// How a field is read and written, as [`fill_object`] has it.
#[doc(hidden)]
#[macro_export]
macro_rules! wire_mark {
    (Need) => {
        "!"
    };
    (Keep) => {
        "?"
    };
    (Skip) => {
        "~"
    };
}

/// Lists the names of an enum without data: `wire_names!(Op { Create: "create", … });`
#[macro_export]
macro_rules! wire_names {
    ($type:ident { $first:ident: $first_name:literal $(, $variant:ident: $name:literal)* $(,)? }) => {
        impl $crate::codec::ToJson for $type {
            fn write(&self, out: &mut String) {
                $crate::codec::write_string(out, match self {
                    Self::$first => $first_name,
                    $(Self::$variant => $name,)*
                });
            }
        }
        impl $crate::codec::FromJson for $type {
            fn blank() -> Self {
                Self::$first
            }
            fn fill(&mut self, from: &mut $crate::codec::Reader<'_>) -> bool {
                const NAMES: &[(&str, $type)] = &[($first_name, $type::$first) $(, ($name, $type::$variant))*];
                let Some(name) = from.string() else { return false };
                let found = NAMES.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| *self = *value).is_some()
            }
        }
    };
}
