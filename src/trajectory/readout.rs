//! The readout vectors: directions in representation space, their distances, and the Ward tree on these.

use crate::{Error, Result};

/// The weights of a linear readout: one vector of `features` numbers for each class.
#[derive(Clone, Debug)]
pub struct Readout {
    weight: Vec<f64>,
    norms: Vec<f64>,
    features: usize,
}

impl Readout {
    /// Takes `weight` \[K, D\]. Refuses a vector that is all zero, or not finite: it has no direction.
    pub fn new(weight: Vec<f64>, classes: usize, features: usize) -> Result<Readout> {
        if weight.len() != classes * features || weight.is_empty() {
            return Err(Error::Data(format!(
                "readout weight: expected {classes} classes x {features} features, both at least 1, found {} numbers",
                weight.len()
            )));
        }
        let norms: Vec<f64> = weight.chunks_exact(features).map(norm).collect();
        if let Some(class) = norms.iter().position(|norm| !norm.is_finite() || *norm == 0.0) {
            return Err(Error::Data(format!(
                "readout weight: the vector of class {class} has norm {}, expected finite and above 0: without a \
                 direction there is no cosine to it",
                norms[class]
            )));
        }
        Ok(Readout { weight, norms, features })
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.norms.len()
    }

    /// Number of features of a representation.
    pub fn features(&self) -> usize {
        self.features
    }

    /// \[K\]\[D\] The readout vectors.
    pub fn weight(&self) -> &[f64] {
        &self.weight
    }

    /// Cosine of a representation with the readout vector of `class`; NaN for an all-zero representation.
    pub fn cosine(&self, representation: &[f64], class: usize) -> f64 {
        dot(representation, self.vector(class)) / norm(representation) / self.norms[class]
    }

    /// \[K, D\] The readout vectors at unit length.
    pub fn unit_vectors(&self) -> Vec<f32> {
        let unit = |class: usize| self.vector(class).iter().map(move |w| (w / self.norms[class]) as f32);
        (0..self.classes()).flat_map(unit).collect()
    }

    /// \[K\] Lengths of the readout vectors.
    pub fn norms(&self) -> &[f64] {
        &self.norms
    }

    /// \[K\] For each readout vector the least power of two that is not shorter: by it the kernels get the vector divided, which
    /// changes no bit of a product but its exponent, so that no product is longer than the representation.
    pub fn units(&self) -> Vec<f64> {
        self.norms.iter().map(|norm| norm.log2().ceil().exp2()).collect()
    }

    /// \[K, D\] The readout vectors, each divided by its unit: between a half and 1 long.
    pub fn scaled_vectors(&self) -> Vec<f32> {
        let vectors = self.weight.chunks_exact(self.features).zip(self.units());
        vectors.flat_map(|(vector, unit)| vector.iter().map(move |w| (w / unit) as f32)).collect()
    }

    /// \[K\] 1 / length of [`Readout::scaled_vectors`].
    pub fn inverse_lengths(&self) -> Vec<f32> {
        self.units().iter().zip(&self.norms).map(|(unit, norm)| (unit / norm) as f32).collect()
    }

    /// \[K\]\[K\] Distances (1 - cosine)/2, from 0 to 1; exactly 0 on the diagonal.
    pub fn distances(&self) -> Vec<Vec<f64>> {
        let distance = |a: usize, b: usize| {
            let cosine = dot(self.vector(a), self.vector(b)) / (self.norms[a] * self.norms[b]);
            if a == b { 0.0 } else { ((1.0 - cosine) / 2.0).clamp(0.0, 1.0) }
        };
        (0..self.classes()).map(|a| (0..self.classes()).map(|b| distance(a.min(b), a.max(b))).collect()).collect()
    }

    fn vector(&self, class: usize) -> &[f64] {
        &self.weight[class * self.features..][..self.features]
    }
}

/// Euclidean norm.
pub(crate) fn norm(vector: &[f64]) -> f64 {
    dot(vector, vector).sqrt()
}

/// Sum of the products of the elements.
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Ward's minimum-variance clustering on a matrix of distances, in scipy's form: a row for each of the K-1 joins, in
/// order, with the two clusters (below K: a class; K + i: the result of join i; the smaller first), their distance, and
/// the size of the new cluster.
pub fn ward(distances: &[Vec<f64>]) -> Vec<[f64; 4]> {
    let classes = distances.len();
    if classes < 2 {
        return Vec::new();
    }
    let mut condensed: Vec<f64> = (0..classes).flat_map(|a| distances[a][a + 1..].iter().copied()).collect();
    let tree = kodama::linkage(&mut condensed, classes, kodama::Method::Ward);
    tree.steps()
        .iter()
        .map(|step| [step.cluster1 as f64, step.cluster2 as f64, step.dissimilarity, step.size as f64])
        .collect()
}

/// The leaves of a tree as [`ward`] gives it, from left to right: of every join the first cluster, then the second.
pub fn leaves(linkage: &[[f64; 4]]) -> Vec<usize> {
    let classes = linkage.len() + 1;
    let mut leaves = Vec::with_capacity(classes);
    let mut open = vec![2 * classes - 2]; // the last join; for a single class the class itself
    while let Some(cluster) = open.pop() {
        if cluster < classes {
            leaves.push(cluster);
        } else {
            let [first, second, ..] = linkage[cluster - classes];
            open.extend([second as usize, first as usize]);
        }
    }
    leaves
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_directions() {
        // Two vectors 60 degrees apart and one opposite to the first: cosines 1/2, -1, -1/2.
        let third = 3f64.sqrt();
        let readout = Readout::new(vec![2.0, 0.0, 1.0, third, -5.0, 0.0], 3, 2).unwrap();
        let distances = readout.distances();
        for (found, expected) in distances.concat().iter().zip([0.0, 0.25, 1.0, 0.25, 0.0, 0.75, 1.0, 0.75, 0.0]) {
            assert!((found - expected).abs() < 1e-12, "{distances:?}");
        }
        let tree = ward(&distances);
        // Lance-Williams for Ward, with sizes 1, 1 and 1: d^2 = (2 * 1 + 2 * 0.75^2 - 0.25^2) / 3.
        let last = ((2.0 * 1.0 + 2.0 * 0.5625 - 0.0625) / 3f64).sqrt();
        assert_eq!((tree[0][0], tree[0][1], tree[0][3]), (0.0, 1.0, 2.0));
        assert_eq!((tree[1][0], tree[1][1], tree[1][3]), (2.0, 3.0, 3.0));
        assert!((tree[0][2] - 0.25).abs() < 1e-12 && (tree[1][2] - last).abs() < 1e-12, "{tree:?}");
        assert_eq!(leaves(&tree), [2, 0, 1]);
    }

    #[test]
    fn one_class_has_a_tree_of_one_leaf() {
        let readout = Readout::new(vec![1.0, 2.0], 1, 2).unwrap();
        let tree = ward(&readout.distances());
        assert!(tree.is_empty());
        assert_eq!(leaves(&tree), [0]);
    }

    #[test]
    fn vectors_without_direction_are_refused() {
        let zero = Readout::new(vec![1.0, 0.0, 0.0, 0.0], 2, 2).unwrap_err().to_string();
        assert!(zero.contains("class 1"), "{zero}");
        let nan = Readout::new(vec![f64::NAN, 1.0], 2, 1).unwrap_err().to_string();
        assert!(nan.contains("class 0"), "{nan}");
        assert!(Readout::new(vec![1.0; 3], 2, 2).is_err());
    }
}
