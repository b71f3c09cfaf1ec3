//! Augmentation of training pictures: TrivialAugmentWide (Müller & Hutter 2021), as the published training code applies
//! torchvision 0.13's to tensors of bytes: of each picture, each time it is read, one of fourteen operations with a magnitude
//! out of 31 bins. The result equals torchvision's byte by byte.
//!
//! What is drawn for a picture is a function of the run's seed, the epoch and the picture's number, and of nothing else: a run
//! that goes on, one whose steps are computed in parts, and one on several devices draw the same.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::random::Random;
use crate::{Error, Result};

pub mod goldens;
mod operations;

pub use operations::{Operation, Scratch};

/// What is done to training pictures before the network sees them: `augment` of `[training]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Augmentation {
    /// Nothing.
    #[default]
    None,
    /// TrivialAugmentWide.
    Trivial,
}

impl Augmentation {
    /// Whether pictures stay as they are.
    pub fn is_none(&self) -> bool {
        *self == Augmentation::None
    }
}

impl FromStr for Augmentation {
    type Err = Error;

    fn from_str(word: &str) -> Result<Augmentation> {
        match word {
            "none" => Ok(Augmentation::None),
            "trivial" => Ok(Augmentation::Trivial),
            _ => Err(Error::Config(format!("augment: expected none or trivial, found {word}"))),
        }
    }
}

/// The operations' names, in the order of the draw.
pub const NAMES: [&str; 14] = [
    "Identity",
    "ShearX",
    "ShearY",
    "TranslateX",
    "TranslateY",
    "Rotate",
    "Brightness",
    "Color",
    "Contrast",
    "Sharpness",
    "Posterize",
    "Solarize",
    "AutoContrast",
    "Equalize",
];

/// Bins of a magnitude.
pub const BINS: usize = 31;

/// An operation with the bin of its magnitude and its sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drawn {
    /// Its place in [`NAMES`].
    pub operation: usize,
    /// Below [`BINS`]; 0 where the operation has no magnitude.
    pub bin: usize,
    /// Whether the magnitude is negative; only where the operation has a sign.
    pub minus: bool,
}

/// Whether an operation has magnitudes.
pub fn has_magnitude(operation: usize) -> bool {
    !matches!(NAMES[operation], "Identity" | "AutoContrast" | "Equalize")
}

/// Whether its magnitudes have a sign.
pub fn is_signed(operation: usize) -> bool {
    has_magnitude(operation) && !matches!(NAMES[operation], "Posterize" | "Solarize")
}

impl Drawn {
    /// What is drawn for a picture of a training split, by its number there, in an epoch (0 is the first): the operation, then
    /// the bin where it has magnitudes, then the sign where it has one, each uniformly.
    pub fn of(seed: u64, epoch: u64, picture: u64) -> Drawn {
        let mut random = Random::new(b"augment ", [seed, epoch, picture]);
        let operation = random.below(NAMES.len() as u64) as usize;
        let bin = if has_magnitude(operation) { random.below(BINS as u64) as usize } else { 0 };
        let minus = is_signed(operation) && random.coin();
        Drawn { operation, bin, minus }
    }

    /// What is done.
    pub fn operation(self) -> Operation {
        let Drawn { operation, bin, minus } = self;
        let signed = |m: f64| if minus { -m } else { m };
        let share = signed(f64::from(share(bin)));
        let pixels = (16 * bin / 15) as i32;
        let pixels = if minus { -pixels } else { pixels };
        match NAMES[operation] {
            "Identity" => Operation::Identity,
            "ShearX" => Operation::ShearX(share),
            "ShearY" => Operation::ShearY(share),
            "TranslateX" => Operation::TranslateX(pixels),
            "TranslateY" => Operation::TranslateY(pixels),
            "Rotate" => Operation::Rotate(signed(4.5 * bin as f64)),
            "Brightness" => Operation::Brightness(share),
            "Color" => Operation::Color(share),
            "Contrast" => Operation::Contrast(share),
            "Sharpness" => Operation::Sharpness(share),
            "Posterize" => Operation::Posterize(8 - ((2 * bin + 5) / 10) as u32),
            "Solarize" => Operation::Solarize(255.0 - 8.5 * bin as f64),
            "AutoContrast" => Operation::AutoContrast,
            "Equalize" => Operation::Equalize,
            other => unreachable!("{other} is no operation"),
        }
    }
}

/// The name, with the magnitude where there is one.
impl fmt::Display for Drawn {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}", NAMES[self.operation])?;
        match self.operation() {
            Operation::ShearX(m) | Operation::ShearY(m) => write!(f, " {m:+.2}"),
            Operation::TranslateX(m) | Operation::TranslateY(m) => write!(f, " {m:+}"),
            Operation::Rotate(m) => write!(f, " {m:+.1}"),
            Operation::Brightness(m) | Operation::Color(m) | Operation::Contrast(m) | Operation::Sharpness(m) => {
                write!(f, " {m:+.2}")
            }
            Operation::Posterize(bits) => write!(f, " {bits}"),
            Operation::Solarize(m) => write!(f, " {m:.1}"),
            Operation::Identity | Operation::AutoContrast | Operation::Equalize => Ok(()),
        }
    }
}

