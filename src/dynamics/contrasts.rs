//! Contrasts between the stable-correct images that are stable *now* and those that are stable only *later* (groups and
//! statistics of Thorat et al. 2023, arXiv 2308.12435), with their uncertainty over images.
//!
//! Two means of different images ([`TwoMeans`]): standard error and degrees of freedom by Welch (1947), effect size by Hedges
//! (1981). The contrast of cosines with the final readout vector ([`CosFinal`]) compares two means of the *same* images, of which
//! each is in many pairs, so that Welch does not hold: its standard error comes from influences. With h_ij = cos(r_i, w of the
//! label of j) over the B pairs (i, j) of images with the same class and different labels, and other = sum h / B, the influence
//! of image i is
//!
//! phi_i = (own_i - own) / n_own - (row_i + column_i - other (pairs as i + pairs as j)) / B,
//!
//! and se = sqrt(n / (n - 1) sum phi^2). A mean over the window has the same images at several steps: influences are added over
//! steps, then squared. Taking steps as independent would give three quarters of the true standard error.
//!
//! All errors are over images of the same classes and one training run; other seeds or classes need runs of their own.

use super::bootstrap::{self, Rows, replicate, variance};
use super::sets::Sets;
use super::values::{Datum, Later, Values};
use crate::trajectory::definitions::mean;
use serde::Serialize;
use std::collections::BTreeMap;

/// All contrasts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Contrasts {
    /// Norm of r.
    pub norm: TwoMeans,
    /// Cosine of r with the readout vector of its class.
    pub cos_current: TwoMeans,
    /// Margin.
    pub margin: TwoMeans,
    /// Cosine of r with the readout vector of its label, minus that with the vectors of other labels, later.
    pub cos_final: CosFinal,
}

/// \[T\] The value of each image in *now*, minus in *later*.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TwoMeans {
    /// \[T\]\[2\] Images, now and later.
    pub n: Vec<[u64; 2]>,
    /// \[T\]\[2\] Means.
    pub mean: Vec<[Option<f64>; 2]>,
    /// Their difference.
    pub diff: Vec<Option<f64>>,
    /// Its standard error (Welch).
    pub se: Vec<Option<f64>>,
    /// Degrees of freedom (Welch and Satterthwaite).
    pub df: Vec<Option<f64>>,
    /// Hedges' g: the difference in pooled standard deviations, corrected for few images.
    pub g: Vec<Option<f64>>,
    /// The bootstrap.
    #[serde(flatten)]
    pub boot: Boot,
}

/// \[T\] Own minus other, over the images that are stable only later.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CosFinal {
    /// \[T\]\[2\] Images; pairs.
    pub n: Vec<[u64; 2]>,
    /// \[T\]\[2\] Mean over images of the cosine with the vector of the own label; mean over pairs.
    pub mean: Vec<[Option<f64>; 2]>,
    /// Their difference.
    pub diff: Vec<Option<f64>>,
    /// Its standard error, from influences.
    pub se: Vec<Option<f64>>,
    /// Images with a pair.
    pub image_n: Vec<u64>,
    /// Mean over them of the own cosine minus the mean of the image's pairs.
    pub image_diff: Vec<Option<f64>>,
    /// Its standard error.
    pub image_se: Vec<Option<f64>>,
    /// The same in standard deviations, corrected for few images.
    pub dz: Vec<Option<f64>>,
    /// The bootstrap.
    #[serde(flatten)]
    pub boot: Boot,
}

/// \[T\] What the bootstrap says of a difference.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Boot {
    /// Replicates in which it is defined.
    pub boot_defined: Vec<u64>,
    /// Standard error.
    pub boot_se: Vec<Option<f64>>,
    /// \[T\]\[2\] Interval.
    pub boot_ci: Vec<[Option<f64>; 2]>,
    /// Its mean over the window.
    pub window: Window,
}

/// The mean of a difference over the rows of the window in which both means are defined.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Window {
    /// These timesteps.
    pub steps: Vec<usize>,
    /// The mean.
    pub diff: Option<f64>,
    /// Its standard error, from influences.
    pub se: Option<f64>,
    /// \[R\] The mean in each replicate.
    pub replicates: Vec<Option<f64>>,
    /// Standard error by the bootstrap.
    pub boot_se: Option<f64>,
    /// Interval by the bootstrap.
    pub boot_ci: [Option<f64>; 2],
}

