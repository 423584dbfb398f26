//! Warnings: they are logged at the start, and `check` shows them.

use std::time::Duration;

use super::{Config, input};

/// Legal values that are probably a mistake.
pub(super) fn of(config: &Config) -> Vec<String> {
    let (timeout, drain) = (config.desk.timeout.as_millis(), config.drain_timeout.as_millis());
    let (calls, events) = (config.concurrency, config.intake.max_events);
    let mut warnings = vec![];
    // Desk answers within 3 s or not at all; the fourth second is for the network.
    if timeout < 4_000 {
        warnings.push(format!(
            "`desk.timeout_ms` = {timeout} is short: Desk itself may take 3 s, and after each call \
             that is given up the session state is queried; 4000 or more is better"
        ));
    }
    if drain < timeout {
        warnings.push(format!(
            "`drain.timeout_ms` = {drain} is below `desk.timeout_ms` = {timeout}: a stop may cut \
             off a call whose effect is then unknown"
        ));
    }
    let (lives, hour) = (config.rules.time_to_live, Duration::from_secs(3_600));
    if let Some(route) = config.policy.routes.parking_names().next().filter(|_| lives < hour) {
        let seconds = lives.as_secs();
        warnings.push(format!(
            "the route {route:?} parks until it opens, but `escalation.time_to_live_s` = {seconds}: \
             events without `expires_at` are answered at once if it opens later than that"
        ));
    }
    warnings.extend(input::warning(&config.rules.input));
    if let Some(address) = config.admin_listen
        && !address.ip().is_loopback()
        && config.admin.token_file.is_none()
    {
        warnings.push(format!(
            "`admin.listen` = {address} is not a loopback address, and `admin.token_file` is not \
             set: only /health, /ready and /metrics are answered there"
        ));
    }
    if events < calls {
        warnings.push(format!(
            "`intake.max_events` = {events} is below `desk.concurrency` = {calls}: at most \
             {events} calls run at once"
        ));
    }
    warnings
}
