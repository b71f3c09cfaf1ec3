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

/// The module of the crate that a file belongs to: the first name of its path below `src/`.
fn module(path: &Path) -> String {
    let below = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).expect("a file of src/");
    let first = below.components().next().expect("a path is not empty").as_os_str().to_string_lossy();
    first.trim_end_matches(".rs").to_string()
}

/// A file's lines without comments and without its unit tests, which may use what they like.
fn code(text: &str) -> Vec<&str> {
    let program = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    program.lines().filter(|line| !line.trim_start().starts_with("//")).collect()
}

/// The modules of the crate that a line names: `crate::a::b`, and each first name of `crate::{a, b::c}`.
fn named(line: &str) -> Vec<String> {
    let word = |text: &str| -> String { text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect() };
    let mut names = Vec::new();
    for after in line.split("crate::").skip(1) {
        match after.strip_prefix('{') {
            None => names.push(word(after)),
            Some(list) => {
                let mut depth = 0;
                let mut start = true;
                for (at, c) in list.char_indices() {
                    if depth == 0 && start && (c.is_alphabetic() || c == '_') {
                        names.push(word(&list[at..]));
                        start = false;
                    }
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => start = true,
                        _ => {}
                    }
                }
            }
        }
    }
    names
}

#[test]
fn names_of_a_line() {
    assert_eq!(named("use crate::gpu::{Gpu, Options};"), ["gpu"]);
    assert_eq!(named("use crate::{Error, Result};"), ["Error", "Result"]);
    assert_eq!(named("use crate::{gpu::{self, read}, graph::plan, ops};"), ["gpu", "graph", "ops"]);
    assert_eq!(named("let x = crate::ops::lower(crate::kernels::align(1));"), ["ops", "kernels"]);
    assert!(named("use super::gpu;").is_empty());
}

/// Rule `no-device`.
#[test]
fn pure_modules_know_no_device() {
    let pure = ["graph", "ops", "kernels", "reference", "network", "dataset", "report"];
    let mut seen = 0;
    for (path, text) in all() {
        if pure.contains(&module(&path).as_str()) {
            seen += 1;
            for line in code(&text) {
                assert!(!line.contains("wgpu"), "{} names wgpu: {line}", path.display());
                assert!(!named(line).iter().any(|name| name == "gpu"), "{} uses crate::gpu: {line}", path.display());
            }
        }
    }
    assert!(seen > 20, "only {seen} files seen");
}

/// Modules stand in `lib.rs` in the order in which one may use another, but for these, each with its reason.
const AGAINST_THE_ORDER: [(&str, &str, &str); 2] = [
    ("check", "trajectory", "golden analyses are checked by the commands of `check`"),
    ("check", "dynamics", "as are golden dynamics"),
];

/// Rule `order`.
#[test]
fn imports_follow_the_order_of_modules() {
    let library = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs");
    let library = std::fs::read_to_string(library).expect("readable");
    let declared = library.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    let order: Vec<&str> = declared.collect();
    assert!(order.len() >= 15, "modules of lib.rs: {order:?}");
    let place = |name: &str| order.iter().position(|module| *module == name);
    let mut met: Vec<(String, String)> = Vec::new();
    for (path, text) in all() {
        let from = module(&path);
        let Some(at) = place(&from) else { continue }; // lib.rs, main.rs and the commands, which use all
        for line in code(&text) {
            for to in named(line).into_iter().filter(|to| place(to).is_some_and(|to| to > at)) {
                let known = AGAINST_THE_ORDER.iter().any(|(a, b, _)| (*a, *b) == (from.as_str(), to.as_str()));
                assert!(known, "{}: `{from}` stands before `{to}` in lib.rs: {line}", path.display());
                met.push((from.clone(), to));
            }
        }
    }
    for (from, to, _) in AGAINST_THE_ORDER {
        let gone = !met.iter().any(|(a, b)| (a.as_str(), b.as_str()) == (from, to));
        assert!(!gone, "`{from}` uses `{to}` no longer: take it from the list of exceptions");
    }
}

/// Rule `one-unsafe`.
#[test]
fn one_unsafe_block() {
    let files = all();
    let with: Vec<_> = files.iter().filter(|(_, text)| text.contains("unsafe {")).collect();
    assert_eq!(with.len(), 1, "{:?}", with.iter().map(|f| &f.0).collect::<Vec<_>>());
    assert!(with[0].0.ends_with("gpu/device.rs"));
    assert_eq!(with[0].1.matches("unsafe {").count(), 1);
}