/// A difference at one timestep.
#[derive(Clone, Debug, Default)]
struct Difference {
    n: [u64; 2],
    mean: [Option<f64>; 2],
    se: Option<f64>,
    /// Influence of each image that has one, scaled so that the squares add up to se^2; empty where se is undefined.
    influence: Vec<(usize, f64)>,
}

impl Difference {
    fn diff(&self) -> Option<f64> {
        Some(self.mean[0]? - self.mean[1]?)
    }
}

/// The contrasts of a network; intervals have coverage `level`.
pub fn of(values: &Values, sets: &Sets, replicates: &[Vec<u8>], level: f64) -> Contrasts {
    let data = [Datum::Norm, Datum::CosCurrent, Datum::Margin];
    let drawn = draw_two_means(values, sets, data, replicates);
    let mut measured = data.into_iter().zip(drawn).map(|(of, drawn)| two_means(values, sets, of, drawn, level));
    let mut next = || measured.next().expect("one for each");
    Contrasts {
        norm: next(),
        cos_current: next(),
        margin: next(),
        cos_final: cos_final(values, sets, replicates, level),
    }
}

fn two_means(values: &Values, sets: &Sets, of: Datum, drawn: Vec<Vec<Option<f64>>>, level: f64) -> TwoMeans {
    let mut all =
        TwoMeans { n: vec![], mean: vec![], diff: vec![], se: vec![], df: vec![], g: vec![], boot: Boot::nothing() };
    let mut steps = Vec::new();
    for t in 0..values.timesteps {
        let value = |i: usize| Some((i, values.get(of, t, i)?));
        let now: Vec<(usize, f64)> = (0..values.samples).filter(|&i| sets.now(t, i)).filter_map(value).collect();
        let later: Vec<(usize, f64)> = (0..values.samples).filter(|&i| sets.later(t, i)).filter_map(value).collect();
        let both = [&now, &later].map(|set| set.iter().map(|(_, x)| *x).collect::<Vec<f64>>());
        let [n1, n2] = [now.len() as f64, later.len() as f64];
        let mean = [0, 1].map(|set| mean(both[set].iter().copied()));
        let variances = variance(&both[0]).zip(variance(&both[1]));
        let mut step = Difference { n: [now.len() as u64, later.len() as u64], mean, ..Difference::default() };
        if let (Some((v1, v2)), [Some(m1), Some(m2)]) = (variances, mean) {
            step.se = Some((v1 / n1 + v2 / n2).sqrt());
            let influence = |x: f64, mean: f64, n: f64| (x - mean) / (n * (n - 1.0)).sqrt();
            step.influence.extend(now.iter().map(|&(i, x)| (i, influence(x, m1, n1))));
            step.influence.extend(later.iter().map(|&(i, x)| (i, -influence(x, m2, n2))));
        }
        let vary = variances.filter(|(v1, v2)| *v1 > 0.0 || *v2 > 0.0);
        let (e1, e2) = vary.map_or((0.0, 0.0), |(v1, v2)| (v1 / n1, v2 / n2));
        all.df.push(vary.map(|_| (e1 + e2).powi(2) / (e1 * e1 / (n1 - 1.0) + e2 * e2 / (n2 - 1.0))));
        let pooled = vary.map(|(v1, v2)| (((n1 - 1.0) * v1 + (n2 - 1.0) * v2) / (n1 + n2 - 2.0)).sqrt());
        let correction = 1.0 - 3.0 / (4.0 * (n1 + n2 - 2.0) - 1.0);
        all.g.push(pooled.zip(step.diff()).map(|(sd, diff)| correction * diff / sd));
        steps.push(step);
    }
    all.n = steps.iter().map(|step| step.n).collect();
    all.mean = steps.iter().map(|step| step.mean).collect();
    all.diff = steps.iter().map(Difference::diff).collect();
    all.se = steps.iter().map(|step| step.se).collect();
    all.boot = Boot::of(values, sets, &steps, &drawn, level);
    all
}

