//! The tensors of a checkpoint as a state dict under the published names: for PyTorch (`.pth`) or as safetensors.
//!
//! A `.pth` is a zip archive of stored entries: `data.pkl`, a pickle of an `OrderedDict` from names to calls of
//! `torch._utils._rebuild_tensor_v2`; one entry of raw numbers per tensor, at a multiple of 64 bytes; and what
//! `torch.save` writes beside them. The pickle names only what `torch.load(weights_only=True)` allows. Nothing in
//! either form depends on the time or the file's name: the same checkpoint gives the same bytes.

use crate::error::{Error, Result};
use crate::files::write_atomically;
use crate::network::{Architecture, Description, NetworkConfig, ParameterSpec};
use crate::train::{Checkpoint, DataState};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::io::{Cursor, Write};
use std::path::Path;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// A form of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// What `torch.load` reads.
    Pth,
    /// Safetensors, with a description of the network in the metadata.
    Safetensors,
}

/// Writes the checkpoint's parameters to a file, at once or not at all.
///
/// # Errors
/// What the disk says.
pub fn write(checkpoint: &Checkpoint, form: Form, path: &Path) -> Result<()> {
    write_atomically(path, &encode(checkpoint, form)?).map_err(Error::io(path))
}

/// The file's bytes.
///
/// # Errors
/// Tensors that the form cannot hold; those of a checkpoint that was read or trained are none.
pub fn encode(checkpoint: &Checkpoint, form: Form) -> Result<Vec<u8>> {
    let specs = checkpoint.specs();
    let tensors = specs
        .iter()
        .map(|spec| Ok((spec, bytemuck::cast_slice(checkpoint.parameters.values(&spec.name)?))))
        .collect::<Result<Vec<(&ParameterSpec, &[u8])>>>()?;
    let failed = |e: &dyn std::fmt::Display| Error::Checkpoint(format!("the state dict cannot be written: {e}"));
    match form {
        Form::Pth => archive(&tensors).map_err(|e| failed(&e)),
        Form::Safetensors => {
            let views = tensors.iter().map(|(spec, bytes)| {
                let view =
                    TensorView::new(Dtype::F32, spec.shape.clone(), bytes).expect("a checkpoint's shapes are checked");
                (&spec.name, view)
            });
            safetensors::serialize(views, Some(Card::metadata(checkpoint))).map_err(|e| failed(&e))
        }
    }
}

/// Where PyTorch begins tensors: at multiples of so many bytes.
const ALIGNMENT: u16 = 64;

fn archive(tensors: &[(&ParameterSpec, &[u8])]) -> zip::result::ZipResult<Vec<u8>> {
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored).with_alignment(ALIGNMENT);
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let mut entry = |name: &str, bytes: &[u8]| {
        let large = u32::try_from(bytes.len()).is_err();
        zip.start_file(format!("archive/{name}"), stored.large_file(large))?;
        zip.write_all(bytes).map_err(zip::result::ZipError::from)
    };
    let specs: Vec<&ParameterSpec> = tensors.iter().map(|(spec, _)| *spec).collect();
    entry("data.pkl", &pickle(&specs))?;
    entry(".format_version", b"1")?;
    entry(".storage_alignment", ALIGNMENT.to_string().as_bytes())?;
    entry("byteorder", b"little")?;
    for (i, (_, bytes)) in tensors.iter().enumerate() {
        entry(&format!("data/{i}"), bytes)?;
    }
    entry("version", b"3\n")?;
    Ok(zip.finish()?.into_inner())
}

/// The pickle (protocol 2, without a memo) of `OrderedDict({name: tensor, ...})`; tensor `i` lies in storage `i`.
fn pickle(specs: &[&ParameterSpec]) -> Vec<u8> {
    const EMPTY_ORDERED_DICT: &[u8] = b"ccollections\nOrderedDict\n)R";
    let mut out = b"\x80\x02".to_vec();
    out.extend(EMPTY_ORDERED_DICT);
    out.push(b'('); // pairs up to the `u` below go into the dictionary
    for (i, spec) in specs.iter().enumerate() {
        text(&mut out, &spec.name);
        out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut out, "storage");
        out.extend(b"ctorch\nFloatStorage\n");
        text(&mut out, &i.to_string());
        text(&mut out, "cpu");
        number(&mut out, spec.len());
        out.extend(b"tQ"); // the tuple so far is the name by which the storage is found
        number(&mut out, 0);
        out.push(b'(');
        spec.shape.iter().for_each(|&length| number(&mut out, length));
        out.extend(b"t(");
        for axis in 1..=spec.shape.len() {
            number(&mut out, spec.shape[axis..].iter().product());
        }
        out.extend(b"t\x89"); // requires no gradient, has no hooks
        out.extend(EMPTY_ORDERED_DICT);
        out.extend(b"tR");
    }
    out.extend(b"u.");
    out
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.push(b'X');
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.as_bytes());
}

