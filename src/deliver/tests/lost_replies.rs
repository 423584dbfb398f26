//! Whether a call without a reply counts against Desk: not if its process was paused meanwhile.

use super::*;

/// Whether the reply to this call is lost; takes as long as the call.
pub(super) async fn is_lost(process: &ProcessUnderTest) -> bool {
    let fault = *process.fault.lock();
    match fault {
        PortFault::PauseDuringCall => process.pause_if(fault).await,
        PortFault::ShortPauseDuringCall => {
            tokio::time::advance(Duration::from_secs(3)).await;
            process.lease.renew();
        }
        PortFault::SilentDesk => {
            for _ in 0..3 {
                tokio::time::advance(Duration::from_secs(1)).await;
                process.lease.renew();
            }
        }
        _ => return false,
    }
    *process.fault.lock() = PortFault::None;
    true
}

#[tokio::test(start_paused = true)]
async fn a_time_out_during_a_pause_of_the_process_does_not_count_against_desk() {
    let start = Instant::now();
    let counts = answered(PortFault::PauseDuringCall).await;
    assert_eq!(counts, PortUses { claims: 2, calls: 2, published: 1 });
    assert!(start.elapsed() < HOUR, "the gate was shut");
}

#[tokio::test(start_paused = true)]
async fn a_time_out_at_the_end_of_a_short_pause_does_not_count_against_desk() {
    let start = Instant::now();
    let counts = answered(PortFault::ShortPauseDuringCall).await;
    assert_eq!(counts, PortUses { claims: 1, calls: 2, published: 1 });
    assert!(start.elapsed() < HOUR, "the gate was shut");
}

#[tokio::test(start_paused = true)]
async fn a_time_out_of_a_process_that_runs_counts_against_desk() {
    let delivered = tokio::time::timeout(HOUR / 2, answered(PortFault::SilentDesk)).await;
    assert!(delivered.is_err(), "the gate was not shut");
}
