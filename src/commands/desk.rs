//! `handoff desk`: serves the simulated Desk, for staging and for tests in any language.
//!
//! It prints its address and the settings with which the service finds it, serves until it is
//! stopped, and then prints what it has counted. It prints no key except the public demo key.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use secrecy::{ExposeSecret as _, SecretString};
use tokio_util::sync::CancellationToken;

use super::Failure;
use super::lines::StdoutLines;
use super::values::whole;
use crate::domain::usersig::Identity;
use crate::sim::desk::{
    Agent, ApiCommand, DEMO_KEY, DeskStats, FaultSchedule, LatencyRange, SimulatedDesk,
    SimulatedDeskSettings,
};

const EXAMPLES: &str = "\
Examples:
  handoff desk
      Every agent is online, every valid transfer is assigned.
  handoff desk --agents anna@example.com:2473,ben@example.com --latency-ms 50-200
      Two agents, one of them in group 2473; calls take 50 to 200 ms.
  handoff desk --schedule faults.json
      With the faults in the file, for instance
      {\"faults\": [{\"answer\": \"close\", \"takes_effect\": true, \"chance\": 0.05, \"times\": 0}]}
      which loses the answer of 5 % of the transfers after they took effect.

While it runs:
  curl -s localhost:8080/sim/stats
  curl -s localhost:8080/sim/schedule -d '{\"faults\": [{\"answer\": \"hang\"}]}'
  curl -s localhost:8080/sim/agents -d '{\"updates\": [{\"online\": false}]}'
  curl -s localhost:8080/sim/outage -d '{\"on\": true}'

All faults and controls are described in docs/simulated-desk.md.";

/// Run the simulated Desk as an HTTP server, for staging and tests
///
/// It validates calls as Desk does (signature, parameters, types), keeps the state of each session,
/// and injects faults on request (every code, latency, lost answers, outages).
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, allow_negative_numbers = true)]
pub(crate) struct DeskArgs {
    /// Address to listen on; port 0 takes a free port
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080", value_parser = parse_address)]
    listen: SocketAddr,

    /// The SDKAppID that calls must carry
    #[arg(long, value_name = "NUMBER", default_value_t = 1_400_000_000)]
    #[arg(value_parser = whole::<u64>(1..=9_999_999_999))]
    sdkappid: u64,

    /// The administrator account that calls must be signed for
    #[arg(long, value_name = "ACCOUNT", default_value = "administrator", value_parser = parse_account)]
    identifier: String,

    /// The secret key of signatures; without it the demo key, which is printed at the start
    #[arg(
        long,
        value_name = "KEY",
        env = "HANDOFF_SIM_SECRET_KEY",
        hide_env_values = true,
        conflicts_with = "secret_key_file"
    )]
    secret_key: Option<SecretString>,

    /// A file with the secret key of signatures
    #[arg(long, value_name = "FILE")]
    secret_key_file: Option<PathBuf>,

    /// Latency of each call: 20, or a range such as 50-200
    #[arg(long, value_name = "MS", default_value = "0", value_parser = parse_latency)]
    latency_ms: LatencyRange,

    /// Calls per command in any one second, above which 60007 is returned; 0 for no limit
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    #[arg(value_parser = whole::<u32>(0..=u32::MAX.into()))]
    limit_per_second: u32,

    /// The agents, each as login or login:group; without any, every requested agent is online
    #[arg(long, value_name = "AGENTS", value_delimiter = ',', value_parser = parse_agent)]
    agents: Vec<Agent>,

    /// Transferred sessions wait for their agent to accept
    #[arg(long)]
    agents_must_accept: bool,

    /// Faults and staff changes, as JSON
    #[arg(long, value_name = "FILE")]
    schedule: Option<PathBuf>,

    /// Only sessions announced by POST /sim/sessions exist
    #[arg(long)]
    no_auto_sessions: bool,

    /// An assigned session returns to the chatbot at once: for load tests that use each session
    /// repeatedly
    #[arg(long)]
    sessions_return: bool,

    /// Number of calls in the log of each session
    #[arg(long, value_name = "NUMBER", default_value_t = 32)]
    #[arg(value_parser = whole::<usize>(0..=1_000_000))]
    calls_kept: usize,

    /// Seed of latencies and fault probabilities
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    #[arg(value_parser = whole::<u64>(0..=u64::MAX))]
    seed: u64,
}

