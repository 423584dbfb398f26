//! Ids as people see them: those of sessions, and agents, are shortened unless `admin.show_ids`.
//!
//! An event's id names a request, not a person, and every command needs it, so it is shown; where it
//! contains the id of the session, that part is shortened. The position of its record names it then.

use serde_json::Value;

use crate::domain::ids::{shortened, without_session};

/// How ids are shown.
#[derive(Debug)]
pub(super) struct Ids {
    show: bool,
}

impl Ids {
    pub(super) fn new(show: bool) -> Self {
        Self { show }
    }

    /// Whether ids are shown in full.
    pub(super) fn are_shown(&self) -> bool {
        self.show
    }

    /// A session id.
    pub(super) fn session(&self, id: &str) -> String {
        if self.show { id.to_owned() } else { shortened(id) }
    }

    /// A sentence, which may quote the id of the session.
    pub(super) fn text(&self, text: &str, session: &str) -> String {
        self.event(text, session)
    }

    /// The name of a waiting room: it names the agents of its plan, and ends with a hash.
    pub(super) fn room(&self, name: &str) -> String {
        match name.rsplit_once(' ') {
            Some((_, hash)) if !self.show => format!("room {hash}"),
            None if !self.show => shortened(name),
            _ => name.to_owned(),
        }
    }

    /// An event's id.
    pub(super) fn event(&self, id: &str, session: &str) -> String {
        if self.show { id.to_owned() } else { without_session(id, session) }
    }

    /// Shortens the session id, and the agents, wherever they stand in a document.
    pub(super) fn hide(&self, document: &mut Value, session: &str) {
        if !self.show {
            hide(document, session);
        }
    }
}

fn hide(document: &mut Value, session: &str) {
    match document {
        Value::String(text) => *text = without_session(text, session),
        Value::Array(items) => items.iter_mut().for_each(|item| hide(item, session)),
        Value::Object(members) => {
            for (name, value) in members {
                match (name.as_str(), value) {
                    ("agent_id", Value::String(agent)) => *agent = shortened(agent),
                    ("agents", Value::Array(agents)) => {
                        agents.iter_mut().for_each(|agent| {
                            if let Value::String(agent) = agent {
                                *agent = shortened(agent);
                            }
                        });
                    }
                    // The name of a waiting room names its agents; the notes of operators repeat it.
                    ("waits_for" | "note", Value::String(text)) if text.contains("agent:") => {
                        let before = text.split("agent:").next().unwrap_or_default();
                        *text = format!("{before}agent:..");
                    }
                    // The body of a call, as text.
                    ("body", Value::String(body)) => *body = hidden_body(body, session),
                    (_, value) => hide(value, session),
                }
            }
        }
        _ => {}
    }
}

/// The only lists of texts in a body are agents.
fn hidden_body(body: &str, session: &str) -> String {
    let Ok(mut body) = serde_json::from_str::<Value>(body) else { return String::new() };
    hide(&mut body, session);
    let lists = body.as_object_mut().into_iter().flatten().filter_map(|(_, v)| v.as_array_mut());
    for item in lists.flatten() {
        if let Value::String(agent) = item {
            *agent = shortened(agent);
        }
    }
    body.to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_session_id_is_shortened_wherever_it_stands() {
        let ids = Ids::new(false);
        assert_eq!(ids.session("fd8a2e30-1111"), "fd8a..");
        assert_eq!(ids.session("s-1"), "s..");
        assert_eq!(ids.session("é\u{202e}üß"), "é\u{202e}..");
        assert_eq!(ids.event("rasa:fd8a2e30-1111:7", "fd8a2e30-1111"), "rasa:fd8a..:7");
        assert_eq!(ids.event("evt-1", "fd8a2e30-1111"), "evt-1");
        let mut document = json!({"session_id": "abcdefgh", "agent_id": "anna@example.com",
            "target": {"agents": ["ben@x"], "group": 7}, "body": "{\"SessionId\":\"abcdefgh\",\"MemberList\":[\"ben@x\"]}"});
        ids.hide(&mut document, "abcdefgh");
        let expected = json!({"session_id": "abcd..", "agent_id": "anna..",
            "target": {"agents": ["be.."], "group": 7}, "body": "{\"MemberList\":[\"be..\"],\"SessionId\":\"abcd..\"}"});
        assert_eq!(document, expected);
        assert_eq!(Ids::new(true).session("fd8a2e30-1111"), "fd8a2e30-1111");
    }
}
