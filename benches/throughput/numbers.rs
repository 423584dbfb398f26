//! A few numbers about many. Nothing here rounds before the report does.

/// The value below which this part of the others lies; the values must be sorted.
pub(crate) fn quantile(sorted: &[f64], part: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    let place = (part * last as f64).round() as usize;
    sorted.get(place.min(last)).copied().unwrap_or(f64::NAN)
}

/// Sorted.
pub(crate) fn sorted(values: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values
}

/// Least, median, most.
pub(crate) fn range(values: impl IntoIterator<Item = f64>) -> (f64, f64, f64) {
    let values = sorted(values);
    (quantile(&values, 0.0), quantile(&values, 0.5), quantile(&values, 1.0))
}