/// Shears and mixing weights: 0.033 times the bin, as torch.linspace rounds it in five of the bins.
fn share(bin: usize) -> f32 {
    match bin {
        5 => 0.16499999,
        10 => 0.32999998,
        19 => 0.62700003,
        26 => 0.85800004,
        27 => 0.89100003,
        _ => (33.0 * bin as f64 / 1000.0) as f32,
    }
}

/// Augments pictures of a training split as they are read in an epoch, `[n][side][side][3]` in the order of their `numbers`.
pub fn augment(pictures: &mut [u8], side: usize, seed: u64, epoch: u64, numbers: &[usize], scratch: &mut Scratch) {
    for (picture, &number) in pictures.chunks_exact_mut(side * side * 3).zip(numbers) {
        Drawn::of(seed, epoch, number as u64).operation().apply(picture, side, scratch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn magnitudes_are_those_of_the_published_table() {
        let at = |name: &str, bin: usize| {
            let operation = NAMES.iter().position(|n| *n == name).unwrap();
            Drawn { operation, bin, minus: false }.operation()
        };
        let bits: Vec<u32> = (0..BINS)
            .map(|bin| match at("Posterize", bin) {
                Operation::Posterize(bits) => bits,
                other => panic!("{other:?}"),
            })
            .collect();
        let published = "8 8 8 7 7 7 7 7 6 6 6 6 6 5 5 5 5 5 4 4 4 4 4 3 3 3 3 3 2 2 2";
        assert_eq!(bits.iter().map(u32::to_string).collect::<Vec<_>>().join(" "), published);
        let pixels: Vec<i32> = (0..BINS)
            .map(|bin| match at("TranslateX", bin) {
                Operation::TranslateX(pixels) => pixels,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(pixels, (0..=14).chain(16..=30).chain([32]).collect::<Vec<_>>());
        assert_eq!(at("Solarize", 1), Operation::Solarize(246.5));
        assert_eq!(at("Rotate", 30), Operation::Rotate(135.0));
        assert_eq!(at("ShearX", 1), Operation::ShearX(f64::from(0.033_f32)));
        assert_eq!(at("Color", 30), Operation::Color(f64::from(0.99_f32)));
        let minus = Drawn { operation: 3, bin: 16, minus: true };
        assert_eq!((minus.operation(), minus.to_string().as_str()), (Operation::TranslateX(-17), "TranslateX -17"));
    }

    /// Of 100,000 draws each operation, bin and sign has its share, within five standard deviations.
    #[test]
    fn draws_are_uniform() {
        const DRAWS: usize = 100_000;
        let (mut operations, mut bins, mut minus, mut signed, mut with_bin) = ([0; 14], [0; BINS], 0, 0, 0);
        for i in 0..DRAWS as u64 {
            let drawn = Drawn::of(7, i / 1000, i % 1000);
            operations[drawn.operation] += 1;
            if has_magnitude(drawn.operation) {
                bins[drawn.bin] += 1;
                with_bin += 1;
            }
            signed += usize::from(is_signed(drawn.operation));
            minus += usize::from(drawn.minus);
            assert!(has_magnitude(drawn.operation) || drawn.bin == 0);
            assert!(is_signed(drawn.operation) || !drawn.minus);
        }
        let fair = |found: usize, of: usize, share: f64| {
            let (mean, deviation) = (of as f64 * share, (of as f64 * share * (1.0 - share)).sqrt());
            assert!((found as f64 - mean).abs() < 5.0 * deviation, "{found} of {of}, {mean} expected");
        };
        operations.iter().for_each(|&n| fair(n, DRAWS, 1.0 / 14.0));
        bins.iter().for_each(|&n| fair(n, with_bin, 1.0 / BINS as f64));
        fair(minus, signed, 0.5);
    }

    /// The same on every platform and in every version, or a run could not be resumed elsewhere.
    #[test]
    fn draws_follow_from_seed_epoch_and_picture_alone() {
        let drawn = |seed, epoch, picture| Drawn::of(seed, epoch, picture).to_string();
        assert_eq!(drawn(1, 2, 3), drawn(1, 2, 3));
        let first: Vec<String> = (0..6).map(|picture| drawn(1, 0, picture)).collect();
        assert_eq!(first, FIRST);
        let differ = |other: fn(u64) -> (u64, u64, u64)| {
            let same = (0..100)
                .filter(|&i| {
                    Drawn::of(1, 0, i) == {
                        let (s, e, p) = other(i);
                        Drawn::of(s, e, p)
                    }
                })
                .count();
            assert!(same < 15, "{same} of 100 draws are the same");
        };
        differ(|i| (2, 0, i));
        differ(|i| (1, 1, i));
        differ(|i| (1, 0, i + 100));
    }

    const FIRST: [&str; 6] =
        ["TranslateX -27", "Posterize 7", "TranslateX -19", "Solarize 76.5", "TranslateX -24", "Posterize 7"];
}
