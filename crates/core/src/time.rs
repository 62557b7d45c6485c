//! Times in records: RFC 3339 as points in time. Only the server and the simulator read them.

/// Nanoseconds since 1970 of an RFC 3339 time, for comparing two of them.
pub fn time_nanos(text: &str) -> Option<i128> {
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<i64>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let mut rest = text.get(19..)?;
    let mut nanos = 0_i128;
    if let Some(fraction) = rest.strip_prefix('.') {
        let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
        let padded: String = fraction.chars().take(digits.min(9)).chain("000000000".chars()).take(9).collect();
        nanos = padded.parse().ok()?;
        rest = fraction.get(digits..)?;
    }
    let offset_minutes = match rest.as_bytes() {
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), ..] => {
            let minutes = rest.get(1..3)?.parse::<i64>().ok()? * 60 + rest.get(4..6)?.parse::<i64>().ok()?;
            if *sign == b'+' { minutes } else { -minutes }
        }
        _ => return None,
    };
    let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    Some(i128::from(seconds - offset_minutes * 60) * 1_000_000_000 + nanos)
}

/// The same point in UTC with three digits of a fraction. `None`: a year that has not four digits.
pub fn utc_text(nanos: i128) -> Option<String> {
    let millis = i64::try_from(nanos.div_euclid(1_000_000)).ok()?;
    let (days, of_day) = (millis.div_euclid(86_400_000), millis.rem_euclid(86_400_000));
    // The calendar in years that begin in March, by eras of 400 years.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = year_of_era + era * 400 + next;
    let (hour, minute) = (of_day / 3_600_000, of_day / 60_000 % 60);
    let (second, fraction) = (of_day / 1_000 % 60, of_day % 1_000);
    (0..=9_999)
        .contains(&year)
        .then(|| format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:03}Z"))
}

/// Days of the Gregorian calendar, counted in years that begin in March so that leap days come last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    year * 365 + leap_days + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_compared_as_points_in_time() {
        assert_eq!(time_nanos("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(time_nanos("2000-03-01T00:00:00Z"), Some(951_868_800 * 1_000_000_000));
        assert_eq!(time_nanos("2024-02-29T12:00:00.5+01:00"), time_nanos("2024-02-29T11:00:00.500Z"));
        assert_eq!(time_nanos("soon"), None);
        assert_eq!(time_nanos("2024-02-29T12:00:00"), None);
    }

    #[test]
    fn a_time_is_written_in_utc_as_it_was_read() {
        for text in [
            "1970-01-01T00:00:00.000Z",
            "2024-02-29T23:59:59.999Z",
            "2000-03-01T00:00:00.001Z",
            "1899-12-31T12:00:00.000Z",
        ] {
            assert_eq!(time_nanos(text).and_then(utc_text).as_deref(), Some(text));
        }
        let local = time_nanos("2024-03-01T00:30:00.1239+01:00").and_then(utc_text);
        assert_eq!(local.as_deref(), Some("2024-02-29T23:30:00.123Z"));
    }
}
