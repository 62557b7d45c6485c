//! Strings and numbers as text.

/// Writes a string with its quotes.
pub fn write_string(out: &mut String, text: &str) {
    out.push('"');
    let mut rest = text;
    loop {
        let at = plain_len(rest.as_bytes());
        out.push_str(&rest[..at]);
        let Some(byte) = rest.as_bytes().get(at).copied() else { break };
        out.push('\\');
        match byte {
            8 => out.push('b'),
            9 => out.push('t'),
            10 => out.push('n'),
            12 => out.push('f'),
            13 => out.push('r'),
            b'"' | b'\\' => out.push(char::from(byte)),
            _ => {
                out.push_str("u00");
                write_hex(out, u64::from(byte), 2);
            }
        }
        rest = &rest[at + 1..];
    }
    out.push('"');
}

const ONES: u64 = 0x0101_0101_0101_0101;

/// How many bytes come before the first that a JSON string can't hold as it is; eight a step.
pub(super) fn plain_len(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(eight) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*eight);
        // Of each the high bit of the lowest byte that it is about; above that there may be wrong bits.
        let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word;
        let hit = below(word, 0x20) | below(word ^ (ONES * 0x22), 1) | below(word ^ (ONES * 0x5c), 1);
        match hit & (ONES << 7) {
            0 => at += 8,
            hit => return at + (hit.trailing_zeros() / 8) as usize,
        }
    }
    let rest = &bytes[at..];
    at + rest.iter().position(|byte| matches!(byte, 0..=0x1f | b'"' | b'\\')).unwrap_or(rest.len())
}

/// Writes a number in decimal.
pub fn write_number(out: &mut String, number: u64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    digits[at..].iter().for_each(|digit| out.push(char::from(*digit)));
}

/// Writes the last `width` hex digits of a number.
pub fn write_hex(out: &mut String, number: u64, width: u32) {
    for place in (0..width).rev() {
        let digit = (number >> (place * 4)) & 15;
        out.push(char::from(b"0123456789abcdef"[digit as usize]));
    }
}

/// The number in decimal, with zeros in front up to `width`.
pub fn padded(number: u64, width: usize) -> String {
    let mut digits = String::new();
    write_number(&mut digits, number);
    let mut text = String::new();
    for _ in digits.len()..width {
        text.push('0');
    }
    text.push_str(&digits);
    text
}

/// The number in 16 hex digits.
pub fn hex(number: u64) -> String {
    let mut digits = String::new();
    write_hex(&mut digits, number, 16);
    digits
}
