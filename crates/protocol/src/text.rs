//! Cuts texts at ASCII marks. The standard library does it by patterns, and each kind of pattern is code of its own.

/// What stands before the first `mark`, and what behind it.
pub fn cut(text: &str, mark: u8) -> Option<(&str, &str)> {
    let at = text.bytes().position(|byte| byte == mark)?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

/// What stands between the marks: one part more than there are marks.
pub fn split(text: &str, mark: u8) -> Split<'_> {
    Split { rest: Some(text), mark }
}

/// See [`split`].
pub struct Split<'a> {
    rest: Option<&'a str>,
    mark: u8,
}

impl<'a> Iterator for Split<'a> {
    type Item = &'a str;
    fn next(&mut self) -> Option<&'a str> {
        let rest = self.rest.take()?;
        let Some((part, rest)) = cut(rest, self.mark) else { return Some(rest) };
        self.rest = Some(rest);
        Some(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_as_the_standard_library_cuts_them() {
        for text in ["", ",", "a", "a,b", ",a,,ä,", "é,ü", "no mark"] {
            assert_eq!(cut(text, b','), text.split_once(','));
            assert!(split(text, b',').eq(text.split(',')), "{text}");
        }
    }
}
