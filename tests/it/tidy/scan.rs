//! Reads Rust source well enough for the rules: comments, literals, brackets, arguments.

/// The code without comments, and with empty string and character literals. Lines keep their
/// numbers.
pub(super) fn code_of(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = literal_or_comment(rest);
        if length == 0 {
            code.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        if !rest.starts_with('/') {
            code.push_str("\"\"");
        }
        code.extend(rest[..length].chars().filter(|c| *c == '\n'));
        rest = &rest[length..];
    }
    code
}

/// The length of the literal or comment that the text begins with, or 0.
fn literal_or_comment(text: &str) -> usize {
    let end_after = |mark: &str, from: usize| {
        text[from..].find(mark).map_or(text.len(), |at| from + at + mark.len())
    };
    if text.starts_with("//") {
        return text.find('\n').unwrap_or(text.len());
    }
    if text.starts_with("/*") {
        return end_after("*/", 2);
    }
    for hashes in ["#", "##"] {
        if text.starts_with(&format!("r{hashes}\"")) {
            return end_after(&format!("\"{hashes}"), 2 + hashes.len());
        }
    }
    match text.as_bytes() {
        [b'"', ..] => quoted(text, '"'),
        // A character or byte, not a lifetime.
        [b'\'', b'\\', ..] => quoted(text, '\''),
        [b'\'', ..] => match text.char_indices().nth(2) {
            Some((at, '\'')) => at + 1,
            _ => 0,
        },
        _ => 0,
    }
}

fn quoted(text: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The arguments of a call, macro or group: what is inside the bracket that the text begins with,
/// split at its top-level commas, without comments.
pub(super) fn arguments(text: &str) -> Vec<String> {
    split(text, "([{", ")]}")
}

/// The parameters of a signature, where `<` is a bracket as well.
pub(super) fn parameters(text: &str) -> Vec<String> {
    split(text, "([{<", ")]}>")
}

fn split(text: &str, open: &str, close: &str) -> Vec<String> {
    let (mut depth, mut arguments, mut current) = (0_usize, Vec::new(), String::new());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let length = literal_or_comment(rest);
        if length > 0 {
            if !rest.starts_with('/') {
                current.push_str(&rest[..length]);
            }
            rest = &rest[length..];
            continue;
        }
        let is_arrow = current.ends_with(['-', '=']) && c == '>';
        if open.contains(c) {
            depth += 1;
        } else if close.contains(c) && !is_arrow {
            depth = depth.saturating_sub(1);
        }
        rest = &rest[c.len_utf8()..];
        match (c, depth) {
            (_, 0) => break,
            (',', 1) => arguments.push(std::mem::take(&mut current)),
            (_, 1) if current.is_empty() && arguments.is_empty() && open.contains(c) => {}
            _ => current.push(c),
        }
    }
    arguments.push(current);
    arguments.retain(|argument| !argument.trim().is_empty());
    arguments.into_iter().map(|argument| argument.trim().to_owned()).collect()
}

/// The number of the line that this position is in, from 1.
pub(super) fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// The identifier that the text begins with.
pub(super) fn identifier(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

/// Whether the word at this position is a word of its own, not a part of an identifier.
pub(super) fn is_whole_word(text: &str, at: usize, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let before = text[..at].chars().next_back().is_some_and(is_part);
    let after = text[at + word.len()..].chars().next().is_some_and(is_part);
    let (first, last) = (word.starts_with(is_part), word.ends_with(is_part));
    !(first && before || last && after)
}

#[test]
fn arguments_are_split_at_top_level_commas() {
    let check = |text: &str, expected: &[&str]| assert_eq!(parameters(text), expected, "{text}");
    check(
        "(a, b: Map<K, V>, f: impl Fn(A, B) -> C) {}",
        &["a", "b: Map<K, V>", "f: impl Fn(A, B) -> C"],
    );
    check("(x = 1, \"a, (b\", ')') rest, more", &["x = 1", "\"a, (b\"", "')'"]);
    check("{a, b::{c, d}}", &["a", "b::{c, d}"]);
    check("()", &[]);
}

#[test]
fn code_has_no_comments_and_no_literals() {
    assert_eq!(code_of("a /* b */ \"c//\" // d\n'e' 'f"), "a  \"\" \n\"\" 'f");
}
