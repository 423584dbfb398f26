//! A part of the transfers for those that are not next by age: re-attempts while first attempts wait
//! (`retry.budget`), and the newest first attempts while the oldest wait for long.

/// More credit than this is not saved up, so that those with a budget come one at a time.
const MAX_CREDIT: f64 = 2.0;

/// Each transfer that is next by age earns credit, and each one that goes before it costs 1.
pub(super) struct TransferBudget {
    earned_per_transfer: f64,
    credit: f64,
}

impl TransferBudget {
    /// `part` of all transfers, above 0 and at most 0.5.
    pub(super) fn new(part: f64) -> Self {
        Self { earned_per_transfer: part / (1.0 - part), credit: 0.0 }
    }

    pub(super) fn earn(&mut self) {
        self.credit = (self.credit + self.earned_per_transfer).min(MAX_CREDIT);
    }

    pub(super) fn spend(&mut self) {
        self.credit -= 1.0;
    }

    /// Whether one may go before those that are next.
    pub(super) fn allows_one(&self) -> bool {
        // Four times 0.25 may be a hair below 1.
        self.credit > 1.0 - 1e-9
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_kept_and_brings_no_burst_after_a_time_without_use() {
        for (budget, expected) in [(0.2, 200), (0.05, 50), (0.5, 500)] {
            let mut budgeted = TransferBudget::new(budget);
            let mut spent = 0;
            for _ in 0..1_000 {
                if budgeted.allows_one() {
                    budgeted.spend();
                    spent += 1;
                } else {
                    budgeted.earn();
                }
            }
            assert!((expected - 2..=expected + 2).contains(&spent), "{budget}: {spent}");
        }
        let mut budgeted = TransferBudget::new(0.2);
        (0..1_000).for_each(|_| budgeted.earn());
        let burst = std::iter::from_fn(|| budgeted.allows_one().then(|| budgeted.spend()));
        assert_eq!(burst.count(), 2);
    }
}
