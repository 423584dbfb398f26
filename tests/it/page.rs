//! The live page in Debian's Chromium. `scripts/setup` installs the browser; npm fetches what
//! `tests/page/` names into `target/tmp`, once.

use std::path::{Path, PathBuf};

use handoff::sim::desk::{DEMO_KEY, SimulatedDeskSettings};
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::support::outcome_schema::{document, validator};
use crate::support::programs::{command, copied, must_run, output};
use crate::support::worker::{World, escalation, free_port};

/// All that a browser loads, in bytes.
const MAX_PAGE_BYTES: u64 = 60 * 1024;

fn repository(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path).display().to_string()
}

/// The programs of `tests/page/`, with the packages that they need.
async fn programs() -> &'static Path {
    // Once for all tests: npm begins with removing what is there.
    static FOLDER: OnceCell<PathBuf> = OnceCell::const_new();
    let install = async || {
        let folder = copied("tests/page");
        must_run("npm", &["ci", "--no-audit", "--no-fund"], &folder).await;
        folder
    };
    FOLDER.get_or_init(install).await
}

#[test]
fn the_page_is_small() {
    let files = ["index.html", "page.css", "page.js"];
    let folder = repository("src/adapters/admin/page");
    let sizes =
        files.map(|file| std::fs::metadata(Path::new(&folder).join(file)).expect("a file").len());
    assert!(sizes.iter().sum::<u64>() < MAX_PAGE_BYTES, "{sizes:?}");
}

/// What the page is given are the samples of `/status`, changed into each state that an operator may
/// see, and valid for the schema.
#[tokio::test]
async fn the_page_shows_every_state_and_obeys_the_keyboard() {
    let folder = programs().await;
    let samples = repository("tests/fixtures/status");
    must_run("node", &["states.mjs", &samples, "documents"], folder).await;
    let read = |file: &str| std::fs::read_to_string(folder.join("documents").join(file)).unwrap();
    let schema = validator(&document("status.schema.json"));
    for name in read("states.txt").lines() {
        let status: Value = serde_json::from_str(&read(&format!("{name}.json"))).unwrap();
        let errors: Vec<_> = schema.iter_errors(&status).map(|error| error.to_string()).collect();
        assert_eq!(errors, [""; 0], "{name}");
    }
    let page = repository("src/adapters/admin/page");
    let checks = command("node", &["check.mjs", "documents", &page], folder);
    print!("{}", output(checks).await);
}

/// Three escalations that wait for a wrong key to be repaired, and then do not.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_of_a_running_service_follows_an_outage() {
    let folder = programs().await;
    let mut world = World::new("page", 2, SimulatedDeskSettings::default()).await;
    let secrets = tempfile::tempdir().unwrap();
    let secret = |name: &str, text: &str| {
        std::fs::write(secrets.path().join(name), text).unwrap();
        secrets.path().join(name).display().to_string()
    };
    let port = free_port();
    world.set("ADMIN__LISTEN", &format!("127.0.0.1:{port}"));
    world.set("ADMIN__TOKEN_FILE", &secret("token", "secret\n"));
    world
        .set("DESK__SECRET_KEY", "")
        .set("DESK__SECRET_KEY_FILE", &secret("key", "of-another-app"));
    world.set("DESK__PROBE_INITIAL_MS", "300").set("DESK__PROBE_MAX_MS", "600");
    let worker = world.process();
    let ids = ["e-1", "e-2", "<script>document.title='stolen'</script>"];
    world.publish(ids.map(|id| escalation(id, &format!("session of {id}")))).await;
    let url = format!("http://127.0.0.1:{port}/");
    must_run("node", &["live.mjs", &url, "trouble"], folder).await;
    secret("key", DEMO_KEY);
    world.outcomes(ids.len()).await;
    must_run("node", &["live.mjs", &url, "well"], folder).await;
    worker.terminate().await;
}
