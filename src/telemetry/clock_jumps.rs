//! Jumps of the system's clock, set by hand or by NTP, or after a virtual machine was suspended.
//!
//! Deadlines and the times of parked events are times of that clock. The service cannot know which of
//! the two times is right, but the log can say why events expire all at once, or wait.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, sleep};
use tracing::warn;

use crate::clock::Clock;

const INTERVAL: Duration = Duration::from_secs(1);
/// NTP slews the clock where the difference is small.
const TOLERANCE: Duration = Duration::from_secs(5);

/// Compare the clock with the monotonic one, for ever.
pub async fn watch_clock(clock: Clock) {
    let mut last = (clock.now(), Instant::now());
    loop {
        sleep(INTERVAL).await;
        let now = (clock.now(), Instant::now());
        if let Some(by_s) = jump_s(now.0, last.0 + (now.1 - last.1)) {
            warn!(by_s, "system clock jumped");
        }
        last = now;
    }
}

/// By how many seconds the clock differs from the time that was expected, if that is a jump.
fn jump_s(now: Timestamp, expected: Timestamp) -> Option<i64> {
    let jump = now.duration_since(expected);
    (jump.unsigned_abs() > TOLERANCE).then_some(jump.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_has_a_size_and_a_direction() {
        let expected: Timestamp = "2026-11-29T12:00:00Z".parse().unwrap();
        assert_eq!(jump_s(expected + Duration::from_secs(5), expected), None);
        assert_eq!(jump_s(expected + Duration::from_secs(3600), expected), Some(3600));
        assert_eq!(jump_s(expected - Duration::from_secs(86_400), expected), Some(-86_400));
    }
}
