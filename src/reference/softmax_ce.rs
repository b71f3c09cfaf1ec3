//! Log-probabilities and cross-entropy as published: softmax, clamp at 1e-10, logarithm, mean over the batch.
//!
//! ```text
//! p = softmax(z),   logprob = log(clamp(p, 1e-10, 1)),   loss = -mean over n of logprob[n, label[n]]
//! d_z[n,k] = (p[n,k] - [k = label[n]]) / N, but 0 for the whole row where p[n, label[n]] < 1e-10:
//! there the clamp is flat, and it is the label's log-probability alone that the loss reads
//! ```

use super::check_len;

/// Smallest probability that the clamp lets through.
pub const FLOOR: f64 = 1e-10;

/// Extents: logits `[n,classes]`, one label per row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SoftmaxCe {
    /// Rows: images in the batch.
    pub n: usize,
    /// Classes.
    pub classes: usize,
}

/// Softmax of each row, in f64, the row's maximum taken off first.
fn softmax(s: &SoftmaxCe, logits: &[f32]) -> Vec<f64> {
    check_len("logits", logits, s.n * s.classes);
    let mut p = Vec::with_capacity(logits.len());
    for row in logits.chunks(s.classes) {
        let max = row.iter().fold(f32::NEG_INFINITY, |max, &z| max.max(z)) as f64;
        let sum: f64 = row.iter().map(|&z| (z as f64 - max).exp()).sum();
        p.extend(row.iter().map(|&z| (z as f64 - max).exp() / sum));
    }
    p
}

/// logprob `[n,classes]` and the loss, from logits `[n,classes]` and one label (`0..classes`) per row.
pub fn softmax_ce(s: &SoftmaxCe, logits: &[f32], labels: &[usize]) -> (Vec<f32>, f32) {
    assert_eq!(labels.len(), s.n, "one label per row");
    let logprob: Vec<f64> = softmax(s, logits).into_iter().map(|p| p.clamp(FLOOR, 1.0).ln()).collect();
    let sum: f64 = labels.iter().zip(logprob.chunks(s.classes)).map(|(&label, row)| row[label]).sum();
    (super::rounded(logprob), (-sum / s.n as f64) as f32)
}

/// d_logits `[n,classes]` of the loss.
pub fn softmax_ce_d_logits(s: &SoftmaxCe, logits: &[f32], labels: &[usize]) -> Vec<f32> {
    assert_eq!(labels.len(), s.n, "one label per row");
    let mut d_logits = softmax(s, logits);
    for (&label, row) in labels.iter().zip(d_logits.chunks_mut(s.classes)) {
        if row[label] < FLOOR {
            row.fill(0.0);
        } else {
            row[label] -= 1.0;
            row.iter_mut().for_each(|d| *d /= s.n as f64);
        }
    }
    super::rounded(d_logits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worked_by_hand() {
        let s = SoftmaxCe { n: 2, classes: 2 };
        let logits = [0.0, 3f32.ln(), 1000.0, 0.0];
        let (logprob, loss) = softmax_ce(&s, &logits, &[0, 1]);
        let floor = 1e-10f64.ln();
        let expected = [0.25f64.ln(), 0.75f64.ln(), 0.0, floor];
        for (got, want) in logprob.iter().zip(expected) {
            assert!((*got as f64 - want).abs() < 1e-6, "{got} {want}");
        }
        assert!((loss as f64 - -(0.25f64.ln() + floor) / 2.0).abs() < 1e-6);
        let d = softmax_ce_d_logits(&s, &logits, &[0, 1]);
        assert!((d[0] + 0.375).abs() < 1e-7 && (d[1] - 0.375).abs() < 1e-7);
        assert_eq!(d[2..], [0.0, 0.0], "the clamp stops the gradient of the second row");
    }
}
