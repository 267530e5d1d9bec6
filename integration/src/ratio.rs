//! What two series of interleaved measurements say of each other: medians, and the ratio of the pairs with its spread.
//!
//! Pairs that were taken one right after the other share the machine's mood: their ratios stay comparable where the
//! times themselves do not. How sure the median ratio is, is asked of the pairs themselves (bootstrap), so that one
//! lucky run on a busy machine does not look like a result.

/// How often the pairs are drawn again.
const DRAWS: usize = 2000;

/// Two series, compared pair by pair.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Compared {
    /// Median of the first series.
    pub subject_median: f64,
    /// Median of the second.
    pub baseline_median: f64,
    /// Median of the pairs' ratios, first by second.
    pub ratio: f64,
    /// Lower end of the 95 % interval of that median.
    pub ratio_low: f64,
    /// Its upper end.
    pub ratio_high: f64,
    /// How many pairs.
    pub runs: usize,
}

impl Compared {
    /// Compares `(subject, baseline)` pairs; `None` where there is none, or a baseline is not positive.
    #[must_use]
    pub fn of(pairs: &[(f64, f64)]) -> Option<Self> {
        if pairs.is_empty() || pairs.iter().any(|(_, baseline)| *baseline <= 0.0) {
            return None;
        }
        let ratios: Vec<f64> = pairs.iter().map(|(subject, baseline)| subject / baseline).collect();
        let (ratio_low, ratio_high) = interval_of_median(&ratios);
        Some(Self {
            subject_median: median(pairs.iter().map(|pair| pair.0)),
            baseline_median: median(pairs.iter().map(|pair| pair.1)),
            ratio: median(ratios.iter().copied()),
            ratio_low,
            ratio_high,
            runs: pairs.len(),
        })
    }
}

/// The middle one, or the mean of the two in the middle; 0 of nothing.
#[must_use]
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// The 95 % bootstrap interval of the median: the values are drawn again and again, with a generator whose seed never
/// changes, so that the same measurements always say the same.
fn interval_of_median(values: &[f64]) -> (f64, f64) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    // Source: xorshift64*, Vigna 2016; the high bits are the good ones.
    let mut draw = || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        let high = state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        values[high as usize % values.len()]
    };
    let mut medians: Vec<f64> = (0..DRAWS).map(|_| median((0..values.len()).map(|_| draw()))).collect();
    medians.sort_by(f64::total_cmp);
    (medians[DRAWS / 40], medians[DRAWS - 1 - DRAWS / 40])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn median_is_the_middle_whatever_the_order() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 3.0, 2.0]), 2.5);
        assert_eq!(median([]), 0.0);
    }

    #[test]
    fn a_machine_that_slows_down_half_way_changes_no_ratio() {
        let pairs: Vec<(f64, f64)> =
            (0..20).map(|run| if run < 10 { (50.0, 100.0) } else { (150.0, 300.0) }).collect();
        let compared = Compared::of(&pairs).unwrap();
        assert_eq!((compared.ratio, compared.ratio_low, compared.ratio_high), (0.5, 0.5, 0.5));
        assert_eq!((compared.subject_median, compared.baseline_median, compared.runs), (100.0, 200.0, 20));
    }

    #[test]
    fn scattered_pairs_have_a_wide_interval_around_their_ratio_and_steady_ones_a_narrow_one() {
        let pairs = |spread: f64| -> Vec<(f64, f64)> {
            (0..21).map(|run| (60.0 + spread * f64::from(run - 10), 100.0)).collect()
        };
        let (steady, scattered) = (Compared::of(&pairs(0.1)).unwrap(), Compared::of(&pairs(4.0)).unwrap());
        for compared in [steady, scattered] {
            assert!(compared.ratio_low <= compared.ratio && compared.ratio <= compared.ratio_high);
            assert_eq!(compared.ratio, 0.6);
        }
        assert!(scattered.ratio_high - scattered.ratio_low > 10.0 * (steady.ratio_high - steady.ratio_low));
    }

    #[test]
    fn nothing_and_a_baseline_of_zero_are_no_comparison() {
        assert_eq!(Compared::of(&[]), None);
        assert_eq!(Compared::of(&[(1.0, 0.0)]), None);
    }
}
