//! Repairs text that is nearly JSON, so that one odd character does not cost a whole record.
//!
//! Parse first, and repair only what fails: [`repaired`] copies the text. What it changes is what
//! JSON libraries write and `serde_json` refuses: half an emoji (a lone surrogate), broken UTF-8, raw
//! control characters, unknown escapes, numbers beyond an `f64`, `NaN`, and very deep values. Syntax is
//! not guessed: a missing bracket stays missing.

/// Containers nested deeper than this become `null`: `serde_json` refuses 128 levels, and no field that
/// is read is nested deeper than 3.
const MAX_DEPTH: usize = 100;

/// What a character that cannot be read becomes.
pub(crate) const REPLACEMENT: char = '\u{fffd}';

/// Returns the text without byte order marks before it and NUL bytes behind it.
pub(crate) fn trimmed(mut text: &[u8]) -> &[u8] {
    while let Some(rest) = text.strip_prefix(b"\xef\xbb\xbf") {
        text = rest;
    }
    while let Some(rest) = text.strip_suffix(b"\0") {
        text = rest;
    }
    text
}

/// Returns a copy in which everything that the head of this file names is repaired.
pub(crate) fn repaired(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(trimmed(text));
    let mut repair = Repair { rest: &text, written: String::with_capacity(text.len()), depth: 0 };
    while let Some(next) = repair.rest.chars().next() {
        match next {
            '"' => repair.string(),
            '{' | '[' => repair.open(next),
            '}' | ']' => repair.close(next),
            '-' | '0'..='9' | 'N' | 'I' => repair.number(),
            other => repair.copy(other.len_utf8()),
        }
    }
    repair.written
}

/// Returns a copy for text in a double-byte encoding such as GBK, whose second bytes can be a
/// backslash: a backslash behind a byte that is not ASCII belongs to that character.
pub(crate) fn without_split_characters(text: &[u8]) -> Vec<u8> {
    let mut before = 0;
    let replace = |&byte: &u8| {
        let is_second_byte = byte == b'\\' && before >= 0x80;
        before = byte;
        // This byte occurs nowhere in UTF-8, so it becomes a replacement character.
        if is_second_byte { 0xff } else { byte }
    };
    text.iter().map(replace).collect()
}

struct Repair<'a> {
    rest: &'a str,
    written: String,
    depth: usize,
}

impl Repair<'_> {
    fn copy(&mut self, bytes: usize) {
        let (copied, rest) = self.rest.split_at(bytes);
        self.write(copied);
        self.rest = rest;
    }

    /// Leaves out what is nested too deep.
    fn write(&mut self, text: &str) {
        if self.depth <= MAX_DEPTH {
            self.written.push_str(text);
        }
    }

    fn open(&mut self, bracket: char) {
        self.depth += 1;
        if self.depth == MAX_DEPTH + 1 {
            self.written.push_str("null");
        }
        self.copy(bracket.len_utf8());
    }

    fn close(&mut self, bracket: char) {
        self.copy(bracket.len_utf8());
        self.depth = self.depth.saturating_sub(1);
    }

    /// Copies a number; as text where no `f64` holds it, and where it is Python's `NaN` or `Infinity`.
    fn number(&mut self) {
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '.');
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let (number, rest) = self.rest.split_at(end);
        let is_too_large = || number.parse::<f64>().is_ok_and(|n| !n.is_finite());
        if is_too_large() {
            self.write(&format!("\"{number}\""));
        } else {
            self.write(number);
        }
        self.rest = rest;
    }

    fn string(&mut self) {
        self.copy(1);
        loop {
            let is_plain = |c: char| c >= ' ' && c != '"' && c != '\\';
            self.copy(self.rest.find(|c| !is_plain(c)).unwrap_or(self.rest.len()));
            match self.rest.chars().next() {
                None => return,
                Some('"') => return self.copy(1),
                Some('\\') => self.escape(),
                Some(control) => {
                    self.write(&format!("\\u{:04x}", u32::from(control)));
                    self.rest = &self.rest[1..];
                }
            }
        }
    }

    fn escape(&mut self) {
        match self.rest.as_bytes().get(1) {
            Some(b'u') => match (unit(self.rest), self.rest.get(6..).and_then(unit)) {
                (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => self.copy(12),
                (Some(0xd800..=0xdfff), _) => {
                    self.write("\\ufffd");
                    self.rest = &self.rest[6..];
                }
                (Some(_), _) => self.copy(6),
                (None, _) => self.backslash(),
            },
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.copy(2),
            _ => self.backslash(),
        }
    }

    /// An unknown escape is taken as the two characters that are written.
    fn backslash(&mut self) {
        self.write("\\\\");
        self.rest = &self.rest[1..];
    }
}

