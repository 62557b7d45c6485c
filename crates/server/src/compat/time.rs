//! Times as the documents write them: RFC 3339, here always UTC with three digits of a second.

use landfall_core::time::{time_nanos, utc_text};
use landfall_protocol::UnixMillis;

/// Reads a time; earlier than 1970 counts as 1970.
pub fn parse(text: &str) -> Option<UnixMillis> {
    let millis = time_nanos(text)?.div_euclid(1_000_000);
    Some(UnixMillis(u64::try_from(millis).unwrap_or(0)))
}

/// `2025-12-18T11:00:00.000Z`; times after the year 9999 as its end.
pub fn format(at: UnixMillis) -> String {
    let text = utc_text(i128::from(at.get()) * 1_000_000);
    text.unwrap_or_else(|| "9999-12-31T23:59:59.999Z".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_as_the_same_moment() {
        for text in ["1970-01-01T00:00:00.000Z", "2000-02-29T23:59:59.999Z", "2025-12-18T11:00:05.120Z"] {
            assert_eq!(format(parse(text).unwrap()), text);
        }
        assert_eq!(parse("1969-12-31T23:00:00Z"), Some(UnixMillis(0)));
        assert_eq!(parse("today"), None);
        assert_eq!(parse(&format(UnixMillis((1 << 53) - 1))), parse("9999-12-31T23:59:59.999Z"));
    }
}
