//! What the measures are made from: a few numbers for every image and timestep, of one network.
//!
//! [`Values::exact`] computes them in f64 from stored arrays, as they are defined; it is the truth for
//! [`super::gpu::ValuesStream`] and [`crate::trajectory::measured`], whose kernels compute the same in f32. The measures themselves are
//! finished from `Values` in f64, whichever of the two they come from.
//!
//! Notation of the whole folder: T timesteps, N images, K classes, D features; r is the representation that the readout sees,
//! w and b are weight and bias of the readout (b = 0 without one), y is the label of an image, and c its class at a timestep:
//! the first arg-max of the outputs.

use super::sets::Sets;
use crate::Result;
use crate::stream::Order;
use crate::trajectory::definitions::first_arg_max;
use crate::trajectory::npz::Extraction;
use crate::trajectory::readout::{dot, norm};

/// A number that every image has at every timestep, if it is defined there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datum {
    /// Signed distance of r to the nearest face of the zone of c: the least ((w_c - w_k).r + b_c - b_k) / |w_c - w_k| over the
    /// classes k other than c. It is computed from r, w and b, and so it is negative where the outputs say another
    /// class than the readout does. Identical readout vectors have no face between them. Undefined where there is no face.
    Margin,
    /// The same for the zone of the label, and so negative outside of it.
    LabelMargin,
    /// Euclidean norm of r.
    Norm,
    /// Entropy of p = softmax(outputs), -sum p ln p, in nats.
    Entropy,
    /// Largest element of p.
    Confidence,
    /// Cosine of r with the readout vector of c. Undefined for r = 0.
    CosCurrent,
    /// Length of the step to the next timestep, |r(t+1) - r(t)|; T - 1 rows.
    Step,
    /// Distance to the last representation, |r(T-1) - r(t)|. Its first row is the displacement.
    ToFinal,
    /// Angle in degrees between the step to the next timestep and the step after it; T - 2 rows. Undefined where one of the two
    /// has no length.
    Turning,
}

impl Datum {
    /// All, in the order of their numbers.
    pub const ALL: [Datum; 9] = [
        Datum::Margin,
        Datum::LabelMargin,
        Datum::Norm,
        Datum::Entropy,
        Datum::Confidence,
        Datum::CosCurrent,
        Datum::Step,
        Datum::ToFinal,
        Datum::Turning,
    ];

    /// Timesteps at which there is such a number.
    pub fn rows(self, timesteps: usize) -> usize {
        match self {
            Datum::Step => timesteps.saturating_sub(1),
            Datum::Turning => timesteps.saturating_sub(2),
            _ => timesteps,
        }
    }
}

/// What is to be computed besides the classes, which always are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wants {
    /// The numbers.
    pub data: Vec<Datum>,
    /// Whether the cosines of the images that are not stable yet are wanted: see [`Later`].
    pub later: bool,
    /// Whether the classes of the untrained network are wanted too, where it is streamed.
    pub untrained: bool,
}

impl Wants {
    /// Everything.
    pub fn all() -> Wants {
        Wants { data: Datum::ALL.to_vec(), later: true, untrained: true }
    }

    /// Only the classes, of both networks.
    pub fn classes() -> Wants {
        Wants { data: Vec::new(), later: false, untrained: true }
    }
}

/// At one timestep, the stable-correct images that are stable only later.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Later {
    /// Their numbers, ascending.
    pub images: Vec<usize>,
    /// \[images\]\[K\] Cosines of r with all readout vectors; NaN for r = 0.
    pub cosines: Vec<f64>,
}

/// The numbers of one network.
#[derive(Clone, Debug, PartialEq)]
pub struct Values {
    /// T.
    pub timesteps: usize,
    /// N.
    pub samples: usize,
    /// K.
    pub classes: usize,
    /// \[N\] Labels, each below K.
    pub labels: Vec<usize>,
    /// \[T\]\[N\] Class at each timestep, below K.
    pub class: Vec<u32>,
    /// For each datum, if it was wanted, \[rows\]\[N\]; NaN where it is undefined.
    pub(super) tables: [Vec<f64>; Datum::ALL.len()],
    /// \[T\], if they were wanted.
    pub(super) later: Vec<Later>,
}

