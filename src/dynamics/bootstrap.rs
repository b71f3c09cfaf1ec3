//! The bootstrap over images (Efron 1982; Efron and Tibshirani 1993): a statistic is computed again with every image counted as
//! often as it was drawn, in each of R replicates. Groups, `t_stable` and window stay those of the full sample.

use crate::parallel;

/// How a statistic varies over the replicates in which it is defined.
#[derive(Clone, Debug, PartialEq)]
pub struct Spread {
    /// Replicates in which it is defined.
    pub defined: u64,
    /// Standard deviation, with the divisor n - 1; none below two replicates.
    pub se: Option<f64>,
    /// Percentile interval; none below two replicates.
    pub interval: [Option<f64>; 2],
}

/// The spread of replicates, with an interval of coverage `level`.
pub fn spread(replicates: impl IntoIterator<Item = Option<f64>>, level: f64) -> Spread {
    let mut values: Vec<f64> = replicates.into_iter().flatten().collect();
    let defined = values.len() as u64;
    if values.len() < 2 {
        return Spread { defined, se: None, interval: [None; 2] };
    }
    values.sort_by(f64::total_cmp);
    let tail = (1.0 - level) / 2.0;
    let interval = [tail, 1.0 - tail].map(|q| Some(quantile(&values, q)));
    Spread { defined, se: variance(&values).map(f64::sqrt), interval }
}

/// The quantile q of ascending values: at (n - 1) q, linear between neighbours.
fn quantile(ascending: &[f64], q: f64) -> f64 {
    let place = (ascending.len() - 1) as f64 * q;
    let below = ascending[place.floor() as usize];
    below + (ascending[place.ceil() as usize] - below) * place.fract()
}

/// Variance with the divisor n - 1; exactly 0 for equal values, which rounding of the mean would hide; none below two values.
pub fn variance(values: &[f64]) -> Option<f64> {
    let &first = values.first().filter(|_| values.len() > 1)?;
    if values.iter().all(|&value| value == first) {
        return Some(0.0);
    }
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    Some(values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0))
}

/// The result of `of` for each replicate's counts, on all cores.
pub fn replicate<V: Send>(replicates: &[Vec<u8>], of: impl Fn(&[u8]) -> V + Sync) -> Vec<V> {
    parallel::each(replicates, |_, counts| of(counts))
}

/// Rows of numbers for some images, in classes of images whose sums are wanted apart.
///
/// The sum over a class is one multiply-add per number and drawn image, along the row: the loop that takes the time.
pub struct Rows {
    columns: usize,
    /// For each row its image and class.
    members: Vec<(usize, usize)>,
    /// \[rows\]\[columns\]
    numbers: Vec<f64>,
    classes: usize,
}

impl Rows {
    /// Nothing yet, for rows of `columns` numbers in `classes` classes.
    pub fn new(columns: usize, classes: usize) -> Rows {
        Rows { columns, members: Vec::new(), numbers: Vec::new(), classes }
    }

    /// Adds the row of an image.
    pub fn push(&mut self, image: usize, class: usize, row: impl IntoIterator<Item = f64>) {
        self.members.push((image, class));
        self.numbers.extend(row);
        debug_assert_eq!(self.numbers.len(), self.members.len() * self.columns);
    }

    /// \[classes\]\[columns\] Sums of count x row.
    pub fn sums(&self, counts: &[u8]) -> Vec<f64> {
        let mut sums = vec![0.0; self.classes * self.columns];
        for (&(image, class), row) in self.members.iter().zip(self.numbers.chunks_exact(self.columns.max(1))) {
            if counts[image] > 0 {
                let count = f64::from(counts[image]);
                let sums = &mut sums[class * self.columns..][..self.columns];
                sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += count * x);
            }
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_neighbours() {
        let found = spread([4.0, 1.0, 3.0, 2.0].map(Some).into_iter().chain([None]), 0.5);
        assert_eq!((found.defined, found.interval), (4, [Some(1.75), Some(3.25)]));
        assert!((found.se.unwrap() - (5.0_f64 / 3.0).sqrt()).abs() < 1e-15);
        assert_eq!(spread([Some(1.0), None], 0.95), Spread { defined: 1, se: None, interval: [None; 2] });
    }

    #[test]
    fn equal_values_do_not_vary() {
        assert_eq!(variance(&[0.1; 7]), Some(0.0));
        assert_eq!(variance(&[0.1]), None);
    }
}
