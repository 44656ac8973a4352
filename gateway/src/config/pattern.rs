//! A regular expression that was compiled once, when the configuration was read. It matches a whole value, byte by byte,
//! in time linear in the value, and its size is bounded, so neither an operator's slip nor a client's text can make
//! matching slow. Compared by its text. Made by the reader of routes; used by the tables of routes.

use std::fmt;

use regex::bytes::Regex;
use regex::bytes::RegexBuilder;

/// A compiled regular expression.
#[derive(Clone)]
pub struct Pattern {
    text: String,
    regex: Regex,
}

impl Pattern {
    /// Compiles it; the message says what is wrong with it.
    pub fn new(text: &str) -> Result<Pattern, String> {
        // Alone first: a text that is right only between the brackets put around it would mean something else.
        let whole = build(text).and_then(|_| build(&format!(r"\A(?:{text})\z")));
        match whole {
            Ok(regex) => Ok(Pattern { text: text.to_owned(), regex }),
            Err(regex::Error::CompiledTooBig(_)) => {
                Err(format!("{text:?} is too large a regular expression once compiled"))
            }
            Err(error) => {
                let said = error.to_string();
                let reason = said.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                Err(format!("{text:?} is no regular expression: {reason}"))
            }
        }
    }

    /// Whether the whole of `value` matches.
    pub fn is_match(&self, value: &[u8]) -> bool {
        self.regex.is_match(value)
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// Without Unicode classes: what is matched is bytes of a protocol, and tables of Unicode would fill the bounds.
fn build(text: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(text)
        .unicode(false)
        .size_limit(COMPILED_BYTES_MAX)
        .dfa_size_limit(CACHE_BYTES_MAX)
        .nest_limit(NESTING_MAX)
        .build()
}

const COMPILED_BYTES_MAX: usize = 256 << 10;
/// Of each thread that matches.
const CACHE_BYTES_MAX: usize = 256 << 10;
const NESTING_MAX: u32 = 64;

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.text == other.text
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Pattern({:?})", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_value_matches_or_nothing_does() {
        let pattern = Pattern::new("a|ab+").unwrap();
        for right in ["a", "ab", "abbb"] {
            assert!(pattern.is_match(right.as_bytes()), "{right}");
        }
        for wrong in ["", "b", "xa", "ax", "a\n", "abba"] {
            assert!(!pattern.is_match(wrong.as_bytes()), "{wrong:?}");
        }
        assert!(Pattern::new(".").unwrap().is_match(b"\xff"), "a byte that is no UTF-8 is a byte");
    }

    #[test]
    fn what_is_no_expression_or_too_large_is_refused() {
        let refused = |text: &str| Pattern::new(text).expect_err("it is refused");
        assert_eq!(refused("a("), "\"a(\" is no regular expression: unclosed group");
        assert_eq!(refused("a)|(b"), "\"a)|(b\" is no regular expression: unopened group");
        assert_eq!(
            refused("(a{1000}){1000}"),
            "\"(a{1000}){1000}\" is too large a regular expression once compiled"
        );
        assert!(Pattern::new(&"(".repeat(200)).is_err());
        assert!(Pattern::new("(?x) a # a comment would swallow the bracket").is_err());
        assert!(Pattern::new(r"(a)\1").is_err(), "what is not linear is not in the language");
    }
}
