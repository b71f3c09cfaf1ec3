//! The stored results of the golden folder of dynamics.

mod golden_folder;

use std::path::PathBuf;

use golden_folder::golden_folder;
use recurve::dynamics::Dynamics;
use recurve::dynamics::goldens::{Golden, TOLERANCE_F64};

/// Every stored result.
fn goldens() -> Vec<Golden> {
    let folder = golden_folder("golden-dynamics");
    let files = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "json"));
    paths.sort();
    assert!(paths.len() >= 14, "{} holds {} results", folder.display(), paths.len());
    paths.iter().map(|path| Golden::open(path).unwrap()).collect()
}

#[test]
#[ignore = "reads the golden files of ../shared: scripts/test.sh runs it where they are"]
fn golden_files_of_dynamics_in_f64() {
    let mut problems = Vec::new();
    for golden in goldens() {
        let found = serde_json::to_value(Dynamics::exact(&golden.subject()).unwrap()).unwrap();
        let differences = golden.differences(&found, &golden.keys(), Some(TOLERANCE_F64));
        problems.extend(differences.into_iter().map(|what| format!("{}: {what}", golden.path.display())));
    }
    assert!(problems.is_empty(), "{} differences\n{}", problems.len(), problems.join("\n"));
}