impl Values {
    /// \[rows\]\[N\] A datum of all images, if it was wanted; NaN where it is undefined.
    pub fn rows(&self, datum: Datum) -> Vec<Vec<f64>> {
        self.tables[datum as usize].chunks_exact(self.samples).map(<[f64]>::to_vec).collect()
    }

    /// The classes alone, as [`Wants::classes`] asks for them.
    pub fn only_classes(self) -> Values {
        Values { tables: Default::default(), later: Vec::new(), ..self }
    }

    /// The same with all images in data order, where they came in the order of a stream.
    pub fn in_data_order(self, order: &Order) -> Values {
        let rows = |values: &[f64]| values.chunks_exact(self.samples).flat_map(|row| order.restore(row)).collect();
        let later = |of: &Later| {
            let mut images: Vec<(usize, usize)> =
                of.images.iter().enumerate().map(|(row, &image)| (order.ids()[image] as usize, row)).collect();
            images.sort_unstable();
            let cosines = |row: usize| of.cosines[row * self.classes..][..self.classes].iter().copied();
            Later {
                cosines: images.iter().flat_map(|&(_, row)| cosines(row)).collect(),
                images: images.into_iter().map(|(image, _)| image).collect(),
            }
        };
        Values {
            labels: order.restore(&self.labels),
            class: self.class.chunks_exact(self.samples).flat_map(|row| order.restore(row)).collect(),
            tables: self.tables.each_ref().map(|table| rows(table)),
            later: self.later.iter().map(later).collect(),
            ..self
        }
    }

    /// Computes the numbers in f64, as they are defined.
    ///
    /// # Errors
    /// A readout vector that is all zero.
    pub fn exact(of: &Extraction, wants: &Wants) -> Result<Values> {
        let (timesteps, samples, classes) = (of.timesteps, of.samples, of.classes);
        let readout = of.readout()?;
        let each = |rows: usize, value: &dyn Fn(usize, usize) -> f64| -> Vec<f64> {
            (0..rows).flat_map(|t| (0..samples).map(move |i| value(t, i))).collect()
        };
        let class_of = |t: usize, i: usize| first_arg_max(of.output(t, i)).expect("there is a class");
        let class: Vec<u32> = (0..timesteps).flat_map(|t| (0..samples).map(move |i| class_of(t, i) as u32)).collect();
        let current = |t: usize, i: usize| class[t * samples + i] as usize;
        let r = |t: usize, i: usize| of.representation(t, i);
        let margins = Margins::new(of);
        let last = timesteps - 1;
        let mut values = Values {
            timesteps,
            samples,
            classes,
            labels: of.labels.clone(),
            class: class.clone(),
            tables: Default::default(),
            later: Vec::new(),
        };
        for &datum in &wants.data {
            let value: &dyn Fn(usize, usize) -> f64 = match datum {
                Datum::Margin => &|t, i| margins.of(r(t, i), current(t, i)),
                Datum::LabelMargin => &|t, i| margins.of(r(t, i), of.labels[i]),
                Datum::Norm => &|t, i| norm(r(t, i)),
                Datum::Entropy => &|t, i| certainty(of.output(t, i)).0,
                Datum::Confidence => &|t, i| certainty(of.output(t, i)).1,
                Datum::CosCurrent => &|t, i| readout.cosine(r(t, i), current(t, i)),
                Datum::Step => &|t, i| norm(&minus(r(t + 1, i), r(t, i))),
                Datum::ToFinal => &|t, i| norm(&minus(r(last, i), r(t, i))),
                Datum::Turning => &|t, i| angle(&minus(r(t + 1, i), r(t, i)), &minus(r(t + 2, i), r(t + 1, i))),
            };
            values.tables[datum as usize] = each(datum.rows(timesteps), value);
        }
        if wants.later {
            let sets = Sets::new(&values);
            let later = |t: usize| {
                let images: Vec<usize> = (0..samples).filter(|&i| sets.later(t, i)).collect();
                let cosines = images.iter().flat_map(|&i| (0..classes).map(move |k| (i, k)));
                let cosines = cosines.map(|(i, k)| readout.cosine(r(t, i), k)).collect();
                Later { images, cosines }
            };
            values.later = (0..timesteps).map(later).collect();
        }
        Ok(values)
    }

