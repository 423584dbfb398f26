//! `handoff usersig`: prints a UserSig, for calling Desk by hand.
//!
//! The UserSig is a secret. It goes to standard output only, never to the log.

use std::path::Path;

use secrecy::ExposeSecret as _;

use super::values::whole;
use super::{Failure, load, print};
use crate::clock::Clock;
use crate::domain::usersig;

/// Arguments of `handoff usersig`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct UsersigArgs {
    /// Lifetime in hours (default: desk.signature_lifetime_h)
    #[arg(long, value_name = "HOURS", value_parser = whole::<u64>(1..=438_000))]
    lifetime: Option<u64>,
}

const AFTER_HELP: &str = "\
Identity and key come from the configuration ([desk] sdkappid, identifier, secret_key).
A UserSig is a secret: it gives the rights of the administrator until it expires.

Query the state of a session by hand:
  curl -s \"https://console.tim.qq.com/v4/desk_http_svc/get_session_state?sdkappid=$SDKAPPID\\
&identifier=$ADMIN&usersig=$(handoff usersig --lifetime 24)&random=$RANDOM&contenttype=json\" \\
    -H 'Content-Type: application/json' -d '{\"SessionId\":\"fd8a2e30-...\"}'";

/// Prints a UserSig.
pub(crate) async fn run(
    args: &UsersigArgs,
    file: Option<&Path>,
    env: Vec<(String, String)>,
) -> Result<(), Failure> {
    let desk = load(file, env)?.desk;
    let key = desk.key.read().await.map_err(Failure::Configuration)?;
    let lifetime = args.lifetime.map_or(desk.signature_lifetime.as_secs(), |hours| hours * 3600);
    let signature =
        usersig::sign(&desk.identity, &key, Clock::system().now().as_second(), lifetime);
    print(format!("{}\n", signature.expose_secret()).as_bytes())
}
