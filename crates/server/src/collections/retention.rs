//! How long changes and tombstones are kept, by collection.
//!
//! A scope has one change log and one floor, so its collections share what the longest of them asks for: nothing
//! goes before its time.

use super::Collections;
use landfall_protocol::Scope;
use landfall_protocol::limits::CHANGE_LOG_MS;
use serde::Deserialize;

const DAY_MS: u64 = 24 * 3_600_000;
/// Ten years.
const DAYS_MAX: u64 = 3_653;

/// `retention` of a declaration.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    change_log_days: u64,
}

impl Kept {
    pub fn change_log_ms(&self) -> Result<u64, String> {
        match self.change_log_days {
            days @ 1..=DAYS_MAX => Ok(days * DAY_MS),
            _ => Err(format!("retention must be between 1 and {DAYS_MAX} days")),
        }
    }
}

impl Collections {
    /// How long a scope's changes are kept; `None` where no collection of it says so.
    pub fn change_log_ms(&self, scope: &Scope) -> Option<u64> {
        let all = || self.by_name.values().filter(|collection| collection.template.fits(scope));
        let declared = all().filter_map(|collection| collection.change_log_ms).max()?;
        // Beside one that says nothing, a shorter time must not cut what that one is owed.
        let rest = all().any(|collection| collection.change_log_ms.is_none());
        Some(if rest { declared.max(CHANGE_LOG_MS) } else { declared })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(retention: &str) -> Result<Collections, String> {
        let text = format!(
            r#"{{"version":1,"collections":{{
                "a":{{"scope":"user:{{user}}","schema":{{}},"retention":{retention}}},
                "b":{{"scope":"user:{{user}}","schema":{{}}}},
                "c":{{"scope":"site:{{site}}","schema":{{}},"retention":{{"change_log_days":7}}}},
                "d":{{"scope":"site:{{site}}","schema":{{}},"retention":{{"change_log_days":2}}}},
                "e":{{"scope":"room:{{room}}","schema":{{}}}}}}}}"#
        );
        Collections::parse(&text).map_err(|error| error.to_string())
    }

    #[test]
    fn r6_a_scope_keeps_what_the_longest_of_its_collections_asks_for() {
        let days = |retention: &str, scope: &str| {
            parse(retention).unwrap().change_log_ms(&scope.into()).map(|kept_ms| kept_ms / DAY_MS)
        };
        assert_eq!(days(r#"{"change_log_days":90}"#, "user:ada"), Some(90));
        assert_eq!(days(r#"{"change_log_days":5}"#, "user:ada"), Some(30));
        assert_eq!(days(r#"{"change_log_days":5}"#, "site:1"), Some(7));
        assert_eq!(days(r#"{"change_log_days":5}"#, "room:1"), None);
    }

    #[test]
    fn a_retention_that_cannot_be_kept_is_refused_by_name() {
        for bad in [r#"{"change_log_days":0}"#, r#"{"change_log_days":9999}"#, r#"{"days":5}"#] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse(r#"{"change_log_days":0}"#).err().unwrap().starts_with("collection a: "));
    }
}
