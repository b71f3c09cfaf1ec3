//! Agreement between timesteps, and with the network before training, beyond what chance gives.
//!
//! Cohen's kappa (1960) is (observed - chance) / (1 - chance), here of the K classes, and of being correct (error consistency,
//! Geirhos et al. 2020, arXiv 2006.16736). It is undefined where chance agreement is 1.

use super::values::Values;
use serde::Serialize;

/// \[T\]\[T\] Agreement between timesteps (row and column); the columns of those with `init` are the untrained network's.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Consistency {
    /// Images with the same class at both.
    pub same_class: Vec<Vec<u64>>,
    /// Kappa of the classes.
    pub kappa: Vec<Vec<Option<f64>>>,
    /// Kappa of being correct.
    pub error_consistency: Vec<Vec<Option<f64>>>,
    /// With the untrained network.
    #[serde(flatten)]
    pub init: Option<Init>,
}

/// The same with the untrained network.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Init {
    /// Images with the same class at both.
    pub same_class_init: Vec<Vec<u64>>,
    /// Kappa of the classes.
    pub kappa_init: Vec<Vec<Option<f64>>>,
    /// Kappa of being correct.
    pub error_consistency_init: Vec<Vec<Option<f64>>>,
}

/// The agreement of a network with itself and with the untrained one.
pub fn of(trained: &Values, untrained: Option<&Values>) -> Consistency {
    let between = |other: &Values| {
        let cells = |t: usize| (0..other.timesteps).map(|u| agreement(trained, t, other, u)).collect::<Vec<_>>();
        let cells: Vec<Vec<Agreement>> = (0..trained.timesteps).map(cells).collect();
        (each(&cells, |of| of.same_class), each(&cells, |of| of.kappa), each(&cells, |of| of.error_consistency))
    };
    let (same_class, kappa, error_consistency) = between(trained);
    let init = untrained.map(|other| {
        let (same_class_init, kappa_init, error_consistency_init) = between(other);
        Init { same_class_init, kappa_init, error_consistency_init }
    });
    Consistency { same_class, kappa, error_consistency, init }
}

/// Error consistency of two networks on the same images, the first at timestep `t`, the second at `u`.
pub fn errors(a: &Values, t: usize, b: &Values, u: usize) -> Option<f64> {
    agreement(a, t, b, u).error_consistency
}

struct Agreement {
    same_class: u64,
    kappa: Option<f64>,
    error_consistency: Option<f64>,
}

fn each<V>(cells: &[Vec<Agreement>], of: impl Fn(&Agreement) -> V) -> Vec<Vec<V>> {
    cells.iter().map(|row| row.iter().map(&of).collect()).collect()
}

fn agreement(a: &Values, t: usize, b: &Values, u: usize) -> Agreement {
    let mut counts = vec![[0u64; 2]; a.classes]; // images in each class
    let mut correct = [0u64; 2];
    let (mut same_class, mut same_outcome) = (0, 0);
    for i in 0..a.samples {
        let (class_a, class_b) = (a.class(t, i), b.class(u, i));
        let (right_a, right_b) = (a.correct(t, i), b.correct(u, i));
        counts[class_a][0] += 1;
        counts[class_b][1] += 1;
        correct[0] += u64::from(right_a);
        correct[1] += u64::from(right_b);
        same_class += u64::from(class_a == class_b);
        same_outcome += u64::from(right_a == right_b);
    }
    let samples = a.samples as u64;
    let [ca, cb] = correct;
    Agreement {
        same_class,
        kappa: kappa(same_class, counts.iter().map(|[a, b]| a * b).sum(), samples),
        error_consistency: kappa(same_outcome, ca * cb + (samples - ca) * (samples - cb), samples),
    }
}

/// Kappa of `same` of `samples` equal judgements; `chance` pairs of any two judgements are equal. In whole numbers, so that
/// chance agreement of 1 is found exactly.
fn kappa(same: u64, chance: u64, samples: u64) -> Option<f64> {
    let all = samples * samples;
    (chance < all).then(|| ((samples * same) as f64 - chance as f64) / (all - chance) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dynamics::values::made_up::with_classes;

    #[test]
    fn kappa_is_agreement_beyond_chance() {
        // Of 4 images, classes 0 0 1 1 and 0 0 1 0: 3 agree; by chance (2 * 3 + 2 * 1) / 16 = 1 / 2.
        let sequences: [&[u32]; 4] = [&[0, 0], &[0, 0], &[1, 1], &[1, 0]];
        let values = with_classes(&sequences, &[0, 0, 1, 1], 2);
        let found = of(&values, None);
        assert_eq!((found.same_class[0][1], found.kappa[0][1]), (3, Some(0.5)));
        // All are correct at 0, three at 1: chance is 3 / 4, and so is what is observed. With itself step 0 has only chance.
        assert_eq!(found.error_consistency, [[None, Some(0.0)], [Some(0.0), Some(1.0)]]);
        let json = serde_json::to_value(&found).unwrap();
        assert_eq!(json.as_object().unwrap().len(), 3, "nothing of an untrained network: {json}");
        let json = serde_json::to_value(of(&values, Some(&values))).unwrap();
        assert_eq!(json["kappa_init"], json["kappa"]);
    }
}