/// Returns the UTF-16 code unit of the escape `\uXXXX` that the text begins with.
fn unit(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hex { u16::from_str_radix(digits, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &[u8], expected: &str) {
        let repaired = repaired(text);
        assert_eq!(repaired, expected, "{}", String::from_utf8_lossy(text));
        let reparsed = serde_json::from_str::<serde_json::Value>(&repaired);
        assert!(reparsed.is_ok(), "{expected}: {reparsed:?}");
    }

    #[test]
    fn half_an_emoji_becomes_the_replacement_character() {
        check(br#""a\ud83db""#, r#""a\ufffdb""#);
        check(br#""\ude00""#, r#""\ufffd""#);
        check(br#""\ud83d\ud83d\ude00""#, r#""\ufffd\ud83d\ude00""#);
        check(br#""\uD83D\n""#, r#""\ufffd\n""#);
        check(br#"{"\udc00":1}"#, r#"{"\ufffd":1}"#);
        // Halves as bytes: broken UTF-8.
        check(b"\"a\xed\xa0\xbdb\"", "\"a\u{fffd}\u{fffd}\u{fffd}b\"");
        check(b"\"\xe4\xb8\"", "\"\u{fffd}\"");
    }

    #[test]
    fn raw_control_characters_become_escapes_in_texts_only() {
        check(b"{\n\t\"a\": \"x\ty\nz\x01\" }", "{\n\t\"a\": \"x\\u0009y\\u000az\\u0001\" }");
        check(b"[\"a\0\"]", "[\"a\\u0000\"]");
    }

    #[test]
    fn unknown_escapes_are_kept_as_they_are_written() {
        check(br#""it\'s \x41 \u12""#, r#""it\\'s \\x41 \\u12""#);
        check(br#""\"\\\/\b\f\n\r\t\u0041""#, r#""\"\\\/\b\f\n\r\t\u0041""#);
    }

    #[test]
    fn numbers_beyond_an_f64_become_text() {
        check(b"[1e400,-1E400,1e300,5,-0.5]", r#"["1e400","-1E400",1e300,5,-0.5]"#);
        check(
            b"{\"a\":NaN,\"b\":Infinity,\"c\":-Infinity}",
            r#"{"a":"NaN","b":"Infinity","c":"-Infinity"}"#,
        );
        check(b"[true,false,null,\"NaN 1e400\"]", "[true,false,null,\"NaN 1e400\"]");
    }

    #[test]
    fn what_is_nested_too_deep_becomes_null() {
        let nested = |depth: usize, inner: &str| {
            format!("{}{inner}{}", "[".repeat(depth), "]".repeat(depth))
        };
        let fits = nested(MAX_DEPTH, "1");
        check(fits.as_bytes(), &fits);
        let inner = r#"{"a":[1,"}",{}]}"#;
        check(nested(MAX_DEPTH, inner).as_bytes(), &nested(MAX_DEPTH, "null"));
        let million = nested(1_000_000, "1");
        check(million.as_bytes(), &nested(MAX_DEPTH, "null"));
    }

    #[test]
    fn marks_before_and_nul_behind_are_skipped() {
        check(b"\xef\xbb\xbf{}\0", "{}");
        check(b"\xef\xbb\xbf\xef\xbb\xbf 1", " 1");
    }

    #[test]
    fn a_backslash_behind_a_broken_character_is_its_second_byte() {
        // GBK 0x95 0x5c.
        let gbk = without_split_characters(b"{\"ErrorInfo\":\"\x95\\\",\"a\":\"\\n\"}");
        check(&gbk, "{\"ErrorInfo\":\"\u{fffd}\u{fffd}\",\"a\":\"\\n\"}");
    }

    #[test]
    fn broken_syntax_stays_broken() {
        for text in ["{", "{\"a\":1,}", "\"a", "]", "{'a':1}", "\"\\", "\"\\u", "[1", ""] {
            let repaired = repaired(text.as_bytes());
            assert!(serde_json::from_str::<serde_json::Value>(&repaired).is_err(), "{text}");
        }
    }
}
