//! Changes values at random as the field does. `tests/it/formats.rs` includes this file, too.

/// What the field writes into texts and values, and pieces of syntax that break it.
const MUTATIONS: [&[u8]; 28] = [
    b"\\ud83d",
    b"\\ude00",
    b"\\u",
    b"\\",
    b"\"",
    b"\t",
    b"\0",
    b"\xef\xbb\xbf",
    b"\xff",
    b"\xed\xa0\xbd",
    b"1e400",
    b"NaN",
    b"9999-12-31T23:59:59Z",
    b"99999999999999999999",
    b"[[[[[[[[[[",
    b"]]]]]]]]]]",
    b"{\"a\":",
    b"}",
    b",",
    b":",
    b"null",
    b"\x1f\x8b",
    b"\x95\\",
    b"\"session_id\":\"t\",",
    b"\"data\":",
    b"\"value\":",
    b"\"specversion\":\"1.0\",",
    b"\"event\":\"action\",",
];

/// Inserts or overwrites up to five pieces, now and then a thousand times.
pub(super) fn mutated(original: &[u8], rng: &mut fastrand::Rng) -> Vec<u8> {
    let mut value = original.to_vec();
    for _ in 0..rng.usize(1..=5) {
        let at = rng.usize(..=value.len());
        let piece = MUTATIONS[rng.usize(..MUTATIONS.len())];
        let end = if rng.bool() { at } else { (at + piece.len()).min(value.len()) };
        let times = if rng.u8(..200) == 0 { 1_000 } else { 1 };
        value.splice(at..end, piece.repeat(times));
    }
    value
}
