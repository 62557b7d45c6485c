//! The double that a JSON number stands for, rounded as JavaScript rounds.
//!
//! The standard library's parser is exact and fast, with 14 KB of code and tables. This one is exact too, and small:
//! short numbers are one division, long ones are worked out digit by digit.

use crate::text::cut;

/// Digits that are looked at; of those behind only whether one of them is not 0.
const DIGITS_MAX: usize = 60;

/// Reads a JSON number. Text that is none reads as some number.
pub fn number(text: &str) -> f64 {
    let (text, negative) = match text.strip_prefix('-') {
        Some(rest) => (rest, true),
        None => (text, false),
    };
    let (digits, power) = cut(text, b'e').or_else(|| cut(text, b'E')).unwrap_or((text, "0"));
    let mut scale = exponent(power);
    let mut kept: Vec<u32> = Vec::new();
    let mut more = false;
    let mut fraction = false;
    for byte in digits.bytes() {
        let Some(digit) = char::from(byte).to_digit(10) else {
            fraction = true;
            continue;
        };
        if kept.len() < DIGITS_MAX {
            scale -= i64::from(fraction);
            if digit > 0 || !kept.is_empty() {
                kept.push(digit);
            }
        } else {
            scale += i64::from(!fraction);
            more |= digit > 0;
        }
    }
    let size = positive(&kept, scale, more);
    if negative { -size } else { size }
}

/// A whole number with a sign, cut off far outside of what a double holds.
fn exponent(text: &str) -> i64 {
    let (digits, sign) = match text.strip_prefix('-') {
        Some(rest) => (rest, -1),
        None => (text, 1),
    };
    let digits = digits.bytes().filter_map(|byte| char::from(byte).to_digit(10));
    sign * digits.fold(0, |number: i64, digit| (number * 10 + i64::from(digit)).min(1 << 30))
}

fn positive(digits: &[u32], scale: i64, more: bool) -> f64 {
    if digits.is_empty() {
        return 0.0;
    }
    let magnitude = digits.len() as i64 + scale;
    if magnitude > 310 {
        return f64::INFINITY;
    }
    if magnitude < -330 {
        return 0.0;
    }
    if digits.len() <= 15 && scale.unsigned_abs() <= 22 {
        // Both are exact, so their product or quotient is rounded once.
        let whole = digits.iter().fold(0_u64, |number, digit| number * 10 + u64::from(*digit)) as f64;
        let power = (0..scale.unsigned_abs()).fold(1.0, |power, _| power * 10.0);
        return if scale < 0 { whole / power } else { whole * power };
    }
    nearest(digits, scale, more)
}

/// `big × 10 + digit`.
fn times_ten(big: &mut Vec<u32>, digit: u32) {
    let mut carry = u64::from(digit);
    for limb in big.iter_mut() {
        carry += u64::from(*limb) * 10;
        *limb = carry as u32;
        carry >>= 32;
    }
    if carry > 0 {
        big.push(carry as u32);
    }
}

/// `big ÷ 10`; true if something is left over.
fn over_ten(big: &mut [u32]) -> bool {
    let mut rest = 0;
    for limb in big.iter_mut().rev() {
        rest = (rest << 32) | u64::from(*limb);
        *limb = (rest / 10) as u32;
        rest %= 10;
    }
    rest > 0
}

fn nearest(digits: &[u32], scale: i64, more: bool) -> f64 {
    // The number is `big × 2^-shift` and, if `more`, a little.
    let mut big: Vec<u32> = Vec::new();
    let (mut shift, mut more) = (0, more);
    if scale < 0 {
        let limbs = scale.unsigned_abs() as usize / 8 + 3;
        digits.iter().for_each(|digit| times_ten(&mut big, *digit));
        let mut shifted = vec![0; limbs];
        shifted.append(&mut big);
        big = shifted;
        shift = limbs as i64 * 32;
        for _ in scale..0 {
            more |= over_ten(&mut big);
        }
    } else {
        digits.iter().for_each(|digit| times_ten(&mut big, *digit));
        for _ in 0..scale {
            times_ten(&mut big, 0);
        }
    }
    while big.last() == Some(&0) {
        big.pop();
    }
    let bit = |at: i64| u64::from(big.get((at / 32) as usize).is_some_and(|limb| limb >> (at % 32) & 1 == 1));
    let length = big.len() as i64 * 32 - i64::from(big.last().map_or(0, |limb| limb.leading_zeros()));
    // 53 bits, or down to the last bit that a double has.
    let drop = (length - 53).max(shift - 1074).max(0);
    let mut mantissa = (drop..length).rev().fold(0, |bits, at| bits << 1 | bit(at));
    if drop > 0 && bit(drop - 1) == 1 {
        let above_half = more || (0..drop - 1).any(|at| bit(at) == 1);
        mantissa += u64::from(above_half || mantissa & 1 == 1);
    }
    let mut value = mantissa as f64;
    for _ in 0..(drop - shift).max(0) {
        value *= 2.0;
    }
    // Exact: a double that is too small for its bits has had them dropped above.
    for _ in (drop - shift).min(0)..0 {
        value /= 2.0;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_the_double_that_the_standard_library_reads() {
        let mut texts: Vec<String> = [
            "0",
            "-0",
            "1",
            "0.1",
            "1e0",
            "1.0",
            "100",
            "1E2",
            "9007199254740993",
            "9007199254740992.9999",
            "5e-324",
            "2.4703282292062327e-324",
            "2.4703282292062328e-324",
            "1.7976931348623157e308",
            "1.7976931348623159e308",
            "1e309",
            "1e-400",
            "2.2250738585072011e-308",
            "2.2250738585072014e-308",
            "0.10000000000000001",
            "123456789012345678901234567890",
            "1e22",
            "1e23",
            "8.5e22",
            "0.000000000000000000000000000000000000001",
            "4503599627370496.5",
            "4503599627370497.5",
            "1e999999999999",
            "1e-999999999999",
            "0e999",
        ]
        .map(str::to_owned)
        .to_vec();
        let mut seed = 1_u64;
        let mut next = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            seed ^ (seed >> 29)
        };
        for _ in 0..20_000 {
            let bits = f64::from_bits(next());
            if bits.is_finite() {
                texts.push(format!("{bits:e}"));
                texts.push(format!("{:.17e}", bits));
            }
            texts.push(format!("{}.{}e{}", next() % 1000, next(), next() as i8));
            texts.push(format!("{}{}", next(), next()));
            texts.push((next() as f64 / 1000.0).to_string());
        }
        for text in texts {
            assert_eq!(number(&text).to_bits(), text.parse::<f64>().unwrap().to_bits(), "{text}");
        }
    }
}
