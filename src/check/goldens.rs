//! Golden files, recognised by content and metadata: operations, networks, analyses, dynamics, HDF5 files, augmentation.

use super::network::run_network;
use super::run::run_case;
use super::{CaseReport, repeated};
use crate::dataset::augment::goldens as augmentation;
use crate::dataset::goldens::check_h5;
use crate::dynamics::{Dynamics, goldens as dynamics};
use crate::files;
use crate::gpu::Gpu;
use crate::graph::passes::Passes;
use crate::kernels::choose::Choices;
use crate::reference::golden::{Comparison, Golden, Results, read, worst};
use crate::trajectory::goldens as analyses;
use crate::trajectory::gpu::{accumulate, check_golden};
use crate::{Error, Result};
use std::io::Read;
use std::path::{Path, PathBuf};

/// What a file turned out to be.
pub enum Found {
    /// A golden file and what came of it.
    Checked(CaseReport),
    /// A file that is not checked, and why.
    Left(String),
    /// A file that belongs to another one.
    Partner,
}

/// All files under `folder`, in order of their paths.
///
/// # Errors
/// A folder that cannot be read.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut list = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder))? {
        let path = entry.map_err(Error::io(folder))?.path();
        if path.is_dir() { list.extend(files(&path)?) } else { list.push(path) }
    }
    list.sort();
    Ok(list)
}

/// Checks one file on the device, `repeat` times where the device takes part.
pub async fn check_file(gpu: &Gpu, path: &Path, name: &str, repeat: usize) -> Found {
    match examine(gpu, path, repeat).await {
        Ok(Some((kind, outcome))) => Found::Checked(CaseReport { name: name.to_string(), kind, ..outcome }),
        Ok(None) if is_partner(path) => Found::Partner,
        Ok(None) => Found::Left("not a golden file of a known kind".into()),
        Err(Error::Config(why)) if why == PICKLED => Found::Left(why),
        Err(error) => {
            let (name, kind, detail) = (name.to_string(), "damaged".to_string(), error.to_string());
            Found::Checked(CaseReport { name, kind, passed: false, error: f64::INFINITY, detail, equal_bits: None })
        }
    }
}

const PICKLED: &str = "a pickled checkpoint: not checked";

/// npz files belong to their JSON, `files.json` and `expected.safetensors` to the HDF5 files beside them.
fn is_partner(path: &Path) -> bool {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let json = path.with_file_name(name.trim_end_matches(".npz").trim_end_matches("_init").to_string() + ".json");
    let hdf5_beside = || {
        let beside = path.parent().and_then(|p| std::fs::read_dir(p).ok()).into_iter().flatten().flatten();
        beside.into_iter().any(|e| e.path().extension().is_some_and(|e| e == "h5"))
    };
    name.ends_with(".npz") && (json.exists() || dynamics::Golden::names(path))
        || matches!(name, "files.json" | "expected.safetensors") && hdf5_beside()
}

type Examined = Option<(String, CaseReport)>;

/// What a file is, by its first bytes. A name counts only where it promises what the bytes do not hold: such a file is
/// damaged, or one of the HDF5 files that must be refused.
async fn examine(gpu: &Gpu, path: &Path, repeat: usize) -> Result<Examined> {
    let mut start = Vec::new();
    let file = std::fs::File::open(path).map_err(Error::io(path))?;
    file.take(16).read_to_end(&mut start).map_err(Error::io(path))?;
    let named = |extensions: &[&str]| path.extension().is_some_and(|e| extensions.iter().any(|x| e == *x));
    // A safetensors file starts with the length of its header, a JSON object.
    let header = start.first_chunk().is_some_and(|&n| u64::from_le_bytes(n) < 1 << 32) && start.get(8) == Some(&b'{');
    if start.starts_with(b"\x89HDF\r\n\x1a\n") || named(&["h5", "hdf5"]) {
        hdf5(path).map(Some)
    } else if header || named(&["safetensors"]) {
        tensors(gpu, path, repeat).await
    } else if named(&["pth", "pt"]) {
        Err(Error::Config(PICKLED.into()))
    } else {
        if named(&["json"]) {
            let text = files::read(path, files::LONG_TEXT).map_err(Error::io(path))?;
            let value = serde_json::from_slice(&text)
                .map_err(|e| Error::Data(format!("{}: expected JSON, found damage: {e}", path.display())))?;
            if dynamics::Golden::is_one(&value) {
                return check_dynamics(gpu, &dynamics::Golden::open(path)?, repeat).await.map(Some);
            }
        }
        if dynamics::Golden::names(path) { Ok(None) } else { analysis(gpu, path, repeat).await }
    }
}

pub(super) fn report(passed: bool, error: f64, detail: String, equal_bits: Option<bool>) -> CaseReport {
    let passed = passed && equal_bits != Some(false);
    let detail = if equal_bits == Some(false) { format!("bits differ on repetition; {detail}") } else { detail };
    CaseReport { name: String::new(), kind: String::new(), passed, error, detail, equal_bits }
}

fn hdf5(path: &Path) -> Result<(String, CaseReport)> {
    let found = check_h5(path)?;
    let error = if found.tolerance > 0.0 { found.largest_error / found.tolerance } else { found.largest_error };
    Ok(("hdf5".into(), report(true, error, found.compared, None)))
}

/// Results that are bit-identical, NaN included.
#[derive(Debug)]
pub(super) struct Bits(pub(super) Results);

