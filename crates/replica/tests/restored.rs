//! A server that came back from a backup, as the contexts hear of it that only look on.

#![allow(clippy::unwrap_used)] // A test that cannot go on says so by panicking.

mod lab;

use lab::{Lab, Opened, at_once, op, put, write};
use landfall_core::schedule::Trigger;
use landfall_core::settle::Event;
use landfall_protocol::codec::from_json;
use landfall_protocol::{Mutation, Object, PushRequest};
use landfall_replica::{Change, HttpRequest, HttpResponse, Token, WriteKind, WriteOp};
use landfall_storage::faulty::{Call, Fault};
use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

const RESET: &str = r#"{"error":{"code":"reset_required","message":"","request_id":"r","epoch":"e2",
 "ledger":{"known":true,"acked_through":0,"entries":[]}}}"#;

const HEAD: &str = r#"{"server_time":1,"epoch":"e1","changes":{},"tombstones":{},"access":{"added":[],"removed":[]},
 "cursor":"c","covered":{},"has_more":false}"#;

fn answer(request: &HttpRequest) -> Option<HttpResponse> {
    if request.path != "/push" {
        return None;
    }
    let push: PushRequest = from_json(request.body.as_ref().unwrap()).unwrap();
    let results = push.mutations.iter().map(|text| {
        let mutation: Mutation<Object> = from_json(text.text()).unwrap();
        format!(r#"{{"seq":{0},"status":"applied","version":1,"position":{0}}}"#, mutation.seq)
    });
    let results = results.collect::<Vec<_>>().join(",");
    Lab::answer(format!(r#"{{"server_time":1,"epoch":"e1","head":{{}},"results":[{results}]}}"#))
}

fn requeued(replica: &Opened) -> Vec<u64> {
    let told = replica.take_changes().0.into_iter();
    told.filter_map(|change| match change {
        Change::Event(Event::Requeued { count }) => Some(count),
        _ => None,
    })
    .collect()
}

fn steps(lab: &Lab, replica: &Opened) {
    for _ in 0..20 {
        at_once(replica.step());
        lab.now.set(lab.now.get() + 250);
    }
}

#[test]
fn r6_what_a_restored_server_lost_is_said_once_in_every_context_whichever_queued_it_again() {
    let lab = Lab::new();
    let is_restored = Rc::new(Cell::new(false));
    let restored = Rc::clone(&is_restored);
    lab.serve(move |request| match restored.get() {
        true => Some(HttpResponse { status: 409, retry_after_ms: None, body: RESET.to_owned() }),
        false => answer(request),
    });
    let worker = lab.open().unwrap();
    at_once(worker.set_token(Some(Token { token: "t".to_owned(), expires_at: None }))).unwrap();
    let page = lab.open().unwrap();
    for id in ["a", "b", "c"] {
        put(&worker, id, "{}").unwrap();
    }
    steps(&lab, &worker);
    at_once(page.refresh()).unwrap();
    assert_eq!((page.status().pending, requeued(&page), requeued(&worker)), (0, Vec::new(), Vec::new()));

    is_restored.set(true);
    worker.trigger(Trigger::Poke);
    steps(&lab, &worker);
    assert_eq!((worker.status().pending, requeued(&worker)), (3, vec![3]));
    at_once(page.refresh()).unwrap();
    assert_eq!((page.status().pending, requeued(&page)), (3, vec![3]));
    at_once(page.refresh()).unwrap();
    assert!(requeued(&page).is_empty(), "said once");
}

#[test]
fn l4_a_reset_to_the_very_epoch_that_was_named_is_a_faulty_answer_and_asked_again_ever_later() {
    let reset = |epoch: &str| {
        let body =
            format!(r#"{{"error":{{"code":"reset_required","message":"","request_id":"r","epoch":"{epoch}"}}}}"#);
        Some(HttpResponse { status: 409, retry_after_ms: None, body })
    };
    for faulty in ["/push", "/pull"] {
        let lab = Lab::new();
        // Half of each back-off.
        lab.random.set(1 << 63);
        let (is_faulty, asked) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(0)));
        let (now_faulty, count) = (Rc::clone(&is_faulty), Rc::clone(&asked));
        lab.serve(move |request| {
            if now_faulty.get() && request.path == faulty {
                count.set(count.get() + 1);
                return reset("e1");
            }
            if request.path != "/push" {
                return Lab::answer(HEAD.to_owned());
            }
            answer(request)
        });
        let page = lab.open().unwrap();
        at_once(page.set_token(Some(Token { token: "t".to_owned(), expires_at: None }))).unwrap();
        put(&page, "a", "{}").unwrap();
        steps(&lab, &page);
        assert_eq!(page.status().pending, 0, "the epoch is known");

        is_faulty.set(true);
        put(&page, "b", "{}").unwrap();
        for _ in 0..240 {
            at_once(page.step());
            lab.now.set(lab.now.get() + 500);
        }
        // In two minutes.
        assert!((4..12).contains(&asked.get()), "{faulty} was asked {} times", asked.get());
        let waits = usize::from(faulty == "/push");
        assert_eq!((page.status().pending as usize, requeued(&page)), (waits, Vec::new()), "{faulty}");
        assert_eq!(page.status().last_error.unwrap().code, "malformed_answer", "{faulty}");

        is_faulty.set(false);
        lab.now.set(lab.now.get() + 60_000);
        page.trigger(Trigger::Online);
        steps(&lab, &page);
        assert_eq!(page.status().pending, 0, "{faulty}");
    }
}

#[test]
fn s1_a_client_that_knew_no_epoch_names_the_one_it_is_told_and_sends_the_same_bytes_as_the_same_client() {
    let lab = Lab::new();
    let pushes: Rc<RefCell<Vec<PushRequest>>> = Rc::default();
    let heard = Rc::clone(&pushes);
    // Of what a client sent before the backup was made the server may know or not.
    let unknown = RESET.replace("\"known\":true", "\"known\":false");
    lab.serve(move |request| {
        if request.path != "/push" {
            // The first one is lost.
            return heard.borrow().first().and_then(|_| Lab::answer(HEAD.replace("e1", "e2")));
        }
        let push: PushRequest = from_json(request.body.as_ref().unwrap()).unwrap();
        let named = push.epoch.is_some();
        heard.borrow_mut().push(push);
        if named {
            return answer(request).map(|it| HttpResponse { body: it.body.replace("e1", "e2"), ..it });
        }
        Some(HttpResponse { status: 409, retry_after_ms: None, body: unknown.clone() })
    });
    let page = lab.open().unwrap();
    at_once(page.set_token(Some(Token { token: "t".to_owned(), expires_at: None }))).unwrap();
    put(&page, "a", "{}").unwrap();
    steps(&lab, &page);
    let pushes = pushes.borrow();
    let [unnamed, named] = &pushes[..] else { panic!("{} pushes", pushes.len()) };
    assert_eq!((unnamed.epoch.as_ref(), named.epoch.as_ref().map(|it| it.0.as_str())), (None, Some("e2")));
    // Another context may be sending the same at this moment, and is taken for the same.
    assert_eq!((&named.client_id, &named.mutations, named.first_push), (&unnamed.client_id, &unnamed.mutations, true));
    assert_eq!((page.status().pending, requeued(&page)), (0, Vec::new()));
}

#[test]
fn r6_the_epoch_of_an_answered_push_is_known_also_behind_what_ended_without_the_server() {
    let lab = Lab::new();
    let pushes: Rc<RefCell<Vec<PushRequest>>> = Rc::default();
    let heard = Rc::clone(&pushes);
    lab.serve(move |request| {
        heard.borrow_mut().extend(request.body.as_deref().filter(|_| request.path == "/push").and_then(from_json));
        answer(request)
    });
    let page = lab.open().unwrap();
    at_once(page.set_token(Some(Token { token: "t".to_owned(), expires_at: None }))).unwrap();
    put(&page, "a", "{}").unwrap();
    steps(&lab, &page);
    // Made and deleted before it was sent.
    put(&page, "b", "{}").unwrap();
    write(&page, vec![WriteOp { op: WriteKind::Delete, fields: None, ..op("b", "{}") }], false).unwrap();
    steps(&lab, &page);
    put(&page, "c", "{}").unwrap();
    steps(&lab, &page);
    let epochs: Vec<_> = pushes.borrow().iter().map(|push| push.epoch.as_ref().map(|it| it.0.clone())).collect();
    assert_eq!(epochs, [None, Some("e1".to_owned())], "else a pull would take another epoch for the first one");
}

#[test]
fn r6_who_asks_for_the_ledger_and_is_not_known_goes_on_as_another_one_behind_a_pull_in_the_new_epoch() {
    let lab = Lab::new();
    let requests: Rc<RefCell<Vec<HttpRequest>>> = Rc::default();
    let is_restored = Rc::new(Cell::new(false));
    let (heard, restored) = (Rc::clone(&requests), Rc::clone(&is_restored));
    lab.serve(move |request| {
        let refusal = |body: &str| Some(HttpResponse { status: 409, retry_after_ms: None, body: body.to_owned() });
        let (mut epoch, mut is_known) = ("e1", true);
        if restored.get() {
            heard.borrow_mut().push(request.clone());
            let body = request.body.as_deref().unwrap_or_default();
            (epoch, is_known) = ("e2", body.contains(r#""epoch":"e2""#) || body.contains(r#""cursor":null"#));
        }
        match request.path.as_str() {
            "/push" if !is_known => {
                refusal(r#"{"error":{"code":"client_fork","message":"","request_id":"r","epoch":"e2"}}"#)
            }
            "/push" => answer(request).map(|it| HttpResponse { body: it.body.replace("e1", epoch), ..it }),
            "/pull" if !is_known => refusal(RESET),
            "/pull" => Lab::answer(HEAD.replace("e1", epoch)),
            _ => None,
        }
    });
    let page = lab.open().unwrap();
    at_once(page.set_token(Some(Token { token: "t".to_owned(), expires_at: None }))).unwrap();
    put(&page, "a", "{}").unwrap();
    steps(&lab, &page);
    let before = page.db.borrow().state.client.client_id.clone();

    is_restored.set(true);
    page.trigger(Trigger::Poke);
    steps(&lab, &page);
    put(&page, "b", "{}").unwrap();
    steps(&lab, &page);
    let requests = requests.borrow();
    let paths: Vec<&str> = requests.iter().map(|request| request.path.as_str()).collect();
    assert_eq!(paths[..4], ["/pull", "/push", "/pull", "/push"], "told, asked, pulled, sent");
    let push: PushRequest = from_json(requests[3].body.as_ref().unwrap()).unwrap();
    assert_ne!(push.client_id, before);
    assert_eq!((push.first_push, push.epoch.unwrap().0.as_str(), push.mutations.len()), (true, "e2", 1));
    assert_eq!(page.status().pending, 0);
}

/// The page hears what the server decided before it was restored when the worker has gone by the ledger of the restored one, and
/// has not made the base cold yet.
#[test]
fn r6_a_late_answer_is_not_taken_between_the_two_halves_of_another_contexts_reset() {
    for has_pulled in [true, false] {
        late_answer(has_pulled);
    }
}

/// `has_pulled`: the epoch is known before the first push.
fn late_answer(has_pulled: bool) {
    let (lab, mut worker_lab) = (Lab::new(), Lab::new());
    worker_lab.disk = lab.disk.clone();
    let is_restored = Rc::new(Cell::new(false));
    let pushed: Rc<RefCell<Vec<String>>> = Rc::default();
    let (restored, heard) = (Rc::clone(&is_restored), Rc::clone(&pushed));
    let serve = move |request: &HttpRequest| {
        let epoch = if restored.get() { "e2" } else { "e1" };
        let body = request.body.clone().unwrap_or_default();
        let is_old = |text: &str| body.contains(text);
        if epoch == "e2" && [r#""epoch":"e1""#, r#""epoch":null"#, r#""cursor":"c""#].into_iter().any(is_old) {
            return Some(HttpResponse { status: 409, retry_after_ms: None, body: RESET.to_owned() });
        }
        if request.path != "/push" && !has_pulled && epoch == "e1" {
            return None;
        }
        if request.path != "/push" {
            return Lab::answer(HEAD.replace("e1", epoch));
        }
        heard.borrow_mut().push(format!("{epoch} {body}"));
        answer(request).map(|it| HttpResponse { body: it.body.replace("e1", epoch), ..it })
    };
    lab.serve(serve.clone());
    worker_lab.serve(serve);
    let page = lab.open().unwrap();
    at_once(page.set_token(Some(Token { token: "t".to_owned(), expires_at: None }))).unwrap();
    steps(&lab, &page);
    put(&page, "b", "{}").unwrap();
    lab.now.set(lab.now.get() + 1_000);
    lab.holds.set(true);
    let page_then = Rc::clone(&page);
    let mut pushing = Box::pin(async move { page_then.step().await });
    assert!(poll(pushing.as_mut()).is_pending());
    assert_eq!(pushed.borrow().len(), 1);

    is_restored.set(true);
    worker_lab.now.set(lab.now.get());
    let worker = worker_lab.open().unwrap();
    let holds = Rc::clone(&lab.holds);
    worker_lab.plan.decide_by(move |_, call| {
        if let Call::Commit(txn) = call
            && txn.expects.iter().any(|expect| expect.key.to_string() == "manifest")
            && holds.replace(false)
        {
            assert!(poll(pushing.as_mut()).is_ready());
        }
        Fault::None
    });
    steps(&worker_lab, &worker);
    assert!(!lab.holds.get());
    for (lab, replica) in [(&lab, &page), (&worker_lab, &worker), (&lab, &page)] {
        lab.now.set(lab.now.get() + 60_000);
        at_once(replica.refresh()).unwrap();
        steps(lab, replica);
    }
    let pushed = pushed.borrow();
    let under = |epoch: &str| pushed.iter().filter(|it| it.starts_with(epoch) && it.contains(r#""id":"b""#)).count();
    assert_eq!((page.status().pending, under("e1"), under("e2")), (0, 1, 1), "{has_pulled} {pushed:?}");
}

/// A server that is restored between the first push and the first pull of a device, whose page sends the one and whose worker
/// the other: each hears nothing of what the other one does.
#[test]
fn r6_of_a_first_push_and_a_first_pull_in_two_contexts_the_later_one_sees_the_epoch_of_the_other() {
    for pushed_first in [true, false] {
        let (lab, mut worker_lab) = (Lab::new(), Lab::new());
        worker_lab.disk = lab.disk.clone();
        let pushed: Rc<RefCell<Vec<String>>> = Rc::default();
        let is_restored = Rc::new(Cell::new(false));
        let (restored, heard) = (Rc::clone(&is_restored), Rc::clone(&pushed));
        let serve = move |request: &HttpRequest| {
            let body = request.body.clone().unwrap_or_default();
            let is_old = !body.contains(r#""epoch":"e2""#);
            match request.path.as_str() {
                "/pull" => Lab::answer(HEAD.replace("e1", "e2")),
                "/push" if restored.get() && is_old => {
                    Some(HttpResponse { status: 409, retry_after_ms: None, body: RESET.to_owned() })
                }
                _ => {
                    let epoch = if restored.get() { "e2" } else { "e1" };
                    heard.borrow_mut().push(epoch.to_owned());
                    answer(request).map(|it| HttpResponse { body: it.body.replace("e1", epoch), ..it })
                }
            }
        };
        lab.serve(serve.clone());
        worker_lab.serve(serve);
        let worker = worker_lab.open().unwrap();
        at_once(worker.set_token(Some(Token { token: "t".to_owned(), expires_at: None }))).unwrap();
        let page = lab.open().unwrap();
        lab.holds.set(true);
        worker_lab.holds.set(true);
        let (page_then, worker_then) = (Rc::clone(&page), Rc::clone(&worker));
        // It is on its way for so long that the restored server answers it.
        let mut pulling = Box::pin(async move { worker_then.step().await });
        assert!(poll(pulling.as_mut()).is_pending());
        put(&page, "b", "{}").unwrap();
        lab.now.set(lab.now.get() + 1_000);
        let mut pushing = Box::pin(async move { page_then.step().await });
        assert!(poll(pushing.as_mut()).is_pending());
        assert_eq!(pushed.borrow()[..], ["e1"]);
        is_restored.set(true);
        lab.holds.set(false);
        worker_lab.holds.set(false);
        if pushed_first {
            assert!(poll(pushing.as_mut()).is_ready());
            assert!(poll(pulling.as_mut()).is_ready());
        } else {
            assert!(poll(pulling.as_mut()).is_ready());
            assert!(poll(pushing.as_mut()).is_ready());
        }
        for (lab, replica) in [(&worker_lab, &worker), (&lab, &page)] {
            lab.now.set(lab.now.get() + 60_000);
            at_once(replica.refresh()).unwrap();
            replica.trigger(Trigger::Poke);
            steps(lab, replica);
        }
        assert_eq!(
            (page.status().pending, &pushed.borrow()[..]),
            (0, &["e1".to_owned(), "e2".to_owned()][..]),
            "{pushed_first}"
        );
    }
}

fn poll<T>(work: Pin<&mut impl Future<Output = T>>) -> Poll<T> {
    work.poll(&mut Context::from_waker(Waker::noop()))
}
