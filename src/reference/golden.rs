//! Golden files: reference numbers that an independent PyTorch implementation computed in f64 from f32 inputs.
//!
//! Two kinds of `.safetensors` file are read, told apart by their metadata alone: single operations (key `op`,
//! [`read_op_cases`]) and whole networks (key `config` or `architecture`, [`read_network`]) with their gradients and
//! training steps or, with the key `protocol`, in a forward run under it.
//! Both give named inputs and named expected results. A twin or a kernel produces results under the same names, and
//! `compare` holds them against the expected ones, each element with the error that is allowed for it. Files are read
//! strictly: a tensor that is missing, of the wrong shape, not finite or not understood is an error, so that no
//! number in a file goes unchecked.

mod comparison;
mod file;
mod made_up;
mod network;
mod ops;

pub use comparison::{Comparison, Results, worst};
pub use made_up::made_up;
pub use network::{ADAM_STEPS, NetworkGolden, read_network};
pub use ops::{Op, OpCase, read_op_cases, run_twin};

use std::path::Path;

use crate::Result;
use file::File;

/// The content of a golden file.
#[derive(Debug)]
pub enum Golden {
    /// Cases of one operation, named as in the file.
    Ops(String, Vec<OpCase>),
    /// A network.
    Network(Box<NetworkGolden>),
}

/// Reads a `.safetensors` file as whichever kind its metadata say it is; `None` when they name neither kind.
///
/// # Errors
/// When the file cannot be read, or is of one of the kinds and not what it should be.
pub fn read(path: &Path) -> Result<Option<Golden>> {
    let file = File::read(path)?;
    if file.metadata.contains_key("op") {
        let (op, cases) = ops::from_file(file)?;
        Ok(Some(Golden::Ops(op, cases)))
    } else if ["config", "architecture", "protocol"].iter().any(|key| file.metadata.contains_key(*key)) {
        Ok(Some(Golden::Network(Box::new(network::from_file(file)?))))
    } else {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::Dtype;
    use safetensors::tensor::TensorView;
    use std::collections::{BTreeMap, HashMap};

    /// A ReLU file of one case: shapes and values of its tensors, and its metadata, changed by the caller.
    struct Parts {
        tensors: BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>,
        metadata: HashMap<String, String>,
    }

    fn relu_file() -> Parts {
        let bytes = |values: [f32; 3]| values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let tensors = [
            ("c0/x", [-1.0, 0.0, 2.0]),
            ("c0/gy", [5.0, 6.0, 7.0]),
            ("c0/y", [0.0, 0.0, 2.0]),
            ("c0/gx", [0.0, 0.0, 7.0]),
        ];
        let tensors = tensors.map(|(name, values)| (name.to_owned(), (Dtype::F32, vec![3], bytes(values))));
        let cases = r#"[{"name": "c0", "x": [3]}]"#;
        let metadata = [("op", "relu"), ("cases", cases)].map(|(k, v)| (k.to_owned(), v.to_owned()));
        Parts { tensors: BTreeMap::from(tensors), metadata: HashMap::from(metadata) }
    }

    fn read_parts(parts: &Parts) -> Result<Option<Golden>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("some.safetensors");
        let view = |(dtype, shape, bytes)| TensorView::new(dtype, shape, bytes).unwrap();
        let views = parts.tensors.iter().map(|(name, (d, s, b))| (name, view((*d, s.clone(), b.as_slice()))));
        safetensors::serialize_to_file(views, Some(parts.metadata.clone()), &path).unwrap();
        read(&path)
    }

    #[test]
    fn a_file_is_recognised_by_its_metadata() {
        let Some(Golden::Ops(op, cases)) = read_parts(&relu_file()).unwrap() else { panic!("an operation") };
        assert_eq!((op.as_str(), cases.len()), ("relu", 1));
        let comparisons = cases[0].compare(&run_twin(&cases[0]));
        assert_eq!(comparisons.len(), 2);
        assert!(comparisons.iter().all(|c| c.passes() && c.ratio() == 0.0));

        let mut neither = relu_file();
        neither.metadata.clear();
        assert!(read_parts(&neither).unwrap().is_none());
    }

    #[test]
    fn broken_files_are_refused_with_the_place() {
        let message = |change: &dyn Fn(&mut Parts)| {
            let mut parts = relu_file();
            change(&mut parts);
            let message = read_parts(&parts).unwrap_err().to_string();
            assert!(message.contains("some.safetensors"), "{message}");
            message
        };
        let set = |key: &'static str, value: &'static str| {
            move |p: &mut Parts| drop(p.metadata.insert(key.to_owned(), value.to_owned()))
        };
        let of_x = |message: String| assert!(message.contains("c0/x"), "{message}");
        of_x(message(&|p| drop(p.tensors.remove("c0/x"))));
        of_x(message(&|p| p.tensors.get_mut("c0/x").unwrap().0 = Dtype::I32));
        of_x(message(&|p| p.tensors.get_mut("c0/x").unwrap().1 = vec![1, 3]));
        of_x(message(&|p| p.tensors.get_mut("c0/x").unwrap().2[..4].copy_from_slice(&f32::NAN.to_le_bytes())));
        let extra = message(&|p| drop(p.tensors.insert("c0/z".into(), (Dtype::F32, vec![1], vec![0; 4]))));
        assert!(extra.contains("c0/z"), "{extra}");
        assert!(message(&set("op", "gelu")).contains("gelu"));
        assert!(message(&set("op", "maxpool2x2")).contains("expected 4 extents"));
        assert!(message(&set("cases", "[]")).contains("no case"));
        assert!(message(&set("cases", "{")).contains("not JSON"));
        let network = |p: &mut Parts| {
            p.metadata.clear();
            p.metadata.insert("config".into(), r#"{"image_size": 16}"#.into());
        };
        assert!(message(&network).contains("in_channels"));
    }

    #[test]
    fn results_that_cannot_be_compared_fail() {
        let Some(Golden::Ops(_, cases)) = read_parts(&relu_file()).unwrap() else { panic!("an operation") };
        let right = run_twin(&cases[0]);
        let fails = |change: &dyn Fn(&mut Results), tensor: &str| {
            let mut results = right.clone();
            change(&mut results);
            let comparisons = cases[0].compare(&results);
            let worst = worst(&comparisons).unwrap();
            assert!(!worst.passes() && worst.tensor == tensor && worst.ratio() == f64::INFINITY, "{worst:?}");
        };
        fails(&|r| drop(r.remove("y")), "y");
        fails(&|r| drop(r.insert("gx".into(), vec![0.0; 2])), "gx");
        fails(&|r| r.get_mut("y").unwrap()[1] = f32::NAN, "y");
        fails(&|r| r.get_mut("y").unwrap()[1] = 1e-30, "y");
        fails(&|r| drop(r.insert("gw".into(), vec![])), "gw");
    }
}
