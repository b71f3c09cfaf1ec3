//! How well a network classifies.

/// Loss and accuracy of some images, for each timestep at which there are logits.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    /// The first timestep at which there are logits.
    pub first: usize,
    /// Sum over the images of the negative log-probability of the label, from that timestep on.
    pub loss: Vec<f64>,
    /// Images whose first maximum is the label, likewise.
    pub correct: Vec<f64>,
    /// Images counted.
    pub images: usize,
}

impl Scores {
    /// Counts other images of the same network too.
    pub fn add(&mut self, other: &Scores) {
        let plus = |a: &mut Vec<f64>, b: &[f64]| a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
        plus(&mut self.loss, &other.loss);
        plus(&mut self.correct, &other.correct);
        self.images += other.images;
    }

    /// The loss that training minimises: mean over images, sum over timesteps.
    pub fn total_loss(&self) -> f64 {
        self.loss.iter().sum::<f64>() / self.images as f64
    }

    /// Mean loss at each timestep; `None` before there are logits.
    pub fn mean_loss(&self) -> Vec<Option<f64>> {
        self.means(&self.loss)
    }

    /// Fraction of images classified correctly at each timestep; `None` before there are logits.
    pub fn accuracy(&self) -> Vec<Option<f64>> {
        self.means(&self.correct)
    }

    fn means(&self, sums: &[f64]) -> Vec<Option<f64>> {
        let absent = std::iter::repeat_n(None, self.first);
        absent.chain(sums.iter().map(|sum| Some(sum / self.images as f64))).collect()
    }
}
