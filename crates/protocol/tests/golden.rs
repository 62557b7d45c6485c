//! The exact JSON of every message. Golden files are added, never edited: a change that breaks one breaks old clients.
#![allow(clippy::unwrap_used, reason = "a test ends where its set-up fails")]

use landfall_protocol::{
    ClientLiveMessage, ErrorCode, ErrorEnvelope, LiveMessage, Outcome, PullRequest, PullResponse, PushMutation,
    PushRequest, PushResponse, ResultStatus, StatusResponse,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeSet;

fn text(name: &str) -> String {
    std::fs::read_to_string(format!("{}/golden/{name}.json", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// Parses a golden file, and writes it again to the same canonical JSON.
fn round<T: DeserializeOwned + Serialize>(name: &str) -> T {
    let text = text(name);
    let message: T = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
    let written = serde_json::to_string(&message).unwrap();
    let canonical = |text: &str| serde_json::from_str::<Value>(text).unwrap().to_string();
    assert_eq!(canonical(&written), canonical(&text), "{name}");
    message
}

#[test]
fn every_golden_file_is_read_and_written_as_it_stands() {
    round::<PushRequest>("push_request");
    round::<PushRequest>("push_request_first");
    round::<PushResponse>("push_response");
    round::<PullRequest>("pull_request");
    round::<PullRequest>("pull_request_first");
    round::<PullResponse>("pull_response");
    round::<StatusResponse>("status");
    round::<StatusResponse>("status_limits");
    round::<ErrorEnvelope>("error");
    round::<ErrorEnvelope>("error_reset");
    round::<ClientLiveMessage>("live_auth");
    for name in ["live_ready", "live_poke", "live_bye"] {
        round::<LiveMessage>(name);
    }
    let directory = std::fs::read_dir(format!("{}/golden", env!("CARGO_MANIFEST_DIR"))).unwrap();
    assert_eq!(directory.count(), 14, "a golden file without a test");
}

#[test]
fn mutations_carry_after_prev_group_and_stamp_and_keep_their_bytes() {
    let request: PushRequest = round("push_request");
    let parsed: Vec<PushMutation> =
        request.mutations.iter().map(|text| PushMutation::parse(text.text()).unwrap()).collect();
    let (mut after, mut prev, mut group, mut void) = (0, 0, 0, 0);
    for (element, raw) in parsed.iter().zip(&request.mutations) {
        match element {
            PushMutation::Void(_) => void += 1,
            PushMutation::Mutation(mutation) => {
                assert!(mutation.stamp.is_valid());
                after += usize::from(mutation.after.is_some());
                prev += usize::from(!mutation.prev.is_empty());
                group += usize::from(mutation.group.is_some());
                let again = serde_json::to_string(mutation).unwrap();
                let canonical = |text: &str| serde_json::from_str::<Value>(text).unwrap();
                assert_eq!(canonical(&again), canonical(raw.text()));
            }
        }
    }
    assert_eq!((after, prev, group, void), (1, 3, 2, 1));
}

#[test]
fn the_golden_results_show_every_status() {
    let response: PushResponse = round("push_response");
    let outcomes: Vec<Outcome> =
        response.results.iter().map(|result| serde_json::from_str(result.text()).unwrap()).collect();
    let seen: BTreeSet<ResultStatus> = outcomes.iter().map(|outcome| outcome.status).collect();
    let all = [
        ResultStatus::Applied,
        ResultStatus::Merged,
        ResultStatus::Superseded,
        ResultStatus::Recreated,
        ResultStatus::Conflict,
        ResultStatus::Rejected,
        ResultStatus::AlreadySettled,
        ResultStatus::KeyReused,
    ];
    assert_eq!(seen, BTreeSet::from(all));
    for (outcome, result) in outcomes.iter().zip(&response.results) {
        let again: Value = serde_json::from_str(&serde_json::to_string(outcome).unwrap()).unwrap();
        assert_eq!(again, result.value());
    }
}

#[test]
fn an_error_code_is_known_and_has_a_status() {
    for name in ["error", "error_reset"] {
        let envelope: ErrorEnvelope = round(name);
        assert!(ErrorCode::ALL.iter().any(|(code, _)| *code == envelope.error.code));
    }
}

#[test]
fn i5_a_number_of_a_golden_record_keeps_its_text() {
    let page: PullResponse = round("pull_response");
    let written = serde_json::to_string(&page).unwrap();
    assert!(written.contains("12345678901234567890.10"));
}
