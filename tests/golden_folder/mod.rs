//! Where the golden files lie, which are not part of this repository.

use std::path::{Path, PathBuf};

/// The folder `golden`, `golden-arch`, `golden-faults`, `golden-dynamics` or `golden-augment` of `$RECURVE_SHARED`, else of `../shared` beside the project.
pub fn golden_folder(name: &str) -> PathBuf {
    let shared = std::env::var_os("RECURVE_SHARED").map(PathBuf::from);
    shared.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared")).join(name)
}
