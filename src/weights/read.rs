//! A weights file to named tensors: PyTorch's state dicts (the zip format, and the stream of pickles before 1.6) and
//! safetensors, of float64, float32, float16 or bfloat16, out of the wrappings that training scripts put around them.
//!
//! What a file is, its contents say, not its name. Pickles are looked through first (`pickle.rs`) and never executed; the
//! tensors are then read by the crate `pytorch-reader`.

use super::infer::not_of_the_family;
use super::pickle::{shown, verify};
use super::write::Card;
use crate::error::{Error, Result};
use crate::files;
use crate::tensors::{Tensor, Tensors};
use half::{bf16, f16};
use pytorch_reader::{DType, PytorchReader};
use safetensors::{Dtype, SafeTensors};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use zip::ZipArchive;

/// What a weights file holds.
#[derive(Clone, Debug, PartialEq)]
pub struct StateDict {
    /// The tensors, by their names in the state dict.
    pub tensors: Tensors,
    /// What was unwrapped or converted, one sentence each.
    pub notes: Vec<String>,
    /// What a file that this program wrote says of the network.
    pub(super) card: Option<Card>,
}

/// Reads a file.
///
/// # Errors
/// A file that cannot be read, is neither of the formats, is cut or damaged, would call something, holds other numbers than
/// floats, or wraps the tensors in a way that leaves open which are meant. The message names the file.
pub fn read(path: &Path) -> Result<StateDict> {
    let bytes = files::read(path, files::TENSORS).map_err(Error::io(path))?;
    parse(path, &bytes).map_err(|what| Error::Checkpoint(format!("{}: {what}", path.display())))
}

fn parse(path: &Path, bytes: &[u8]) -> Result<StateDict, String> {
    let (stored, card) = if is_safetensors(bytes) { safetensors(bytes)? } else { (pytorch(path, bytes)?, None) };
    let names: Vec<&str> = stored.keys().map(String::as_str).collect();
    let (prefix, mut notes) = if card.is_some() { (String::new(), Vec::new()) } else { unwrap(&names)? };
    if card.is_none() && !stored.contains_key(&format!("{prefix}{FIRST}")) {
        return Err(not_of_the_family(stored.iter().map(|(name, tensor)| (&name[..], &tensor.shape[..]))));
    }
    let meant = stored.iter().filter(|(name, _)| name.starts_with(&prefix));
    let claimed: u128 = meant.map(|(_, tensor)| tensor.bytes).sum();
    if claimed > bytes.len() as u128 {
        return Err(format!("its tensors claim {claimed} bytes, but the whole file has {}", bytes.len()));
    }
    let mut tensors = Tensors::default();
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, tensor) in stored.iter().filter_map(|(name, tensor)| Some((name.strip_prefix(&prefix)?, tensor))) {
        let values = tensor.values().map_err(|what| format!("tensor {}: {what}", shown(name)))?;
        *kinds.entry(tensor.kind.name()).or_default() += 1;
        tensors.insert(name, Tensor::new(&tensor.shape, values));
    }
    for (kind, count) in kinds.into_iter().filter(|(kind, _)| *kind != "float32") {
        let how = if kind == "float64" { "rounded to float32" } else { "exact in float32" };
        notes.push(format!("{count} tensors are {kind}, {how}"));
    }
    Ok(StateDict { tensors, notes, card })
}

/// Kinds of numbers, by PyTorch's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NumberKind {
    F64,
    F32,
    F16,
    Bf16,
    /// None that weights are made of.
    Other(&'static str),
}

impl NumberKind {
    fn name(self) -> &'static str {
        match self {
            NumberKind::F64 => "float64",
            NumberKind::F32 => "float32",
            NumberKind::F16 => "float16",
            NumberKind::Bf16 => "bfloat16",
            NumberKind::Other(name) => name,
        }
    }
}

/// A tensor as it lies in the file.
struct Stored {
    shape: Vec<usize>,
    kind: NumberKind,
    /// How many bytes it takes.
    bytes: u128,
    data: Data,
}

enum Data {
    /// Little-endian bytes.
    Here(Vec<u8>),
    /// Still in the file.
    There(pytorch_reader::Tensor),
}

