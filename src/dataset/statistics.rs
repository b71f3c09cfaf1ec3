//! Whether the channel statistics that a data set states are those of its pictures.

use super::{ChannelSums, Dataset};
use crate::Result;

/// Pictures of the training split that are looked at: runs of neighbours at equal distances, as compressed files are decoded
/// piece by piece.
const RUNS: usize = 64;
const RUN: usize = 16;

/// How much a mean or deviation of all pictures (0 to 255) may differ from what is stated.
pub(super) const OF_ALL: f64 = 2.0;
/// The same of a sample of them, beside the scatter between its runs.
const OF_SOME: f64 = 8.0;

/// Statistics that are not those of the pictures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// What is wrong, with the numbers stated and found.
    pub text: String,
    /// Whether it is certain how the numbers came about (another scale, variances), so that to train with them is an error.
    pub certain: bool,
}

/// Compares the statistics that a data set states with those of a sample of its training pictures; nothing to do where they are
/// computed from the pictures.
///
/// # Errors
/// Pictures that cannot be read.
pub fn check(data: &dyn Dataset) -> Result<Option<Doubt>> {
    let Some(split) = data.splits().into_iter().next().filter(|_| data.states_statistics()) else { return Ok(None) };
    let count = data.len(&split)?;
    let all = count <= RUNS * RUN;
    let runs: Vec<Vec<usize>> = match all {
        true => vec![(0..count).collect()],
        false => {
            (0..RUNS).map(|i| i * (count - RUN) / (RUNS - 1)).map(|first| (first..first + RUN).collect()).collect()
        }
    };
    let mut sums = ChannelSums::default();
    let mut means = Vec::new();
    for run in &runs {
        let mut of_run = ChannelSums::default();
        of_run.add(&data.read(&split, run)?.data);
        means.push(of_run.mean());
        sums.merge(&of_run);
    }
    // Pictures may be sorted by class: the means of runs, not of pictures, are what scatters independently.
    let tolerance = if all {
        OF_ALL
    } else {
        let whole = sums.mean();
        let scatter = |c: usize| means.iter().map(|mean| (mean[c] - whole[c]).powi(2)).sum::<f64>() / RUNS as f64;
        let error = (0..3).map(|c| (scatter(c) / RUNS as f64).sqrt()).fold(0.0, f64::max);
        OF_SOME.max(4.0 * error)
    };
    let of = if all { "the training pictures" } else { "a sample of the training pictures" };
    Ok(judge([data.mean(), data.std()], [sums.mean(), sums.std()], tolerance, of))
}

/// Judges stated mean and deviation against those found in the pictures, which are described as `of`.
pub(super) fn judge(stated: [[f64; 3]; 2], found: [[f64; 3]; 2], tolerance: f64, of: &str) -> Option<Doubt> {
    let near = |a: [f64; 3], b: [f64; 3], allowed: f64| (0..3).all(|c| (a[c] - b[c]).abs() <= allowed);
    let ([mean, std], [found_mean, found_std]) = (stated, found);
    if near(mean, found_mean, tolerance) && near(std, found_std, tolerance) {
        return None;
    }
    let times = |values: [f64; 3], factor: f64| values.map(|x| x * factor);
    let reversed = |[r, g, b]: [f64; 3]| [b, g, r];
    // Such a scale is certain only where the numbers are those of the pictures on it, and these are not as dark or flat themselves.
    let unit = |values: [f64; 3], found: [f64; 3]| {
        values.iter().all(|x| x.abs() <= 1.0)
            && found.iter().any(|x| *x > 2.0 * tolerance)
            && near(times(values, 255.0), found, 2.0 * tolerance)
    };
    let squares = |values: [f64; 3], scale: f64| {
        let roots = values.map(|x| scale * x.sqrt());
        found_std.iter().all(|x| *x > 2.0 * tolerance) && near(roots, found_std, 2.0 * tolerance)
    };
    let turned = near(reversed(mean), found_mean, tolerance) && near(reversed(std), found_std, tolerance);
    let (why, certain) = match () {
        () if unit(mean, found_mean) && unit(std, found_std) => {
            (" They are on the scale 0 to 1: multiply them by 255.", true)
        }
        () if unit(mean, found_mean) && squares(std, 255.0) => {
            (" They are means and variances on the scale 0 to 1.", true)
        }
        () if unit(mean, found_mean) => (" The means are on the scale 0 to 1: multiply them by 255.", true),
        () if unit(std, found_std) => (" The deviations are on the scale 0 to 1: multiply them by 255.", true),
        () if !near(std, found_std, tolerance) && squares(std, 1.0) => {
            (" The deviations are variances: store their square roots.", true)
        }
        () if turned => (" The channels are reversed (BGR): store red first.", false),
        () => ("", false),
    };
    let text = format!(
        "the stored channel statistics are not those of {of}: stored channel mean {} and standard deviation {}, found {} and {}; \
         expected are statistics of all training pixels, red, green, blue, on the scale 0..255.{why}",
        three(mean),
        three(std),
        three(found_mean),
        three(found_std)
    );
    Some(Doubt { text, certain })
}

