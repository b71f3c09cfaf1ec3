//! A tiny deterministic generator for the inputs of test cases: the same numbers on every machine. Initialisation,
//! batches and augmentation have their own.

/// SplitMix64 (Steele, Lea & Flood 2014).
#[derive(Clone, Debug)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1), 53 random bits.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// `n` values, uniform between `low` and `high`.
pub fn uniform(seed: u64, n: usize, low: f32, high: f32) -> Vec<f32> {
    let mut random = SplitMix64::new(seed);
    (0..n).map(|_| (low as f64 + (high as f64 - low as f64) * random.unit()) as f32).collect()
}

/// `n` values, close to the standard normal distribution (12 uniform values summed, minus 6: no logarithm or cosine
/// whose last digit depends on the platform).
pub fn normal(seed: u64, n: usize) -> Vec<f32> {
    let mut random = SplitMix64::new(seed);
    (0..n).map(|_| ((0..12).map(|_| random.unit()).sum::<f64>() - 6.0) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_test_vector() {
        let mut random = SplitMix64::new(1234567);
        let expected = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431];
        assert_eq!([(); 4].map(|()| random.bits()), expected);
    }

    #[test]
    fn moments() {
        let moments = |x: &[f32]| {
            let mean = x.iter().map(|&x| x as f64).sum::<f64>() / x.len() as f64;
            (mean, x.iter().map(|&x| (x as f64 - mean).powi(2)).sum::<f64>() / x.len() as f64)
        };
        let (mean, variance) = moments(&normal(1, 100_000));
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
        let x = uniform(2, 100_000, -1.0, 3.0);
        assert!(x.iter().all(|x| (-1.0..=3.0).contains(x)));
        let (mean, variance) = moments(&x);
        assert!((mean - 1.0).abs() < 0.02 && (variance - 16.0 / 12.0).abs() < 0.02, "{mean} {variance}");
        assert_ne!(normal(1, 4), normal(2, 4));
    }
}
