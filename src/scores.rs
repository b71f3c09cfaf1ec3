//! How well a network classifies.

/// Loss and accuracy of some images, per timestep.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    /// Sum over the images of the negative log-probability of the label, per timestep.
    pub loss: Vec<f64>,
    /// Images whose first maximum is the label, per timestep.
    pub correct: Vec<f64>,
    /// Images counted.
    pub images: usize,
}

impl Scores {
    /// Mean loss at each timestep.
    pub fn mean_loss(&self) -> Vec<f64> {
        self.loss.iter().map(|sum| sum / self.images as f64).collect()
    }

    /// Fraction of pictures classified correctly at each timestep.
    pub fn accuracy(&self) -> Vec<f64> {
        self.correct.iter().map(|count| count / self.images as f64).collect()
    }

    /// Counts other images too.
    pub fn add(&mut self, other: &Scores) {
        let plus = |a: &mut Vec<f64>, b: &[f64]| a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
        plus(&mut self.loss, &other.loss);
        plus(&mut self.correct, &other.correct);
        self.images += other.images;
    }
}
