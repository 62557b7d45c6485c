//! A long outbox on its way: what is on disk when a request goes, and how many transactions it takes.

#![allow(clippy::unwrap_used)] // A test that cannot go on says so by panicking.

mod lab;

use lab::{Lab, Opened, at_once, op, put, write};
use landfall_core::schedule::Trigger;
use landfall_protocol::codec::from_json;
use landfall_protocol::limits::ACKED_MS;
use landfall_protocol::{EntryId, Mutation, Object, Outcome, PushRequest, ResultStatus, Seq, Version};
use landfall_replica::{Change, HttpRequest, HttpResponse, Token};
use landfall_storage::faulty::{Call, Fault};
use landfall_storage::{RowOp, StorageFault, StoreName};
use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Waker};

/// Every push with what the disk held when it came.
#[derive(Clone, Default)]
struct Heard {
    pushes: Rc<RefCell<Vec<PushRequest>>>,
    /// So many are answered.
    answers: Rc<Cell<usize>>,
}

impl Heard {
    fn seqs(&self) -> Vec<Vec<u64>> {
        let pushes = self.pushes.borrow();
        pushes.iter().map(|push| mutations(push).iter().map(|mutation| mutation.seq.get()).collect()).collect()
    }
}

fn mutations(push: &PushRequest) -> Vec<Mutation<Object>> {
    push.mutations.iter().map(|text| from_json(text.text()).unwrap()).collect()
}

fn meta(lab: &Lab, prefix: &str) -> String {
    let disk = lab.disk.snapshot();
    let rows = disk.rows(StoreName::Meta).filter(|(key, _)| key.to_string().starts_with(prefix));
    rows.map(|(_, row)| row.to_owned()).collect()
}