/// \[data\]\[R\]\[T\] The differences in all replicates.
fn draw_two_means<const M: usize>(
    values: &Values,
    sets: &Sets,
    data: [Datum; M],
    replicates: &[Vec<u8>],
) -> [Vec<Vec<Option<f64>>>; M] {
    let steps = values.timesteps;
    // Of every stable-correct image the values and, for the number of draws with one, whether they are defined. Images with the
    // same t_stable are in the same set at every timestep.
    let mut rows = Rows::new(2 * M * steps, steps);
    for i in 0..values.samples {
        let Some(since) = sets.since[i] else { continue };
        let cells = || data.iter().flat_map(|&of| (0..steps).map(move |t| values.get(of, t, i)));
        rows.push(i, since, cells().map(|x| x.unwrap_or(0.0)).chain(cells().map(|x| f64::from(u8::from(x.is_some())))));
    }
    let drawn = replicate(replicates, |counts| {
        let sums = rows.sums(counts);
        let mean = |of: usize, t: usize, since: std::ops::Range<usize>| {
            let column = |kind: usize| (kind * M + of) * steps + t;
            let sum = |kind: usize| since.clone().map(|s| sums[s * 2 * M * steps + column(kind)]).sum::<f64>();
            (sum(1) > 0.0).then(|| sum(0) / sum(1))
        };
        let difference = |of: usize, t: usize| Some(mean(of, t, 0..t + 1)? - mean(of, t, t + 1..steps)?);
        std::array::from_fn::<Vec<Option<f64>>, M, _>(|of| (0..steps).map(|t| difference(of, t)).collect())
    });
    std::array::from_fn(|of| drawn.iter().map(|replicate| replicate[of].clone()).collect())
}

/// The images that are later at one timestep and have one class at it. Pairs are those of different labels among them.
struct Cell {
    members: Vec<Member>,
    /// Labels that occur among them.
    labels: usize,
    /// \[members\]\[labels\] Cosines with the readout vectors of these labels; 0 where the member is silent.
    cosines: Vec<f64>,
}

struct Member {
    image: usize,
    /// Number of its label among the cell's.
    label: usize,
    /// Whether r is other than 0: a silent image has no cosine, but others have one with the vector of its label.
    voiced: bool,
    /// Its cosine with the vector of its label.
    own: f64,
}

impl Cell {
    /// All cells of a timestep.
    fn all(values: &Values, t: usize) -> Vec<Cell> {
        let later: &Later = values.later(t);
        let mut by_class: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (row, &image) in later.images.iter().enumerate() {
            by_class.entry(values.class(t, image)).or_default().push(row);
        }
        let cell = |rows: &Vec<usize>| {
            let mut labels: Vec<usize> = rows.iter().map(|&row| values.labels[later.images[row]]).collect();
            labels.sort_unstable();
            labels.dedup();
            let mut cell = Cell { members: Vec::new(), labels: labels.len(), cosines: Vec::new() };
            for &row in rows {
                let image = later.images[row];
                let label = labels.binary_search(&values.labels[image]).expect("it is one of them");
                let cosines = &later.cosines[row * values.classes..][..values.classes];
                let own = cosines[labels[label]];
                cell.members.push(Member { image, label, voiced: !own.is_nan(), own });
                cell.cosines.extend(labels.iter().map(|&k| if own.is_nan() { 0.0 } else { cosines[k] }));
            }
            cell
        };
        by_class.values().map(cell).collect()
    }

    fn rows(&self) -> impl Iterator<Item = (&Member, &[f64])> {
        self.members.iter().zip(self.cosines.chunks_exact(self.labels))
    }

    /// Sums over members and pairs, each counted `count` times (pairs: the product of both counts).
    fn sums(&self, count: impl Fn(&Member) -> f64) -> Sums {
        let mut of = Sums {
            labelled: vec![0.0; self.labels],
            voiced: vec![0.0; self.labels],
            toward: vec![0.0; self.labels],
            ..Sums::default()
        };
        for (member, cosines) in self.rows() {
            let count = count(member);
            if count == 0.0 {
                continue;
            }
            of.labelled[member.label] += count;
            if member.voiced {
                of.voiced[member.label] += count;
                of.toward.iter_mut().zip(cosines).for_each(|(sum, cosine)| *sum += count * cosine);
                of.toward[member.label] -= count * member.own;
                of.own += count * member.own;
            }
        }
        let (all, voiced) = (of.labelled.iter().sum::<f64>(), of.voiced.iter().sum::<f64>());
        of.members = voiced;
        of.pairs = voiced * all - of.voiced.iter().zip(&of.labelled).map(|(v, n)| v * n).sum::<f64>();
        of.other = of.labelled.iter().zip(&of.toward).map(|(n, sum)| n * sum).sum();
        of
    }
}

