//! Every reader of this crate under spoiled texts: rows as they are and with their checksum put right, queries, cursors,
//! keys. None panics or loops, and what is read is written and read again as the same.
#![allow(clippy::unwrap_used, reason = "a test ends where its set-up fails")]

#[path = "../../protocol/tests/mutate/mod.rs"]
mod mutate;

use landfall_protocol::codec::{FromJson, ToJson, from_json};
use landfall_protocol::{CollectionName, Pair, RecordId, Scope, UnixMillis, Value, Version};
use landfall_storage::page::{Entry, Line, Location, Page, encode_page};
use landfall_storage::query::filter::Filter;
use landfall_storage::query::key::{key_of, prefix_len, push_component, successor};
use landfall_storage::query::{Condition, Cursor, Query};
use landfall_storage::row::{self, encode_text};
use landfall_storage::run::{Dead, Fence, Run, RunRef};
use landfall_storage::segment::{Block, Held, encode_segment};
use landfall_storage::{Manifest, RowKind, decode, encode};
use mutate::{Was, check, fuzz};

/// As a run has them; a segment's text says nothing of the keys.
fn keyed(records: &[Held]) -> Vec<(String, &Held)> {
    records.iter().map(|record| (String::new(), record)).collect()
}

/// Fuzzes the rows as they are, and the bodies under a checksum that is right: what only a bug or an enemy can write.
fn fuzz_rows(name: &str, kind: RowKind, rows: &[String], read: &dyn Fn(&str) -> Was) {
    let bodies: Vec<String> = rows.iter().map(|text| row::open(kind, text).unwrap().body.to_owned()).collect();
    fuzz(&[
        check(name, rows, read),
        check(&format!("{name}, checksum put right"), &bodies, |body| read(&encode_text(kind, body))),
    ]);
}

fn again<T: FromJson + ToJson + PartialEq + std::fmt::Debug>(kind: RowKind, text: &str) -> Was {
    let Ok(value) = decode::<T>(kind, text) else { return Was::Refused };
    let written = encode(kind, &value);
    assert_eq!(decode::<T>(kind, &written).as_ref(), Ok(&value), "{written}");
    Was::Read
}

fn held(id: &str, version: u64, fields: Option<&str>) -> Held {
    Held { id: RecordId::from(id), version: Version(version), fields: fields.map(Into::into) }
}

fn segments() -> Vec<String> {
    let pair = Pair(Scope::new("user:ü"), CollectionName::new("notes"));
    let records = [
        held("a", 1, Some("{\"n\":1,\"s\":\"é \\\" \\ud83d\\ude00\"}")),
        held("b\"\\", 9_007_199_254_740_991, None),
        held("c", 0, Some("{}")),
        held("日", 3, Some("{\"deep\":[[[{\"a\":[]}]]],\"big\":12345678901234567890.10}")),
    ];
    (0..=records.len())
        .map(|count| encode_segment(&pair, UnixMillis(1_700_000_000_000), &keyed(&records[..count])))
        .collect()
}

#[test]
fn i3_a_segment_is_read_or_refused_whatever_it_is() {
    fuzz_rows("segment", RowKind::Segment, &segments(), &|text| {
        let Ok(block) = Block::decode(text.to_owned()) else { return Was::Refused };
        let records: Vec<Held> = (0..block.len()).map(|slot| block.held(slot)).collect();
        let _ = (block.find("a"), block.find("日"), block.id(block.len()), block.fields(block.len()));
        let written = encode_segment(&block.pair, block.at, &keyed(&records));
        let second = Block::decode(written.clone()).unwrap_or_else(|error| panic!("{error:?} of {written}"));
        assert_eq!((&second.pair, second.at, second.len()), (&block.pair, block.at, block.len()));
        assert_eq!((0..second.len()).map(|slot| second.held(slot)).collect::<Vec<_>>(), records, "{written}");
        Was::Read
    });
}