/// Serves until `shutdown`. [`Failure::Unavailable`] means that the address cannot be listened on.
pub(crate) async fn run(args: DeskArgs, shutdown: CancellationToken) -> Result<(), Failure> {
    let schedule =
        args.schedule.as_deref().map(read_schedule).transpose().map_err(Failure::Usage)?;
    let listen = args.listen;
    let (settings, key_hint) = settings(args).map_err(Failure::Usage)?;
    let listener = TcpListener::bind(listen)
        .with_context(|| format!("failed to listen on {listen}"))
        .map_err(Failure::Unavailable)?;
    let admin = settings.admin.clone();
    let desk = SimulatedDesk::start(listener, settings).map_err(Failure::Unavailable)?;
    if let Some(schedule) = schedule {
        desk.schedule(schedule);
    }
    let mut lines = StdoutLines::new();
    let greeted = lines.put(&greeting(&desk.endpoint(), &admin, key_hint));
    // It serves also where nobody can read what it prints; the exit code tells at the end.
    shutdown.cancelled().await;
    desk.stop().await;
    greeted.and(lines.put(&summary(&desk.stats())))
}

fn settings(args: DeskArgs) -> anyhow::Result<(SimulatedDeskSettings, &'static str)> {
    let given = match (args.secret_key, args.secret_key_file) {
        (Some(key), _) => Some(key),
        (None, Some(file)) => Some(read_key(&file)?),
        (None, None) => None,
    };
    let is_empty = given.as_ref().is_some_and(|key| key.expose_secret().is_empty());
    ensure!(!is_empty, "the key is empty: give a key, or omit the option for the demo key");
    let key_hint = if given.is_some() { "<the key you gave>" } else { DEMO_KEY };
    let settings = SimulatedDeskSettings {
        admin: Identity { sdkappid: args.sdkappid, identifier: args.identifier },
        key: given.unwrap_or_else(|| SecretString::from(DEMO_KEY)),
        auto_sessions: !args.no_auto_sessions,
        agents_must_accept: args.agents_must_accept,
        latency: args.latency_ms,
        limit_per_second: args.limit_per_second,
        agents: args.agents,
        sessions_return: args.sessions_return,
        calls_kept_per_session: args.calls_kept,
        seed: args.seed,
        ..SimulatedDeskSettings::default()
    };
    Ok((settings, key_hint))
}

fn read_key(file: &std::path::Path) -> anyhow::Result<SecretString> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("failed to read the key file {}", file.display()))?;
    Ok(SecretString::from(text.trim_end_matches(['\r', '\n'])))
}

fn read_schedule(file: &std::path::Path) -> anyhow::Result<FaultSchedule> {
    let json = std::fs::read(file)
        .with_context(|| format!("failed to read the schedule {}", file.display()))?;
    FaultSchedule::parse(&json)
        .with_context(|| format!("failed to parse the schedule {}", file.display()))
}

fn greeting(endpoint: &str, admin: &Identity, key: &str) -> String {
    let Identity { sdkappid, identifier } = admin;
    format!(
        "simulated Desk at {endpoint}; the service finds it with \
         HANDOFF__DESK__ENDPOINT={endpoint} HANDOFF__DESK__SDKAPPID={sdkappid} \
         HANDOFF__DESK__IDENTIFIER={identifier} HANDOFF__DESK__SECRET_KEY={key}"
    )
}

