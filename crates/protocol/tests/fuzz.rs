//! Every reader of this crate under spoiled texts: none panics or loops, and what is read is written and read again
//! as the same.
#![allow(clippy::unwrap_used, reason = "a test ends where its set-up fails")]

mod mutate;

use landfall_protocol::codec::{FromJson, Reader, ToJson, from_json, to_json};
use landfall_protocol::{
    ErrorEnvelope, Hlc, Json, LiveMessage, Mutation, Object, Outcome, PullRequest, PullResponse, PushMutation,
    PushRequest, PushResponse, Stamp, Value, check_depth, same_value,
};
use mutate::{Was, check, fuzz};

fn golden(names: &[&str]) -> Vec<String> {
    let read = |name: &&str| std::fs::read_to_string(format!("{}/golden/{name}.json", env!("CARGO_MANIFEST_DIR")));
    let mut all: Vec<String> = names.iter().map(|name| read(name).unwrap()).collect();
    let compact = |text: &String| serde_json::from_str::<serde_json::Value>(text).unwrap().to_string();
    all.extend(all.iter().map(compact).collect::<Vec<_>>());
    all
}

fn parts_of(name: &str, list: &str) -> Vec<String> {
    let whole: serde_json::Value = serde_json::from_str(&golden(&[name])[0]).unwrap();
    whole[list].as_array().unwrap().iter().map(ToString::to_string).collect()
}

/// Reads, writes, reads again: the same value and the same text.
fn again<T: FromJson + ToJson + PartialEq + std::fmt::Debug>(text: &str) -> Was {
    let Some(value) = from_json::<T>(text) else { return Was::Refused };
    let written = to_json(&value);
    let second = from_json::<T>(&written).unwrap_or_else(|| panic!("written and not read: {written}"));
    assert_eq!(value, second, "{written}");
    assert_eq!(to_json(&second), written);
    Was::Read
}

#[test]
fn i3_a_push_is_read_or_refused_whatever_it_is() {
    let element = |text: &str| {
        let was = again::<Mutation<Object>>(text);
        match PushMutation::parse(text) {
            Ok(_) => Was::Read,
            Err(_) => was,
        }
    };
    fuzz(&[
        check("push request", &golden(&["push_request", "push_request_first"]), again::<PushRequest>),
        check("element of a push", &parts_of("push_request", "mutations"), element),
    ]);
}

#[test]
fn i3_the_answer_to_a_push_is_read_or_refused_whatever_it_is() {
    fuzz(&[
        check("push response", &golden(&["push_response"]), again::<PushResponse>),
        check("outcome", &parts_of("push_response", "results"), again::<Outcome>),
    ]);
}

#[test]
fn i3_messages_of_pull_are_read_or_refused_whatever_they_are() {
    fuzz(&[
        check("pull request", &golden(&["pull_request", "pull_request_first"]), again::<PullRequest>),
        check("pull page", &golden(&["pull_response"]), again::<PullResponse<Json>>),
    ]);
}

#[test]
fn i3_errors_and_live_messages_are_read_or_refused_whatever_they_are() {
    let live = |text: &str| if LiveMessage::parse(text).is_some() { Was::Read } else { Was::Refused };
    fuzz(&[
        check("error envelope", &golden(&["error", "error_reset"]), again::<ErrorEnvelope>),
        check("live message", &golden(&["live_ready", "live_poke", "live_bye"]), live),
    ]);
}

fn values() -> Vec<String> {
    let mut all = golden(&["pull_response", "push_request", "error_reset"]);
    let more = [
        "1",
        "-0.0",
        "1e22",
        "9007199254740993",
        "\"\\ud83d\\ude00\"",
        "[]",
        "{}",
        "null",
        "{\"a\":{\"a\":[1,\"x\"]}}",
    ];
    all.extend(more.map(str::to_owned));
    all
}

#[test]
fn i5_json_of_any_text_is_refused_or_means_here_what_it_does_for_serde() {
    let objects = values().into_iter().filter(|text| text.trim_start().starts_with('{')).collect::<Vec<_>>();
    fuzz(&[
        check("json", &values(), as_serde_reads_it),
        check("depth", &values(), |text| {
            let (strict, loose) = (check_depth(text, 64), check_depth(text, 65));
            assert!(strict.is_err() || loose.is_ok(), "deeper is allowed and refused");
            if strict.is_ok() { Was::Read } else { Was::Refused }
        }),
        check("object", &objects, |text| {
            let Some(object) = from_json::<Object>(text) else { return Was::Refused };
            let _ = object.get("a");
            let unset = ["a".to_owned(), "changes".to_owned()];
            let patched = object.patched(&object, &unset);
            assert!(from_json::<Object>(patched.text()).is_some(), "{patched:?}");
            let _ = Object::stored(text);
            again::<Object>(text)
        }),
        check("passed over", &values(), |text| if Reader::new(text).skip() { Was::Read } else { Was::Refused }),
    ]);
}

/// The same texts are JSON for this reader as for serde's, and mean the same.
fn as_serde_reads_it(text: &str) -> Was {
    let here = from_json::<Json>(text);
    let there = serde_json::from_str::<Box<serde_json::value::RawValue>>(text).ok();
    assert_eq!(here.is_some(), there.is_some(), "JSON for one of the two");
    let Some(json) = here else { return Was::Refused };
    assert!(same_value(json.text(), json.text()));
    // serde refuses numbers beyond a double and half pairs only when it makes values of them.
    if let (Some(ours), Ok(theirs)) = (from_json::<Value>(text), serde_json::from_str::<serde_json::Value>(text)) {
        assert!(is_same(&ours, &theirs), "{ours:?} {theirs:?}");
    }
    again::<Json>(text)
}

fn is_same(ours: &Value, theirs: &serde_json::Value) -> bool {
    match (ours, theirs) {
        (Value::Null, serde_json::Value::Null) => true,
        (Value::Bool(a), serde_json::Value::Bool(b)) => a == b,
        (Value::Number(a), serde_json::Value::Number(b)) => b.to_string().parse::<f64>().is_ok_and(|b| *a == b),
        (Value::String(a), serde_json::Value::String(b)) => a == b,
        (Value::List(a), serde_json::Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b))
        }
        (Value::Object(a), serde_json::Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| is_same(a, b)))
        }
        _ => false,
    }
}

#[test]
fn i4_a_stamp_of_any_text_leaves_the_clock_in_order() {
    let stamps =
        ["018bcfe568dc-0000-cf71eda7af08caa65", "ffffffffffff-ffff-c", "000000000000-0000-x"].map(str::to_owned);
    let reader = |text: &str| {
        let stamp = Stamp(text.to_owned());
        let mut clock = Hlc::default();
        let before = clock.tick(1_700_000_000_000, "c1");
        if stamp.is_valid() {
            clock.observe(&stamp.clamped(1_700_000_000_000, 60_000));
        }
        let next = clock.tick(1_700_000_000_000, "c1");
        assert!(next.is_valid() && next.0 > before.0, "{before:?} {next:?}");
        if stamp.is_valid() { Was::Read } else { Was::Refused }
    };
    fuzz(&[check("stamp", &stamps, reader)]);
}
