//! The live checks of Desk: the key, each host, the signature, the clock.
//!
//! Each host gets a state query for a session that does not exist. Any answer proves the
//! connection, unless its code is about the setup; the service's own table of codes decides that.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use secrecy::ExposeSecret as _;
use tokio::time::timeout;

use super::Findings;
use super::report::Finding;
use crate::adapters::desk::{DatedReply, DeskClientSettings, KeySource};
use crate::app;
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::reply::Reply;
use crate::domain::request::{self, DeskCommand};
use crate::domain::verdict::{self, Verdict, VerdictClass, Verdicts};

/// More than the longest time limit of a call that can be configured.
const LIMIT: Duration = Duration::from_secs(65);
/// A larger clock difference is a warning.
const SKEW_WARN: SignedDuration = SignedDuration::from_secs(30);
/// A larger clock difference breaks signatures and deadlines.
const SKEW_FAIL: SignedDuration = SignedDuration::from_mins(5);

const NETWORK: &str = "check desk.region or desk.endpoint, name resolution, firewall and proxy \
                       (HTTPS_PROXY), and the CA certificates of this host";

/// Checks that the key can be read, and that not every user can read it.
pub(super) async fn check_key(source: &KeySource) -> Vec<Finding> {
    let what = "secret key";
    let key = match source.read().await {
        Ok(key) => key,
        Err(error) => {
            let remedy = "check the path and its rights for the user that runs the service";
            return vec![Finding::fail(what, format!("{error:#}"), remedy)];
        }
    };
    let mut findings = vec![];
    // Only a newline at the end of the file is removed; a blank is a valid part of a key.
    if key.expose_secret().trim() != key.expose_secret() {
        let detail = "it has blanks at its ends, which are part of the key";
        findings.push(Finding::warn(what, detail, "remove them"));
    }
    if let KeySource::File(path) = source
        && is_world_readable(path)
    {
        let detail = format!("{} can be read by every user of this host", path.display());
        findings.push(Finding::warn(what, detail, "restrict it: chmod o-rwx"));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(what, "can be read"));
    }
    findings
}

fn is_world_readable(path: &std::path::Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o004 != 0)
}

/// Checks the host and its backup.
pub(super) async fn check(config: &Config, findings: Findings) {
    // Each host is checked alone; a client with a backup would switch over and hide a failure.
    let main = DeskClientSettings { backup_endpoint: None, ..config.desk.clone() };
    let backup = config.desk.backup_endpoint.clone();
    let backup = backup.map(|endpoint| DeskClientSettings { endpoint, ..main.clone() });
    let verdicts = &config.policy.verdicts;
    let check_backup = async {
        match backup {
            Some(settings) => check_host("Desk's backup", settings, verdicts).await,
            None => vec![],
        }
    };
    let (main, backup) = tokio::join!(check_host("Desk", main, verdicts), check_backup);
    for finding in main.into_iter().chain(backup) {
        findings.add(finding);
    }
}

async fn check_host(name: &str, settings: DeskClientSettings, verdicts: &Verdicts) -> Vec<Finding> {
    let host = settings.endpoint.clone();
    let what = format!("{name} {host}");
    let client = match app::desk_client(settings) {
        Ok(client) => client,
        Err(error) => return vec![Finding::fail(what, format!("{error:#}"), NETWORK)],
    };
    let asked_at = Clock::system().now();
    // The time makes the name unique, so the session cannot exist.
    let session = format!("handoff-check-{}", asked_at.as_microsecond());
    let body = request::session_state(&session);
    let call = client.call_dated(DeskCommand::GetSessionState, body, None);
    let Ok(response) = timeout(LIMIT, call).await else {
        let detail = format!("no answer within {} s", LIMIT.as_secs());
        return vec![Finding::fail(what, detail, NETWORK)];
    };
    let mut findings = vec![judge(&what, &response.reply, verdicts)];
    if is_remote_without_tls(&host) {
        let detail = "is called without TLS: signatures are sent in clear text";
        findings.push(Finding::warn(what, detail, "use https:// in desk.endpoint"));
    }
    findings.extend(clock(&host, &response, asked_at, Clock::system().now()));
    findings
}