/// Sums over a cell.
#[derive(Clone, Debug, Default)]
struct Sums {
    /// \[labels\] Members with each label.
    labelled: Vec<f64>,
    /// \[labels\] Those of them that are not silent.
    voiced: Vec<f64>,
    /// \[labels\] Sum of the cosines with this label's vector over the members with another label.
    toward: Vec<f64>,
    /// Members that are not silent, and sum of their own cosines.
    members: f64,
    own: f64,
    /// Pairs, and sum of their cosines.
    pairs: f64,
    other: f64,
}

fn cos_final(values: &Values, sets: &Sets, replicates: &[Vec<u8>], level: f64) -> CosFinal {
    let mut all = CosFinal {
        n: vec![],
        mean: vec![],
        diff: vec![],
        se: vec![],
        image_n: vec![],
        image_diff: vec![],
        image_se: vec![],
        dz: vec![],
        boot: Boot::nothing(),
    };
    let cells: Vec<Vec<Cell>> = (0..values.timesteps).map(|t| Cell::all(values, t)).collect();
    let mut steps = Vec::new();
    for cells in &cells {
        let sums: Vec<Sums> = cells.iter().map(|cell| cell.sums(|_| 1.0)).collect();
        let total = |of: fn(&Sums) -> f64| sums.iter().map(of).sum::<f64>();
        let (n, pairs) = (total(|s| s.members), total(|s| s.pairs));
        let own = (n > 0.0).then(|| total(|s| s.own) / n);
        let other = (pairs > 0.0).then(|| total(|s| s.other) / pairs);
        let mut step = Difference { n: [n as u64, pairs as u64], mean: [own, other], ..Difference::default() };

        let (mut influence, mut paired) = (Vec::new(), Vec::new());
        for (cell, sums) in cells.iter().zip(&sums) {
            let (members, voiced) = (sums.labelled.iter().sum::<f64>(), sums.members);
            for (member, cosines) in cell.rows() {
                // What the image adds as i, by its cosines, and as j, by its label.
                let own_label = sums.labelled[member.label];
                let as_i = if member.voiced { members - own_label } else { 0.0 };
                let row = cosines.iter().zip(&sums.labelled).map(|(cosine, n)| cosine * n).sum::<f64>();
                let row = if member.voiced { row - member.own * own_label } else { 0.0 };
                let as_j = voiced - sums.voiced[member.label];
                let column = sums.toward[member.label];
                if let (Some(own), Some(other)) = (own, other) {
                    let of_own = if member.voiced { (member.own - own) / n } else { 0.0 };
                    let of_other = (row + column - other * (as_i + as_j)) / pairs;
                    influence.push((member.image, of_own - of_other));
                }
                if as_i > 0.0 {
                    paired.push(member.own - row / as_i);
                }
            }
        }
        if influence.len() > 1 {
            let images = influence.len() as f64; // the silent ones too: pairs need their labels
            let scale = (images / (images - 1.0)).sqrt();
            step.influence = influence.into_iter().map(|(image, phi)| (image, scale * phi)).collect();
            step.se = Some(step.influence.iter().map(|(_, phi)| phi * phi).sum::<f64>().sqrt());
        }
        let m = paired.len() as f64;
        let (mean_paired, variance) = (mean(paired.iter().copied()), variance(&paired));
        let vary = variance.filter(|&v| v > 0.0 && paired.len() > 2);
        all.image_n.push(paired.len() as u64);
        all.image_diff.push(mean_paired);
        all.image_se.push(variance.map(|v| (v / m).sqrt()));
        all.dz.push(vary.zip(mean_paired).map(|(v, mean)| (1.0 - 3.0 / (4.0 * m - 5.0)) * mean / v.sqrt()));
        steps.push(step);
    }
    let drawn = replicate(replicates, |counts| {
        let difference = |cells: &Vec<Cell>| {
            let of = |cell: &Cell| cell.sums(|member| f64::from(counts[member.image]));
            let [n, own, pairs, other] = cells.iter().map(of).fold([0.0; 4], |[n, own, pairs, other], s| {
                [n + s.members, own + s.own, pairs + s.pairs, other + s.other]
            });
            (n > 0.0 && pairs > 0.0).then(|| own / n - other / pairs)
        };
        cells.iter().map(difference).collect::<Vec<_>>()
    });
    all.n = steps.iter().map(|step| step.n).collect();
    all.mean = steps.iter().map(|step| step.mean).collect();
    all.diff = steps.iter().map(Difference::diff).collect();
    all.se = steps.iter().map(|step| step.se).collect();
    all.boot = Boot::of(values, sets, &steps, &drawn, level);
    all
}

