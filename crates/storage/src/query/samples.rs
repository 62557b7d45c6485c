//! Random JSON for the tests of this module: equal seeds give equal texts.

/// A small generator; collisions of values are wanted, so it draws from few.
pub struct Samples(u64);

const STRINGS: &[&str] = &[
    "",
    " ",
    "!",
    "\"",
    "a",
    "a ",
    "a!",
    "a\"",
    "aa",
    "ab",
    "b",
    "\u{1}",
    "\n",
    "ä",
    "é",
    "\\",
    "~",
    "\u{7f}",
    "\u{ffff}",
    "\u{10ffff}",
    "a\u{10ffff}",
    "long text that is longer than eight bytes",
    "a\0",
    "0",
    "a\u{10ffff}b",
];
const NUMBERS: &[&str] = &[
    "0",
    "-0",
    "1",
    "1.0",
    "1e0",
    "-1",
    "2",
    "10",
    "100",
    "0.1",
    "-0.1",
    "0.10",
    "1e-7",
    "123456789012345",
    "1234567890123456",
    "12345678901234567890",
    "1e308",
    "1e309",
    "-1e309",
    "5e-324",
    "-5e-324",
    "1.5",
    "1000000.25",
];

impl Samples {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % end
    }

    pub fn string(&mut self) -> String {
        let mut text = STRINGS[self.below(STRINGS.len())].to_owned();
        if self.below(3) == 0 {
            text.push_str(STRINGS[self.below(STRINGS.len())]);
        }
        text
    }

    /// A string as JSON, now and then with escapes that need not be.
    fn quoted(&mut self) -> String {
        let text = self.string();
        if self.below(4) > 0 {
            return landfall_protocol::Json::string(&text).text().to_owned();
        }
        let escaped: String = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
        format!("\"{escaped}\"")
    }

    /// Any JSON, nested at most `depth` deep.
    pub fn json(&mut self, depth: usize) -> String {
        match self.below(if depth == 0 { 7 } else { 9 }) {
            0 => "null".into(),
            1 => "true".into(),
            2 => "false".into(),
            3 => NUMBERS[self.below(NUMBERS.len())].into(),
            4 => (self.below(2_000_000) as f64 / 100.0 - 5_000.0).to_string(),
            5 | 6 => self.quoted(),
            7 => {
                let items: Vec<String> = (0..self.below(3)).map(|_| self.json(depth - 1)).collect();
                format!("[{}]", items.join(", "))
            }
            _ => self.object(&["", " ", "a", "b"], depth - 1),
        }
    }

    /// An object with some of the names, each at most once.
    pub fn object(&mut self, names: &[&str], depth: usize) -> String {
        let mut parts = Vec::new();
        for name in names {
            if self.below(4) > 0 {
                let space = if self.below(3) == 0 { " " } else { "" };
                parts.push(format!("{space}\"{name}\"{space}:{space}{}{space}", self.json(depth)));
            }
        }
        format!("{{{}}}", parts.join(","))
    }
}
