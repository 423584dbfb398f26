//! `handoff health`: asks the admin port of the service that runs with this configuration, for
//! containers that have no shell and no HTTP client.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::admin_address::on_this_host;
use super::{Failure, load_for_tools, print};

/// The limit for the whole request.
const LIMIT: Duration = Duration::from_secs(5);
/// More than the longest answer of a probe.
const MAX_ANSWER: u64 = 65_536;

const AFTER_HELP: &str = "\
It asks the address of admin.listen, on this host. As the health check of a container:
  HEALTHCHECK CMD [\"handoff\", \"health\"]

Exit codes: 0 yes, 1 no (also: nobody answers), 78 bad configuration.";

/// Ask the running service whether it makes progress, or whether events can be answered
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct HealthArgs {
    /// Ask whether events can be answered (/ready). A restart does not help where they cannot.
    /// Without it: whether the service makes progress (/health). A restart helps where it does not.
    #[arg(long)]
    ready: bool,
}

/// Prints one sentence; what the service lacks is a finding.
pub(crate) async fn run(
    args: HealthArgs,
    file: Option<&Path>,
    env: Vec<(String, String)>,
) -> Result<(), Failure> {
    let listen = load_for_tools(file, env)?.admin_listen;
    let no_port = || Failure::Configuration(anyhow!("admin.listen is empty: nobody can be asked"));
    let address = on_this_host(listen.ok_or_else(no_port)?);
    let (path, yes, no) = if args.ready {
        ("/ready", "ready: events can be answered", "not ready")
    } else {
        ("/health", "healthy: the service makes progress", "not healthy")
    };
    let answer = timeout(LIMIT, ask(address, path)).await;
    let answer = answer.unwrap_or_else(|_| Err(anyhow!("no answer for {} s", LIMIT.as_secs())));
    match answer.with_context(|| format!("{address} does not answer")) {
        Ok(ProbeAnswer { status: 200, .. }) => print(format!("{yes}\n").as_bytes()),
        Ok(ProbeAnswer { text, .. }) => Err(Failure::Findings(format!("{no}: {text}"))),
        Err(error) => Err(Failure::Findings(format!("{no}: {error:#}"))),
    }
}

struct ProbeAnswer {
    status: u16,
    /// The body in one line.
    text: String,
}

/// A request of HTTP/1.0, so that the answer is plain and ends with the connection.
async fn ask(address: SocketAddr, path: &str) -> anyhow::Result<ProbeAnswer> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer).await?;
    parsed(&String::from_utf8_lossy(&answer)).context("what answers is not HTTP")
}

fn parsed(answer: &str) -> Option<ProbeAnswer> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let mut words = head.split(' ');
    let status = words.next()?.starts_with("HTTP/1.").then(|| words.next()?.parse().ok());
    let text = body.split_whitespace().collect::<Vec<_>>().join(" ");
    Some(ProbeAnswer { status: status.flatten()?, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_status_and_text() {
        let answer = parsed("HTTP/1.0 503 Service Unavailable\r\na: b\r\n\r\nno\nbroker\n");
        let answer = answer.map(|answer| (answer.status, answer.text));
        assert_eq!(answer, Some((503, "no broker".to_owned())));
        for other in ["", "SSH-2.0-x\r\n\r\n", "HTTP/1.0 OK\r\n\r\n", "HTTP/1.0 200 OK\r\n"] {
            assert!(parsed(other).is_none(), "{other:?}");
        }
    }
}