impl Stored {
    /// Its values as f32; the error says what it holds instead.
    fn values(&self) -> Result<Vec<f32>, String> {
        let read;
        let bytes = match (&self.kind, &self.data) {
            (NumberKind::Other(kind), _) => {
                return Err(format!(
                    "it holds {kind}, but weights are float32, float64, float16 or bfloat16 (quantised networks cannot be \
                     imported)"
                ));
            }
            (_, Data::Here(bytes)) => bytes,
            (_, Data::There(tensor)) => {
                read = tensor.read().map_err(|e| format!("cannot be read, the file is cut or damaged: {e}"))?;
                &read
            }
        };
        fn each<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> f32) -> Vec<f32> {
            bytes.as_chunks::<N>().0.iter().map(|chunk| value(*chunk)).collect()
        }
        let values = match self.kind {
            NumberKind::F64 => {
                let narrowed = each(bytes, |b| f64::from_le_bytes(b) as f32);
                let wide = bytes.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b));
                if let Some((value, _)) = wide.zip(&narrowed).find(|(w, n)| w.is_finite() && !n.is_finite()) {
                    return Err(format!("it holds {value:e}, which float32 cannot"));
                }
                narrowed
            }
            NumberKind::F32 => each(bytes, f32::from_le_bytes),
            NumberKind::F16 => each(bytes, |b| f16::from_le_bytes(b).to_f32()),
            NumberKind::Bf16 => each(bytes, |b| bf16::from_le_bytes(b).to_f32()),
            NumberKind::Other(_) => unreachable!("refused above"),
        };
        let expected = self.shape.iter().try_fold(1_usize, |product, length| product.checked_mul(*length));
        if expected != Some(values.len()) {
            let expected = expected.map_or("more than 2^64".into(), |expected| expected.to_string());
            return Err(format!("it has {} values, but its shape {:?} asks for {expected}", values.len(), self.shape));
        }
        Ok(values)
    }
}

/// A safetensors file begins with the length of its header, which is a JSON object.
fn is_safetensors(bytes: &[u8]) -> bool {
    bytes.get(8) == Some(&b'{') && bytes.get(6..8) == Some(&[0, 0])
}

fn safetensors(bytes: &[u8]) -> Result<(BTreeMap<String, Stored>, Option<Card>), String> {
    let damaged = |e| format!("it begins as a safetensors file, but is cut or damaged: {e}");
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(damaged)?;
    let file = SafeTensors::deserialize(bytes).map_err(damaged)?;
    let stored = |view: safetensors::tensor::TensorView| Stored {
        shape: view.shape().to_vec(),
        kind: match view.dtype() {
            Dtype::F64 => NumberKind::F64,
            Dtype::F32 => NumberKind::F32,
            Dtype::F16 => NumberKind::F16,
            Dtype::BF16 => NumberKind::Bf16,
            Dtype::I64 => NumberKind::Other("int64"),
            Dtype::I32 => NumberKind::Other("int32"),
            Dtype::U8 => NumberKind::Other("uint8"),
            Dtype::I8 => NumberKind::Other("int8"),
            Dtype::BOOL => NumberKind::Other("bool"),
            _ => NumberKind::Other("another kind of number"),
        },
        bytes: view.data().len() as u128,
        data: Data::Here(view.data().to_vec()),
    };
    let tensors = file.iter().map(|(name, view)| (name.to_string(), stored(view))).collect();
    Ok((tensors, Card::of(header.metadata().as_ref())?))
}

/// The magic number of files before PyTorch 1.6, as it stands in their first pickle.
const LEGACY_MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
/// Magic number, version, about the system, the object, keys of the storages.
const LEGACY_PICKLES: usize = 5;

