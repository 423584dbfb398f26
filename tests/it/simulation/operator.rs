//! An operator who retries and gives up events at random times, while everything else fails too.
//!
//! An event that was given up before its last claim is not transferred any more, and its outcome says
//! who gave it up, unless Desk's answer says more.

use std::sync::Arc;
use std::time::Duration;

use handoff::domain::ledger_entry::{HistoryKind, LedgerEntry, OperatorAct, OperatorResult};
use handoff::domain::wire::Channel;
use handoff::domain::wire::outcome::OutcomeRecord;
use tokio::time::sleep;

use super::world::{SimProcess, SimWorld};

const OPERATOR: &str = "ann";

/// Acts in half of the worlds, until the faults are over.
pub(super) async fn run(world: Arc<SimWorld>) {
    if world.schedule.seed.is_multiple_of(2) {
        return;
    }
    let ledger = world.ledger.as_owner(OPERATOR);
    while !world.faults_are_over() {
        sleep(world.ms(100, 4_000)).await;
        let mut entries = ledger.entries();
        entries.retain(|(_, entry)| !entry.is_settled());
        if entries.is_empty() {
            continue;
        }
        let (key, _) = entries.swap_remove(world.rng(|rng| rng.usize(0..entries.len())));
        let act = if world.one_in(2) {
            OperatorAct::Retry
        } else {
            OperatorAct::GiveUp { reason: "enough".into() }
        };
        let stored = matches!(ledger.operate(&key, &act), Some(OperatorResult::Stored(_)));
        world.log(|| format!("{OPERATOR}: {act:?} {key}, stored {stored}"));
    }
    // The owner looks for what the operator did.
    sleep(Duration::from_secs(1)).await;
}

/// The instance that claimed the entry after it was given up.
fn claimed_after(entry: &LedgerEntry) -> Option<&str> {
    let given_up = entry.history.iter().position(|item| item.kind == HistoryKind::GivenUp)?;
    let mut after = entry.history[given_up..].iter().rev();
    after.find(|item| item.kind == HistoryKind::Claimed).map(|item| &*item.owner)
}

/// A transfer reaches Desk for this entry.
pub(super) fn check_transfer(process: &SimProcess, number: u64, entry: &LedgerEntry) {
    if claimed_after(entry) == Some(&process.name) {
        let name = &process.name;
        process.world.violation(format!("{name} transfers {number}, which was given up"));
    }
}

/// At the end: what became of the events that were given up.
pub(super) fn check_end(world: &SimWorld) {
    for (key, entry) in world.ledger.entries() {
        let Some(answer) = entry.answer.as_ref().filter(|_| claimed_after(&entry).is_some()) else {
            continue;
        };
        if answer.channel == Channel::DeadLetters {
            continue;
        }
        let outcome = OutcomeRecord::parse(answer.value.as_deref().unwrap_or_default()).unwrap();
        let reason = outcome.reason.unwrap_or_default();
        let says_so = outcome.status == "failed" && reason.starts_with("given up by ann: enough");
        if !says_so && !matches!(outcome.status.as_str(), "assigned" | "queued" | "rejected") {
            let status = outcome.status;
            world.violation(format!("{key} was given up, and is {status}: {reason}"));
        }
    }
}