    /// The class of an image.
    pub fn class(&self, t: usize, image: usize) -> usize {
        self.class[t * self.samples + image] as usize
    }

    /// Whether the class of an image is its label.
    pub fn correct(&self, t: usize, image: usize) -> bool {
        self.class(t, image) == self.labels[image]
    }

    /// \[N\] A number at one timestep, NaN where it is undefined. Panics where it was not wanted.
    pub fn row(&self, of: Datum, t: usize) -> &[f64] {
        &self.tables[of as usize][t * self.samples..][..self.samples]
    }

    /// A number of one image at one timestep, if it is defined. Panics where it was not wanted.
    pub fn get(&self, of: Datum, t: usize, image: usize) -> Option<f64> {
        Some(self.row(of, t)[image]).filter(|value| !value.is_nan())
    }

    /// The margin divided by |r|: without bias the sine of the angle to the boundary. Undefined for r = 0.
    pub fn relative_margin(&self, t: usize, image: usize) -> Option<f64> {
        let norm = self.get(Datum::Norm, t, image).filter(|&norm| norm > 0.0)?;
        Some(self.get(Datum::Margin, t, image)? / norm)
    }

    /// The images that are stable only after a timestep. Panics where they were not wanted.
    pub fn later(&self, t: usize) -> &Later {
        &self.later[t]
    }
}

/// Distances to the faces of zones.
struct Margins<'a> {
    of: &'a Extraction,
    /// \[K\]\[K\] |w_c - w_k|.
    gaps: Vec<f64>,
}