impl Boot {
    fn nothing() -> Boot {
        let (boot_defined, boot_se, boot_ci) = (Vec::new(), Vec::new(), Vec::new());
        let (steps, replicates) = (Vec::new(), Vec::new());
        let window = Window { steps, diff: None, se: None, replicates, boot_se: None, boot_ci: [None; 2] };
        Boot { boot_defined, boot_se, boot_ci, window }
    }

    /// `drawn` \[R\]\[T\] are the differences in all replicates.
    fn of(values: &Values, sets: &Sets, steps: &[Difference], drawn: &[Vec<Option<f64>>], level: f64) -> Boot {
        let spreads: Vec<_> = (0..values.timesteps)
            .map(|t| bootstrap::spread(drawn.iter().map(|replicate| replicate[t]), level))
            .collect();
        Boot {
            boot_defined: spreads.iter().map(|spread| spread.defined).collect(),
            boot_se: spreads.iter().map(|spread| spread.se).collect(),
            boot_ci: spreads.iter().map(|spread| spread.interval).collect(),
            window: Window::of(sets, steps, drawn, level),
        }
    }
}

impl Window {
    fn of(sets: &Sets, all: &[Difference], drawn: &[Vec<Option<f64>>], level: f64) -> Window {
        let steps: Vec<usize> =
            (0..sets.window.unwrap_or(0).min(all.len())).filter(|&t| all[t].diff().is_some()).collect();
        let mut influence: BTreeMap<usize, f64> = BTreeMap::new();
        for &(image, phi) in steps.iter().flat_map(|&t| &all[t].influence) {
            *influence.entry(image).or_default() += phi;
        }
        let known = !steps.is_empty() && steps.iter().all(|&t| all[t].se.is_some());
        let se = || influence.values().map(|phi| phi * phi).sum::<f64>().sqrt() / steps.len() as f64;
        let whole = |of: &dyn Fn(usize) -> Option<f64>| mean(steps.iter().map(|&t| of(t)).collect::<Option<Vec<_>>>()?);
        let replicates: Vec<Option<f64>> = drawn.iter().map(|replicate| whole(&|t| replicate[t])).collect();
        let spread = bootstrap::spread(replicates.iter().copied(), level);
        Window {
            diff: whole(&|t| all[t].diff()),
            se: known.then(se),
            replicates,
            boot_se: spread.se,
            boot_ci: spread.interval,
            steps,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dynamics::Wants;
    use crate::dynamics::parameters::bootstrap_counts;
    use crate::reference::random::normal;
    use crate::trajectory::npz::Extraction;

    /// 60 images that drift from class to class, of which some are silent at step 1.
    fn example() -> Extraction {
        let [timesteps, samples, classes, features] = [4, 60, 3, 5];
        let numbers = |seed: u64, count: usize| normal(seed, count).into_iter().map(f64::from).collect::<Vec<_>>();
        let mut representations = numbers(1, timesteps * samples * features);
        let mut outputs = numbers(2, timesteps * samples * classes);
        let labels: Vec<usize> = (0..samples).map(|i| i * 5 % classes).collect();
        for i in 0..samples {
            if i % 9 == 0 {
                representations[(samples + i) * features..][..features].fill(0.0);
            }
            for t in 2..timesteps {
                outputs[(t * samples + i) * classes + labels[i]] += 2.0;
            }
        }
        let readout_weight = numbers(3, classes * features);
        Extraction {
            timesteps,
            samples,
            classes,
            features,
            outputs,
            labels,
            representations,
            readout_weight,
            readout_bias: None,
        }
    }

    /// Own minus other with each image counted so often, by loops over all pairs; and the influence of each image.
    fn by_pairs(values: &Values, t: usize, counts: &[f64]) -> (f64, Vec<f64>) {
        let later = values.later(t);
        let n = later.images.len();
        let label = |row: usize| values.labels[later.images[row]];
        let class = |row: usize| values.class(t, later.images[row]);
        let count = |row: usize| counts[later.images[row]];
        let cosine = |i: usize, j: usize| later.cosines[i * values.classes + label(j)];
        let voiced = |row: usize| !cosine(row, row).is_nan();
        let pair = |i: usize, j: usize| voiced(i) && class(i) == class(j) && label(i) != label(j);
        let (mut own, mut n_own, mut other, mut pairs) = (0.0, 0.0, 0.0, 0.0);
        for i in 0..n {
            if voiced(i) {
                own += count(i) * cosine(i, i);
                n_own += count(i);
            }
            for j in (0..n).filter(|&j| pair(i, j)) {
                other += count(i) * count(j) * cosine(i, j);
                pairs += count(i) * count(j);
            }
        }
        let (own, other) = (own / n_own, other / pairs);
        let influence = |i: usize| {
            let of_own = if voiced(i) { (cosine(i, i) - own) / n_own } else { 0.0 };
            let as_i = (0..n).filter(|&j| pair(i, j)).map(|j| cosine(i, j) - other);
            let as_j = (0..n).filter(|&j| pair(j, i)).map(|j| cosine(j, i) - other);
            of_own - as_i.chain(as_j).sum::<f64>() / pairs
        };
        (own - other, (0..n).map(influence).collect())
    }

    #[test]
    fn tables_by_class_and_label_are_loops_over_pairs() {
        let values = Values::exact(&example(), &Wants::all()).unwrap();
        let sets = Sets::new(&values);
        let replicates = bootstrap_counts(5, 20, values.samples);
        let found = of(&values, &sets, &replicates, 0.9).cos_final;
        assert!(found.n[0][1] > 20 && found.n[1][0] < values.later(1).images.len() as u64, "{:?}", found.n);
        for t in 0..2 {
            let (diff, influence) = by_pairs(&values, t, &vec![1.0; values.samples]);
            let n = influence.len() as f64;
            let se = (n / (n - 1.0) * influence.iter().map(|phi| phi * phi).sum::<f64>()).sqrt();
            assert!((found.diff[t].unwrap() - diff).abs() < 1e-12 && (found.se[t].unwrap() - se).abs() < 1e-12);
            let counted = |counts: &Vec<u8>| counts.iter().map(|&count| f64::from(count)).collect::<Vec<_>>();
            let drawn = replicates.iter().map(|counts| Some(by_pairs(&values, t, &counted(counts)).0));
            let expected = bootstrap::spread(drawn, 0.9);
            assert!((found.boot.boot_se[t].unwrap() - expected.se.unwrap()).abs() < 1e-12);
            assert!((found.boot.boot_ci[t][1].unwrap() - expected.interval[1].unwrap()).abs() < 1e-12);
        }
    }

    #[test]
    fn two_means_drawn_once_each_are_the_sample() {
        let values = Values::exact(&example(), &Wants::all()).unwrap();
        let sets = Sets::new(&values);
        let found = of(&values, &sets, &[vec![1; values.samples], vec![2; values.samples]], 0.95);
        for of in [&found.norm, &found.cos_current, &found.margin] {
            assert!(of.diff.iter().any(Option::is_some));
            for t in 0..values.timesteps {
                let Some(diff) = of.diff[t] else { continue };
                assert_eq!(of.boot.boot_defined[t], 2);
                let [low, high] = of.boot.boot_ci[t].map(Option::unwrap);
                assert!((low - diff).abs() < 1e-12 && (high - diff).abs() < 1e-12);
            }
        }
    }
}
