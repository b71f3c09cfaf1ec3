//! The contrasts of the published analysis over several runs of each network: estimate, interval, verdict.
//!
//! Of one run, a contrast is a difference of two means over images (`contrasts.*.window` of [`crate::dynamics`]). It is
//! uncertain in two ways, which add up:
//!
//! - *over images*: another sample of pictures would give another difference. All runs were shown the same pictures, so
//!   this error is common to them and does not shrink with their number. Its variance is that of the mean over the runs
//!   in each bootstrap replicate, which draws the same pictures for all of them.
//! - *over seeds*: another initialisation and order of pictures would give another network. Its variance is the variance
//!   between the runs, divided by their number.
//!
//! The interval is that of Student's t with the degrees of freedom of the sum of both variances (Satterthwaite 1946). The
//! variance over images has one less than images in the smallest group: resampling two images a thousand times tells no more
//! of other pictures than two images do, and of a single one nothing follows. With a
//! single run only the first is known, and the result speaks of this one trained network.
//!
//! The claim is that the first mean exceeds the second. Its verdict follows from the two-sided p of difference 0, corrected for
//! the number of contrasts looked at (Holm 1979).

use serde::Serialize;
use statrs::distribution::{ContinuousCDF, StudentsT};

/// Coverage of the intervals, and 1 minus the level of the tests.
pub const LEVEL: f64 = 0.95;

/// One contrast of one run.
#[derive(Clone, Debug)]
pub struct Measured {
    /// The run's name.
    pub run: String,
    /// The mean of the first group, of the second; `None` where one of them is undefined.
    pub means: [Option<f64>; 2],
    /// First minus second.
    pub difference: Option<f64>,
    /// Percentile interval over images.
    pub interval: [Option<f64>; 2],
    /// \[R\] The difference in each bootstrap replicate.
    pub replicates: Vec<Option<f64>>,
    /// Images in the smaller of both groups, at the timestep of the window at which it is smallest.
    pub images: usize,
}

/// Whether the first mean exceeds the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Verdict {
    /// It does, beyond doubt at [`LEVEL`].
    #[serde(rename = "holds")]
    Holds,
    /// The second exceeds the first, beyond doubt at [`LEVEL`].
    #[serde(rename = "does not hold")]
    DoesNotHold,
    /// The difference is smaller than its uncertainty.
    #[serde(rename = "undecided")]
    Undecided,
    /// No run has both groups, or nothing is known of its uncertainty; [`Contrast::why`] says which.
    #[serde(rename = "undefined")]
    Undefined,
}

impl Verdict {
    /// As words, as they stand in the JSON.
    pub fn words(self) -> &'static str {
        match self {
            Verdict::Holds => "holds",
            Verdict::DoesNotHold => "does not hold",
            Verdict::Undecided => "undecided",
            Verdict::Undefined => "undefined",
        }
    }
}

/// One contrast of one network, over its runs.
#[derive(Clone, Debug, Serialize)]
pub struct Contrast {
    /// The network, such as "L additive".
    pub network: String,
    /// `norm`, `cos_current` or `cos_final`.
    pub contrast: String,
    /// Mean of the first group, averaged over runs.
    pub first: Option<f64>,
    /// Mean of the second group.
    pub second: Option<f64>,
    /// First minus second.
    pub difference: Option<f64>,
    /// Lower end of the interval of the difference.
    pub low: Option<f64>,
    /// Upper end.
    pub high: Option<f64>,
    /// Runs of the network.
    pub seeds: usize,
    /// Those of them in which the contrast is defined; all numbers are of these.
    pub defined: usize,
    /// Images in the smallest group of any of its runs, at the timestep of the window at which it is smallest.
    pub images: usize,
    /// Standard error over images.
    pub se_images: Option<f64>,
    /// Standard error over seeds; `None` with a single run.
    pub se_seeds: Option<f64>,
    /// Degrees of freedom of the interval.
    pub df: Option<f64>,
    /// Two-sided p of difference 0.
    pub p: Option<f64>,
    /// The same, corrected for all contrasts of the comparison.
    pub p_holm: Option<f64>,
    /// The published means of the two groups, where the network is one of the published.
    pub published: Option<[f64; 2]>,
    /// Whether the first mean exceeds the second.
    pub verdict: Verdict,
    /// Why there is no verdict, where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Run by run.
    pub runs: Vec<OneRun>,
}

/// One run's part in a contrast.
#[derive(Clone, Debug, Serialize)]
pub struct OneRun {
    /// The run's name.
    pub run: String,
    /// First minus second.
    pub difference: Option<f64>,
    /// Lower end of its interval over images.
    pub low: Option<f64>,
    /// Upper end.
    pub high: Option<f64>,
}

