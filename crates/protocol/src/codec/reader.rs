//! Walks a JSON text, once, and takes from it what its caller asks for.

use super::writer::plain_len;
use std::borrow::Cow;

/// Walks a JSON text.
pub struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

/// Nesting of lists and objects that are taken apart; each level is a few frames of the stack.
const DEPTH_MAX: usize = 127;

impl<'a> Reader<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0, depth: 0 }
    }

    fn byte(&self) -> u8 {
        self.text.as_bytes().get(self.at).copied().unwrap_or(0)
    }

    /// How many bytes are read.
    pub fn offset(&self) -> usize {
        self.at
    }

    /// Goes on at a byte that the caller knows. False: behind the end.
    pub fn jump(&mut self, to: usize) -> bool {
        self.at = to;
        to <= self.text.len()
    }

    /// The next byte that is no white space.
    pub fn peek(&mut self) -> u8 {
        while matches!(self.byte(), b' ' | b'\n' | b'\r' | b'\t') {
            self.at += 1;
        }
        self.byte()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let there = self.peek() == byte;
        self.at += usize::from(there);
        there
    }

    /// True at the end of the text.
    pub fn is_done(&mut self) -> bool {
        self.peek();
        self.at == self.text.len()
    }

    /// One of the three words.
    pub fn word(&mut self, word: &str) -> bool {
        self.peek();
        let there = self.text.as_bytes()[self.at..].starts_with(word.as_bytes());
        self.at += if there { word.len() } else { 0 };
        there
    }

    /// Calls `each` at every element of a list.
    pub fn list(&mut self, each: &mut dyn FnMut(&mut Self) -> bool) -> bool {
        self.parts(b'[', b']', each)
    }

    /// Calls `each` with every key of an object, at its value.
    pub fn object(&mut self, each: &mut dyn FnMut(&str, &mut Self) -> bool) -> bool {
        self.fields(&mut |key, from| each(&key, from))
    }

    /// As [`Self::object`], with keys that live as long as the text.
    pub fn fields(&mut self, each: &mut dyn FnMut(Cow<'a, str>, &mut Self) -> bool) -> bool {
        self.parts(b'{', b'}', &mut |from| {
            let Some(key) = from.string() else { return false };
            from.eat(b':') && each(key, from)
        })
    }

    fn parts(&mut self, open: u8, close: u8, each: &mut dyn FnMut(&mut Self) -> bool) -> bool {
        if self.depth == DEPTH_MAX || !self.eat(open) {
            return false;
        }
        if self.eat(close) {
            return true;
        }
        self.depth += 1;
        while each(self) {
            if !self.eat(b',') {
                self.depth -= 1;
                return self.eat(close);
            }
        }
        false
    }

    /// A string without its escapes.
    pub fn string(&mut self) -> Option<Cow<'a, str>> {
        if !self.eat(b'"') {
            return None;
        }
        let mut start = self.at;
        let mut owned = String::new();
        loop {
            match self.byte() {
                b'"' => break,
                b'\\' => {
                    owned.push_str(self.text.get(start..self.at)?);
                    owned.push(self.escape()?);
                    start = self.at;
                }
                0..=0x1f => return None,
                _ => self.at += plain_len(&self.text.as_bytes()[self.at..]),
            }
        }
        let rest = self.text.get(start..self.at)?;
        self.at += 1;
        if owned.is_empty() {
            return Some(Cow::Borrowed(rest));
        }
        owned.push_str(rest);
        Some(Cow::Owned(owned))
    }

    fn escape(&mut self) -> Option<char> {
        self.at += 2;
        Some(match self.text.as_bytes().get(self.at - 1)? {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let mut code = self.hex()?;
                if (0xd800..0xdc00).contains(&code) {
                    // The first half of a pair; the second must follow.
                    if self.byte() != b'\\' || self.text.as_bytes().get(self.at + 1) != Some(&b'u') {
                        return None;
                    }
                    self.at += 2;
                    let low = self.hex()?;
                    if !(0xdc00..0xe000).contains(&low) {
                        return None;
                    }
                    code = 0x1_0000 + ((code - 0xd800) << 10) + (low - 0xdc00);
                }
                char::from_u32(code)?
            }
            byte @ (b'"' | b'\\' | b'/') => char::from(*byte),
            _ => return None,
        })
    }

    fn hex(&mut self) -> Option<u32> {
        let mut code = 0;
        for _ in 0..4 {
            code = code * 16 + char::from(self.byte()).to_digit(16)?;
            self.at += 1;
        }
        Some(code)
    }

    /// The text of the value that comes next, checked.
    pub fn raw(&mut self) -> Option<&'a str> {
        self.peek();
        let start = self.at;
        if self.skip() { self.text.get(start..self.at) } else { None }
    }

    /// Passes over any value. Nesting costs a byte a level, no stack.
    pub fn skip(&mut self) -> bool {
        let mut open: Vec<u8> = Vec::new();
        loop {
            let byte = self.peek();
            let ended = match byte {
                b'{' | b'[' => {
                    self.at += 1;
                    // In ASCII a closing bracket is two after its opening one.
                    open.push(byte + 2);
                    self.eat(byte + 2)
                }
                b'"' => self.skip_string(),
                b't' => self.word("true"),
                b'f' => self.word("false"),
                b'n' => self.word("null"),
                _ => self.skip_number(),
            };
            let opened = matches!(byte, b'{' | b'[');
            if opened && ended {
                open.pop();
            } else if !opened && !ended {
                return false;
            }
            if !opened || ended {
                // A value has ended, and with it maybe what it is in.
                loop {
                    match open.last() {
                        None => return true,
                        Some(close) if self.peek() == *close => {
                            self.at += 1;
                            open.pop();
                        }
                        Some(_) if self.eat(b',') => break,
                        Some(_) => return false,
                    }
                }
            }
            if open.last() == Some(&b'}') && !(self.peek() == b'"' && self.skip_string() && self.eat(b':')) {
                return false;
            }
        }
    }

    /// As serde's raw values: escapes are well formed, whatever they stand for.
    fn skip_string(&mut self) -> bool {
        self.at += 1;
        loop {
            match self.byte() {
                b'"' => {
                    self.at += 1;
                    return true;
                }
                b'\\' => {
                    self.at += 2;
                    match self.text.as_bytes().get(self.at - 1) {
                        Some(b'u') => {
                            if self.hex().is_none() {
                                return false;
                            }
                        }
                        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {}
                        _ => return false,
                    }
                }
                0..=0x1f => return false,
                _ => self.at += plain_len(&self.text.as_bytes()[self.at..]),
            }
        }
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while self.byte().is_ascii_digit() {
            self.at += 1;
        }
        self.at - start
    }

    fn skip_number(&mut self) -> bool {
        self.at += usize::from(self.byte() == b'-');
        let zero = self.byte() == b'0';
        let count = self.digits();
        if count == 0 || (zero && count > 1) {
            return false;
        }
        if self.byte() == b'.' {
            self.at += 1;
            if self.digits() == 0 {
                return false;
            }
        }
        if matches!(self.byte(), b'e' | b'E') {
            self.at += 1;
            self.at += usize::from(matches!(self.byte(), b'+' | b'-'));
            return self.digits() > 0;
        }
        true
    }

    /// A whole number that is written as one.
    pub fn number(&mut self) -> Option<u64> {
        self.peek();
        let (start, mut number) = (self.at, 0_u64);
        while self.byte().is_ascii_digit() {
            number = number.wrapping_mul(10).wrapping_add(u64::from(self.byte() - b'0'));
            self.at += 1;
        }
        let zeros = self.text.as_bytes().get(start) == Some(&b'0');
        // So many digits fit for sure.
        if matches!((self.at - start, zeros), (1, _) | (2..=19, false)) && !matches!(self.byte(), b'.' | b'e' | b'E') {
            return Some(number);
        }
        self.at = start;
        whole(self.raw()?)
    }
}

/// A whole number that is written as one: no sign, fraction, exponent or leading zero.
pub fn whole(text: &str) -> Option<u64> {
    if text.is_empty() || (text.starts_with('0') && text.len() > 1) {
        return None;
    }
    text.bytes().try_fold(0_u64, |number, byte| {
        let digit = char::from(byte).to_digit(10)?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}