fn pytorch(path: &Path, bytes: &[u8]) -> Result<BTreeMap<String, Stored>, String> {
    let refused = |what: String| {
        format!(
            "its pickle is not executed, and refused: {what}; if you trust the file, save the state dict alone in PyTorch: \
             torch.save(net.state_dict(), FILE)"
        )
    };
    let start = &bytes[..bytes.len().min(64)];
    if bytes.starts_with(b"PK") {
        each_pickle_of_zip(bytes, |pickle| verify(pickle).map(|_| ()).map_err(refused))?;
    } else if start.windows(LEGACY_MAGIC.len()).any(|window| window == LEGACY_MAGIC) {
        let mut at = 0;
        for _ in 0..LEGACY_PICKLES {
            at += verify(&bytes[at..]).map_err(refused)?;
        }
    } else {
        if bytes.first() == Some(&0x80) {
            verify(bytes).map_err(refused)?;
        }
        return Err(format!(
            "it is neither a state dict as torch.save writes it (.pth) nor a safetensors file: {}",
            match bytes {
                [] => "it is empty".to_string(),
                [0x80, ..] => "it is a plain pickle, in which no tensors of PyTorch can lie".into(),
                _ => format!("it begins with the bytes {:02x?}", &bytes[..bytes.len().min(8)]),
            }
        ));
    }
    let reader = PytorchReader::new(path).map_err(|e| format!("it cannot be read as a PyTorch file: {e}"))?;
    let stored = |tensor: pytorch_reader::Tensor| Stored {
        shape: tensor.shape().to_vec(),
        kind: match tensor.dtype() {
            DType::F64 => NumberKind::F64,
            DType::F32 => NumberKind::F32,
            DType::F16 => NumberKind::F16,
            DType::BF16 => NumberKind::Bf16,
            DType::I64 => NumberKind::Other("int64"),
            DType::I32 => NumberKind::Other("int32"),
            DType::I16 => NumberKind::Other("int16"),
            DType::I8 => NumberKind::Other("int8"),
            DType::U64 => NumberKind::Other("uint64"),
            DType::U32 => NumberKind::Other("uint32"),
            DType::U16 => NumberKind::Other("uint16"),
            DType::U8 => NumberKind::Other("uint8"),
            DType::Bool => NumberKind::Other("bool"),
        },
        bytes: tensor.byte_len() as u128,
        data: Data::There(tensor),
    };
    Ok(reader.into_tensors().into_iter().map(|(name, tensor)| (name, stored(tensor))).collect())
}

/// Pickles of a zip file that are looked through; a state dict has one.
const MOST_PICKLES: usize = 16;

/// Hands over the pickles of a zip file, one after another. One alone is held in memory, and none of more bytes than the crate
/// that reads the tensors takes.
fn each_pickle_of_zip(bytes: &[u8], take: impl Fn(&[u8]) -> Result<(), String>) -> Result<(), String> {
    let damaged = |e: &dyn std::fmt::Display| format!("it begins as a zip file, but is cut or damaged: {e}");
    let mut archive = ZipArchive::new(std::io::Cursor::new(bytes)).map_err(|e| damaged(&e))?;
    let mut pickles = 0;
    for index in 0..archive.len() {
        let entry = archive.by_index(index).map_err(|e| damaged(&e))?;
        if entry.name().map_err(|e| damaged(&e))?.ends_with(".pkl") {
            let mut pickle = Vec::new();
            let most = pytorch_reader::MAX_PICKLE_SIZE;
            entry.take(most + 1).read_to_end(&mut pickle).map_err(|e| damaged(&e))?;
            pickles += 1;
            if pickle.len() as u64 > most || pickles > MOST_PICKLES {
                return Err(format!("it holds more than {MOST_PICKLES} pickles, or one of more than {most} bytes"));
            }
            take(&pickle)?;
        }
    }
    match pickles {
        0 => Err("it is a zip file without data.pkl, so torch.save has not written it".into()),
        _ => Ok(()),
    }
}

/// The first tensor of every network of the family.
const FIRST: &str = "retina.weight";
/// Keys that training scripts put the state dict under, and prefixes of `DataParallel` and `torch.compile`.
const WRAPPERS: [&str; 6] = ["state_dict", "model_state_dict", "model", "net", "module", "_orig_mod"];
/// Beginnings of the keys beside such a key whose tensors are no weights.
const BESIDE: [&str; 9] = ["optim", "sched", "lr_", "scaler", "grad_scaler", "amp", "rng", "epoch", "loss"];