/// A contrast over the runs of one network, all on the same pictures with the same replicates. Verdicts are given by
/// [`judge`], once all contrasts are there.
pub fn combine(network: &str, contrast: &str, published: Option<[f64; 2]>, measured: &[Measured]) -> Contrast {
    let defined: Vec<&Measured> = measured.iter().filter(|one| one.difference.is_some()).collect();
    let differences: Vec<f64> = defined.iter().filter_map(|one| one.difference).collect();
    let runs = differences.len();
    let difference = mean(&differences);
    let column = |i: usize| mean(&defined.iter().filter_map(|one| one.means[i]).collect::<Vec<_>>());

    let replicates: Vec<f64> = (0..defined.iter().map(|one| one.replicates.len()).min().unwrap_or(0))
        .filter_map(|r| defined.iter().map(|one| one.replicates[r]).sum::<Option<f64>>())
        .map(|sum| sum / runs as f64)
        .collect();
    let over_images = variance(&replicates);
    let over_seeds = variance(&differences).map(|variance| variance / runs as f64);
    let images = defined.iter().map(|one| one.images).min().unwrap_or(0);
    let over_images = over_images.filter(|_| images > 1);
    let parts: Vec<(f64, f64)> = [(over_images, replicates.len().min(images)), (over_seeds, runs)]
        .into_iter()
        .filter_map(|(variance, n)| Some((variance?, n as f64 - 1.0)))
        .collect();
    let total: f64 = parts.iter().map(|(variance, _)| variance).sum();
    // Without the images' part the interval would claim too much; without variance at all there is none.
    let known = over_images.is_some() && total > 0.0;
    let df = known.then(|| total * total / parts.iter().map(|(variance, df)| variance * variance / df).sum::<f64>());
    let student = df.map(|df| StudentsT::new(0.0, 1.0, df).expect("degrees of freedom are positive"));
    let reach = student.map(|t| t.inverse_cdf((1.0 + LEVEL) / 2.0) * total.sqrt());
    let p = student.zip(difference).map(|(t, difference)| 2.0 * t.cdf(-difference.abs() / total.sqrt()));

    Contrast {
        network: network.into(),
        contrast: contrast.into(),
        first: column(0),
        second: column(1),
        difference,
        low: difference.zip(reach).map(|(difference, reach)| difference - reach),
        high: difference.zip(reach).map(|(difference, reach)| difference + reach),
        seeds: measured.len(),
        defined: runs,
        images,
        se_images: over_images.map(f64::sqrt),
        se_seeds: over_seeds.map(f64::sqrt),
        df,
        p,
        p_holm: None,
        published,
        verdict: Verdict::Undefined,
        why: None,
        runs: measured
            .iter()
            .map(|one| OneRun {
                run: one.run.clone(),
                difference: one.difference,
                low: one.interval[0],
                high: one.interval[1],
            })
            .collect(),
    }
}

/// Corrects the p of all contrasts for their number, and gives each its verdict.
pub fn judge(contrasts: &mut [Contrast]) {
    let p: Vec<f64> = contrasts.iter().filter_map(|contrast| contrast.p).collect();
    let mut adjusted = holm(&p).into_iter();
    for contrast in contrasts {
        contrast.p_holm = contrast.p.and_then(|_| adjusted.next());
        contrast.verdict = match contrast.p_holm.zip(contrast.difference) {
            None => Verdict::Undefined,
            Some((p, difference)) if p < 1.0 - LEVEL && difference > 0.0 => Verdict::Holds,
            Some((p, _)) if p < 1.0 - LEVEL => Verdict::DoesNotHold,
            Some(_) => Verdict::Undecided,
        };
    }
}

