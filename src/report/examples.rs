//! The pictures behind extreme trajectories: which are chosen, and what the report holds of each.

use serde::{Deserialize, Serialize};

use super::heat::data_uri;
use super::view::demand;
use crate::{Error, Result};

/// Why a picture is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Right at the end, and only since late.
    CorrectedLate,
    /// Was in the zone of its label and is outside at the end.
    LostAgain,
    /// Never in the zone of its label, and far from it at the end.
    NeverFound,
    /// Closest to the boundary of its label's zone at the end.
    ClosestToBoundary,
}

impl Kind {
    /// All kinds, in the order of the page.
    pub const ALL: [Kind; 4] = [Kind::CorrectedLate, Kind::LostAgain, Kind::NeverFound, Kind::ClosestToBoundary];

    /// A heading.
    pub fn title(self) -> &'static str {
        match self {
            Kind::CorrectedLate => "Corrected late",
            Kind::LostAgain => "Lost again",
            Kind::NeverFound => "Never found",
            Kind::ClosestToBoundary => "Closest to the boundary",
        }
    }

    /// Name and anchor.
    pub fn name(self) -> &'static str {
        match self {
            Kind::CorrectedLate => "corrected_late",
            Kind::LostAgain => "lost_again",
            Kind::NeverFound => "never_found",
            Kind::ClosestToBoundary => "closest_to_boundary",
        }
    }

    /// What is shown, in whole sentences.
    pub fn caption(self) -> &'static str {
        match self {
            Kind::CorrectedLate => {
                "Pictures that the network gets right only after many timesteps, the latest first. Here recurrence finds what the \
                 first sweep missed."
            }
            Kind::LostAgain => {
                "Pictures that were in the zone of their label and are outside at the end, those that spent most timesteps in it \
                 first. Here stopping earlier would have been better."
            }
            Kind::NeverFound => {
                "Pictures that never enter the zone of their label, the farthest from it at the end first. Some may be mislabelled \
                 or show several objects."
            }
            Kind::ClosestToBoundary => {
                "Pictures that end closest to the boundary of their label\u{2019}s zone, on either side: the network is least decided \
                 about these."
            }
        }
    }
}

/// A picture and its trajectory. T timesteps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Example {
    /// Why it is shown.
    pub kind: Kind,
    /// Index of the image in the split.
    pub image: usize,
    /// Its class by the data set.
    pub label: usize,
    /// The class at each timestep `[T]`.
    pub classes: Vec<usize>,
    /// Signed distance to the nearest boundary of the label's zone at each timestep `[T]`, negative outside.
    pub label_margin: Vec<Option<f64>>,
    /// A small PNG as `data:image/png;base64,...`, see [`Example::picture_of`].
    pub picture: String,
}

impl Example {
    /// The bytes of a PNG file in the form in which `picture` holds them.
    pub fn picture_of(png: &[u8]) -> String {
        data_uri(png)
    }

    /// Refuses what cannot be shown.
    pub(super) fn check(&self, timesteps: usize, classes: usize) -> Result<()> {
        let place = format!("example of image {}", self.image);
        let entries = format!("{timesteps} entries (timesteps)");
        demand(self.classes.len() == timesteps, &format!("{place}: classes"), &entries, self.classes.len())?;
        let found = self.label_margin.len();
        demand(found == timesteps, &format!("{place}: label_margin"), &entries, found)?;
        for &class in self.classes.iter().chain([&self.label]) {
            let known = class < classes || classes == 0;
            demand(known, &format!("{place}: class"), &format!("a number below {classes}"), class)?;
        }
        let code = self.picture.strip_prefix("data:image/png;base64,");
        let safe = code.is_some_and(|code| code.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b)));
        let begin: String = self.picture.chars().take(30).collect();
        demand(safe, &format!("{place}: picture"), "data:image/png;base64,...", begin)
    }
}

