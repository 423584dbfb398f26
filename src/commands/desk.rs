//! `handoff desk`: the simulated Desk as a server of its own, for staging and for tests in any
//! language.
//!
//! It prints where it listens and how to point the worker to it, serves until it is told to stop,
//! and then says what it has seen. It never prints the key, except for the documented demo key
//! that everybody knows.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use secrecy::{ExposeSecret as _, SecretString};
use tokio_util::sync::CancellationToken;

use super::Failure;
use crate::domain::usersig::Identity;
use crate::sim::desk::{Agent, Command, DEMO_KEY, Desk, Options, Script, Span, Stats};

const EXAMPLES: &str = "\
Examples:
  handoff desk
      Everybody is online, every well-formed transfer is assigned.
  handoff desk --agents anna@example.com:2473,ben@example.com --latency-ms 50-200
      Two agents, one of them in group 2473; calls take 50 to 200 ms.
  handoff desk --script faults.json
      With what is in the file, for instance
      {\"acts\": [{\"answer\": \"close\", \"takes_effect\": true, \"chance\": 0.05, \"times\": 0}]}
      which loses the answer of one transfer in twenty although it happened.

While it runs:
  curl -s localhost:8080/sim/stats
  curl -s localhost:8080/sim/script -d '{\"acts\": [{\"answer\": \"hang\"}]}'
  curl -s localhost:8080/sim/agents -d '{\"switch\": [{\"online\": false}]}'
  curl -s localhost:8080/sim/outage -d '{\"on\": true}'

All acts and controls are described in docs/simulated-desk.md.";

/// Serve a simulated Tencent Cloud Desk
///
/// It is strict (signature, parameters, types), truthful (a session that was transferred is with
/// an agent) and scriptable (every code, latency, lost answers, outages).
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, allow_negative_numbers = true)]
pub struct Args {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,

    /// The SDKAppID that calls must carry
    #[arg(long, value_name = "NUMBER", default_value_t = 1_400_000_000)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=9_999_999_999))]
    sdkappid: u64,

    /// The administrator account that calls must be signed for
    #[arg(long, value_name = "ACCOUNT", default_value = "administrator", value_parser = parse_account)]
    identifier: String,

    /// The key that signs; without one the demo key, which is printed at the start
    #[arg(
        long,
        value_name = "KEY",
        env = "HANDOFF_SIM_SECRET_KEY",
        hide_env_values = true,
        conflicts_with = "secret_key_file"
    )]
    secret_key: Option<SecretString>,

    /// A file with the key that signs
    #[arg(long, value_name = "FILE")]
    secret_key_file: Option<PathBuf>,

    /// How long each call takes: 20, or 50-200 for anything between
    #[arg(long, value_name = "MS", default_value = "0", value_parser = parse_span)]
    latency_ms: Span,

    /// Calls per command in any one second, above which 60007 is answered; 0 for no limit
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    limit_per_second: u32,

    /// The agents, each as login or login:group; without any, whoever is asked for is online
    #[arg(long, value_name = "AGENTS", value_delimiter = ',', value_parser = parse_agent)]
    agents: Vec<Agent>,

    /// Transferred sessions wait for their agent to accept
    #[arg(long)]
    agents_must_accept: bool,

    /// What to do wrong, as JSON
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,

    /// Only sessions announced by POST /sim/sessions exist
    #[arg(long)]
    no_auto_sessions: bool,

    /// An assigned session is with the chatbot again at once: for load tests that use each
    /// session often
    #[arg(long)]
    sessions_return: bool,

    /// How many calls the log of each session keeps
    #[arg(long, value_name = "NUMBER", default_value_t = 32)]
    calls_kept: usize,

    /// Makes latencies and chances repeatable
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    seed: u64,
}

/// Serves until `shutdown`.
pub async fn run(args: Args, shutdown: CancellationToken) -> Result<(), Failure> {
    let script = args.script.as_deref().map(read_script).transpose().map_err(Failure::Usage)?;
    let listen = args.listen;
    let (options, key_hint) = options(args).map_err(Failure::Usage)?;
    let listener = TcpListener::bind(listen)
        .with_context(|| format!("failed to listen on {listen}"))
        .map_err(Failure::Unavailable)?;
    let admin = options.admin.clone();
    let desk = Desk::start(listener, options).map_err(Failure::Unavailable)?;
    if let Some(script) = script {
        desk.script(script);
    }
    anstream::println!("{}", greeting(&desk.endpoint(), &admin, key_hint));
    shutdown.cancelled().await;
    desk.stop().await;
    anstream::println!("{}", summary(&desk.stats()));
    Ok(())
}