/// Found by the fuzzer: a record of no bytes was cut out of the text from before its end.
#[test]
fn i3_a_segment_with_a_record_of_no_bytes_is_refused() {
    for lengths in ["0", "0,10", "10,0"] {
        let body = format!(
            "{{\"scope\":\"s\",\"collection\":\"c\",\"at\":1,\"lengths\":[{lengths}],\"records\":[[\"a\",1,{{}}]]}}"
        );
        assert!(Block::decode(encode_text(RowKind::Segment, &body)).is_err(), "{body}");
    }
}

#[test]
fn i3_an_index_page_is_read_or_refused_whatever_it_is() {
    let entry = |key: &str, id: &str, slot| Entry {
        key: key.to_owned(),
        id: id.to_owned(),
        at: Location { run: 7, segment: 12, slot },
    };
    let entries = [entry("", "a", 0), entry("k\u{1}\"\\é", "b", 149), entry("😀", "c\n", 3)];
    let text_of = |entries: &[Entry]| {
        let lines: Vec<Line<'_>> = entries.iter().map(Entry::line).collect();
        encode_page("supplier,n", &lines)
    };
    let pages: Vec<String> = (0..=entries.len()).map(|count| text_of(&entries[..count])).collect();
    fuzz_rows("index page", RowKind::Page, &pages, &|text| {
        let Ok(page) = Page::decode(text.to_owned()) else { return Was::Refused };
        let entries: Vec<Entry> = (0..page.len()).map(|at| page.entry(at)).collect();
        let _ = (page.from(""), page.from("k"), page.key(page.len()));
        let second = Page::decode(text_of(&entries)).unwrap();
        assert_eq!((0..second.len()).map(|at| second.entry(at)).collect::<Vec<_>>(), entries);
        Was::Read
    });
}

fn run() -> Run {
    let mut dead = Dead::default();
    for slot in [0, 3, 149] {
        assert!(dead.add(slot));
    }
    let fence = |row, first: &str, dead| Fence { row, count: 150, bytes: 40_000, first: first.to_owned(), dead };
    Run { rev: 3, fences: vec![fence(5, "", Dead::default()), fence(6, "b\"é", dead)] }
}

#[test]
fn i3_a_run_is_read_or_refused_whatever_it_is() {
    let rows = [Run::default(), run()].map(|run| encode(RowKind::Run, &run));
    fuzz_rows("run", RowKind::Run, &rows, &|text| {
        if let Ok(run) = decode::<Run>(RowKind::Run, text) {
            let _ = (run.row_of("b"), run.row_from("b"), run.fence_of(6), run.bytes());
            let _ = run.fences.iter().map(Fence::live).fold(0, usize::wrapping_add);
        }
        again::<Run>(RowKind::Run, text)
    });
}

#[test]
fn i3_a_manifest_is_read_or_refused_whatever_it_is() {
    let manifests = [Manifest::default(), manifest()].map(|manifest| encode(RowKind::Manifest, &manifest));
    fuzz_rows("manifest", RowKind::Manifest, &manifests, &|text| again::<Manifest>(RowKind::Manifest, text));
}

fn manifest() -> Manifest {
    let body = "{\"rev\":7,\"epoch\":\"e1\",\"cursor\":\"c\\\"1\",\"pairs\":[{\"pair\":[\"user:ada\",\"notes\"],\"covered\":12,\
        \"live\":[],\"cold\":true,\"resync_at\":5,\"sum\":\"00000000000000ff\",\"staged_sum\":\"0000000000000000\",\
        \"indexes\":[{\"name\":\"a,b\",\"live\":[],\"since\":4,\"built\":2,\"is_late\":true}],\"moving\":[1,2]}],\
        \"next_row\":99,\"folded_through\":0,\"last_pull\":6,\"resync\":[[\"user:ada\",\"notes\"]],\"old_data\":[[1,2]],\
        \"old_pages\":[[3,4]]}";
    let mut manifest: Manifest = from_json(body).unwrap();
    let reference = |id, sort: &str| RunRef {
        id,
        rev: 2,
        level: 1,
        rows: 3,
        live: 200,
        dead: 9,
        bytes: 100_000,
        first: "a".to_owned(),
        last: "z\"".to_owned(),
        sort: sort.to_owned(),
    };
    manifest.pairs[0].live = vec![reference(3, ""), reference(4, "supplier")];
    manifest.pairs[0].indexes[0].live = vec![reference(5, "")];
    manifest
}