fn summary(stats: &DeskStats) -> String {
    let mut text = format!(
        "{} calls in {:.1} s, at most {} at once; {} transfers took effect; \
         {} calls overlapped another call of their session",
        stats.calls,
        stats.uptime_ms as f64 / 1000.0,
        stats.max_in_flight,
        stats.transfers_acted,
        stats.overlapping_calls,
    );
    for (command, counts) in &stats.commands {
        let name = match command {
            ApiCommand::Transfer => "transfer_to_human",
            ApiCommand::State => "get_session_state",
            ApiCommand::End => "end_session",
            ApiCommand::Other => "other",
        };
        let peak = counts.max_per_second;
        text.push_str(&format!("\n  {name}: {} calls, at most {peak} per second", counts.calls));
        for (code, times) in &counts.codes {
            text.push_str(&format!("\n    {times:>8} x code {code}"));
        }
        for (status, times) in &counts.statuses {
            text.push_str(&format!("\n    {times:>8} x HTTP {status} without a code"));
        }
        if counts.unanswered > 0 {
            text.push_str(&format!("\n    {:>8} x no answer", counts.unanswered));
        }
    }
    text
}

fn parse_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "it must be an IP address and a port, as 127.0.0.1:8080".to_owned())
}

fn parse_latency(text: &str) -> Result<LatencyRange, String> {
    let milliseconds = |part: &str| {
        part.trim().parse().map_err(|_| format!("{part:?} is not a whole number of milliseconds"))
    };
    match text.split_once('-') {
        None => milliseconds(text).map(LatencyRange::exactly),
        Some((min, max)) => {
            let (min, max) = (milliseconds(min)?, milliseconds(max)?);
            if max < min {
                return Err(format!("{max} is less than {min}"));
            }
            Ok(LatencyRange::between(min, max))
        }
    }
    .and_then(|range| range.check().map(|()| range).map_err(|error| error.to_string()))
}

fn parse_account(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("the account is empty".to_owned());
    }
    Ok(text.to_owned())
}

fn parse_agent(text: &str) -> Result<Agent, String> {
    let (id, group) = match text.rsplit_once(':') {
        None => (text, None),
        Some((id, group)) => {
            let number =
                group.parse().map_err(|_| format!("the group {group:?} is not a number"))?;
            (id, Some(number))
        }
    };
    if id.trim().is_empty() {
        return Err("an agent needs a login".to_owned());
    }
    Ok(Agent { group, ..Agent::new(id.trim()) })
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches};

    use super::*;

    fn parse(words: &[&str]) -> Result<DeskArgs, clap::Error> {
        let command = DeskArgs::augment_args(clap::Command::new("desk"));
        let words = ["desk"].iter().chain(words);
        command.try_get_matches_from(words).and_then(|matches| DeskArgs::from_arg_matches(&matches))
    }

    #[test]
    fn agents_and_latency_are_parsed_as_documented() {
        let args = parse(&["--agents", "a@x:2473,b@x", "--latency-ms", "50-200"]).unwrap();
        let expected = [Agent { group: Some(2473), ..Agent::new("a@x") }, Agent::new("b@x")];
        assert_eq!(
            (args.agents, args.latency_ms),
            (expected.to_vec(), LatencyRange::between(50, 200))
        );
    }

    #[test]
    fn invalid_arguments_are_refused() {
        for wrong in [
            ["--agents", "a@x:b"],
            ["--agents", ":7"],
            ["--latency-ms", "9-1"],
            ["--latency-ms", "99999999"],
            ["--sdkappid", "0"],
            ["--sdkappid", "-1"],
            ["--identifier", " "],
        ] {
            assert!(parse(&wrong).is_err(), "{wrong:?}");
        }
        assert!(settings(parse(&["--secret-key", ""]).unwrap()).is_err());
    }

    #[test]
    fn the_schedule_in_the_help_can_be_parsed() {
        let json = EXAMPLES.lines().find(|line| line.trim().starts_with('{')).unwrap();
        assert_eq!(FaultSchedule::parse(json.as_bytes()).unwrap().faults.len(), 1);
    }

    #[test]
    fn a_given_key_is_not_printed() {
        let args = parse(&["--secret-key", "very-secret"]).unwrap();
        assert!(!format!("{args:?}").contains("very-secret"));
        let (settings, hint) = settings(args).unwrap();
        assert!(!format!("{settings:?}").contains("very-secret"));
        assert!(!greeting("http://x", &settings.admin, hint).contains("very-secret"));
    }
}
