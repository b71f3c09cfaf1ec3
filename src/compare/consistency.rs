//! Agreement between runs on the same pictures.
//!
//! - *Geometry*: the correlation (Spearman, Pearson) of two runs' dissimilarities between the same images, 1 - Pearson over
//!   features ([`crate::dynamics::rdm`], [`crate::dynamics::rdm_time`]): whether two trainings arrange images alike (Mehrer et
//!   al. 2020).
//! - *Errors*: the kappa of being correct ([`crate::dynamics::consistency`]): whether they are wrong on the same images more
//!   often than their accuracies make likely.

use super::Kept;
use super::runs::Network;
use crate::dynamics::{consistency, rdm_time};
use serde::Serialize;

/// Agreement within networks at each timestep, and of all runs at the end.
#[derive(Clone, Debug, Serialize)]
pub struct Consistency {
    /// Of each network that has several runs.
    pub networks: Vec<Within>,
    /// All runs, each at its last timestep.
    pub last: Matrices,
}

/// The pairs of runs of one network.
#[derive(Clone, Debug, Serialize)]
pub struct Within {
    /// The network.
    pub network: String,
    /// Each pair once.
    pub pairs: Vec<Pair>,
}

/// Two runs of one network at the same timesteps.
#[derive(Clone, Debug, Serialize)]
pub struct Pair {
    /// Their names.
    pub runs: [String; 2],
    /// \[T\] Rank correlation of their dissimilarities.
    pub spearman: Vec<Option<f64>>,
    /// \[T\] Pearson correlation of them.
    pub pearson: Vec<Option<f64>>,
    /// \[T\] Kappa of being correct.
    pub error_consistency: Vec<Option<f64>>,
}

/// \[runs\]\[runs\] All runs with each other.
#[derive(Clone, Debug, Serialize)]
pub struct Matrices {
    /// Their names.
    pub runs: Vec<String>,
    /// Rank correlation of their dissimilarities.
    pub spearman: Vec<Vec<Option<f64>>>,
    /// Pearson correlation of them.
    pub pearson: Vec<Vec<Option<f64>>>,
    /// Kappa of being correct.
    pub error_consistency: Vec<Vec<Option<f64>>>,
}

/// Agreement of two runs at one timestep of each: Spearman, Pearson, kappa.
fn agreement(a: &Kept, t: usize, b: &Kept, u: usize) -> [Option<f64>; 3] {
    let matrices = a.rdm.as_ref().zip(b.rdm.as_ref());
    let [pearson, spearman] = matrices.map_or([None; 2], |(a, b)| rdm_time::correlations(&a[t], &b[u]));
    [spearman, pearson, consistency::errors(&a.values, t, &b.values, u)]
}

impl Consistency {
    pub(super) fn new(networks: &[Network], kept: &[Kept]) -> Consistency {
        let within = |network: &Network| {
            let runs: Vec<&Kept> = kept.iter().filter(|kept| kept.facts.network == network.name).collect();
            let mut pairs = Vec::new();
            for (i, a) in runs.iter().enumerate() {
                for b in &runs[i + 1..] {
                    let steps: Vec<_> = (0..a.values.timesteps).map(|t| agreement(a, t, b, t)).collect();
                    let row = |measure: usize| steps.iter().map(|step| step[measure]).collect();
                    pairs.push(Pair {
                        runs: [a, b].map(|run| run.facts.run.clone()),
                        spearman: row(0),
                        pearson: row(1),
                        error_consistency: row(2),
                    });
                }
            }
            (!pairs.is_empty()).then(|| Within { network: network.name.clone(), pairs })
        };
        // The measures are symmetric: each pair is computed once.
        let mut all = vec![vec![[None; 3]; kept.len()]; kept.len()];
        for i in 0..kept.len() {
            for j in i..kept.len() {
                let (a, b) = (&kept[i], &kept[j]);
                all[i][j] = agreement(a, a.values.timesteps - 1, b, b.values.timesteps - 1);
                all[j][i] = all[i][j];
            }
        }
        let matrix = |measure: usize| all.iter().map(|row| row.iter().map(|cell| cell[measure]).collect()).collect();
        Consistency {
            networks: networks.iter().filter_map(within).collect(),
            last: Matrices {
                runs: kept.iter().map(|kept| kept.facts.run.clone()).collect(),
                spearman: matrix(0),
                pearson: matrix(1),
                error_consistency: matrix(2),
            },
        }
    }
}
