//! `recurve check`: every kernel variant against its twin, and golden files, on the user's own adapter.

pub mod case;
pub mod cases;
pub mod goldens;
pub mod ladder;
pub mod network;
pub mod probes;
pub mod rows;
pub mod run;
pub mod shaders;

use serde::Serialize;

/// What came of one case.
#[derive(Clone, Debug, Serialize)]
pub struct CaseReport {
    /// The case: a file, or an operation and its shape.
    pub name: String,
    /// What was checked: the kind of golden file, or operation and kernel variant.
    pub kind: String,
    /// Whether every result is within its tolerance (and equal in bits on repetition, where that was asked).
    pub passed: bool,
    /// Largest error relative to its tolerance.
    pub error: f64,
    /// Where, or what went wrong.
    pub detail: String,
    /// Whether repetitions gave equal bits; `None` without repetition, or where no device took part.
    pub equal_bits: Option<bool>,
}

/// Runs `once` `repeat` times (at least once); the first result, and whether all were equal.
///
/// # Errors
/// The first error of `once`.
pub async fn repeated<T: PartialEq>(
    repeat: usize,
    mut once: impl AsyncFnMut() -> crate::Result<T>,
) -> crate::Result<(T, Option<bool>)> {
    let first = once().await?;
    let mut equal = None;
    for _ in 1..repeat {
        equal = Some(equal.unwrap_or(true) && once().await? == first);
    }
    Ok((first, equal))
}