/// Any answer of Desk is good, unless it is about the setup.
fn judge(what: &str, reply: &Reply, verdicts: &Verdicts) -> Finding {
    let verdict = match verdicts.of_state_query(reply) {
        verdict::StateQueryResult::State(..) => {
            return Finding::ok(what, "answers and accepts the signature");
        }
        verdict::StateQueryResult::Unsupported(text) if reply.answer().is_some() => {
            let detail = format!("answers, but not to get_session_state ({text})");
            let remedy = "a call without an answer cannot be reconciled; it will be repeated";
            return Finding::warn(what, detail, remedy);
        }
        verdict::StateQueryResult::Unsupported(text) => {
            return Finding::fail(
                what,
                format!("{text}: this host is not Desk, or lacks a part of its API"),
                NETWORK,
            );
        }
        verdict::StateQueryResult::Inconclusive(verdict) => verdict,
    };
    match (reply, verdict.class) {
        (Reply::Answer(_), VerdictClass::Misconfigured | VerdictClass::Reauthenticate) => {
            setup_failure(what, &verdict)
        }
        // 70050 means too many bad signatures, not too many calls.
        (Reply::Answer(_), VerdictClass::Throttled) if verdict.code == Some(70050) => {
            setup_failure(what, &verdict)
        }
        (Reply::Answer(_), VerdictClass::Throttled) => {
            let remedy = "lower desk.quota_per_second, or find the other callers of this app";
            Finding::warn(what, format!("answers, but throttles ({})", verdict.text), remedy)
        }
        (Reply::Answer(_), VerdictClass::Transient) => {
            let detail = format!("answers, but with a transient error ({})", verdict.text);
            Finding::warn(what, detail, "run the check again")
        }
        (Reply::Answer(_), _) => {
            Finding::ok(what, format!("answers and accepts the signature ({})", verdict.text))
        }
        (Reply::NotSent(text), _) => {
            Finding::fail(what, format!("cannot be reached: {text}"), NETWORK)
        }
        (Reply::Lost(text), _) => {
            let remedy = format!("{NETWORK}; desk.timeout_ms may be too short");
            Finding::fail(what, format!("did not answer: {text}"), remedy)
        }
        (Reply::Http { .. }, _) => Finding::fail(what, verdict.text, NETWORK),
        (Reply::Unsigned(text), _) => {
            Finding::fail(what, format!("nothing was sent: {text}"), "fix the secret key")
        }
    }
}

/// The text of the code's row says what to fix.
fn setup_failure(what: &str, verdict: &Verdict) -> Finding {
    Finding::fail(what, format!("refuses the calls of the service: {}", verdict.text), "")
}

fn is_remote_without_tls(endpoint: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(endpoint) else { return false };
    let is_here = match url.host_str() {
        Some("localhost" | "[::1]") => true,
        Some(host) => host.starts_with("127."),
        None => false,
    };
    url.scheme() == "http" && !is_here
}

/// Compares this host's clock with the header `Date` of Desk, which has whole seconds.
fn clock(
    host: &str,
    response: &DatedReply,
    asked_at: Timestamp,
    answered_at: Timestamp,
) -> Option<Finding> {
    if !response.reply.was_sent() || matches!(response.reply, Reply::Lost(_)) {
        return None;
    }
    let what = "clock";
    let Some(date) = response.date else {
        let detail = format!("{host} sends no date");
        return Some(Finding::warn(what, detail, "make sure that time is synchronised (NTP)"));
    };
    // The date was taken between request and answer, and its fraction was cut off.
    let ahead = asked_at.duration_since(date) - SignedDuration::from_secs(1);
    let behind = date.duration_since(answered_at);
    let skew = ahead.max(behind).max(SignedDuration::ZERO);
    let direction = if ahead > behind { "ahead of" } else { "behind" };
    let detail = format!("{} s {direction} {host}", skew.as_secs());
    let remedy = "synchronise this host's clock (NTP): signatures and deadlines depend on it";
    Some(if skew > SKEW_FAIL {
        Finding::fail(what, detail, remedy)
    } else if skew > SKEW_WARN {
        Finding::warn(what, detail, remedy)
    } else {
        Finding::ok(what, format!("agrees with {host} within {} s", skew.as_secs() + 1))
    })
}

