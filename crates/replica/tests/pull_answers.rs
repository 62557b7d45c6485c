//! What a pull is answered beside pages that follow each other: resets, refusals, sums that differ, access that is taken,
//! and answers that another context has made old.

#![allow(clippy::unwrap_used)] // A test that cannot go on says so by panicking.

mod lab;

use lab::{Lab, Opened, at_once, op, put, write};
use landfall_core::schedule::Trigger;
use landfall_protocol::codec::from_json;
use landfall_protocol::{PullRequest, PushRequest, RecordId, RecordSum, Scope, Version};
use landfall_replica::{HttpResponse, Token, WriteOp};
use landfall_storage::ingest::MISMATCH_MS;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

/// The head with one record; `more` goes into the page.
fn head(version: u64, more: &str) -> String {
    format!(
        r#"{{"server_time":1,"epoch":"e1","changes":{{"notes":[{{"scope":"user:u","id":"a","version":{version},
        "position":{version},"fields":{{"n":{version}}}}}]}},"tombstones":{{}},"cursor":"c{version}",
        "covered":{{"user:u":{{"notes":{version}}}}},"has_more":false{more}}}"#
    )
}

fn error(status: u16, code: &str, epoch: Option<&str>) -> Option<HttpResponse> {
    let epoch = epoch.map_or(String::new(), |epoch| format!(r#","epoch":"{epoch}""#));
    let body = format!(r#"{{"error":{{"code":"{code}","message":"","request_id":"r"{epoch}}}}}"#);
    Some(HttpResponse { status, retry_after_ms: None, body })
}

/// A server that answers from a script; when it is used up, pulls get the head and pushes are applied.
#[derive(Clone)]
struct Script {
    lab: Lab,
    pulls: Rc<RefCell<VecDeque<Option<HttpResponse>>>>,
    pushes: Rc<RefCell<VecDeque<Option<HttpResponse>>>>,
    /// Paths and bodies.
    asked: Rc<RefCell<Vec<(String, String)>>>,
}

impl Script {
    fn new() -> Self {
        Self::on(Lab::new())
    }

    fn on(lab: Lab) -> Self {
        let script = Self { lab, pulls: Rc::default(), pushes: Rc::default(), asked: Rc::default() };
        let (pulls, pushes, asked) = (Rc::clone(&script.pulls), Rc::clone(&script.pushes), Rc::clone(&script.asked));
        let mut seq = 0;
        script.lab.serve(move |request| {
            let body = request.body.clone().unwrap_or_default();
            asked.borrow_mut().push((request.path.clone(), body.clone()));
            match request.path.as_str() {
                "/pull" => pulls.borrow_mut().pop_front().unwrap_or_else(|| Lab::answer(head(6, ""))),
                "/push" => pushes.borrow_mut().pop_front().unwrap_or_else(|| {
                    let push: PushRequest = from_json(&body).unwrap();
                    let results = push.mutations.iter().map(|_| {
                        seq += 1;
                        format!(r#"{{"seq":{seq},"status":"applied","version":9,"position":9}}"#)
                    });
                    let results = results.collect::<Vec<_>>().join(",");
                    Lab::answer(format!(r#"{{"server_time":1,"epoch":"e1","head":{{}},"results":[{results}]}}"#))
                }),
                _ => Lab::answer("{}".to_owned()),
            }
        });
        script
    }

    /// A context that has pulled to the head and sent a record.
    fn synced(&self) -> Opened {
        let replica = self.lab.open().unwrap();
        at_once(replica.set_token(Some(Token { token: "t".to_owned(), expires_at: None }))).unwrap();
        put(&replica, "own", "{}").unwrap();
        self.seconds(&replica, 5);
        assert_eq!((replica.status().pending, cursor(&replica).as_deref()), (0, Some("c6")));
        self.asked.borrow_mut().clear();
        replica
    }

    /// Pokes, so that the next step pulls.
    fn pull(&self, replica: &Opened) {
        replica.trigger(Trigger::Poke);
        at_once(replica.step());
    }

    fn seconds(&self, replica: &Opened, count: u64) {
        for _ in 0..count * 4 {
            at_once(replica.step());
            self.lab.now.set(self.lab.now.get() + 250);
        }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.take().into_iter().map(|(path, _)| path).collect()
    }
}

fn cursor(replica: &Opened) -> Option<String> {
    replica.db.borrow().base.manifest.cursor.clone()
}

fn epoch(replica: &Opened) -> String {
    replica.db.borrow().base.manifest.epoch.as_ref().unwrap().0.clone()
}

fn last_error(replica: &Opened) -> Option<String> {
    replica.status().last_error.map(|error| error.code)
}

#[test]
fn r6_only_a_reset_throws_the_cursor_away_and_one_of_another_epoch_asks_the_ledger_before() {
    let other_page = || Lab::answer(head(7, "").replace("e1", "e2"));
    // What the pull is answered, whether the ledger is asked, the epoch and whether it starts cold.
    let cases = [
        (error(409, "reset_required", Some("e2")), true, "e2", true),
        (other_page(), true, "e2", true),
        (error(409, "reset_required", Some("e1")), false, "e1", true),
        (error(409, "reset_required", None), false, "e1", true),
        (error(409, "client_fork", Some("e2")), false, "e1", false),
        (error(400, "reset_required", Some("e2")), false, "e1", false),
    ];
    for (answer, asks, epoch_then, is_cold) in cases {
        let script = Script::new();
        let replica = script.synced();
        script.pulls.borrow_mut().push_back(answer.clone());
        script.pushes.borrow_mut().push_back(error(409, "reset_required", Some("e2")));
        script.pull(&replica);
        let expected: &[&str] = if asks { &["/pull", "/push"] } else { &["/pull"] };
        assert_eq!(script.asked(), expected, "{answer:?}");
        assert_eq!((epoch(&replica).as_str(), cursor(&replica).is_none()), (epoch_then, is_cold), "{answer:?}");
        assert!(at_once(replica.get("notes", None, "a")).unwrap().is_some(), "what is visible stays so: {answer:?}");
    }
}

#[test]
fn r6_the_ledger_of_another_epoch_is_believed_only_where_it_says_so() {
    // What the push is answered, whether this client goes on as another one, whether the base starts cold, and its epoch.
    let cases = [
        (error(409, "reset_required", Some("e2")), None, true, "e2"),
        // A fork names no epoch: the next pull does.
        (error(409, "client_fork", None), Some(true), true, "e1"),
        (error(409, "validation", Some("e2")), Some(false), false, "e1"),
        (error(400, "reset_required", Some("e2")), Some(false), false, "e1"),
        (error(400, "client_fork", Some("e2")), Some(false), false, "e1"),
        (None, Some(false), false, "e1"),
    ];
    for (answer, forks, is_cold, epoch_then) in cases {
        let script = Script::new();
        let replica = script.synced();
        let client = || replica.db.borrow().state.client.client_id.clone();
        let before = client();
        script.pulls.borrow_mut().push_back(error(409, "reset_required", Some("e2")));
        script.pushes.borrow_mut().push_back(answer.clone());
        script.pull(&replica);
        assert_eq!(script.asked(), ["/pull", "/push"]);
        assert_eq!((epoch(&replica).as_str(), cursor(&replica).is_none()), (epoch_then, is_cold), "{answer:?}");
        if let Some(forks) = forks {
            assert_eq!(client() != before, forks, "{answer:?}");
        }
    }
}

#[test]
fn r6_where_the_push_finds_the_new_epoch_known_the_pull_is_simply_done_again() {
    let script = Script::new();
    let replica = script.synced();
    script.pulls.borrow_mut().push_back(error(409, "reset_required", Some("e2")));
    script.pull(&replica);
    assert_eq!((cursor(&replica).as_deref(), last_error(&replica)), (Some("c6"), None));
    script.lab.now.set(script.lab.now.get() + 250);
    at_once(replica.step());
    assert_eq!(script.asked(), ["/pull", "/push", "/pull"], "no back-off: nothing went wrong");
}

#[test]
fn a_reset_that_says_nothing_new_to_a_client_that_never_pulled_is_a_faulty_answer() {
    let script = Script::new();
    script.pulls.borrow_mut().push_back(error(409, "reset_required", Some("e2")));
    let replica = script.lab.open().unwrap();
    at_once(replica.set_token(Some(Token { token: "t".to_owned(), expires_at: None }))).unwrap();
    at_once(replica.step());
    assert_eq!((script.asked(), last_error(&replica).as_deref()), (vec!["/pull".to_owned()], Some("malformed_answer")));
    script.seconds(&replica, 5);
    assert_eq!((cursor(&replica).as_deref(), last_error(&replica)), (Some("c6"), None));
}

#[test]
fn r2_an_answer_to_what_another_context_has_left_behind_changes_nothing() {
    let answers = [
        Lab::answer(head(2, "")),
        Lab::answer(head(2, "").replace("e1", "e2")),
        error(409, "reset_required", Some("e1")),
        error(409, "reset_required", Some("e2")),
    ];
    for answer in answers {
        let script = Script::new();
        let other = Script::on(script.lab.beside());
        let slow = script.lab.open().unwrap();
        at_once(slow.set_token(Some(Token { token: "t".to_owned(), expires_at: None }))).unwrap();
        let (watched, once, asked) = (Rc::downgrade(&slow), answer.clone(), Rc::clone(&script.asked));
        script.lab.serve(move |request| {
            // While the answer is under way another context pulls, and this one hears of it.
            asked.borrow_mut().push((request.path.clone(), String::new()));
            other.synced();
            at_once(watched.upgrade().unwrap().refresh()).unwrap();
            once.clone()
        });
        at_once(slow.step());
        assert_eq!((script.asked(), cursor(&slow).as_deref()), (vec!["/pull".to_owned()], Some("c6")), "{answer:?}");
        assert_eq!((epoch(&slow).as_str(), last_error(&slow)), ("e1", None), "{answer:?}");
        assert!(at_once(slow.get("notes", None, "a")).unwrap().unwrap().contains("\"n\":6"), "{answer:?}");
    }
}

/// Pairs that each pull asked for anew.
fn resyncs(script: &Script) -> Vec<usize> {
    let pulls = script.asked.take().into_iter().filter(|(path, _)| path == "/pull");
    pulls.map(|(_, body)| from_json::<PullRequest>(&body).unwrap().resync.len()).collect()
}

#[test]
fn r2_a_copy_whose_sum_differs_is_pulled_anew_at_once_and_again_an_hour_later_at_the_earliest() {
    let script = Script::new();
    let replica = script.synced();
    let mut right = RecordSum::default();
    right.add(&RecordId::from("a"), Version(6));
    let answer = |sum: RecordSum| {
        let sum = landfall_protocol::codec::to_json(&sum);
        script
            .pulls
            .borrow_mut()
            .push_back(Lab::answer(head(6, &format!(r#","checksums":{{"user:u":{{"notes":{sum}}}}}"#))));
    };
    let wrong = RecordSum::default();
    answer(right);
    script.pull(&replica);
    script.seconds(&replica, 5);
    assert_eq!(resyncs(&script), [0], "the same sum");

    answer(wrong);
    answer(right);
    let began = script.lab.now.get();
    script.pull(&replica);
    script.seconds(&replica, 5);
    assert_eq!((resyncs(&script), last_error(&replica)), (vec![0, 1], None), "mended by what came anew");

    answer(wrong);
    script.lab.now.set(began + MISMATCH_MS - 1);
    script.pull(&replica);
    assert_eq!((resyncs(&script), last_error(&replica).as_deref()), (vec![0], Some("checksum")), "too soon");

    answer(wrong);
    answer(right);
    script.lab.now.set(began + MISMATCH_MS);
    script.pull(&replica);
    script.seconds(&replica, 5);
    assert_eq!((resyncs(&script), last_error(&replica)), (vec![0, 1], None));
}

#[test]
fn l4_what_waits_for_a_collection_that_is_taken_away_is_parked_and_nothing_else_is() {
    for (access, parked) in [(r#""removed":[["user:u","notes"]]"#, 1), (r#""added":[["user:u","notes"]]"#, 0)] {
        let script = Script::new();
        let replica = script.synced();
        let scope = Some(Scope::from("user:u"));
        write(&replica, vec![WriteOp { scope, ..op("b", r#"{"x":1}"#) }], false).unwrap();
        let page = head(7, "").replace(r#""cursor""#, &format!(r#""access":{{{access}}},"cursor""#));
        script.pulls.borrow_mut().push_back(Lab::answer(page));
        script.pull(&replica);
        assert_eq!(script.asked(), ["/pull"], "before the write is sent");
        let status = replica.status();
        assert_eq!((status.parked, status.pending), (parked, 1 - parked), "{access}");
    }
}

#[test]
fn an_error_is_shown_until_a_pull_succeeds_with_nothing_left_that_could_have_failed() {
    let busy = || Some(HttpResponse { status: 503, retry_after_ms: None, body: String::new() });
    let script = Script::new();
    let replica = script.synced();
    let shows = |expected: Option<&str>, when: &str| assert_eq!(last_error(&replica).as_deref(), expected, "{when}");
    script.pulls.borrow_mut().push_back(busy());
    script.pull(&replica);
    shows(Some("http_503"), "a pull failed");
    script.lab.now.set(script.lab.now.get() + 60_000);
    script.pull(&replica);
    shows(None, "a pull succeeded");

    script.pulls.borrow_mut().push_back(busy());
    script.pull(&replica);
    script.lab.now.set(script.lab.now.get() + 60_000);
    put(&replica, "b", "{}").unwrap();
    script.asked.take();
    script.pull(&replica);
    assert_eq!((script.asked(), replica.status().sending), (vec!["/pull".to_owned()], 0));
    shows(Some("http_503"), "while something is not sent yet");
    script.seconds(&replica, 5);
    shows(None, "it is sent");

    // The batch fails at a server that is well, so pulls go on before it is tried again.
    put(&replica, "c", "{}").unwrap();
    script.pushes.borrow_mut().push_back(error(500, "internal", None));
    script.lab.now.set(script.lab.now.get() + 500);
    at_once(replica.step());
    assert_eq!((script.asked().pop().as_deref(), replica.status().sending), (Some("/push"), 1));
    script.lab.random.set(1 << 63);
    while !script.asked().iter().any(|path| path == "/pull") {
        script.lab.now.set(script.lab.now.get() + 10);
        script.pull(&replica);
    }
    assert_eq!(replica.status().sending, 1, "all that waits is on its way");
    shows(Some("internal"), "while something is on its way");
}

#[test]
fn i4_what_is_written_after_a_pull_is_stamped_behind_all_that_came_with_it() {
    // Half a minute ahead of this clock: of a change, of a delete.
    let stamp = format!("{:012x}-0007-other", 1_700_000_030_000_u64);
    let change = head(7, "").replace(r#""fields""#, &format!(r#""stamp":"{stamp}","fields""#));
    let gone = format!(r#"{{"scope":"user:u","id":"a","version":7,"position":7,"stamp":"{stamp}"}}"#);
    let delete = head(7, "").replace(r#""tombstones":{}"#, &format!(r#""tombstones":{{"notes":[{gone}]}}"#));
    for (page, is_behind) in [(head(7, ""), false), (change, true), (delete, true)] {
        let script = Script::new();
        let replica = script.synced();
        script.pulls.borrow_mut().push_back(Lab::answer(page.clone()));
        script.pull(&replica);
        put(&replica, "b", "{}").unwrap();
        let own = replica.db.borrow().state.entries.values().next_back().unwrap().stamp.clone();
        assert_eq!(own.0 > stamp, is_behind, "{page}: {own:?}");
    }
}