fn applied(push: &PushRequest) -> Option<HttpResponse> {
    let results = mutations(push)
        .into_iter()
        .map(|mutation| format!(r#"{{"seq":{0},"status":"applied","version":1,"position":{0}}}"#, mutation.seq));
    let results = results.collect::<Vec<_>>().join(",");
    Lab::answer(format!(r#"{{"server_time":1,"epoch":"e1","head":{{}},"results":[{results}]}}"#))
}

/// A server that takes every push, and on each looks at the disk of the one who sent it.
fn listen(lab: &Lab) -> Heard {
    let heard = Heard::default();
    heard.answers.set(usize::MAX);
    let (heard_then, lab_then) = (heard.clone(), lab.clone());
    lab.serve(move |request| {
        if request.path != "/push" {
            return None;
        }
        let push: PushRequest = from_json(request.body.as_ref().unwrap()).unwrap();
        let (stored, settled) = (meta(&lab_then, "desc/"), meta(&lab_then, "acked/"));
        for text in &push.mutations {
            assert!(stored.contains(text.text()), "persist before send: {}", text.text());
        }
        if push.acked_through > Seq::ZERO {
            let last = format!(r#""outcome":{{"seq":{},"#, push.acked_through);
            assert!(settled.contains(&last), "settled before it is acknowledged: {last}");
        }
        let answer = applied(&push);
        heard_then.pushes.borrow_mut().push(push);
        let left = heard_then.answers.get();
        heard_then.answers.set(left.saturating_sub(1));
        answer.filter(|_| left > 0)
    });
    heard
}

fn open(lab: &Lab) -> Opened {
    let replica = lab.open().unwrap();
    at_once(replica.set_token(Some(Token { token: "t".to_owned(), expires_at: None }))).unwrap();
    replica
}

/// Seven records in one log row, sent by twos.
fn seven(lab: &Lab) -> Opened {
    lab.batch_count.set(2);
    let replica = open(lab);
    write(&replica, ["a", "b", "c", "d", "e", "f", "g"].map(|id| op(id, r#"{"x":1}"#)).to_vec(), false).unwrap();
    replica
}

#[test]
fn s1_a_batch_that_goes_while_the_one_before_is_settled_was_stored_before() {
    let lab = Lab::new();
    let heard = listen(&lab);
    let replica = seven(&lab);
    let names: Rc<RefCell<Vec<&'static str>>> = Rc::default();
    let names_then = Rc::clone(&names);
    lab.plan.decide_by(move |_, call| {
        if let Call::Commit(txn) = call {
            names_then.borrow_mut().push(txn.name);
        }
        Fault::None
    });
    at_once(replica.step());
    assert_eq!(heard.seqs(), [vec![1, 2], vec![3, 4], vec![5, 6], vec![7]], "one step, each batch once");
    assert_eq!(*names.borrow(), ["descriptor", "settle", "settle", "settle", "settle"]);
    // The third one went before the second one's outcomes were stored.
    let acked: Vec<u64> = heard.pushes.borrow().iter().map(|push| push.acked_through.get()).collect();
    assert_eq!(acked, [0, 2, 2, 6]);
    assert_eq!((replica.status().pending, meta(&lab, "desc/").as_str()), (0, ""));
}

#[test]
fn s1_a_settle_that_fails_leaves_the_answered_and_the_travelling_batch_to_be_sent_again_as_they_were() {
    let lab = Lab::new();
    let heard = listen(&lab);
    let replica = seven(&lab);
    let settles = Cell::new(0);
    lab.plan.decide_by(move |_, call| {
        let Call::Commit(txn) = call else { return Fault::None };
        settles.set(settles.get() + u32::from(txn.name == "settle"));
        if txn.name == "settle" && settles.get() == 2 { Fault::AbortBefore(StorageFault::Other) } else { Fault::None }
    });
    at_once(replica.step());
    assert_eq!(heard.seqs(), [[1, 2], [3, 4], [5, 6]], "nothing more goes while nothing can be stored");
    assert_eq!(replica.status().pending, 5);
    for _ in 0..100 {
        lab.now.set(lab.now.get() + 1_000);
        at_once(replica.step());
    }
    let texts = |index: usize| heard.pushes.borrow()[index].mutations.clone();
    assert_eq!(heard.seqs()[3..5], [[3, 4], [5, 6]]);
    assert_eq!((texts(3), texts(4)), (texts(1), texts(2)), "byte for byte");
    assert_eq!((replica.status().pending, replica.status().parked), (0, 0));
}

#[test]
fn s7_an_answer_that_is_lost_stops_what_would_go_behind_it() {
    let lab = Lab::new();
    let heard = listen(&lab);
    heard.answers.set(2);
    let replica = seven(&lab);
    at_once(replica.step());
    assert_eq!(heard.seqs(), [[1, 2], [3, 4], [5, 6]]);
    assert_eq!(replica.status().pending, 3, "what was answered is settled");
    heard.answers.set(usize::MAX);
    for _ in 0..100 {
        lab.now.set(lab.now.get() + 1_000);
        at_once(replica.step());
    }
    assert_eq!(heard.seqs()[3..], [vec![5, 6], vec![7]]);
}

#[test]
fn s4_what_another_tab_wrote_before_is_not_passed_while_it_cannot_be_read() {
    let lab = Lab::new();
    let heard = listen(&lab);
    let page = open(&lab);
    let tab = lab.beside().open().unwrap();
    put(&page, "a", "{}").unwrap();
    lab.holds.set(true);
    let mut sending = pin!(page.step());
    let mut context = Context::from_waker(Waker::noop());
    assert!(sending.as_mut().poll(&mut context).is_pending());
    put(&tab, "b", r#"{"x":1}"#).unwrap();
    lab.plan.decide_by(|_, call| match call {
        Call::Read(_) => Fault::ReadFails(StorageFault::ConnectionLost),
        Call::Commit(_) => Fault::None,
    });
    put(&page, "b", r#"{"x":2}"#).unwrap();
    assert!(lab.plan.injected_count() > 0);
    lab.plan.decide_by(|_, _| Fault::None);
    lab.holds.set(false);
    assert!(sending.as_mut().poll(&mut context).is_ready());
    at_once(page.refresh()).unwrap();
    while page.status().pending > 0 {
        lab.now.set(lab.now.get() + 1_000);
        at_once(page.step());
    }
    let pushes = heard.pushes.borrow();
    let of_b = pushes.iter().flat_map(mutations).filter(|mutation| mutation.id.as_str() == "b");
    assert_eq!(
        of_b.map(|mutation| mutation.set.text().to_owned()).collect::<Vec<_>>(),
        [r#"{"x":2}"#],
        "joined, in order"
    );
}

#[test]
fn l4_a_settle_and_the_batch_it_stores_are_one_transaction_that_expects_the_client_row() {
    let lab = Lab::new();
    let _heard = listen(&lab);
    let replica = seven(&lab);
    let seen = Rc::new(Cell::new(0));
    let seen_then = Rc::clone(&seen);
    lab.plan.decide_by(move |_, call| {
        if let Call::Commit(txn) = call
            && txn.name == "settle"
        {
            let puts = |prefix: &str| {
                txn.ops.iter().any(|op| matches!(op, RowOp::Put { key, .. } if key.to_string().starts_with(prefix)))
            };
            assert!(puts("acked/"));
            assert!(txn.expects.iter().any(|expect| expect.key.to_string() == "client" && expect.row.is_some()));
            seen_then.set(seen_then.get() + u32::from(puts("desc/")));
        }
        Fault::None
    });
    at_once(replica.step());
    assert_eq!(seen.get(), 2, "two of the four batches were stored by the settle of another one");
}

/// Name, end, entries that took effect, and why not.
fn steps(replica: &Opened) -> Vec<(&'static str, &'static str, u64, Option<String>)> {
    let told = replica.take_changes().0.into_iter();
    let steps = told.filter_map(|change| match change {
        Change::Step { step, result, tally, code, .. } => Some((step, result, tally.applied, code)),
        Change::Status | Change::Enqueued | Change::Progress { .. } | Change::Event(_) => None,
    });
    steps.collect()
}

#[test]
fn each_push_and_pull_that_sent_something_is_told_once_with_how_it_ended() {
    let lab = Lab::new();
    listen(&lab);
    let replica = seven(&lab);
    at_once(replica.step());
    assert_eq!(steps(&replica), [("push", "done", 7, None)], "one step of four batches");
    // The server of this test answers no pull.
    at_once(replica.step());
    assert_eq!(steps(&replica), [("pull", "lost", 0, None)]);
    at_once(replica.step());
    assert_eq!(steps(&replica), [], "it waits: nothing was asked");
    lab.serve(|_| Some(HttpResponse { status: 503, retry_after_ms: None, body: String::new() }));
    lab.now.set(lab.now.get() + 100_000);
    at_once(replica.step());
    assert_eq!(steps(&replica), [("pull", "busy", 0, Some("http_503".to_owned()))]);
}

#[test]
fn the_outcome_of_an_entry_is_there_once_the_server_has_decided_it() {
    let lab = Lab::new();
    listen(&lab);
    let replica = open(&lab);
    put(&replica, "a", r#"{"x":1}"#).unwrap();
    put(&replica, "a", r#"{"x":2}"#).unwrap();
    let ids: Vec<EntryId> = at_once(replica.outbox()).unwrap().iter().map(|item| item.id).collect();
    assert_eq!(replica.outcome(ids[0]), None);
    at_once(replica.step());
    for id in ids {
        let outcome: Outcome = from_json(&replica.outcome(id).unwrap()).unwrap();
        assert_eq!(outcome.status, ResultStatus::Applied, "both travelled as one mutation");
    }
}

#[test]
fn a_push_says_how_much_waits_here_and_how_much_waits_for_a_person() {
    let lab = Lab::new();
    let told = Rc::new(RefCell::new(Vec::new()));
    let counts = Rc::clone(&told);
    lab.serve(move |request| {
        let body = request.body.clone().unwrap_or_default();
        if request.path != "/push" {
            return None;
        }
        let push: PushRequest = from_json(&body).unwrap();
        counts.borrow_mut().push((push.pending_count, push.failed_count));
        let seq = push.acked_through.get() + 1;
        let refused = format!(r#"{{"seq":{seq},"status":"rejected","code":"validation","message":"no"}}"#);
        Lab::answer(format!(r#"{{"server_time":1,"epoch":"e1","head":{{}},"results":[{refused}]}}"#))
    });
    let replica = lab.open().unwrap();
    at_once(replica.set_token(Some(Token { token: "t".to_owned(), expires_at: None }))).unwrap();
    for id in ["a", "b"] {
        put(&replica, id, r#"{"x":1}"#).unwrap();
        for _ in 0..40 {
            at_once(replica.step());
            lab.now.set(lab.now.get() + 250);
        }
    }
    // What was refused no longer waits to be sent; the second push tells of it.
    assert_eq!(*told.borrow(), [(1, 0), (1, 1)]);
}

#[test]
fn l5_what_was_sent_before_the_first_pull_is_known_however_long_ago_that_was() {
    let lab = Lab::new();
    let heard = listen(&lab);
    let replica = open(&lab);
    let send = |id: &str, fields: &str| {
        put(&replica, id, fields).unwrap();
        for _ in 0..20 {
            at_once(replica.step());
            lab.now.set(lab.now.get() + 250);
        }
        assert_eq!(replica.status().pending, 0);
    };
    send("a", r#"{"n":1}"#);
    // No pull is answered. Acknowledged mutations are kept a day for a restored server; these are all that is known here.
    for id in ["b", "c"] {
        lab.now.set(lab.now.get() + 2 * ACKED_MS);
        send(id, r#"{"n":1}"#);
    }
    send("a", r#"{"n":2}"#);
    let pushes = heard.pushes.borrow();
    let last = mutations(pushes.last().unwrap());
    assert_eq!((last[0].id.as_str(), last[0].base), ("a", Some(Version(1))), "its own record is not somebody else's");
}

#[test]
fn l4_s1_a_context_that_stood_still_for_days_knows_what_others_sent_also_when_their_outcomes_were_trimmed() {
    // Found by the simulator (seeds 216919 and 218695).
    for has_gap in [false, true] {
        stood_still(has_gap);
    }
}

/// `has_gap`: what the worker wrote just before could not be read.
fn stood_still(has_gap: bool) {
    let lab = Lab::new();
    let sent: Rc<RefCell<Vec<String>>> = Rc::default();
    let sent_then = Rc::clone(&sent);
    lab.serve(move |request| {
        if request.path == "/pull" {
            let covered = r#""covered":{"":{"notes":1000}},"has_more":false}"#;
            return Lab::answer(
                [r#"{"server_time":1,"epoch":"e1","changes":{},"tombstones":{},"cursor":"1","#, covered].concat(),
            );
        }
        let push: PushRequest = from_json(request.body.as_ref().unwrap()).unwrap();
        sent_then.borrow_mut().extend(mutations(&push).iter().map(|mutation| mutation.id.to_string()));
        applied(&push)
    });
    let (worker, page) = (open(&lab), open(&lab));
    let run = |replica: &Opened| {
        for _ in 0..20 {
            at_once(replica.step());
            lab.now.set(lab.now.get() + 250);
        }
    };
    if has_gap {
        put(&worker, "z", r#"{"n":1}"#).unwrap();
        lab.plan.decide_by(|_, call| match call {
            Call::Read(_) => Fault::ReadFails(StorageFault::ConnectionLost),
            Call::Commit(_) => Fault::None,
        });
    }
    put(&page, "a", r#"{"n":1}"#).unwrap();
    lab.plan.decide_by(|_, _| Fault::None);
    // The page is frozen. A day later nothing is left of the word on what it wrote.
    for id in ["b", "c", "d"] {
        put(&worker, id, r#"{"n":1}"#).unwrap();
        run(&worker);
        lab.now.set(lab.now.get() + 2 * ACKED_MS);
    }
    assert_eq!((worker.status().pending, page.status().pending), (0, 1));
    assert!(!meta(&lab, "acked/").contains(r#""id":"a""#), "its outcome was trimmed");
    at_once(page.refresh()).unwrap();
    assert_eq!(page.status().pending, 0);
    put(&page, "e", r#"{"n":1}"#).unwrap();
    run(&page);
    let mut expected = vec!["a", "b", "c", "d", "e"];
    expected.splice(..0, has_gap.then_some("z"));
    assert_eq!(*sent.borrow(), expected, "nothing goes twice");
}

#[test]
fn s1_what_a_page_sends_as_it_ends_is_its_stored_batch_byte_for_byte_and_nothing_where_somebody_asked_for_patience() {
    let lab = Lab::new();
    let sent: Rc<RefCell<Vec<HttpRequest>>> = Rc::default();
    let answers: Rc<Cell<Option<u16>>> = Rc::default();
    let (seen, says) = (Rc::clone(&sent), Rc::clone(&answers));
    lab.serve(move |request| {
        seen.borrow_mut().push(request.clone());
        says.get().map(|status| HttpResponse { status, retry_after_ms: None, body: String::new() })
    });
    let parts = |replica: &Opened| {
        sent.borrow_mut().clear();
        at_once(replica.part());
        sent.borrow_mut().pop()
    };
    let replica = open(&lab);
    assert_eq!(parts(&replica), None, "nothing waits");
    put(&replica, "a", r#"{"x":1}"#).unwrap();
    assert_eq!(parts(&replica), None, "what no stored batch holds is not sent");
    lab.now.set(lab.now.get() + 1_000);
    sent.borrow_mut().clear();
    at_once(replica.step());
    let first = sent.borrow_mut().remove(0);
    assert_eq!(first.path, "/push");
    assert_eq!(parts(&replica), Some(first.clone()), "no answer came");

    replica.trigger(Trigger::Offline);
    assert_eq!(parts(&replica), None, "offline");
    replica.trigger(Trigger::Online);
    assert_eq!(parts(&replica), Some(first.clone()));
    for status in [503, 500, 401] {
        let again = open(&lab);
        assert_eq!(parts(&again), Some(first.clone()));
        answers.set(Some(status));
        at_once(again.step());
        assert_eq!(parts(&again), None, "{status}");
        answers.set(None);
    }
    assert_eq!((replica.status().pending, meta(&lab, "desc/").is_empty()), (1, false), "no answer was looked at");
}
