//! The twins against the golden files of an independent implementation, where those files are at hand
//! (`$RECURVE_SHARED/golden` or `../shared/golden`).

use std::path::{Path, PathBuf};

use recurve::reference::golden::{self, Comparison, Golden, run_twin};

/// The `.safetensors` files directly in the golden folder; none, and a line that says so, where there is no such folder.
fn golden_files() -> Vec<PathBuf> {
    let shared = std::env::var_os("RECURVE_SHARED").map(PathBuf::from);
    let shared = shared.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"));
    let Ok(entries) = std::fs::read_dir(shared.join("golden")) else {
        eprintln!("no golden files at {}: nothing was compared", shared.join("golden").display());
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "safetensors"));
    files.sort();
    assert!(!files.is_empty(), "{} holds no .safetensors file", shared.join("golden").display());
    files
}

fn report(what: &str, comparisons: &[Comparison]) {
    let w = golden::worst(comparisons).expect("at least one tensor is compared");
    println!("{what}: {} tensors, worst {} at {:.3} of the tolerance", comparisons.len(), w.tensor, w.ratio());
    assert!(w.passes(), "{what}: {w:?}");
}

#[test]
fn every_operation() {
    for path in golden_files() {
        let Some(Golden::Ops(op, cases)) = golden::read(&path).unwrap() else { continue };
        for case in &cases {
            report(&format!("{op} {} {:?}", case.name, case.op), &case.compare(&run_twin(case)));
        }
    }
}

#[test]
fn every_network() {
    for path in golden_files() {
        let Some(Golden::Network(network)) = golden::read(&path).unwrap() else { continue };
        report(&path.file_name().unwrap().to_string_lossy(), &network.compare(&network.run_twin().unwrap()));
    }
}

/// Moves the element with the strictest tolerance by 3 thousandths of the tensor's scale.
fn spoil(values: &mut [f32], allowed: &[f64]) {
    let scale = values.iter().fold(1f32, |scale, value| scale.max(value.abs()));
    let strictest = (0..values.len()).min_by(|&a, &b| allowed[a].total_cmp(&allowed[b])).unwrap();
    values[strictest] += 0.003 * scale;
}

/// Asserts that exactly the tensor `name` fails.
fn assert_fails(comparisons: Vec<Comparison>, name: &str) {
    let failed: Vec<_> = comparisons.into_iter().filter(|c| !c.passes()).collect();
    assert!(matches!(&failed[..], [c] if c.tensor == name), "{name}: {failed:?}");
}

#[test]
fn a_small_error_in_any_one_tensor_fails() {
    for path in golden_files() {
        match golden::read(&path).unwrap() {
            Some(Golden::Ops(_, cases)) => {
                for case in &cases {
                    let right = run_twin(case);
                    for name in case.expected.keys() {
                        let mut results = right.clone();
                        spoil(results.get_mut(name).unwrap(), &case.allowed_errors(name));
                        assert_fails(case.compare(&results), name);
                    }
                }
            }
            Some(Golden::Network(network)) => {
                let right = network.run_twin().unwrap();
                for name in network.expected.keys() {
                    let mut results = right.clone();
                    spoil(results.get_mut(name).unwrap(), &network.allowed_errors(name));
                    assert_fails(network.compare(&results), name);
                }
            }
            None => {}
        }
    }
}
