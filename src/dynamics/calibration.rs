//! Calibration: how well confidence predicts accuracy (Guo et al. 2017).
//!
//! Images are put into bins by their confidence, bin m of M being (m/M, (m+1)/M]. The expected calibration error is
//! sum over bins of count / N |accuracy - confidence|; it is biased upwards where bins hold few images.

use super::values::{Datum, Values};
use crate::trajectory::definitions::mean;
use serde::Serialize;

/// Confidence and accuracy by bin of confidence.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Calibration {
    /// \[T\]\[bins\] Images.
    pub count: Vec<Vec<u64>>,
    /// \[T\]\[bins\] Their mean confidence.
    pub confidence: Vec<Vec<Option<f64>>>,
    /// \[T\]\[bins\] The part of them whose class is the label.
    pub accuracy: Vec<Vec<Option<f64>>>,
    /// \[T\] Expected calibration error.
    pub ece: Vec<f64>,
}

/// The calibration with so many bins.
pub fn of(values: &Values, bins: usize) -> Calibration {
    let mut all = Calibration { count: vec![], confidence: vec![], accuracy: vec![], ece: vec![] };
    for t in 0..values.timesteps {
        let confidence = values.row(Datum::Confidence, t);
        let mut members: Vec<Vec<usize>> = vec![Vec::new(); bins];
        for (i, p) in confidence.iter().enumerate() {
            let bin = ((p * bins as f64).ceil() as usize).clamp(1, bins) - 1;
            members[bin].push(i);
        }
        let count: Vec<u64> = members.iter().map(|bin| bin.len() as u64).collect();
        let certain: Vec<Option<f64>> = members.iter().map(|bin| mean(bin.iter().map(|&i| confidence[i]))).collect();
        let right = |bin: &Vec<usize>| mean(bin.iter().map(|&i| f64::from(u8::from(values.correct(t, i)))));
        let accuracy: Vec<Option<f64>> = members.iter().map(right).collect();
        let gaps = accuracy.iter().zip(&certain).zip(&count);
        let gaps = gaps.filter_map(|((a, p), &n)| Some(n as f64 / values.samples as f64 * ((*a)? - (*p)?).abs()));
        all.ece.push(gaps.sum());
        all.count.push(count);
        all.confidence.push(certain);
        all.accuracy.push(accuracy);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dynamics::values::made_up::{with_classes, with_numbers};

    #[test]
    fn bins_are_open_below_and_closed_above() {
        let classes: [&[u32]; 4] = [&[0], &[0], &[1], &[0]];
        let values = with_classes(&classes, &[0, 1, 1, 0], 2);
        let values = with_numbers(values, Datum::Confidence, &[&[0.5], &[0.75], &[0.8], &[1.0]]);
        let found = of(&values, 4);
        assert_eq!(found.count, [[0, 1, 1, 2]]);
        assert_eq!(found.confidence, [[None, Some(0.5), Some(0.75), Some(0.9)]]);
        assert_eq!(found.accuracy, [[None, Some(1.0), Some(0.0), Some(1.0)]]);
        assert!((found.ece[0] - (0.25 * 0.5 + 0.25 * 0.75 + 0.5 * 0.1)).abs() < 1e-15);
    }
}
