//! How long a dispatch may take. Windows ends one of more than two seconds, and the device with it; other systems have limits of
//! their own. So what a slow adapter of its kind would take is predicted when a plan is made.

use super::program::Launch;
use super::target::Target;

/// Seconds that a dispatch may take by the prediction: half of what Windows allows.
pub const LONGEST: f64 = 1.0;

/// What an adapter is assumed to do in a second, in our kernels.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Pace {
    /// Additions and multiplications, as [`crate::ops::Operation::flops`] counts them.
    pub operations: f64,
    /// Bytes read or written.
    pub bytes: f64,
}

impl Pace {
    /// A slow card of its own: half of what a GTX 1050 of 2016 does at best, and nearly all of its bandwidth. At a quarter it
    /// still keeps to Windows' two seconds.
    pub const DISCRETE: Pace = Pace { operations: 1e12, bytes: 1e11 };
    /// A slow GPU within a processor: an eighth of what Intel's UHD 620 of 2017 does at best, and half of its bandwidth.
    pub const INTEGRATED: Pace = Pace { operations: 5e10, bytes: 1.5e10 };

    /// Seconds that a launch is predicted to take at most: its operations, and each byte of its operands once. A launch of
    /// several that share an operation counts with all of it.
    pub fn seconds(&self, launch: &Launch) -> f64 {
        let bytes: u64 = launch.operands.iter().map(|(_, view)| view.bytes).sum();
        launch.operations / self.operations + bytes as f64 / self.bytes
    }

    /// Of so many equal pieces, each of so many operations and bytes, how many a launch may take, so that none is too long and
    /// all are about alike; 1 where even one is too long.
    pub fn pieces(&self, operations: f64, bytes: f64, pieces: usize) -> usize {
        let seconds = operations / self.operations + bytes / self.bytes;
        let most = (0.9 * LONGEST / seconds).floor().max(1.0) as usize; // weights and results come on top
        pieces.div_ceil(pieces.div_ceil(most))
    }
}

/// What some launches take, as far as it can be counted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Additions and multiplications.
    pub operations: f64,
    /// Bytes read or written, each operand of a launch once.
    pub bytes: f64,
    /// Launches.
    pub launches: f64,
}

impl Cost {
    /// Of launches that do so many operations together.
    pub fn of(launches: &[Launch], operations: f64) -> Cost {
        let bytes: u64 = launches.iter().flat_map(|launch| &launch.operands).map(|(_, view)| view.bytes).sum();
        Cost { operations, bytes: bytes as f64, launches: launches.len() as f64 }
    }
}

impl Pace {
    /// Two cores of a processor with lavapipe, roughly: steps of `blt64` reach about this (docs/performance.md).
    pub const PROCESSOR: Pace = Pace { operations: 1e11, bytes: 1e10 };

    /// What is expected of an adapter where predicted times are compared: of a processor what was measured, else the pace of its
    /// kind.
    pub fn expected(target: &Target) -> Pace {
        target.pace.unwrap_or(Pace::PROCESSOR)
    }

    /// Seconds that launches are predicted to take: their operations, their bytes, and a start each.
    pub fn predicted(&self, cost: &Cost) -> f64 {
        /// Seconds that a launch takes beside what it computes.
        const START: f64 = 2e-5;
        cost.operations / self.operations + cost.bytes / self.bytes + START * cost.launches
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_few_enough_and_about_alike() {
        let pace = Pace { operations: 10.0, bytes: 1.0 };
        for (operations, bytes, pieces, expected) in [
            (0.0, 0.0, 5, 5),
            (1.7, 0.0, 5, 5),
            (1.9, 0.0, 5, 3),
            (2.7, 0.0, 10, 3),
            (5.4, 0.0, 10, 1),
            (1.7, 0.1, 5, 3),
            (1e30, 0.0, 5, 1),
            (0.0, 1e30, 1, 1),
        ] {
            assert_eq!(pace.pieces(operations, bytes, pieces), expected, "{operations}, {bytes}, {pieces}");
        }
    }
}
