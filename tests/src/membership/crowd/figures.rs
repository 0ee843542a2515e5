//! What a number of runs says.
//!
//! Here: [`Figure`].

use core::fmt;

/// One measured quantity over many seeds.
#[derive(Clone, Debug)]
pub struct Figure {
    sorted: Vec<f64>,
}

impl Figure {
    /// Of one value per seed; infinite where the run did not come to an end.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_unstable_by(f64::total_cmp);
        Self { sorted }
    }

    /// The smallest value that at least `percent` of the runs do not exceed.
    pub fn percentile(&self, percent: usize) -> f64 {
        let rank = (self.sorted.len() * percent).div_ceil(100).max(1);
        self.sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
    }

    /// Of all runs together.
    pub fn sum(&self) -> f64 {
        self.sorted.iter().sum()
    }

    /// The largest.
    pub fn worst(&self) -> f64 {
        self.percentile(100)
    }

    /// Number of runs.
    pub fn runs(&self) -> usize {
        self.sorted.len()
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tell = |value: f64| match value.is_finite() {
            true => format!("{value:.1}"),
            false => "never".to_owned(),
        };
        write!(
            f,
            "{} / {}",
            tell(self.percentile(50)),
            tell(self.percentile(99))
        )
    }
}

#[cfg(test)]
mod tests {
    use super::Figure;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        // With 200 runs the p99 leaves two of them above it, with 3 none.
        let figure = Figure::of((1..=200).rev().map(f64::from));
        assert_eq!(
            (figure.percentile(50), figure.percentile(99), figure.worst()),
            (100.0, 198.0, 200.0)
        );
        let figure = Figure::of([3.0, f64::INFINITY, 1.0]);
        assert_eq!(figure.to_string(), "3.0 / never");
    }
}
