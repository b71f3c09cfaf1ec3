//! Rules of ARCHITECTURE.md that the compiler does not check.

use std::path::{Path, PathBuf};

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("the folder exists") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}

fn all() -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    files.into_iter().map(|path| (path.clone(), std::fs::read_to_string(path).expect("readable"))).collect()
}

#[test]
fn pure_modules_never_name_wgpu() {
    let mut seen = 0;
    for (path, text) in all() {
        let pure = ["graph", "ops", "kernels", "reference", "network", "dataset", "report"];
        if path.components().any(|c| pure.iter().any(|p| c.as_os_str() == *p)) {
            seen += 1;
            let code = text.lines().filter(|l| !l.trim_start().starts_with("//"));
            assert!(code.clone().all(|l| !l.contains("wgpu::")), "{} names wgpu", path.display());
        }
    }
    assert!(seen > 20, "only {seen} files seen");
}

#[test]
fn one_unsafe_block() {
    let files = all();
    let with: Vec<_> = files.iter().filter(|(_, text)| text.contains("unsafe {")).collect();
    assert_eq!(with.len(), 1, "{:?}", with.iter().map(|f| &f.0).collect::<Vec<_>>());
    assert!(with[0].0.ends_with("gpu/device.rs"));
    assert_eq!(with[0].1.matches("unsafe {").count(), 1);
}

/// The modules of `network/` import each other in one direction.
#[test]
fn no_circle_among_the_network_s_modules() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/network");
    let mut imports: Vec<(String, Vec<String>)> = Vec::new();
    for (path, text) in all().into_iter().filter(|(path, _)| path.starts_with(&folder)) {
        let name = path.file_stem().expect("a file").to_string_lossy().into_owned();
        let used = text.lines().filter_map(|line| line.strip_prefix("use super::"));
        imports.push((name, used.map(|rest| rest.split(':').next().expect("a module").to_string()).collect()));
    }
    imports.retain(|(name, _)| name != "mod");
    assert!(imports.iter().map(|(_, used)| used.len()).sum::<usize>() > 20, "{imports:?}");
    while !imports.is_empty() {
        let names: Vec<String> = imports.iter().map(|(name, _)| name.clone()).collect();
        let free = |used: &[String]| used.iter().all(|module| !names.contains(module));
        let before = imports.len();
        imports.retain(|(_, used)| !free(used));
        assert!(imports.len() < before, "these import each other in a circle: {imports:?}");
    }
}

#[test]
fn imports_run_in_one_direction() {
    // File or folder under src, and what it must not name.
    let rules = [
        ("check", "crate::bench"),
        ("tune", "crate::train"),
        ("tune", "crate::bench"),
        ("tune", "crate::check"),
        ("train", "crate::trajectory"),
        ("train", "crate::bench"),
        ("bench/measure.rs", "super::"),
        ("bench/ceilings.rs", "super::table"),
        ("reference", "crate::kernels"),
    ];
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for (of, never) in rules {
        let mut seen = 0;
        for (path, text) in all().iter().filter(|(path, _)| path.starts_with(root.join(of))) {
            seen += 1;
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            let mut lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
            assert!(lines.all(|line| !line.contains(never)), "{} names {never}", path.display());
        }
        assert!(seen > 0, "src/{of} has no files");
    }
}

#[test]
fn files_are_written_atomically_in_one_place() {
    let with: Vec<PathBuf> =
        all().into_iter().filter(|(_, text)| text.contains("AtomicWriteFile")).map(|(path, _)| path).collect();
    assert_eq!(with.len(), 1, "{with:?}");
    assert!(with[0].ends_with("src/files.rs"));
}
