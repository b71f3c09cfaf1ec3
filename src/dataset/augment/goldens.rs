//! Golden results of TrivialAugmentWide: every operation at every bin and sign on pictures that show its corners.

use std::path::Path;

use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;

use super::{BINS, Drawn, NAMES, Scratch, has_magnitude, is_signed};
use crate::hash::crc32;
use crate::{Error, Result, files};

/// The metadata key, and what it says.
const KEY: (&str, &str) = ("augment", "TrivialAugmentWide");

/// What was compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// Results compared byte by byte, and those of them that differ.
    pub cases: [usize; 2],
    /// Results compared by their CRC-32, likewise.
    pub digests: [usize; 2],
    /// The first that differs.
    pub first: Option<String>,
}

impl Agreement {
    /// Whether something was compared and nothing differs.
    pub fn passed(&self) -> bool {
        self.cases[0] > 0 && self.cases[1] + self.digests[1] == 0
    }
}

/// One entry of `cases`.
#[derive(Deserialize)]
struct Case {
    op: String,
    bin: usize,
    magnitude: f64,
    images: String,
    image: usize,
}

/// One entry of `digests`.
#[derive(Deserialize)]
struct Digest {
    op: String,
    images: String,
    image: usize,
    crc32: Vec<String>,
}

/// Changes a picture, `[side][side][3]`.
pub type Augmenting<'a> = &'a mut dyn FnMut(Drawn, &mut [u8], usize);

/// Checks the operations as training uses them against a golden file; `None` where the file is no such one.
///
/// # Errors
/// A file that is damaged.
pub fn check(path: &Path) -> Result<Option<Agreement>> {
    let mut scratch = Scratch::default();
    check_with(path, &mut |drawn, picture, side| drawn.operation().apply(picture, side, &mut scratch))
}

/// The same of any implementation.
///
/// # Errors
/// As there.
pub fn check_with(path: &Path, augmenting: Augmenting) -> Result<Option<Agreement>> {
    let bytes = files::read(path, files::TENSORS).map_err(Error::io(path))?;
    let broken = |e: &dyn std::fmt::Display| Error::Data(format!("{}: {e}", path.display()));
    let Ok((_, header)) = SafeTensors::read_metadata(&bytes) else { return Ok(None) };
    let Some(metadata) = header.metadata().as_ref().filter(|m| m.get(KEY.0).is_some_and(|v| v == KEY.1)) else {
        return Ok(None);
    };
    let file = SafeTensors::deserialize(&bytes).map_err(|e| broken(&e))?;
    let list = |key: &str| metadata.get(key).ok_or_else(|| broken(&format!("metadata key {key} is missing")));
    let cases: Vec<Case> = serde_json::from_str(list("cases")?).map_err(|e| broken(&format!("cases: {e}")))?;
    let digests: Vec<Digest> = serde_json::from_str(list("digests")?).map_err(|e| broken(&format!("digests: {e}")))?;

    let picture = |images: &str, image: usize| -> Result<(&[u8], usize)> {
        let tensor = file.tensor(images).map_err(|e| broken(&format!("{images}: {e}")))?;
        match *tensor.shape() {
            [n, side, width, 3] if tensor.dtype() == Dtype::U8 && side == width && image < n => {
                Ok((&tensor.data()[image * side * side * 3..][..side * side * 3], side))
            }
            ref shape => Err(broken(&format!("{images}: expected u8 [more than {image}, S, S, 3], found {shape:?}"))),
        }
    };
    let number = |op: &str| {
        NAMES.iter().position(|name| *name == op).ok_or_else(|| broken(&format!("an operation {op} is not known")))
    };
    let mut agreement = Agreement { cases: [0; 2], digests: [0; 2], first: None };
    for (i, case) in cases.iter().enumerate() {
        let (before, side) = picture(&case.images, case.image)?;
        let name = format!("case/{i}");
        let expected = file.tensor(&name).map_err(|e| broken(&format!("{name}: {e}")))?;
        let minus = is_signed(number(&case.op)?) && case.magnitude.is_sign_negative();
        let drawn = Drawn { operation: number(&case.op)?, bin: case.bin, minus };
        if case.bin >= BINS || expected.data().len() != before.len() {
            return Err(broken(&format!("{name}: bin {} and {} bytes", case.bin, expected.data().len())));
        }
        let mut found = before.to_vec();
        augmenting(drawn, &mut found, side);
        let differing = found.iter().zip(expected.data()).filter(|(a, b)| a != b).count();
        agreement.cases[0] += 1;
        if differing > 0 {
            agreement.cases[1] += 1;
            agreement.first.get_or_insert(format!(
                "{name}, {drawn} on {}[{}]: {differing} of {} bytes differ",
                case.images,
                case.image,
                found.len()
            ));
        }
    }
    for digest in &digests {
        let (before, side) = picture(&digest.images, digest.image)?;
        let operation = number(&digest.op)?;
        let bins = if has_magnitude(operation) { BINS } else { 1 };
        let signs = if is_signed(operation) { 2 } else { 1 };
        if digest.crc32.len() != bins * signs {
            let (wanted, found) = (bins * signs, digest.crc32.len());
            return Err(broken(&format!("digests of {}: expected {wanted}, found {found}", digest.op)));
        }
        for (i, expected) in digest.crc32.iter().enumerate() {
            let drawn = Drawn { operation, bin: i % bins, minus: i >= bins };
            let mut found = before.to_vec();
            augmenting(drawn, &mut found, side);
            let crc = format!("{:08x}", crc32(&found));
            agreement.digests[0] += 1;
            if crc != *expected {
                agreement.digests[1] += 1;
                agreement.first.get_or_insert(format!(
                    "{drawn} on {}[{}]: CRC-32 {crc} where {expected} is expected",
                    digest.images, digest.image
                ));
            }
        }
    }
    Ok(Some(agreement))
}