/// Holm's step-down correction: the i-th smallest of m counts m - i times, and none less than a smaller one.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let (mut adjusted, mut least) = (vec![0.0; p.len()], 0.0f64);
    for (rank, &i) in order.iter().enumerate() {
        least = least.max((p[i] * (p.len() - rank) as f64).min(1.0));
        adjusted[i] = least;
    }
    adjusted
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// With divisor n - 1; `None` of fewer than 2 values.
fn variance(values: &[f64]) -> Option<f64> {
    let mean = mean(values)?;
    (values.len() > 1).then(|| values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    fn run(difference: f64, replicates: &[f64]) -> Measured {
        Measured {
            run: "a".into(),
            means: [Some(difference + 1.0), Some(1.0)],
            difference: Some(difference),
            interval: [None; 2],
            replicates: replicates.iter().map(|&value| Some(value)).collect(),
            images: 10_000,
        }
    }

    #[test]
    fn two_runs_by_hand() {
        // Means of the replicates 1, 3: variance 2. Differences 1 and 3: variance 2, over 2 runs 1. In all 3; degrees of
        // freedom 9 / (4/1 + 1/1) = 1.8.
        let contrast = combine("n", "c", None, &[run(1.0, &[0.0, 2.0]), run(3.0, &[2.0, 4.0])]);
        let near = |a: Option<f64>, b: f64| assert!((a.unwrap() - b).abs() < 1e-12, "{a:?}, expected {b}");
        near(contrast.difference, 2.0);
        near(contrast.first, 3.0);
        near(contrast.se_images, 2f64.sqrt());
        near(contrast.se_seeds, 1.0);
        near(contrast.df, 1.8);
        assert!(contrast.low.unwrap() < -2.0 && contrast.high.unwrap() > 6.0);
    }

    #[test]
    fn one_run_knows_of_images_only() {
        let replicates: Vec<f64> = (0..1000).map(|i| 1.0 + f64::from(i % 2)).collect();
        let contrast = combine("n", "c", None, &[run(1.5, &replicates)]);
        assert_eq!(contrast.se_seeds, None);
        // Standard deviation 0.5; Student's t with 999 degrees of freedom has its 97.5 % point at 1.9623.
        assert!((contrast.high.unwrap() - 1.5 - 1.9623 * 0.5).abs() < 1e-3, "{contrast:?}");
    }

    #[test]
    fn few_images_say_little_however_often_they_are_drawn() {
        let replicates: Vec<f64> = (0..1000).map(|i| 1.0 + f64::from(i % 2)).collect();
        let of = |images| combine("n", "c", None, &[Measured { images, ..run(1.5, &replicates) }]);
        // Student's t with 1 degree of freedom has its 97.5 % point at 12.706.
        assert!((of(2).high.unwrap() - 1.5 - 12.706 * 0.5).abs() < 1e-2, "{:?}", of(2));
        let mut one = [of(1)];
        judge(&mut one);
        assert_eq!((one[0].verdict, one[0].df, one[0].difference), (Verdict::Undefined, None, Some(1.5)));
    }

    #[test]
    fn undefined_runs_are_left_out_and_said() {
        let absent = Measured { difference: None, means: [None; 2], ..run(0.0, &[]) };
        let contrast = combine("n", "c", None, &[absent.clone(), run(1.0, &[0.9, 1.1])]);
        assert_eq!((contrast.seeds, contrast.defined, contrast.difference), (2, 1, Some(1.0)));
        let mut nothing = [combine("n", "c", None, &[absent])];
        judge(&mut nothing);
        assert_eq!((nothing[0].defined, nothing[0].verdict, nothing[0].low), (0, Verdict::Undefined, None));
        let mut certain = [combine("n", "c", None, &[run(1.0, &[1.0, 1.0])])];
        judge(&mut certain);
        assert_eq!(certain[0].verdict, Verdict::Undefined, "no variance is no certainty");
    }

    #[test]
    fn holm_by_hand() {
        assert_eq!(holm(&[0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02]);
        assert_eq!(holm(&[0.9, 0.8]), [1.0, 1.0]);
        assert!(holm(&[]).is_empty());
    }

    #[test]
    fn verdicts() {
        let spread = |d: f64| (0..1000).map(|i| d + f64::from(i % 5) - 2.0).collect::<Vec<_>>();
        let mut all: Vec<Contrast> = [30.0, -30.0, 0.1].map(|d| combine("n", "c", None, &[run(d, &spread(d))])).into();
        judge(&mut all);
        let found: Vec<Verdict> = all.iter().map(|contrast| contrast.verdict).collect();
        assert_eq!(found, [Verdict::Holds, Verdict::DoesNotHold, Verdict::Undecided]);
    }

    /// Runs of a true difference 1, with an error common to all runs (images) and one of each run (seeds): the interval
    /// covers the truth about as often as it says.
    #[test]
    fn coverage() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut normal = move || (0..12).map(|_| f64::from(random.next_u32()) / f64::from(u32::MAX)).sum::<f64>() - 6.0;
        for (seeds, images_sd, seeds_sd) in [(1, 1.0, 0.0), (2, 1.0, 0.3), (3, 0.3, 1.0), (5, 1.0, 1.0)] {
            let (mut covered, rounds) = (0, 1000);
            for _ in 0..rounds {
                let common = images_sd * normal();
                let shifts: Vec<f64> = (0..50).map(|_| images_sd * normal()).collect();
                let runs: Vec<Measured> = (0..seeds)
                    .map(|_| {
                        let difference = 1.0 + common + seeds_sd * normal();
                        run(difference, &shifts.iter().map(|shift| difference + shift).collect::<Vec<_>>())
                    })
                    .collect();
                let contrast = combine("n", "c", None, &runs);
                covered += usize::from((contrast.low.unwrap()..contrast.high.unwrap()).contains(&1.0));
            }
            let share = covered as f64 / f64::from(rounds);
            assert!((0.92..0.99).contains(&share), "{seeds} seeds, {images_sd}, {seeds_sd}: {share}");
        }
    }
}