/// A count: of four bytes as far as it goes (signed), else of eight.
fn number(out: &mut Vec<u8>, number: usize) {
    match i32::try_from(number) {
        Ok(number) => {
            out.push(b'J');
            out.extend(number.to_le_bytes());
        }
        Err(_) => {
            out.extend(b"\x8a\x08");
            out.extend((number as u64).to_le_bytes());
        }
    }
}

/// The key of safetensors metadata under which [`Card`] stands as JSON; one key, as the order of several is random.
const KEY: &str = "recurve_network";

/// What a safetensors file of this program says of its network besides the tensors, so that it comes in again without flags.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Card {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    network: Option<NetworkConfig>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    architecture: Option<Architecture>,
    /// What the network was trained on.
    pub data: DataState,
}

impl Card {
    fn metadata(checkpoint: &Checkpoint) -> HashMap<String, String> {
        let state = &checkpoint.state;
        let (network, architecture) = state.network.clone().into_sections();
        let card = Card { network, architecture, data: state.data.clone() };
        HashMap::from([(KEY.into(), serde_json::to_string(&card).expect("a card has only plain fields"))])
    }

    /// The card in the metadata of a file, if it has one.
    pub fn of(metadata: Option<&HashMap<String, String>>) -> Result<Option<Card>, String> {
        let Some(json) = metadata.and_then(|all| all.get(KEY)) else { return Ok(None) };
        serde_json::from_str(json).map(Some).map_err(|e| format!("its metadata key {KEY} is damaged: {e}"))
    }

    /// The network that it describes.
    pub fn description(&self) -> Result<Description> {
        let description = Description::of_sections(self.network.clone(), self.architecture.clone())?;
        description.validate()?;
        Ok(description)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Init;
    use crate::weights::pickle::verify;

    fn spec(name: &str, shape: &[usize]) -> ParameterSpec {
        ParameterSpec { name: name.into(), shape: shape.to_vec(), init: Init::Constant(0.0) }
    }

    /// Instruction for instruction what `pickletools.dis` shows of a file of `torch.save`, without its memo.
    #[test]
    fn the_pickle_of_two_tensors() {
        let (weight, bias) = (spec("a.weight", &[2, 3]), spec("b", &[70_000]));
        let mut expected = b"\x80\x02ccollections\nOrderedDict\n)R(".to_vec();
        expected.extend(b"X\x08\x00\x00\x00a.weightctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storage");
        expected.extend(
            b"ctorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuJ\x06\x00\x00\x00tQJ\x00\x00\x00\x00",
        );
        expected.extend(b"(J\x02\x00\x00\x00J\x03\x00\x00\x00t(J\x03\x00\x00\x00J\x01\x00\x00\x00t\x89");
        expected.extend(b"ccollections\nOrderedDict\n)RtR");
        expected.extend(b"X\x01\x00\x00\x00bctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storage");
        expected.extend(
            b"ctorch\nFloatStorage\nX\x01\x00\x00\x001X\x03\x00\x00\x00cpuJ\x70\x11\x01\x00tQJ\x00\x00\x00\x00",
        );
        expected.extend(b"(J\x70\x11\x01\x00t(J\x01\x00\x00\x00t\x89ccollections\nOrderedDict\n)RtRu.");
        let found = pickle(&[&weight, &bias]);
        assert_eq!(found, expected);
        assert_eq!(verify(&found), Ok(found.len()));
    }

    #[test]
    fn counts_beyond_32_bits() {
        let mut out = Vec::new();
        number(&mut out, 1 << 31);
        assert_eq!(out, b"\x8a\x08\x00\x00\x00\x80\x00\x00\x00\x00");
    }

    #[test]
    fn tensors_begin_at_multiples_of_64_bytes_and_bytes_do_not_change() {
        let specs = [spec("a", &[3]), spec("bb", &[5]), spec("ccc", &[1])];
        let numbers: Vec<Vec<u8>> = specs.iter().map(|s| vec![s.name.len() as u8; 4 * s.len()]).collect();
        let tensors: Vec<(&ParameterSpec, &[u8])> = specs.iter().zip(numbers.iter().map(Vec::as_slice)).collect();
        let bytes = archive(&tensors).unwrap();
        assert_eq!(bytes, archive(&tensors).unwrap());
        let mut zip = zip::ZipArchive::new(Cursor::new(&bytes[..])).unwrap();
        for (i, content) in numbers.iter().enumerate() {
            let entry = zip.by_name(&format!("archive/data/{i}")).unwrap();
            let start = entry.data_start().unwrap() as usize;
            assert_eq!(start % 64, 0, "data/{i}");
            assert_eq!(entry.compression(), CompressionMethod::Stored);
            assert_eq!(&bytes[start..][..content.len()], &content[..]);
        }
    }
}