/// What stands before the names of the state dict, with a sentence about it and about what is left out.
fn unwrap(names: &[&str]) -> Result<(String, Vec<String>), String> {
    let prefixes: Vec<&str> = names
        .iter()
        .filter_map(|name| name.strip_suffix(FIRST))
        .filter(|prefix| prefix.is_empty() || prefix.ends_with('.'))
        .collect();
    let prefix = match prefixes[..] {
        [] | [""] => return Ok(Default::default()),
        [prefix] => prefix,
        _ => {
            let all: Vec<String> = prefixes.iter().map(|prefix| shown(&format!("{prefix}{FIRST}"))).collect();
            return Err(format!(
                "it holds several networks ({}), and which is meant is open; save the state dict of one alone",
                all.join(", ")
            ));
        }
    };
    let words: Vec<&str> = prefix.trim_end_matches('.').split('.').collect();
    let others: Vec<&&str> = names.iter().filter(|name| !name.starts_with(prefix)).collect();
    let strange = others.iter().find(|name| !BESIDE.iter().any(|word| name.starts_with(word)));
    if let Some(word) = words.iter().find(|word| !WRAPPERS.contains(word)) {
        return Err(format!(
            "the network lies under `{}`, a part of something larger ({}); save its state dict alone",
            shown(word),
            shown(prefix)
        ));
    }
    if let Some(strange) = strange {
        return Err(format!(
            "beside the tensors under `{}` there are others, for example {}; save the network's state dict alone",
            shown(prefix.trim_end_matches('.')),
            shown(strange)
        ));
    }
    let mut notes = Vec::new();
    let keys: Vec<&str> = words.iter().copied().filter(|word| !["module", "_orig_mod"].contains(word)).collect();
    if !keys.is_empty() {
        notes.push(format!("the state dict is the one under the key `{}`", keys.join(".")));
    }
    for (word, of) in [("module", "DataParallel"), ("_orig_mod", "torch.compile")] {
        if words.contains(&word) {
            notes.push(format!("names are taken without `{word}.`, the prefix of {of}"));
        }
    }
    if let Some(first) = others.first() {
        notes.push(format!("{} tensors beside it are left out, for example {}", others.len(), shown(first)));
    }
    Ok((prefix.to_string(), notes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrappings_that_are_certain() {
        let ok = |names: &[&str]| unwrap(names).unwrap();
        assert_eq!(ok(&["conv1.weight"]), (String::new(), vec![]));
        assert_eq!(ok(&["retina.weight", "module.x"]), (String::new(), vec![]));
        let (prefix, notes) = ok(&["module.retina.weight", "module.v1.bottom_up.weight"]);
        assert_eq!((prefix.as_str(), notes.len()), ("module.", 1));
        assert!(notes[0].contains("DataParallel"), "{notes:?}");
        let (prefix, notes) = ok(&["model.module.retina.weight", "optimizer.state.0.exp_avg", "epoch"]);
        assert_eq!(prefix, "model.module.");
        assert!(notes.concat().contains("key `model`") && notes.concat().contains("2 tensors beside"), "{notes:?}");
    }

    #[test]
    fn wrappings_that_leave_something_open() {
        for (names, word) in [
            (&["model.retina.weight", "model_ema.retina.weight"][..], "several networks"),
            (&["retina.weight", "state_dict.retina.weight"], "several networks"),
            (&["student.retina.weight"], "`student`"),
            (&["model.retina.weight", "decoder.weight"], "decoder.weight"),
            (&["module.retina.weight", "head\u{1b}[2J"], "head\\u{1b}"),
        ] {
            let said = unwrap(names).unwrap_err();
            assert!(said.contains(word), "`{word}` is not in: {said}");
        }
    }

    #[test]
    fn kinds_of_numbers() {
        let stored = |kind, bytes: &[u8]| Stored { shape: vec![2], kind, bytes: 0, data: Data::Here(bytes.to_vec()) };
        let wide: Vec<u8> = [0.1f64, -2.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!(stored(NumberKind::F64, &wide).values(), Ok(vec![0.1f32, -2.0]));
        // 1.5 and the smallest subnormal number; 1.5 and -0.
        let halves = [0x00, 0x3e, 0x01, 0x00];
        assert_eq!(stored(NumberKind::F16, &halves).values(), Ok(vec![1.5, 2f32.powi(-24)]));
        let brains = stored(NumberKind::Bf16, &[0xc0, 0x3f, 0x00, 0x80]).values().unwrap();
        assert_eq!(brains.map_bits(), [1.5f32.to_bits(), (-0f32).to_bits()]);
        let huge: Vec<u8> = [1e39f64, 0.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        assert!(stored(NumberKind::F64, &huge).values().unwrap_err().contains("1e39"));
        assert!(stored(NumberKind::F32, &halves).values().unwrap_err().contains("1 values"));
        assert!(stored(NumberKind::Other("int64"), &wide).values().unwrap_err().contains("int64"));
    }

    trait Bits {
        fn map_bits(&self) -> Vec<u32>;
    }

    impl Bits for Vec<f32> {
        fn map_bits(&self) -> Vec<u32> {
            self.iter().map(|value| value.to_bits()).collect()
        }
    }
}
