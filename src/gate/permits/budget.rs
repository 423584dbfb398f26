//! The retry budget: which part of the transfers re-attempts get while first attempts wait.

/// More credit than this is not saved up, so that re-attempts come one at a time.
const MAX_CREDIT: f64 = 2.0;

/// Each first attempt earns credit, and each re-attempt that goes before a waiting first attempt
/// costs 1.
pub(super) struct RetryBudget {
    earned_per_first: f64,
    credit: f64,
}

impl RetryBudget {
    /// `budget` is the part of all transfers, above 0 and at most 0.5.
    pub(super) fn new(budget: f64) -> Self {
        Self { earned_per_first: budget / (1.0 - budget), credit: 0.0 }
    }

    pub(super) fn on_first(&mut self) {
        self.credit = (self.credit + self.earned_per_first).min(MAX_CREDIT);
    }

    /// A re-attempt was granted while first attempts waited.
    pub(super) fn on_again(&mut self) {
        self.credit -= 1.0;
    }

    /// Whether a re-attempt may go before a waiting first attempt.
    pub(super) fn allows_again(&self) -> bool {
        // Four times 0.25 may be a hair below 1.
        self.credit > 1.0 - 1e-9
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn re_attempts_get_their_part_and_no_burst_after_a_time_without_them() {
        for (budget, expected) in [(0.2, 200), (0.05, 50), (0.5, 500)] {
            let mut retries = RetryBudget::new(budget);
            let mut again = 0;
            for _ in 0..1_000 {
                if retries.allows_again() {
                    retries.on_again();
                    again += 1;
                } else {
                    retries.on_first();
                }
            }
            assert!((expected - 2..=expected + 2).contains(&again), "{budget}: {again}");
        }
        let mut retries = RetryBudget::new(0.2);
        (0..1_000).for_each(|_| retries.on_first());
        let burst = std::iter::from_fn(|| retries.allows_again().then(|| retries.on_again()));
        assert_eq!(burst.count(), 2);
    }
}
