//! The command line becomes one call, and its result an exit code.
//!
//! This file never does anything else.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser as _;
use handoff::commands::{Cli, say};

/// An event is a few hundred small allocations, made on one thread and freed on another: the
/// system's allocator spends a fifth of all time on them.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            say(&format!("handoff: failed to start: {error}"));
            return ExitCode::from(70);
        }
    };
    let result = runtime.block_on(cli.run(environment));
    // What still blocks a thread must not hold the process up.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            say(&format!("handoff: {}", failure.text()));
            failure.code()
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "this is where the environment enters")]
fn environment() -> Vec<(OsString, OsString)> {
    std::env::vars_os().collect()
}
