//! The request bodies of Desk's commands.
//!
//! A field is present only if a value is set, because an older deployment of Desk might refuse a field
//! that it does not know. There are no defaults here. Bodies over Desk's limit are refused.

use serde::Serialize;

use super::event::TransferRequest;
use super::target::Target;

/// Desk refuses larger bodies with 93000.
pub const MAX_BODY_BYTES: usize = 12 * 1024;

/// The commands of Desk that this service calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeskCommand {
    /// Transfer a session to a human.
    TransferToHuman,
    /// Query the state of a session.
    GetSessionState,
}

impl DeskCommand {
    /// All commands, in the order of their declaration.
    pub const ALL: [Self; 2] = [Self::TransferToHuman, Self::GetSessionState];

    /// The name in the URL, in metrics and in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TransferToHuman => "transfer_to_human",
            Self::GetSessionState => "get_session_state",
        }
    }
}

/// The body would exceed [`MAX_BODY_BYTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLarge {
    /// The size it would have.
    pub bytes: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct TransferBody<'a> {
    session_id: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    agent_id_list: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_group_id: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    send_tip_if_no_agent_online: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    check_if_during_working_hours: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    send_prompt_not_during_working_hours: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_session_when_no_member_online: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disable_queuing: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allow_assign_busy_member: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue_timeout: Option<u64>,
}

/// The body of `transfer_to_human`.
pub fn transfer(
    session_id: &str,
    request: &TransferRequest,
    target: &Target,
) -> Result<Vec<u8>, TooLarge> {
    let (agents, group) = match target {
        Target::Named { agents, group } => (agents.as_slice(), *group),
        // A request that names nobody is what Desk's default allocation answers.
        Target::Default => (&[][..], None),
    };
    let options = &request.options;
    let body = to_json(&TransferBody {
        session_id,
        agent_id_list: agents,
        agent_group_id: group,
        send_tip_if_no_agent_online: flag(options.send_tip_if_no_agent_online),
        check_if_during_working_hours: flag(options.check_if_during_working_hours),
        send_prompt_not_during_working_hours: flag(options.send_prompt_not_during_working_hours),
        end_session_when_no_member_online: flag(options.end_session_when_no_member_online),
        disable_queuing: flag(options.disable_queuing),
        allow_assign_busy_member: flag(options.allow_assign_busy_member),
        priority: request.priority,
        queue_timeout: options.queue_timeout,
    });
    // Checked here and not left to Desk: 93000 does not say by how much, and costs a call.
    if body.len() > MAX_BODY_BYTES { Err(TooLarge { bytes: body.len() }) } else { Ok(body) }
}

/// The body of `get_session_state`.
pub fn session_state(session_id: &str) -> Vec<u8> {
    to_json(&serde_json::json!({ "SessionId": session_id }))
}

fn flag(value: Option<bool>) -> Option<u8> {
    value.map(u8::from)
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("strings and numbers always serialise")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::TransferOptions;

    #[test]
    fn a_field_without_a_value_is_left_out() {
        let body = transfer("s-1", &TransferRequest::default(), &Target::Default).unwrap();
        assert_eq!(String::from_utf8(body).unwrap(), r#"{"SessionId":"s-1"}"#);
    }

    #[test]
    fn every_field_of_the_api_is_written() {
        let request = TransferRequest {
            priority: Some(5),
            options: TransferOptions {
                send_tip_if_no_agent_online: Some(true),
                check_if_during_working_hours: Some(false),
                send_prompt_not_during_working_hours: Some(true),
                end_session_when_no_member_online: Some(false),
                disable_queuing: Some(true),
                allow_assign_busy_member: Some(true),
                queue_timeout: Some(3600),
            },
            ..TransferRequest::default()
        };
        let target = Target::Named { agents: vec!["a@x".into()], group: Some(2473) };
        let body = String::from_utf8(transfer("s-1", &request, &target).unwrap()).unwrap();
        insta::assert_snapshot!(body, @r#"{"SessionId":"s-1","AgentIdList":["a@x"],"AgentGroupId":2473,"SendTipIfNoAgentOnline":1,"CheckIfDuringWorkingHours":0,"SendPromptNotDuringWorkingHours":1,"EndSessionWhenNoMemberOnline":0,"DisableQueuing":1,"AllowAssignBusyMember":1,"Priority":5,"QueueTimeout":3600}"#);
    }

    #[test]
    fn a_body_over_12_kib_is_refused_before_sending() {
        let agents = (0..2000).map(|n| format!("agent-{n}@example.com")).collect();
        let target = Target::Named { agents, group: None };
        assert!(
            transfer("s-1", &TransferRequest::default(), &target).unwrap_err().bytes
                > MAX_BODY_BYTES
        );
    }
}
