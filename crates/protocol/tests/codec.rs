//! The small codec and serde agree: on every golden message, on thousands of damaged ones, and on what they write.
//!
//! One thing is serde's alone: it reads a struct from a list of its fields too, which nobody has ever written.
#![allow(clippy::unwrap_used, reason = "a test ends where its set-up fails")]

use landfall_protocol::codec::{FromJson, ToJson, from_json, to_json};
use landfall_protocol::{
    ErrorEnvelope, Json, LiveMessage, Map, Mutation, Object, Outcome, Pair, PullRequest, PullResponse, PushRequest,
    PushResponse, Value,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

fn golden(name: &str) -> String {
    std::fs::read_to_string(format!("{}/golden/{name}.json", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// Both read the same or nothing, and write the same bytes. True: it was read.
fn agree<T: Serialize + DeserializeOwned + ToJson + FromJson + PartialEq + Debug>(text: &str) -> bool {
    let (serde, small) = (serde_json::from_str::<T>(text).ok(), from_json::<T>(text));
    assert_eq!(serde, small, "{text}");
    let Some(value) = small else { return false };
    assert_eq!(serde_json::to_string(&value).unwrap(), to_json(&value), "{text}");
    true
}

/// The text with one thing wrong with it, or only different: every place, several ways.
fn damaged(text: &str) -> Vec<String> {
    let mut all = Vec::new();
    for at in (0..text.len()).filter(|at| text.is_char_boundary(*at) && text.is_char_boundary(at + 1)) {
        let (before, after) = (&text[..at], &text[at + 1..]);
        for put in
            ["", "\"", "0", "}", "]", ",", "-", "1.5", "e", "\\", "\\u00e9", "\\ud83d", " ", "null", "x", "é", "\u{1}"]
        {
            all.push(format!("{before}{put}{after}"));
            all.push(format!("{before}{put}{}", &text[at..]));
        }
        all.push(before.to_owned());
    }
    all
}

fn agree_on_all<T: Serialize + DeserializeOwned + ToJson + FromJson + PartialEq + Debug>(text: &str) {
    assert!(agree::<T>(text), "{text}");
    let read = damaged(text).iter().filter(|text| agree::<T>(text)).count();
    assert!(read > 0, "nothing but white space is no damage");
    // Every field: gone, twice, unknown, null.
    let Ok(serde_json::Value::Object(object)) = serde_json::from_str(text) else { return };
    for name in object.keys() {
        let mut other = object.clone();
        let value = other.remove(name).unwrap();
        let rest = serde_json::to_string(&other).unwrap();
        agree::<T>(&rest);
        let tail = if other.is_empty() { "}" } else { "," };
        for value in
            [value, serde_json::Value::Null, serde_json::json!([0]), serde_json::json!("x"), serde_json::json!(7)]
        {
            agree::<T>(&format!("{{\"{name}\":{value}{tail}{}", &rest[1..]));
            agree::<T>(&format!("{{\"{name}\":{value},\"{name}\":{value}{tail}{}", &rest[1..]));
            agree::<T>(&format!("{{\"other\":{value},\"other\":{value},\"{name}\":{value}{tail}{}", &rest[1..]));
        }
    }
}

#[test]
fn golden_messages_whole_and_damaged_are_read_and_written_alike() {
    let compact = |name: &str| serde_json::from_str::<serde_json::Value>(&golden(name)).unwrap().to_string();
    for name in ["push_request", "push_request_first"] {
        agree::<PushRequest>(&golden(name));
        agree_on_all::<PushRequest>(&compact(name));
        let request: PushRequest = from_json(&golden(name)).unwrap();
        for mutation in request.mutations.iter().filter(|mutation| !mutation.text().contains("\"void\"")) {
            agree_on_all::<Mutation<Object>>(mutation.text());
        }
    }
    agree::<PushResponse>(&golden("push_response"));
    let response: PushResponse = from_json(&golden("push_response")).unwrap();
    response.results.iter().for_each(|result| agree_on_all::<Outcome>(result.text()));
    agree_on_all::<PullRequest>(&compact("pull_request"));
    agree_on_all::<PullRequest>(&compact("pull_request_first"));
    agree::<PullResponse<Json>>(&golden("pull_response"));
    agree_on_all::<PullResponse<Json>>(&compact("pull_response"));
    agree_on_all::<ErrorEnvelope>(&compact("error"));
    agree_on_all::<ErrorEnvelope>(&compact("error_reset"));
}

#[test]
fn the_live_channel_is_read_as_serde_reads_it() {
    for name in ["live_ready", "live_poke", "live_bye"] {
        let text = golden(name);
        for text in damaged(&text).iter().chain([&text]) {
            let serde = serde_json::from_str::<LiveMessage>(text).ok();
            // A field that its type does not have is nobody's business.
            if serde.is_some() {
                assert_eq!(serde, LiveMessage::parse(text), "{text}");
            }
        }
    }
}

#[test]
fn plain_values_are_read_and_written_alike() {
    let texts = [
        "0",
        "-0",
        "1",
        "01",
        "-1",
        "1.0",
        "1e3",
        "18446744073709551615",
        "18446744073709551616",
        "4294967296",
        "\"\"",
        "\"a\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0000\\u001f\\u007f\\u00e9\\uD83D\\uDE00é😀\u{7f}\"",
        "\"\\ud83d\"",
        "\"\\ude00\"",
        "\"\\ud83d\\u0041\"",
        "\"\\x\"",
        "\"\u{1}\"",
        "\"\\u12g4\"",
        "\"\\u+123\"",
        "true",
        "false",
        "null",
        "tru",
        "nul",
        "[]",
        "[1]",
        "[1,2]",
        "[1,]",
        "[,1]",
        "[1 2]",
        "{}",
        "{\"a\":1}",
        "{\"a\":1,\"a\":2}",
        "{\"b\":1,\"a\":2}",
        "{\"a\" : 1 , \"b\":2 }",
        "{\"a\":1,}",
        "{1:1}",
        "{\"1\":1}",
        "{\"01\":1}",
        "{a:1}",
        "{\"a\":{\"b\":[1,{\"c\":null}]}}",
        " \n\t\r1 ",
        "\u{feff}1",
        "1 1",
        "[\"a\",\"b\"]",
        "[\"a\"]",
        "[\"a\",\"b\",\"c\"]",
        "[[[[]]]]",
        "[[]",
        "]",
        "",
        " ",
        "-",
        "1.",
        ".5",
        "1e",
        "1e+",
        "1E+5",
        "nullx",
    ];
    for text in texts {
        agree::<u64>(text);
        agree::<u32>(text);
        agree::<bool>(text);
        agree::<String>(text);
        agree::<Json>(text);
        agree::<Option<u64>>(text);
        agree::<Vec<u64>>(text);
        agree::<Map<String, u64>>(text);
        agree::<Map<landfall_protocol::EntryId, u32>>(text);
        agree::<Map<String, Json>>(text);
        agree::<(String, String)>(text);
        agree::<Pair>(text);
        assert_eq!(serde_json::from_str::<i32>(text).ok(), from_json::<i32>(text), "{text}");
        let serde = serde_json::from_str::<serde_json::Value>(text).ok();
        assert_eq!(serde.is_some(), from_json::<Value>(text).is_some(), "{text}");
    }
    let deep = "[".repeat(100_000);
    assert!(from_json::<Json>(&deep).is_none() && from_json::<Value>(&deep).is_none());
}

#[test]
fn a_byte_that_needs_an_escape_is_seen_wherever_it_stands() {
    let neighbours = ['a', '!', '#', '[', ']', '~', '\u{7f}', '\u{e9}'];
    let special = ('\0'..=' ').chain(['"', '\\', '\u{7f}', '\u{fc}', '\u{1f600}']);
    for special in special {
        for (before, neighbour) in (0..19).flat_map(|before| neighbours.map(|neighbour| (before, neighbour))) {
            let text = format!("{}{special}{}", String::from(neighbour).repeat(before), "z\"".repeat(before % 3));
            let written = to_json(&text);
            assert_eq!(written, serde_json::to_string(&text).unwrap());
            assert_eq!((from_json(&written), from_json::<Json>(&written).is_some()), (Some(text.clone()), true));
            // As it is, it is a string only if nothing in it needs an escape.
            let bare = format!("\"{text}\"");
            assert_eq!((from_json::<String>(&bare), from_json::<Json>(&bare).is_some()), {
                let read = serde_json::from_str::<String>(&bare).ok();
                (read.clone(), read.is_some())
            });
        }
    }
}
