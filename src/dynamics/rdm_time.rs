//! How similar dissimilarity matrices are to each other: between timesteps (`rdm_time`), and with those of the untrained
//! network (`rdm_init`, second axis). Nili et al. 2014; Schuett et al. 2023 (rsatoolbox).
//!
//! `pearson`, `spearman` (Pearson of mid-ranks), `cosine`, and Kendall's `tau_a` = (concordant - discordant) / all pairs of
//! pairs. Only pairs of images whose dissimilarity is defined in both matrices count; below two there is none. Entries that
//! are sorted neighbours and no further apart than 1e-6 of the largest entry are tied: images with disjoint active features
//! are exactly 1 apart in cosine, so that ReLU features tie often. Where all are tied there is no correlation, where all are 0
//! no cosine.

use super::Subject;
use super::rdm::{self, ByMetric, Condensed, Rdm};
use serde::Serialize;

/// \[T\]\[T\] of each similarity.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Similarities {
    /// Pearson correlation of the dissimilarities.
    pub pearson: Vec<Vec<Option<f64>>>,
    /// Pearson correlation of their mid-ranks.
    pub spearman: Vec<Vec<Option<f64>>>,
    /// Cosine of the dissimilarities as vectors.
    pub cosine: Vec<Vec<Option<f64>>>,
    /// Concordant minus discordant pairs of dissimilarities, over all pairs of them.
    pub tau_a: Vec<Vec<Option<f64>>>,
}

/// By dissimilarity.
pub type RdmTime = ByMetric<Similarities>;

/// Sorted neighbours no further apart than this share of the largest entry are tied.
const TIED: f64 = 1e-6;

/// Between the matrices of the timesteps of `a` and of `b`.
pub fn of(a: &Rdm, b: &Rdm) -> RdmTime {
    let between = |a: &[Condensed], b: &[Condensed]| {
        let (a, b) = (prepared(a), prepared(b));
        tables(a.iter().map(|a| b.iter().map(|b| similarities(a, b)).collect()).collect())
    };
    ByMetric {
        euclidean: between(&a.euclidean, &b.euclidean),
        correlation: between(&a.correlation, &b.correlation),
        cosine: between(&a.cosine, &b.cosine),
    }
}

/// \[T\]\[T\] The Spearman correlation alone, between the matrices of the timesteps of `a` and of `b`.
pub fn spearman(a: &[Condensed], b: &[Condensed]) -> Vec<Vec<Option<f64>>> {
    let (a, b) = (prepared(a), prepared(b));
    a.iter().map(|a| b.iter().map(|b| of_both(a, b, rank_correlation)).collect()).collect()
}

/// Between the matrices of the timesteps of one network: what [`of`] gives of it and itself, in half the time, as all
/// similarities are the same both ways.
pub fn within(rdm: &Rdm) -> RdmTime {
    rdm.map(|steps| {
        let steps = prepared(steps);
        let mut rows = vec![vec![[None; 4]; steps.len()]; steps.len()];
        for t in 0..steps.len() {
            for u in t..steps.len() {
                let found = similarities(&steps[t], &steps[u]);
                (rows[t][u], rows[u][t]) = (found, found);
            }
        }
        tables(rows)
    })
}

/// \[T\]\[T\] of all four as one table each.
fn tables(rows: Vec<Vec<[Option<f64>; 4]>>) -> Similarities {
    let table = |i: usize| rows.iter().map(|row| row.iter().map(|all| all[i]).collect()).collect();
    Similarities { pearson: table(0), spearman: table(1), cosine: table(2), tau_a: table(3) }
}

/// `rdm_time`, exact.
pub fn exact(subject: &Subject) -> RdmTime {
    within(&rdm::exact(subject))
}

/// `rdm_init`, exact; none where the untrained network is not given.
pub fn exact_init(subject: &Subject) -> Option<RdmTime> {
    let untrained = rdm::images(subject.untrained?, &subject.parameters.rdm_images);
    Some(of(&rdm::exact(subject), &untrained))
}

/// Pearson and Spearman correlation of two matrices between the same images.
pub fn correlations(a: &Condensed, b: &Condensed) -> [Option<f64>; 2] {
    of_both(&Prepared::of(a), &Prepared::of(b), |a, b| [correlation(a, b), rank_correlation(a, b)])
}

/// A matrix, and what every comparison with it needs, where all of it is defined.
struct Prepared<'a> {
    matrix: &'a Condensed,
    whole: Option<Entries>,
}