/// Which images are worth showing, at most `each` of a kind, from the values of all images: `classes` \[T\]\[N\], `labels`
/// \[N\], `label_margin` \[T\]\[N\] (NaN: undefined). Of equals the first counts. No image is chosen twice: an image of two
/// kinds counts for the first.
///
/// # Errors
/// Lists of different lengths.
pub fn choose(
    classes: &[Vec<usize>],
    labels: &[usize],
    label_margin: &[Vec<f64>],
    each: usize,
) -> Result<Vec<(Kind, usize)>> {
    let (t, n) = (classes.len(), labels.len());
    if label_margin.len() != t
        || classes.iter().any(|row| row.len() != n)
        || label_margin.iter().any(|row| row.len() != n)
    {
        return Err(Error::Data(format!(
            "examples: classes and margins of {t} and {} timesteps do not fit {n} labels each; give [T][N] of both",
            label_margin.len()
        )));
    }
    let mut chosen: Vec<(Kind, usize)> = Vec::new();
    if t == 0 {
        return Ok(chosen);
    }
    let right = |t: usize, i: usize| classes[t][i] == labels[i];
    let last = t - 1;
    for kind in Kind::ALL {
        // The larger the score, the earlier the image comes.
        let score = |i: usize| -> Option<f64> {
            let margin = label_margin[last][i];
            let steps_right = (0..t).filter(|&t| right(t, i)).count();
            match kind {
                Kind::CorrectedLate => {
                    let solved = (0..t).rev().take_while(|&t| right(t, i)).last()?;
                    (solved > 0).then_some(solved as f64)
                }
                Kind::LostAgain => (steps_right > 0 && !right(last, i)).then_some(steps_right as f64),
                Kind::NeverFound => (steps_right == 0 && margin.is_finite()).then_some(-margin),
                Kind::ClosestToBoundary => margin.is_finite().then_some(-margin.abs()),
            }
        };
        let mut ranked: Vec<(f64, usize)> = (0..n).filter_map(|i| score(i).map(|s| (s, i))).collect();
        ranked.retain(|(_, i)| chosen.iter().all(|(_, other)| other != i));
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        chosen.extend(ranked.into_iter().take(each).map(|(_, i)| (kind, i)));
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_chosen_by_their_trajectories() {
        // Columns are images; label 0 for all. Image 0 is right from t = 1, image 1 from t = 2; image 2 is lost after two
        // steps, image 3 after one; images 4 and 5 are never right, 6 and 7 always.
        let classes = vec![vec![1, 1, 0, 0, 1, 1, 0, 0], vec![0, 1, 0, 1, 1, 1, 0, 0], vec![0, 0, 1, 1, 1, 1, 0, 0]];
        let last = vec![0.5, 0.4, -0.3, -0.2, -1.0, -2.0, 0.25, 0.125];
        let margins = vec![last.clone(), last.clone(), last];
        let chosen = choose(&classes, &[0; 8], &margins, 2).unwrap();
        let of = |kind| chosen.iter().filter(|c| c.0 == kind).map(|c| c.1).collect::<Vec<_>>();
        assert_eq!(of(Kind::CorrectedLate), [1, 0]);
        assert_eq!(of(Kind::LostAgain), [2, 3]);
        assert_eq!(of(Kind::NeverFound), [5, 4]);
        assert_eq!(of(Kind::ClosestToBoundary), [7, 6]);
    }

    #[test]
    fn undefined_margins_and_no_timesteps_choose_nothing() {
        let nan = vec![vec![f64::NAN; 2]];
        assert_eq!(choose(&[vec![1, 0]], &[0, 0], &nan, 3).unwrap(), []);
        assert_eq!(choose(&[], &[0, 0], &[], 3).unwrap(), []);
        let error = choose(&[vec![0]], &[0, 0], &nan, 3).unwrap_err().to_string();
        assert!(error.contains("[T][N]"), "{error}");
    }
}
