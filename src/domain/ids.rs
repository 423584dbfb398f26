//! Ids of people, as those see them who need not know the people.

/// Characters that are left of an id, at most.
const SHOWN_CHARS: usize = 4;

/// How an id begins: at most half of it, at most four characters.
pub fn shortened(id: &str) -> String {
    let shown = (id.chars().count() / 2).min(SHOWN_CHARS);
    id.chars().take(shown).collect::<String>() + ".."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_never_shown_in_full() {
        for (id, shown) in [
            ("fd8a2e30-1c", "fd8a.."),
            ("abc", "a.."),
            ("\u{1F600}é", "\u{1F600}.."),
            ("x", ".."),
            ("", ".."),
        ] {
            assert_eq!(shortened(id), shown, "{id}");
        }
    }
}
