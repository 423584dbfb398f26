//! Ids of people, as those see them who need not know the people.

/// Characters that are left of an id, at most.
const SHOWN_CHARS: usize = 4;

/// How an id begins: at most half of it, at most four characters.
pub fn shortened(id: &str) -> String {
    let shown = (id.chars().count() / 2).min(SHOWN_CHARS);
    id.chars().take(shown).collect::<String>() + ".."
}

/// The id of an event, with the id of its session shortened where it contains that: some formats put
/// it there.
pub fn without_session(event_id: &str, session_id: &str) -> String {
    if session_id.is_empty() {
        return event_id.to_owned();
    }
    event_id.replace(session_id, &shortened(session_id))
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

    #[test]
    fn an_event_that_is_named_after_its_session_does_not_show_it() {
        assert_eq!(without_session("conversation-1 7", "conversation-1"), "conv.. 7");
        assert_eq!(without_session("evt-1", "conversation-1"), "evt-1");
        assert_eq!(without_session("evt-1", ""), "evt-1");
    }
}
