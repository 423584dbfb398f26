//! `main` maps the command line to one call and its result to an exit code.

use std::ffi::OsString;
use std::process::ExitCode;

use handoff::commands::{Cli, Failure, as_failure, print_error};
use handoff::telemetry::within_a_second;

// An event is a few hundred small allocations, made on one thread and freed on another. With the
// system's allocator they take a fifth of the processor time.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The exit code for a bug, as in sysexits.h; `commands` documents the others.
const EX_SOFTWARE: u8 = 70;

fn main() -> ExitCode {
    let cli = match Cli::parse_from_args(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => return print_usage(&error),
    };
    let is_service = cli.is_service();
    match cli.run(environment) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if is_service => {
            // A supervisor starts the service again only if it ends, also where nobody reads why.
            let code = failure.code();
            within_a_second(move || print_failure(&failure));
            code
        }
        Err(failure) => fail(&failure),
    }
}

fn fail(failure: &Failure) -> ExitCode {
    print_failure(failure);
    failure.code()
}

fn print_failure(failure: &Failure) {
    print_error(&format!("handoff: {}", failure.text()));
}

/// Prints the help or the version to standard output, or an error of the command line.
fn print_usage(error: &clap::Error) -> ExitCode {
    match as_failure(error.print()) {
        // A closed standard error leaves nowhere to report anything.
        Err(failure) if !error.use_stderr() => fail(&failure),
        _ => ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(EX_SOFTWARE)),
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
fn environment() -> Vec<(OsString, OsString)> {
    std::env::vars_os().collect()
}
