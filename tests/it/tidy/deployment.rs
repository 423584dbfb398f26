//! What is deployed against the code: the files that the image's build reads, and the time that a stop
//! may take.

use std::path::{Component, Path, PathBuf};

use super::structure::without_unit_tests;
use super::{assert_none, file, files, rust_sources};

/// `.dockerignore` leaves out everything but a few folders, and `include_str!` of another one breaks
/// the build of the image only, which no other test does.
#[test]
fn the_image_is_built_from_all_files_that_the_code_includes() {
    let ignored = file(".dockerignore");
    let allowed: Vec<_> = ignored.lines().filter_map(|line| line.strip_prefix('!')).collect();
    assert!(allowed.contains(&"src"), ".dockerignore is read");
    let mut found = 0;
    let mut faults = Vec::new();
    let sources = rust_sources(&["src", "benches"]);
    for source in sources.iter().filter(|source| !source.is_test()) {
        let text = without_unit_tests(&source.text);
        for mark in ["include_str!(\"", "include_bytes!(\""] {
            for (at, _) in text.match_indices(mark) {
                let name = text[at + mark.len()..].split('"').next().unwrap_or_default();
                let path = normal(&Path::new(&source.path).with_file_name("").join(name));
                found += 1;
                if !allowed.iter().any(|allowed| path.starts_with(allowed)) {
                    faults.push(format!("{}: .dockerignore lacks {}", source.path, path.display()));
                }
            }
        }
    }
    assert!(found > 3, "the included files are found");
    assert_none(faults);
}

/// Without `..`.
fn normal(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut path, component| {
        match component {
            Component::ParentDir => drop(path.pop()),
            other => path.push(other),
        }
        path
    })
}

#[test]
fn each_supervisor_gives_a_stop_its_time() {
    let defaults: toml::Table = file("config/default.toml").parse().unwrap();
    let drain_ms = defaults["drain"]["timeout_ms"].as_integer().unwrap();
    // ARCHITECTURE.md: the process ends 4 s after the drain, whatever is down.
    let needed = drain_ms / 1000 + 5;
    let keys = ["terminationGracePeriodSeconds: ", "stop_grace_period: ", "TimeoutStopSec="];
    let (mut found, mut faults) = (0, Vec::new());
    for source in files(&["deploy", "docker-compose.yml"]) {
        for (number, line) in (1..).zip(source.text.lines()) {
            let value = keys.iter().find_map(|key| line.trim().strip_prefix(key));
            let Some(value) = value.filter(|value| !value.starts_with('{')) else { continue };
            found += 1;
            let seconds = value.trim_end_matches('s').parse::<i64>();
            if !seconds.is_ok_and(|seconds| seconds >= needed) {
                faults.push(format!("{}:{number}: {line}: at least {needed} s", source.path));
            }
        }
    }
    assert!(found >= 5, "the grace periods are found");
    assert_none(faults);
}

#[test]
fn chart_and_manifests_name_this_version() {
    let version = env!("CARGO_PKG_VERSION");
    let chart = file("deploy/helm/handoff/Chart.yaml");
    for key in ["version", "appVersion"] {
        assert!(chart.contains(&format!("\n{key}: {version}\n")), "{key} of the chart");
    }
    let images: Vec<_> = files(&["deploy/kubernetes"])
        .iter()
        .flat_map(|source| source.text.lines().map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|line| line.trim().strip_prefix("image: ").map(str::to_owned))
        .collect();
    assert_eq!(images, vec![format!("registry.example.com/handoff:{version}"); 2]);
}