/// Three numbers for people: of numbers up to 1 as many digits as tell them apart.
pub(super) fn three(values: [f64; 3]) -> String {
    let digits = if values.iter().all(|x| x.abs() <= 1.0) { 3 } else { 1 };
    values.map(|x| format!("{x:.digits$}")).join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOUND: [[f64; 3]; 2] = [[120.0, 110.0, 90.0], [60.0, 55.0, 50.0]];

    fn judged(mean: [f64; 3], std: [f64; 3]) -> Option<(bool, String)> {
        judge([mean, std], FOUND, 4.0, "the pictures").map(|doubt| (doubt.certain, doubt.text))
    }

    #[test]
    fn statistics_of_the_pictures_raise_no_doubt() {
        assert_eq!(judged(FOUND[0], FOUND[1]), None);
        assert_eq!(judged([123.0, 107.0, 93.5], [63.0, 52.0, 50.0]), None);
    }

    /// Statistics of pictures that are dark and flat are not taken for another scale.
    #[test]
    fn nothing_is_certain_of_dark_pictures() {
        let found = [[3.0; 3], [5.0; 3]];
        assert_eq!(judge([[0.5; 3], [5.0; 3]], found, 4.0, "x"), None);
        assert!(!judge([[0.5; 3], [0.8; 3]], [[3.0; 3], [3.5; 3]], 2.0, "x").unwrap().certain);
        assert!(judge([[3.0; 3], [25.0; 3]], found, 2.0, "x").unwrap().certain);
    }

    #[test]
    fn wrong_statistics_are_told_apart() {
        let unit = |values: [f64; 3]| values.map(|x| x / 255.0);
        let squares = |values: [f64; 3]| values.map(|x| x * x);
        for (mean, std, certain, word) in [
            (unit(FOUND[0]), unit(FOUND[1]), true, "scale 0 to 1: multiply"),
            (unit(FOUND[0]), squares(unit(FOUND[1])), true, "means and variances on the scale 0 to 1"),
            (FOUND[0], squares(FOUND[1]), true, "deviations are variances"),
            (unit(FOUND[0]), FOUND[1], true, "means are on the scale 0 to 1"),
            (FOUND[0], unit(FOUND[1]), true, "deviations are on the scale 0 to 1"),
            ([90.0, 110.0, 120.0], [50.0, 55.0, 60.0], false, "reversed"),
            ([0.0; 3], [1.0; 3], false, "found 120.0 110.0 90.0 and 60.0 55.0 50.0"),
            (FOUND[0], [30.0; 3], false, "stored channel mean 120.0"),
            ([f64::NAN; 3], FOUND[1], false, "NaN"),
        ] {
            let (found, text) = judged(mean, std).expect(word);
            assert!(found == certain && text.contains(word), "{text}");
        }
    }
}