/// The entries of a matrix that are compared.
struct Entries {
    values: Vec<f64>,
    ranks: Ranks,
    centred: Vec<f64>,
    centred_ranks: Vec<f64>,
}

impl Entries {
    fn of(values: Vec<f64>) -> Entries {
        let ranks = Ranks::of(&values);
        Entries { centred: centred(&values), centred_ranks: centred(&ranks.middle), values, ranks }
    }
}

impl Prepared<'_> {
    fn of(matrix: &Condensed) -> Prepared<'_> {
        Prepared { matrix, whole: matrix.iter().copied().collect::<Option<Vec<f64>>>().map(Entries::of) }
    }
}

fn prepared(steps: &[Condensed]) -> Vec<Prepared<'_>> {
    steps.iter().map(Prepared::of).collect()
}

/// A comparison of the entries that are defined in both matrices.
fn of_both<R>(a: &Prepared, b: &Prepared, compare: impl Fn(&Entries, &Entries) -> R) -> R {
    if let (Some(a), Some(b)) = (&a.whole, &b.whole) {
        return compare(a, b);
    }
    let (a, b) = a.matrix.iter().zip(b.matrix).filter_map(|(a, b)| a.zip(*b)).unzip();
    compare(&Entries::of(a), &Entries::of(b))
}

/// Pearson, Spearman, cosine and tau.
fn similarities(a: &Prepared, b: &Prepared) -> [Option<f64>; 4] {
    of_both(a, b, |a, b| {
        if a.values.len() < 2 {
            return [None; 4];
        }
        let tau = Some(tau_a(&a.ranks.group, &b.ranks.group));
        [correlation(a, b), rank_correlation(a, b), cosine(&a.values, &b.values), tau]
    })
}

/// Pearson; undefined where all entries of one are tied.
fn correlation(a: &Entries, b: &Entries) -> Option<f64> {
    vary(a, b).then(|| cosine(&a.centred, &b.centred)).flatten()
}

/// Spearman: Pearson correlation of mid-ranks.
fn rank_correlation(a: &Entries, b: &Entries) -> Option<f64> {
    vary(a, b).then(|| cosine(&a.centred_ranks, &b.centred_ranks)).flatten()
}

fn vary(a: &Entries, b: &Entries) -> bool {
    a.ranks.groups > 1 && b.ranks.groups > 1
}

/// Ranks of numbers, with ties.
struct Ranks {
    /// The number of the group of tied numbers that each is in, in ascending order.
    group: Vec<u32>,
    /// The mean rank of its group, from 0.
    middle: Vec<f64>,
    /// How many groups there are.
    groups: usize,
}

impl Ranks {
    fn of(values: &[f64]) -> Ranks {
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|&i, &j| values[i].total_cmp(&values[j]));
        let largest = values.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
        let (mut group, mut middle) = (vec![0; values.len()], vec![0.0; values.len()]);
        let (mut groups, mut first) = (0, 0);
        while first < order.len() {
            let mut end = first + 1;
            while end < order.len() && values[order[end]] - values[order[end - 1]] <= TIED * largest {
                end += 1;
            }
            for &i in &order[first..end] {
                group[i] = groups;
                middle[i] = (first + end - 1) as f64 / 2.0;
            }
            groups += 1;
            first = end;
        }
        Ranks { group, middle, groups: groups as usize }
    }
}

fn centred(values: &[f64]) -> Vec<f64> {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    values.iter().map(|x| x - mean).collect()
}

fn cosine(a: &[f64], b: &[f64]) -> Option<f64> {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let norms = dot(a, a).sqrt() * dot(b, b).sqrt();
    (norms > 0.0).then(|| dot(a, b) / norms)
}

/// Kendall's tau a by Knight's algorithm (1966), in the time of sorting: with the pairs in the order of a, and of b where a is
/// tied, the discordant ones are the exchanges that a merge sort by b makes.
fn tau_a(a: &[u32], b: &[u32]) -> f64 {
    let pairs_of = |count: u64| count * count.saturating_sub(1) / 2;
    let mut order: Vec<usize> = (0..a.len()).collect();
    order.sort_by_key(|&i| (a[i], b[i]));
    /// Pairs of equal neighbours in a sorted list, by runs.
    fn tied<K: PartialEq>(sorted: impl Iterator<Item = K>) -> u64 {
        let (mut tied, mut run, mut last) = (0, 0, None);
        for key in sorted {
            run = if last.as_ref() == Some(&key) { run + 1 } else { 0 };
            tied += run; // the newcomer with each that is in the run
            last = Some(key);
        }
        tied
    }
    let tied_a = tied(order.iter().map(|&i| a[i]));
    let tied_both = tied(order.iter().map(|&i| (a[i], b[i])));
    let mut sequence: Vec<u32> = order.iter().map(|&i| b[i]).collect();
    let discordant = exchanges(&mut sequence);
    let tied_b = tied(sequence.iter().copied());
    let all = pairs_of(a.len() as u64);
    let concordant = all + tied_both - tied_a - tied_b - discordant;
    (concordant as f64 - discordant as f64) / all as f64
}