impl PartialEq for Bits {
    fn eq(&self, other: &Self) -> bool {
        let bits =
            |r: &Results| -> Vec<Vec<u32>> { r.values().map(|v| v.iter().map(|x| x.to_bits()).collect()).collect() };
        bits(&self.0) == bits(&other.0)
    }
}

pub(super) fn judge(comparisons: &[Comparison], prefix: &str) -> (bool, f64, String) {
    let failed: Vec<&Comparison> = comparisons.iter().filter(|c| !c.passes()).collect();
    match worst(comparisons) {
        Some(c) => {
            let more = if failed.len() > 1 { format!(" ({} tensors fail)", failed.len()) } else { String::new() };
            let text = format!(
                "{prefix}{}[{}]: {:e} where {:e} is expected, error {:.1e}, {:.1e} allowed{more}",
                c.tensor, c.position, c.found, c.expected, c.error, c.allowed
            );
            (failed.is_empty(), c.ratio(), text)
        }
        None => (false, f64::INFINITY, "holds nothing to compare".into()),
    }
}

/// The operations on bytes, which the processor computes: no tolerance.
fn augmented(found: &augmentation::Agreement) -> (String, CaseReport) {
    let ([cases, wrong], [digests, other]) = (found.cases, found.digests);
    let counted = format!("{cases} results byte by byte ({wrong} differ), {digests} by their CRC-32 ({other} differ)");
    let detail = found.first.as_ref().map_or(counted.clone(), |first| format!("{first}; {counted}"));
    let differing = (wrong + other) as f64;
    ("augmentation".into(), report(found.passed(), differing, detail, None))
}

async fn tensors(gpu: &Gpu, path: &Path, repeat: usize) -> Result<Examined> {
    if let Some(found) = augmentation::check(path)? {
        return Ok(Some(augmented(&found)));
    }
    match read(path)? {
        None => Ok(None),
        Some(Golden::Ops(op, cases)) => {
            let (mut passed, mut error, mut detail, mut equal) = (!cases.is_empty(), 0.0, String::new(), None);
            for case in &cases {
                let (found, bits) =
                    repeated(repeat, async || run_case(gpu, case, Choices::TABLE).await.map(Bits)).await?;
                let (ok, ratio, text) = judge(&case.compare(&found.0), &format!("{}/", case.name));
                if ratio >= error || !ok {
                    (error, detail) = (ratio, text);
                }
                passed &= ok;
                equal = bits.map(|b| b && equal.unwrap_or(true));
            }
            Ok(Some((format!("op {op}, {} cases", cases.len()), report(passed, error, detail, equal))))
        }
        Some(Golden::Network(golden)) => {
            let once = async || run_network(gpu, &golden, Passes::default(), Choices::TABLE).await.map(Bits);
            let (found, equal) = repeated(repeat, once).await?;
            let (passed, error, detail) = judge(&golden.compare(&found.0), "");
            Ok(Some(("network".into(), report(passed, error, detail, equal))))
        }
    }
}

async fn analysis(gpu: &Gpu, path: &Path, repeat: usize) -> Result<Examined> {
    let Some(golden) = analyses::Golden::open(path)? else { return Ok(None) };
    let exact = golden.check_exact()?;
    let (streamed, equal) = check_analysis(gpu, &golden, repeat).await?;
    let text = |what: &str, c: &analyses::Agreement| match &c.offence {
        Some((message, count)) => format!("{what}: {message} ({count} numbers differ)"),
        None => format!("{what}: largest error {:.1e} at {}", c.largest_error, c.largest_at),
    };
    let passed = exact.offence.is_none() && streamed.offence.is_none();
    let detail = format!("{}; {}", text("f32", &streamed), text("f64", &exact));
    let error = (streamed.largest_error / analyses::TOLERANCE_F32).max(exact.largest_error / analyses::TOLERANCE_F64);
    Ok(Some(("analysis".into(), report(passed, error, detail, equal))))
}

/// The statistics through the kernels, and whether the tables of repetitions had equal bits.
async fn check_analysis(
    gpu: &Gpu,
    golden: &analyses::Golden,
    repeat: usize,
) -> Result<(analyses::Agreement, Option<bool>)> {
    let (_, equal) =
        repeated(repeat, async || accumulate(gpu, golden, 64).await.map(|tables| format!("{tables:?}"))).await?;
    Ok((check_golden(gpu, golden).await?, equal))
}

/// The measures of dynamics in f64 and through the kernels.
async fn check_dynamics(gpu: &Gpu, golden: &dynamics::Golden, repeat: usize) -> Result<(String, CaseReport)> {
    let compare = |found: &Dynamics, tolerance: Option<f64>| {
        let found = serde_json::to_value(found).map_err(|e| Error::Data(format!("dynamics as JSON: {e}")))?;
        Ok::<_, Error>(golden.agreement(&found, &golden.keys(), tolerance))
    };
    let exact = compare(&Dynamics::exact(&golden.subject())?, Some(dynamics::TOLERANCE_F64))?;
    let (found, equal) = repeated(repeat, async || golden.streamed(gpu).await).await?;
    let streamed = compare(&found, None)?;
    let text = |what: &str, of: &dynamics::Agreement| match of.differences.first() {
        Some(first) => format!("{what}: {first} ({} numbers differ)", of.differences.len()),
        None => format!("{what}: largest difference {:.1e} of the tolerance at {}", of.largest, of.largest_at),
    };
    let passed = exact.differences.is_empty() && streamed.differences.is_empty();
    let detail = format!("{}; {}", text("f32", &streamed), text("f64", &exact));
    Ok(("dynamics".into(), report(passed, streamed.largest.max(exact.largest), detail, equal)))
}
