//! What supervisors see of a service that waits for Kafka: `handoff health`, and the messages to
//! systemd. No broker is needed.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use handoff::sim::desk::DEMO_KEY;

use crate::support::worker::free_port;

/// Longest wait for anything.
const LIMIT: Duration = Duration::from_secs(60);

/// A command in the environment of a service for which no broker answers.
fn handoff(folder: &Path, listen: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_handoff"));
    let ledger = format!("sqlite://{}", folder.join("ledger.db").display());
    let variables = [
        ("KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1"),
        ("DESK__ENDPOINT", "http://127.0.0.1:1"),
        ("DESK__SDKAPPID", "1400000000"),
        ("DESK__IDENTIFIER", "administrator"),
        ("DESK__SECRET_KEY", DEMO_KEY),
        ("LEDGER__URL", &ledger),
        ("ADMIN__LISTEN", listen),
    ];
    let variables = variables.map(|(key, value)| (format!("HANDOFF__{key}"), value));
    command.env_clear().envs(variables).stdin(Stdio::null());
    command
}

/// The exit code, and everything that is printed.
fn ask(folder: &Path, listen: &str, options: &[&str]) -> (Option<i32>, String) {
    let output = handoff(folder, listen).arg("health").args(options).output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    (output.status.code(), text)
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        self.0.kill().unwrap_or_default();
        drop(self.0.wait());
    }
}

#[test]
fn health_and_systemd_tell_progress_from_readiness() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let socket = folder.join("notify");
    let systemd = UnixDatagram::bind(&socket).unwrap();
    systemd.set_read_timeout(Some(LIMIT)).unwrap();
    let listen = format!("127.0.0.1:{}", free_port());
    let (code, text) = ask(folder, &listen, &[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains(&format!("not healthy: {listen} does not answer")), "{text}");

    let mut service = handoff(folder, &listen);
    service.arg("run").env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "1000000");
    let mut service = Running(service.stderr(Stdio::null()).spawn().unwrap());
    let until = |wanted: &str| {
        let mut seen = String::new();
        while !seen.contains(wanted) {
            let mut message = [0; 4096];
            match systemd.recv(&mut message) {
                Ok(length) => seen += &String::from_utf8_lossy(&message[..length]),
                // This process, or its whole machine, was paused meanwhile.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("{error}: no {wanted:?} in:\n{seen}"),
            }
        }
        seen
    };
    let started = until("STATUS=not ready: ");
    assert!(started.starts_with("READY=1\n"), "waiting for Kafka is no failed start: {started}");
    until("WATCHDOG=1\n");
    let healthy = "healthy: the service makes progress\n".to_owned();
    assert_eq!(ask(folder, &listen, &[]), (Some(0), healthy));
    let (code, text) = ask(folder, &listen, &["--ready"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.starts_with("handoff: not ready: "), "{text}");

    let pid = service.0.id().to_string();
    assert!(Command::new("kill").args(["-s", "TERM", &pid]).status().unwrap().success());
    until("STOPPING=1\nSTATUS=draining\n");
    assert!(service.0.wait().unwrap().success());

    let (code, text) = ask(folder, "", &[]);
    assert_eq!((code, text.contains("admin.listen is empty")), (Some(78), true), "{text}");
}