/// Sorts, and counts the pairs i < j with a larger number first.
fn exchanges(values: &mut Vec<u32>) -> u64 {
    let (mut count, mut width, length) = (0, 1, values.len());
    let mut merged = Vec::with_capacity(length);
    while width < length {
        merged.clear();
        for first in (0..length).step_by(2 * width) {
            let (middle, end) = ((first + width).min(length), (first + 2 * width).min(length));
            let (mut i, mut j) = (first, middle);
            while i < middle || j < end {
                if j == end || (i < middle && values[i] <= values[j]) {
                    merged.push(values[i]);
                    i += 1;
                } else {
                    merged.push(values[j]);
                    j += 1;
                    count += (middle - i) as u64;
                }
            }
        }
        std::mem::swap(values, &mut merged);
        width *= 2;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::random::SplitMix64;

    /// All pairs of pairs, one by one.
    fn tau_by_definition(a: &[u32], b: &[u32]) -> f64 {
        let (mut balance, mut all) = (0i64, 0i64);
        for i in 0..a.len() {
            for j in 0..i {
                let sign = |x: &[u32]| (i64::from(x[i]) - i64::from(x[j])).signum();
                balance += sign(a) * sign(b);
                all += 1;
            }
        }
        balance as f64 / all as f64
    }

    #[test]
    fn tau_is_what_the_loop_over_all_pairs_of_pairs_gives() {
        let mut random = SplitMix64::new(3);
        for (count, values) in [(2, 2), (3, 2), (7, 3), (50, 5), (50, 1000), (128, 4), (129, 1)] {
            let mut draw = || (0..count).map(|_| (random.bits() % values) as u32).collect::<Vec<_>>();
            let (a, b) = (draw(), draw());
            assert!((tau_a(&a, &b) - tau_by_definition(&a, &b)).abs() < 1e-15, "{count} of {values}");
        }
    }

    /// Of two matrices.
    fn similarities(a: &Condensed, b: &Condensed) -> [Option<f64>; 4] {
        let both = [a.clone(), b.clone()];
        let both = prepared(&both);
        super::similarities(&both[0], &both[1])
    }

    #[test]
    fn a_network_compared_with_itself() {
        let mut random = SplitMix64::new(5);
        let mut step = |gap: usize| -> Condensed {
            (0..45).map(|i| (i % 9 != gap).then(|| (random.bits() % 50) as f64)).collect()
        };
        let steps = vec![step(3), step(9), step(9), step(3), vec![Some(2.0); 45], vec![None; 45]];
        let rdm = ByMetric { euclidean: steps.clone(), correlation: steps[1..3].to_vec(), cosine: steps };
        assert_eq!(within(&rdm), of(&rdm, &rdm));
    }

    #[test]
    fn ties_and_gaps() {
        let ranks = Ranks::of(&[0.5, 1.0, 1.0 - 5e-7, 0.25, 1.0]);
        assert_eq!((ranks.group, ranks.groups), (vec![1, 2, 2, 0, 2], 3));
        assert_eq!(ranks.middle, [1.0, 3.0, 3.0, 0.0, 3.0]);
        let numbers = |values: [f64; 4]| values.map(Some).to_vec();
        let tied = numbers([0.0; 4]);
        let other = numbers([1.0, 3.0, 2.0, 5.0]);
        assert_eq!(similarities(&tied, &other), [None, None, None, Some(0.0)]);
        assert_eq!(similarities(&numbers([2.0; 4]), &other)[0], None);
        assert!(similarities(&numbers([2.0; 4]), &other)[2].is_some());
        let gaps = vec![Some(1.0), None, Some(2.0), None];
        let found = similarities(&gaps, &other);
        assert!(found.iter().all(|s| s.is_some_and(|s| s > 0.9)), "{found:?}");
        assert_eq!(similarities(&vec![Some(1.0), None, None, None], &other), [None; 4]);
    }
}