fn options(args: Args) -> anyhow::Result<(Options, &'static str)> {
    let given = match (args.secret_key, args.secret_key_file) {
        (Some(key), _) => Some(key),
        (None, Some(file)) => Some(read_key(&file)?),
        (None, None) => None,
    };
    let is_empty = given.as_ref().is_some_and(|key| key.expose_secret().is_empty());
    ensure!(!is_empty, "the key is empty: give one, or none for the demo key");
    let key_hint = if given.is_some() { "<the key you gave>" } else { DEMO_KEY };
    let options = Options {
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
        ..Options::default()
    };
    Ok((options, key_hint))
}

fn read_key(file: &std::path::Path) -> anyhow::Result<SecretString> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("failed to read the key file {}", file.display()))?;
    Ok(SecretString::from(text.trim_end_matches(['\r', '\n'])))
}

fn read_script(file: &std::path::Path) -> anyhow::Result<Script> {
    let json = std::fs::read(file)
        .with_context(|| format!("failed to read the script {}", file.display()))?;
    Script::parse(&json)
        .with_context(|| format!("failed to understand the script {}", file.display()))
}

fn greeting(endpoint: &str, admin: &Identity, key: &str) -> String {
    let Identity { sdkappid, identifier } = admin;
    format!(
        "simulated Desk at {endpoint}; the worker finds it with \
         HANDOFF__DESK__ENDPOINT={endpoint} HANDOFF__DESK__SDKAPPID={sdkappid} \
         HANDOFF__DESK__IDENTIFIER={identifier} HANDOFF__DESK__SECRET_KEY={key}"
    )
}

fn summary(stats: &Stats) -> String {
    let mut text = format!(
        "{} calls in {:.1} s, at most {} at once; {} sessions moved to a human; \
         {} calls overlapped another one of their session",
        stats.calls,
        stats.uptime_ms as f64 / 1000.0,
        stats.max_in_flight,
        stats.transfers_acted,
        stats.overlapping_calls,
    );
    for (command, counts) in &stats.commands {
        let name = match command {
            Command::Transfer => "transfer_to_human",
            Command::State => "get_session_state",
            Command::End => "end_session",
            Command::Other => "other",
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

fn parse_span(text: &str) -> Result<Span, String> {
    let number = |part: &str| {
        part.trim().parse().map_err(|_| format!("{part:?} is not a whole number of milliseconds"))
    };
    match text.split_once('-') {
        None => number(text).map(Span::exactly),
        Some((least, most)) => {
            let (least, most) = (number(least)?, number(most)?);
            if most < least {
                return Err(format!("{most} is less than {least}"));
            }
            Ok(Span::between(least, most))
        }
    }
    .and_then(|span| span.check().map(|()| span).map_err(|error| error.to_string()))
}

fn parse_account(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("an account has a name".to_owned());
    }
    Ok(text.to_owned())
}

fn parse_agent(text: &str) -> Result<Agent, String> {
    let (id, group) = match text.rsplit_once(':') {
        None => (text, None),
        Some((id, group)) => {
            let number = group.parse().map_err(|_| format!("the group {group:?} is no number"))?;
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

    fn parse(words: &[&str]) -> Result<Args, clap::Error> {
        let command = Args::augment_args(clap::Command::new("desk"));
        let words = ["desk"].iter().chain(words);
        command.try_get_matches_from(words).and_then(|matches| Args::from_arg_matches(&matches))
    }

    #[test]
    fn agents_and_latency_are_read_as_documented() {
        let args = parse(&["--agents", "a@x:2473,b@x", "--latency-ms", "50-200"]).unwrap();
        let expected = [Agent { group: Some(2473), ..Agent::new("a@x") }, Agent::new("b@x")];
        assert_eq!((args.agents, args.latency_ms), (expected.to_vec(), Span::between(50, 200)));
    }

    #[test]
    fn what_no_desk_could_be_is_refused() {
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
        assert!(options(parse(&["--secret-key", ""]).unwrap()).is_err());
    }

    #[test]
    fn the_script_of_the_help_is_one() {
        let json = EXAMPLES.lines().find(|line| line.trim().starts_with('{')).unwrap();
        assert_eq!(Script::parse(json.as_bytes()).unwrap().acts.len(), 1);
    }

    #[test]
    fn a_given_key_is_not_printed() {
        let args = parse(&["--secret-key", "very-secret"]).unwrap();
        assert!(!format!("{args:?}").contains("very-secret"));
        let (options, hint) = options(args).unwrap();
        assert!(!format!("{options:?}").contains("very-secret"));
        assert!(!greeting("http://x", &options.admin, hint).contains("very-secret"));
    }
}
