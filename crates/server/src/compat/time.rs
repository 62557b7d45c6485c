//! Times as the documents write them: RFC 3339, here always UTC with three digits of a second.

use landfall_core::time::time_nanos;
use landfall_protocol::UnixMillis;

const DAY_MS: u64 = 86_400_000;

/// Reads a time; earlier than 1970 counts as 1970.
pub fn parse(text: &str) -> Option<UnixMillis> {
    let millis = time_nanos(text)?.div_euclid(1_000_000);
    Some(UnixMillis(u64::try_from(millis).unwrap_or(0)))
}

/// `2025-12-18T11:00:00.000Z`.
pub fn format(at: UnixMillis) -> String {
    let (days, of_day) = (at.get() / DAY_MS, at.get() % DAY_MS);
    let (year, month, day) = date(days);
    let (hours, minutes) = (of_day / 3_600_000, of_day / 60_000 % 60);
    let (seconds, millis) = (of_day / 1000 % 60, of_day % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{millis:03}Z")
}

/// Year, month and day of a number of days since 1970, counted in years that begin in March, so that leap days come last.
fn date(days: u64) -> (u64, u64, u64) {
    let since = days + 719_468;
    let (era, of_era) = (since / 146_097, since % 146_097);
    let of_era_years = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * of_era_years + of_era_years / 4 - of_era_years / 100);
    let step = (5 * of_year + 2) / 153;
    let day = of_year - (153 * step + 2) / 5 + 1;
    let month = if step < 10 { step + 3 } else { step - 9 };
    let year = era * 400 + of_era_years + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_as_the_same_moment() {
        for text in [
            "1970-01-01T00:00:00.000Z",
            "2000-02-29T23:59:59.999Z",
            "2025-12-18T11:00:05.120Z",
            "2100-03-01T00:00:00.001Z",
            "2399-12-31T12:30:00.500Z",
        ] {
            assert_eq!(format(parse(text).unwrap()), text);
        }
    }

    #[test]
    fn other_ways_to_write_a_time_are_read_too() {
        let at = parse("2025-12-18T11:00:00Z").unwrap();
        assert_eq!(parse("2025-12-18T13:00:00.0004+02:00"), Some(at));
        assert_eq!(parse("1969-12-31T23:00:00Z"), Some(UnixMillis(0)));
        assert_eq!(parse("today"), None);
    }
}
