//! `handoff events retry` and `give-up`: an operator's change to one entry.
//!
//! The command stores what the operator wants, and the event's owner does it: it alone may call Desk
//! and publish. What is stored survives a crash of either.

use super::no_entry;
use crate::adapters::ledger::{LedgerOperator, LedgerUrl, Operation};
use crate::clock::Clock;
use crate::commands::Failure;
use crate::commands::lines::{StdoutLines, sanitize};
use crate::domain::ledger_entry::{OperatorAct, operator_words, parse_operator_line};

/// Makes the change, and says what happens next.
pub(super) async fn perform(
    id: &str,
    act: &OperatorAct,
    by: String,
    url: &LedgerUrl,
) -> Result<(), Failure> {
    let done = LedgerOperator::perform_on(url, id, act, by.into(), Clock::system().now());
    let Some(Operation { before, result, .. }) = done.await.map_err(Failure::Unavailable)? else {
        return Err(no_entry(id, url));
    };
    match operator_words(act, &before, &result) {
        Ok(text) => StdoutLines::new().put(&format!("{}: {text}", sanitize(id))),
        Err(text) => Err(Failure::Findings(format!("{}: {text}", sanitize(id)))),
    }
}

/// The operator's name where none is given.
pub(super) fn user_name(env: &[(String, String)]) -> String {
    let names = ["SUDO_USER", "USER", "LOGNAME"].into_iter();
    let mut found = names.filter_map(|wanted| env.iter().find(|(name, _)| name == wanted));
    let name = found.next().and_then(|(_, name)| parse_operator_line(name).ok());
    name.unwrap_or_else(|| "an operator".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_is_named_where_the_environment_has_one() {
        let env = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
        };
        assert_eq!(user_name(&env(&[("USER", "root"), ("SUDO_USER", "ann")])), "ann");
        assert_eq!(user_name(&env(&[("LOGNAME", "bob")])), "bob");
        assert_eq!(user_name(&env(&[("USER", "")])), "an operator");
    }
}
