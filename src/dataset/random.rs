//! Random numbers that are the same on every platform: raw ChaCha8 words, and our own arithmetic on them.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A stream of random numbers that is a pure function of what it was made from.
pub(crate) struct Random(ChaCha8Rng);

impl Random {
    /// A stream of its own for every purpose and triple of numbers.
    pub fn new(purpose: &[u8; 8], numbers: [u64; 3]) -> Random {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(purpose);
        for (bytes, number) in seed[8..].chunks_exact_mut(8).zip(numbers) {
            bytes.copy_from_slice(&number.to_le_bytes());
        }
        Random(ChaCha8Rng::from_seed(seed))
    }

    /// 32 random bits.
    pub fn word(&mut self) -> u32 {
        self.0.next_u32()
    }

    /// A whole number below `n`, every one equally likely. Words above the largest multiple of `n` are drawn again.
    pub fn below(&mut self, n: u64) -> u64 {
        let reject_from = u64::MAX - u64::MAX % n;
        loop {
            let word = self.0.next_u64();
            if word < reject_from {
                return word % n;
            }
        }
    }

    /// A number in `low..high`, on a grid of 2^24 steps.
    pub fn range(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * ((self.word() >> 8) as f32 / (1 << 24) as f32)
    }

    /// A fair coin.
    pub fn coin(&mut self) -> bool {
        self.word() >> 31 == 1
    }

    /// Nearly normal, mean 0 and standard deviation 1: the sum of the word's four bytes, centred and scaled
    /// (no logarithm, whose last bit differs between platforms).
    pub fn gauss(&mut self) -> f32 {
        let sum: i32 = self.word().to_le_bytes().iter().map(|&b| i32::from(b)).sum();
        (sum - 510) as f32 / 147.8
    }
}
