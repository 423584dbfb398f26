//! Durations in milliseconds, counted in buckets: bounded, and exact enough for people.

/// Buckets per doubling: a percentile is at most 1/16 too high.
const PER_DOUBLING: u64 = 16;
/// The buckets up to 2^25 ms, nine hours.
const BUCKETS: usize = 352;
const MAX_MS: u64 = (1 << 25) - 1;

/// How often each duration occurred.
#[derive(Debug, Clone)]
pub(super) struct MillisHistogram {
    counts: Box<[u32; BUCKETS]>,
}

impl Default for MillisHistogram {
    fn default() -> Self {
        Self { counts: Box::new([0; BUCKETS]) }
    }
}

impl MillisHistogram {
    pub(super) fn observe(&mut self, millis: u64) {
        let count = &mut self.counts[bucket_of(millis)];
        *count = count.saturating_add(1);
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts.iter()) {
            *count = count.saturating_add(*more);
        }
    }

    /// The duration that this part (0 to 1) of the observations does not exceed; `None` without any.
    pub(super) fn percentile(&self, part: f64) -> Option<u64> {
        let total: u64 = self.counts.iter().map(|count| u64::from(*count)).sum();
        let rank = ((total as f64 * part).ceil() as u64).max(1);
        let mut seen = 0;
        let reached = |count: &u32| {
            seen += u64::from(*count);
            seen >= rank
        };
        self.counts.iter().position(reached).map(highest_in)
    }
}

fn bucket_of(millis: u64) -> usize {
    let millis = millis.min(MAX_MS);
    if millis < PER_DOUBLING {
        return millis as usize;
    }
    // At least 4: 16 has the bit number 4.
    let doubling = u64::from(millis.ilog2());
    let part = (millis >> (doubling - 4)) & (PER_DOUBLING - 1);
    ((doubling - 3) * PER_DOUBLING + part) as usize
}

fn highest_in(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < PER_DOUBLING {
        return bucket;
    }
    let (doubling, part) = (bucket / PER_DOUBLING + 3, bucket % PER_DOUBLING);
    ((PER_DOUBLING + part + 1) << (doubling - 4)) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_what_is_at_most_a_sixteenth_below_its_end() {
        for millis in (0..5_000).chain([600_000, 12_345_678, MAX_MS]) {
            let highest = highest_in(bucket_of(millis));
            assert!(millis <= highest && highest - millis <= millis / 16, "{millis}: {highest}");
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_are_taken_from_all_observations() {
        let mut histogram = MillisHistogram::default();
        assert_eq!(histogram.percentile(0.5), None);
        (1..=10).for_each(|millis| histogram.observe(millis));
        assert_eq!(histogram.percentile(0.5), Some(5));
        assert_eq!(histogram.percentile(0.99), Some(10));
        let mut sum = MillisHistogram::default();
        sum.add(&histogram);
        sum.observe(0);
        assert_eq!(sum.percentile(0.01), Some(0));
    }
}