const RECORD: &str = "{\"n\":1.5,\"s\":\"é \\u0041\",\"l\":[1,{\"n\":2}],\"o\":{\"s\":\"x\"},\"t\":true,\"z\":null}";

#[test]
fn a_query_of_any_text_is_refused_or_asks_every_record_something_and_its_cursor_is_written_as_it_was_read() {
    let texts = [
        "{\"collection\":\"notes\"}",
        "{\"collection\":\"a\",\"scope\":\"user:ü\",\"where\":{\"n\":{\"gte\":1,\"lt\":9,\"in\":[1,2.5]},\"s\":{\"prefix\":\"é\"},\
            \"o\":{\"eq\":null}},\"orderBy\":[[\"n\",\"desc\"],[\"s\",\"asc\"]],\"limit\":5,\"offset\":2,\"count\":true}",
        "{\"collection\":\"a\",\"where\":{\"l\":[1,2],\"id\":\"x\"},\"orderBy\":\"n\"}",
    ];
    let query = |text: &str| {
        let Ok(query) = Query::parse(text) else { return Was::Refused };
        let mut filter = Filter::new(&query.conditions);
        for record in [RECORD, "{}"] {
            let plainly = query.conditions.iter().all(|(name, condition)| {
                let value = field(record, name);
                condition.holds(&value)
            });
            assert_eq!(filter.matches("x", record), plainly, "{text}");
        }
        let place = Cursor::of(&query.order, "user:ü", "x", RECORD);
        assert_eq!(Cursor::parse(&place.to_text(&query), &query).as_ref(), Some(&place));
        assert!(place.compare(&place, &query.order).is_eq());
        let _ = query.fields();
        Was::Read
    };
    let condition = |text: &str| match from_json::<Condition>(text) {
        Some(condition) => {
            let holds = condition.holds(&Value::Number(1.0));
            assert_eq!(condition.clone().holds(&Value::Number(1.0)), holds);
            Was::Read
        }
        None => Was::Refused,
    };
    let asked = Query::parse("{\"collection\":\"a\",\"orderBy\":[[\"n\",\"desc\"],[\"s\",\"asc\"]]}").unwrap();
    let cursor = |text: &str| {
        let Some(cursor) = Cursor::parse(text, &asked) else { return Was::Refused };
        assert_eq!(Cursor::parse(&cursor.to_text(&asked), &asked).as_ref(), Some(&cursor));
        Was::Read
    };
    let conditions = ["{\"gte\":1,\"lt\":\"x\",\"in\":[null,{}]}", "\"x\""].map(str::to_owned);
    let cursors = [RECORD, "{}"].map(|record| Cursor::of(&asked.order, "user:ü", "i\"d", record).to_text(&asked));
    fuzz(&[
        check("query", &texts.map(str::to_owned), query),
        check("condition", &conditions, condition),
        check("cursor", &cursors, cursor),
    ]);
}

/// A missing field is null.
fn field(record: &str, name: &str) -> Value {
    if name == "id" {
        return Value::String("x".to_owned());
    }
    match Value::of(record) {
        Value::Object(fields) => fields.get(name).cloned().unwrap_or(Value::Null),
        _ => Value::Null,
    }
}

#[test]
fn keys_of_any_record_are_in_the_order_of_their_values() {
    let names = ["n", "s", "o", "id"].map(str::to_owned);
    let before = Value::of("\"m\"");
    let mut key_before = String::new();
    push_component(&mut key_before, &before);
    let reader = |text: &str| {
        let mut key = String::new();
        key_of("x", text, &names, &mut key);
        for count in 0..=names.len() {
            let beginning = &key[..prefix_len(&key, count)];
            assert!(key.starts_with(beginning) && successor(beginning).as_str() > beginning, "{key:?}");
        }
        let Some(value) = from_json::<Value>(text) else { return Was::Refused };
        let mut component = String::new();
        push_component(&mut component, &value);
        assert_eq!(component.cmp(&key_before), value.compare(&before), "{component:?}");
        Was::Read
    };
    fuzz(&[check("key", &[RECORD.to_owned(), "{}".to_owned()], reader)]);
}
