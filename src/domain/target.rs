//! A [`Target`] of a transfer, and its JSON form in outcomes and snapshots.

use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};

/// Who is to take over a session: the target of one transfer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "TargetFields")]
pub enum Target {
    /// One of these agents or, where a group is given too, a member of the group.
    Named {
        /// May be empty when a group is given.
        agents: Vec<String>,
        /// An agent group.
        group: Option<u64>,
    },
    /// The default allocation that the Desk console defines.
    Default,
}

impl Target {
    /// The target in words.
    pub fn words(&self) -> String {
        match self {
            Self::Default => "default".into(),
            Self::Named { agents, group: None } => agents.join(" "),
            Self::Named { agents, group: Some(group) } if agents.is_empty() => {
                format!("group {group}")
            }
            Self::Named { agents, group: Some(group) } => {
                format!("{} or group {group}", agents.join(" "))
            }
        }
    }
}

/// A target as outcomes and snapshots hold it; the default has neither field.
#[derive(Deserialize)]
struct TargetFields {
    #[serde(default)]
    agents: Vec<String>,
    group: Option<u64>,
}

impl From<TargetFields> for Target {
    fn from(TargetFields { agents, group }: TargetFields) -> Self {
        if agents.is_empty() && group.is_none() {
            Self::Default
        } else {
            Self::Named { agents, group }
        }
    }
}

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self {
            Self::Default => map.serialize_entry("default", &true)?,
            Self::Named { agents, group } => {
                if !agents.is_empty() {
                    map.serialize_entry("agents", agents)?;
                }
                if let Some(group) = group {
                    map.serialize_entry("group", group)?;
                }
            }
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_serialised_as_it_is_read() {
        for json in [r#"{"agents":["a"]}"#, r#"{"group":7}"#, r#"{"agents":["a"],"group":7}"#] {
            let target: Target = serde_json::from_str(json).unwrap();
            assert_eq!(serde_json::to_string(&target).unwrap(), json);
        }
        assert_eq!(serde_json::to_string(&Target::Default).unwrap(), r#"{"default":true}"#);
    }
}