#[cfg(test)]
mod tests {
    use super::super::report::Level;
    use super::*;
    use crate::domain::reply::DeskAnswer;

    fn answer(body: &str) -> Reply {
        Reply::Answer(DeskAnswer::parse(body.as_bytes()).unwrap())
    }

    fn check_judge(reply: &Reply, level: Level, detail: &str) {
        let finding = judge("Desk", reply, &Verdicts::default());
        assert_eq!(finding.level, level, "{finding:?}");
        assert!(finding.detail.contains(detail), "{finding:?}");
    }

    fn check_code(code: i64, level: Level, detail: &str) {
        check_judge(&answer(&format!(r#"{{"ErrorCode":{code}}}"#)), level, detail);
    }

    #[test]
    fn an_answer_is_good_unless_it_is_about_the_setup() {
        let state = answer(r#"{"ErrorCode":0,"CurrentState":"NotInSession"}"#);
        check_judge(&state, Level::Ok, "accepts the signature");
        check_judge(&answer(r#"{"ErrorCode":0,"CurrentState":"New"}"#), Level::Warn, "answers");
        check_code(141005, Level::Ok, "accepts the signature");
        check_code(141004, Level::Ok, "141004: illegal parameters");
        check_code(60009, Level::Warn, "not to get_session_state");
        check_code(60007, Level::Warn, "throttles");
        check_code(141002, Level::Warn, "a transient error");
        check_code(70009, Level::Fail, "check that the secret key is this SDKAppID's");
        check_code(70020, Level::Fail, "check desk.sdkappid against desk.region");
        check_code(90009, Level::Fail, "is not an App administrator");
        check_code(70050, Level::Fail, "signature failed too often");
    }

    #[test]
    fn a_reply_without_an_answer_is_a_failure() {
        let http = |status| Reply::Http { status, retry_after: None };
        check_judge(&http(404), Level::Fail, "is not Desk");
        check_judge(&http(502), Level::Fail, "HTTP 502");
        check_judge(&Reply::NotSent("refused".into()), Level::Fail, "cannot be reached: refused");
        check_judge(&Reply::Lost("timed out".into()), Level::Fail, "did not answer: timed out");
        check_judge(&Reply::Unsigned("no file".into()), Level::Fail, "nothing was sent: no file");
    }

    #[test]
    fn a_clock_may_differ_by_half_a_minute() {
        let check = |date: Option<i64>, expected: Option<(Level, &str)>| {
            let at = |second| Timestamp::from_second(second).unwrap();
            let response = DatedReply { reply: answer(r#"{"ErrorCode":0}"#), date: date.map(at) };
            let finding = clock("desk", &response, at(1_000), at(1_002));
            let seen = finding.as_ref().map(|finding| (finding.level, finding.detail.as_str()));
            assert_eq!(seen, expected, "{date:?}");
        };
        check(None, Some((Level::Warn, "desk sends no date")));
        for good in [999, 1_000, 1_001, 1_002] {
            check(Some(good), Some((Level::Ok, "agrees with desk within 1 s")));
        }
        check(Some(969), Some((Level::Ok, "agrees with desk within 31 s")));
        check(Some(900), Some((Level::Warn, "99 s ahead of desk")));
        check(Some(1_100), Some((Level::Warn, "98 s behind desk")));
        check(Some(1_403), Some((Level::Fail, "401 s behind desk")));
    }

    #[test]
    fn only_remote_hosts_need_tls() {
        let check = |endpoint, expected| assert_eq!(is_remote_without_tls(endpoint), expected);
        check("https://console.tim.qq.com", false);
        check("http://console.tim.qq.com", true);
        check("http://127.0.0.1:8080", false);
        check("http://localhost", false);
        check("http://[::1]:8080", false);
    }
}
