//! A fuzzer for readers of text: whole texts, a little spoiled, again and again. Deterministic, on stable Rust.
//!
//! Each target runs for `LANDFALL_FUZZ_MS` (300). A target is one decoder, or a few small ones: all that is checked of it
//! shares that time. A reader that panics, or that does not come back, is shown with its text.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What a reader made of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Was {
    Read,
    Refused,
}

/// One thing that is checked of a decoder: `read` must read the `corpus`, and is then given spoiled texts.
pub struct Check<'a> {
    name: String,
    corpus: Vec<String>,
    read: Box<dyn Fn(&str) -> Was + 'a>,
}

pub fn check<'a>(name: &str, corpus: &[String], read: impl Fn(&str) -> Was + 'a) -> Check<'a> {
    Check { name: name.to_owned(), corpus: corpus.to_vec(), read: Box::new(read) }
}

/// Longest text that is tried, bytes.
const BYTES_MAX: usize = 32 * 1024;
/// Texts that were read and are spoiled further.
const KEPT_MAX: usize = 3_000;
/// A reader that takes longer has lost its way.
const STUCK: Duration = Duration::from_secs(30);

const PIECES: [&str; 40] = [
    "\"",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\\",
    "\\u",
    "\\ud800",
    "\\udc00",
    "\\ud83d\\ude00",
    "\\u0000",
    "\\x",
    "\\\"",
    "/",
    "é",
    "日本",
    "😀",
    "\u{0}",
    "\u{1}",
    "\u{7f}",
    "\u{2028}",
    " ",
    "\n",
    "null",
    "true",
    "false",
    "0",
    "-0",
    "-",
    "1.5",
    "1e5",
    "e",
    "18446744073709551615",
    "18446744073709551616",
    "9007199254740993",
    "1e309",
    "1e-400",
    "-1",
];

/// xorshift64*: the same numbers everywhere.
pub struct Random(u64);

impl Random {
    pub fn new(name: &str) -> Self {
        Self(
            name.bytes()
                .fold(0x9e37_79b9_7f4a_7c15, |seed, byte| (seed ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
                | 1,
        )
    }
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    pub fn below(&mut self, limit: usize) -> usize {
        if limit == 0 { 0 } else { (self.next() >> 16) as usize % limit }
    }
}

/// Runs the checks of one target, each for its share of the time.
pub fn fuzz(checks: &[Check<'_>]) {
    let time = std::env::var("LANDFALL_FUZZ_MS").ok().and_then(|ms| ms.parse().ok()).unwrap_or(300);
    for check in checks {
        run(check, Duration::from_millis(time) / checks.len() as u32);
    }
}

/// Gives the reader its corpus, and then spoiled texts until the time is over.
fn run(Check { name, corpus, read }: &Check<'_>, time: Duration) {
    assert!(!corpus.is_empty(), "{name}: nothing to begin with");
    for text in corpus {
        assert_eq!(tried(name, text, read), Was::Read, "{name}: {text}");
    }
    let until = Instant::now() + time;
    let watched = Arc::new(Mutex::new(Some((Instant::now(), String::new()))));
    watch(name, Arc::clone(&watched));
    let mut kept: Vec<String> = corpus.to_vec();
    let mut random = Random::new(name);
    let (read_count, refused_count) = (Cell::new(0_u64), Cell::new(0_u64));
    while Instant::now() < until || refused_count.get() == 0 {
        let text = spoiled(&mut random, &kept);
        if let Ok(mut watched) = watched.lock() {
            *watched = Some((Instant::now(), text.clone()));
        }
        match tried(name, &text, read) {
            Was::Read => {
                read_count.set(read_count.get() + 1);
                if kept.len() < KEPT_MAX && text.len() < BYTES_MAX {
                    kept.push(text);
                }
            }
            Was::Refused => refused_count.set(refused_count.get() + 1),
        }
    }
    if let Ok(mut watched) = watched.lock() {
        *watched = None;
    }
    println!("{name}: {} read, {} refused", read_count.get(), refused_count.get());
}

fn tried(name: &str, text: &str, read: &dyn Fn(&str) -> Was) -> Was {
    match catch_unwind(AssertUnwindSafe(|| read(text))) {
        Ok(was) => was,
        Err(_) => panic!("{name} fails with {text:?}"),
    }
}

/// Ends the process, with the text, when one read takes too long. `None` ends the watch.
fn watch(name: &str, watched: Arc<Mutex<Option<(Instant, String)>>>) {
    let name = name.to_owned();
    std::thread::spawn(move || {
        loop {
            std::thread::park_timeout(Duration::from_millis(250));
            let Ok(watched) = watched.lock() else { return };
            match &*watched {
                None => return,
                Some((since, text)) if since.elapsed() > STUCK => {
                    eprintln!("{name} does not come back from {text:?}");
                    std::process::abort();
                }
                Some(_) => {}
            }
        }
    });
}

/// A text of the corpus with one to four things wrong with it.
fn spoiled(random: &mut Random, corpus: &[String]) -> String {
    let mut text = corpus[random.below(corpus.len())].clone().into_bytes();
    for _ in 0..=random.below(4) {
        let at = random.below(text.len() + 1);
        let end = at + random.below((text.len() - at).min(64) + 1);
        match random.below(10) {
            0 if at < text.len() => text[at] ^= 1 << random.below(7),
            1 => drop(text.drain(at..end)),
            2 | 3 => drop(text.splice(at..at, PIECES[random.below(PIECES.len())].bytes())),
            4 => drop(text.splice(at..end, PIECES[random.below(PIECES.len())].bytes())),
            5 => {
                let other = corpus[random.below(corpus.len())].as_bytes();
                let from = random.below(other.len() + 1);
                text.truncate(at);
                text.extend_from_slice(&other[from..]);
            }
            6 => {
                let again = text[at..end].to_vec();
                text.splice(at..at, again);
            }
            7 => nest(random, &mut text, at, end),
            8 => number(random, &mut text, at),
            _ => text.truncate(at),
        }
        text.truncate(BYTES_MAX * 2);
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Lists in lists, or objects in objects, with or without their ends.
fn nest(random: &mut Random, text: &mut Vec<u8>, at: usize, end: usize) {
    let depth = [1, 3, 63, 64, 65, 126, 127, 128, 5_000][random.below(9)];
    let (open, close) = if random.below(2) == 0 { ("[", "]") } else { ("{\"a\":", "}") };
    let whole = random.below(2) == 0;
    if whole {
        text.splice(end..end, close.repeat(depth).into_bytes());
    }
    text.splice(at..at, open.repeat(depth).into_bytes());
}

/// The next number becomes another one.
fn number(random: &mut Random, text: &mut Vec<u8>, at: usize) {
    let Some(from) = (at..text.len()).find(|at| text[*at].is_ascii_digit()) else { return };
    let to = (from..text.len()).find(|at| !text[*at].is_ascii_digit()).unwrap_or(text.len());
    let other = match random.below(6) {
        0 => "0".to_owned(),
        1 => "9".repeat(random.below(400) + 1),
        2 => format!("{}e{}", random.below(10), random.below(700)),
        3 => format!("0.{}1", "0".repeat(random.below(400))),
        4 => [u64::MAX, u64::MAX >> 11, (1 << 32) - 1, 1 << 32][random.below(4)].to_string(),
        _ => random.next().to_string(),
    };
    text.splice(from..to, other.into_bytes());
}