impl<'a> Margins<'a> {
    fn new(of: &'a Extraction) -> Margins<'a> {
        let pairs = (0..of.classes).flat_map(|c| (0..of.classes).map(move |k| (c, k)));
        let gaps = pairs.map(|(c, k)| norm(&minus(vector(of, c), vector(of, k)))).collect();
        Margins { of, gaps }
    }

    /// The signed distance of r to the nearest face of the zone of class c; NaN where the zone has no face.
    fn of(&self, r: &[f64], c: usize) -> f64 {
        let bias = |k: usize| self.of.readout_bias.as_ref().map_or(0.0, |bias| bias[k]);
        let faces = (0..self.of.classes).filter(|&k| self.gaps[c * self.of.classes + k] > 0.0);
        let distance = |k: usize| {
            let difference = dot(&minus(vector(self.of, c), vector(self.of, k)), r) + bias(c) - bias(k);
            difference / self.gaps[c * self.of.classes + k]
        };
        faces.map(distance).fold(f64::NAN, f64::min)
    }
}

/// The readout vector of a class.
fn vector(of: &Extraction, class: usize) -> &[f64] {
    &of.readout_weight[class * of.features..][..of.features]
}

fn minus(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

/// Entropy in nats and largest element of softmax(outputs). Both terms of the entropy are at least 0, so that rounding never
/// makes it negative.
fn certainty(outputs: &[f64]) -> (f64, f64) {
    let largest = outputs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = outputs.iter().map(|o| (o - largest).exp()).sum();
    // A class so far behind that its probability is 0 adds 0, however far it is.
    let terms = outputs.iter().map(|o| (largest - o, (o - largest).exp())).filter(|(_, e)| *e > 0.0);
    (sum.ln() + terms.map(|(behind, e)| behind * e).sum::<f64>() / sum, 1.0 / sum)
}

/// Angle between two vectors in degrees; NaN where one of them has no length. The arc cosine of the normalised product would lose
/// half of the digits near 0 and 180 degrees; Kahan's form (2006, "How futile are mindless assessments of roundoff") does not.
fn angle(a: &[f64], b: &[f64]) -> f64 {
    let (length_a, length_b) = (norm(a), norm(b));
    if length_a == 0.0 || length_b == 0.0 {
        return f64::NAN;
    }
    let unit = a.iter().zip(b).map(|(a, b)| (a / length_a, b / length_b));
    let (differences, sums): (Vec<f64>, Vec<f64>) = unit.map(|(a, b)| (a - b, a + b)).unzip();
    2.0 * norm(&differences).atan2(norm(&sums)).to_degrees()
}

#[cfg(test)]
pub(super) mod made_up {
    use super::*;

    /// Images with these classes at each timestep, and these labels; no numbers.
    pub fn with_classes(sequences: &[&[u32]], labels: &[usize], classes: usize) -> Values {
        let (timesteps, samples) = (sequences[0].len(), sequences.len());
        let class = (0..timesteps).flat_map(|t| sequences.iter().map(move |of| of[t])).collect();
        let (labels, tables, later) = (labels.to_vec(), Default::default(), Vec::new());
        Values { timesteps, samples, classes, labels, class, tables, later }
    }

    /// The same with one number for each image and timestep, \[N\]\[T\].
    pub fn with_numbers(mut values: Values, of: Datum, numbers: &[&[f64]]) -> Values {
        let row = |t: usize| numbers.iter().map(move |image| image[t]);
        values.tables[of as usize] = (0..of.rows(values.timesteps)).flat_map(row).collect();
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn angles_keep_their_digits() {
        assert_eq!(angle(&[1.0, 0.0], &[2.0, 0.0]), 0.0);
        assert_eq!(angle(&[1.0, 0.0], &[-3.0, 0.0]), 180.0);
        assert!((angle(&[1.0, 0.0], &[0.0, 0.5]) - 90.0).abs() < 1e-12);
        assert!((angle(&[1.0, 0.0], &[1.0, 1e-9]) - 1e-9_f64.to_degrees()).abs() < 1e-20);
        assert!(angle(&[0.0, 0.0], &[1.0, 0.0]).is_nan());
    }

    #[test]
    fn entropy_is_never_negative_and_takes_any_outputs() {
        for outputs in [vec![0.0, -1e300], vec![700.0, 0.0, -700.0], vec![1e300, -1e300], vec![-3.0]] {
            let (entropy, confidence) = certainty(&outputs);
            assert!((0.0..1e-12).contains(&entropy) && (confidence - 1.0).abs() < 1e-12, "{outputs:?}: {entropy}");
        }
        let (entropy, confidence) = certainty(&[5.0; 4]);
        assert!((entropy - 4_f64.ln()).abs() < 1e-15 && confidence == 0.25);
    }

    /// Two zones of the plane that meet at x = 1, and a third whose readout vector is that of the first.
    #[test]
    fn margins_are_distances_to_faces() {
        let of = Extraction {
            timesteps: 1,
            samples: 2,
            classes: 3,
            features: 2,
            outputs: vec![1.0, 0.0, 0.0, 0.0, 1.0, 0.0],
            labels: vec![1, 2],
            representations: vec![-1.0, 5.0, 4.0, 5.0],
            readout_weight: vec![-1.0, 1.0, 1.0, 1.0, -1.0, 1.0],
            readout_bias: Some(vec![2.0, 0.0, 7.0]),
        };
        let found = Values::exact(&of, &Wants::all()).unwrap();
        // Class 0: to class 1 the face is at x = 1. Class 1: to class 2 at x = 3.5, which is the nearer one.
        assert_eq!(found.row(Datum::Margin, 0), [2.0, 0.5]);
        assert_eq!(found.row(Datum::LabelMargin, 0), [-4.5, -0.5]);
        assert_eq!(found.relative_margin(0, 0), Some(2.0 / 26_f64.sqrt()));
    }
}