/// The modules of `network/` import each other in one direction.
/// Rule `order`.
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

/// What the order of modules leaves open.
/// Rule `own-truth`.
#[test]
fn rooms_that_know_nothing_of_each_other() {
    // File or folder under src, and what it must not name.
    let rules = [
        ("bench/measure.rs", "super::"),
        ("bench/ceilings.rs", "super::table"),
        ("reference", "crate::hash"),
        ("reference", "crate::tensors"),
        ("reference", "crate::files"),
        ("reference", "crate::dataset"),
        ("reference", "crate::network"),
        ("reference", "crate::kernels"),
        ("reference", "crate::ops"),
        ("reference", "crate::graph"),
        ("reference", "crate::gpu"),
        ("reference", "crate::scores"),
        ("reference", "crate::engine"),
        ("reference", "crate::stream"),
        ("reference", "crate::check"),
        ("reference", "crate::tune"),
        ("reference", "crate::train"),
        ("reference", "crate::trajectory"),
        ("reference", "crate::report"),
        ("reference", "crate::analysis"),
        ("reference", "crate::bench"),
    ];
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for (of, never) in rules {
        let mut seen = 0;
        for (path, text) in all().iter().filter(|(path, _)| path.starts_with(root.join(of))) {
            seen += 1;
            assert!(code(text).iter().all(|line| !line.contains(never)), "{} names {never}", path.display());
        }
        assert!(seen > 0, "src/{of} has no files");
    }
}

/// Rule `one-writer`.
#[test]
fn files_are_written_atomically_in_one_place() {
    let with: Vec<PathBuf> =
        all().into_iter().filter(|(_, text)| text.contains("AtomicWriteFile")).map(|(path, _)| path).collect();
    assert_eq!(with.len(), 1, "{with:?}");
    assert!(with[0].ends_with("src/files.rs"));
}

/// Rule `edge`.
#[test]
fn nothing_waits_but_the_edge_the_poller_and_compile_threads() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut futures, mut polls) = (Vec::new(), Vec::new());
    for (path, text) in all() {
        let below = path.strip_prefix(&root).expect("a file of src/").to_path_buf();
        for line in code(&text) {
            if line.contains("pollster") && !below.starts_with("cli") && below != Path::new("main.rs") {
                futures.push(below.clone());
            }
            if line.contains("PollType::Wait") || line.contains("wait_indefinitely") {
                polls.push(below.clone());
            }
        }
    }
    assert_eq!(futures, [Path::new("gpu/warm.rs")], "one line beyond the edge names pollster");
    assert_eq!(polls, [Path::new("gpu/wait.rs")], "one line waits for the device");
}

/// Rule `terminal`.
#[test]
fn all_that_is_printed_goes_through_one_place() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut seen = 0;
    for (path, text) in all() {
        if path == root.join("output.rs") {
            continue;
        }
        for line in code(&text) {
            seen += usize::from(line.contains("println!("));
            for way in ["stdout()", "dbg!(", "std::println", "std::eprintln", " print!(", " eprint!(", "anstream"] {
                assert!(!line.contains(way), "{}: {way} passes by output.rs: {line}", path.display());
            }
        }
    }
    assert!(seen > 50, "only {seen} lines print");
    let main = std::fs::read_to_string(root.join("main.rs")).expect("readable");
    let taken = main.contains("#[macro_use(eprintln, println)]\nextern crate recurve;");
    assert!(taken, "the binary takes its macros from the library");
}

/// ARCHITECTURE.md gives each rule a label, by which tests and this page find each other.
#[test]
fn every_rule_is_named_by_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("ARCHITECTURE.md")).expect("readable");
    let section = page.split("| label | rule |\n|---|---|\n").nth(1).expect("the table of rules");
    let rows = section.lines().take_while(|line| line.starts_with('|'));
    let labels: Vec<&str> = rows.map(|row| row.split('`').nth(1).expect("a label")).collect();
    assert!(labels.len() > 10, "{labels:?}");
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    sources(&root.join("tests"), &mut files);
    let texts: Vec<String> = files.iter().map(|path| std::fs::read_to_string(path).expect("readable")).collect();
    let named: Vec<&str> = texts
        .iter()
        .flat_map(|text| {
            text.lines().filter_map(|line| line.trim_start().strip_prefix("/// Rule `")?.strip_suffix("`."))
        })
        .collect();
    for label in &labels {
        assert!(named.contains(label), "no test names the rule `{label}`");
    }
    for name in named {
        assert!(labels.contains(&name), "ARCHITECTURE.md has no rule `{name}`");
    }
}
