//! Licences and sources of every dependency, on every platform, against the lists in `deny.toml`: what
//! `cargo deny check bans licenses sources` looks at, for machines that have cargo alone.

use serde_json::Value;
use std::process::Command;

/// What cargo says of all packages.
fn metadata() -> Value {
    let cargo = std::env::var("CARGO").unwrap_or("cargo".into());
    let run = |more: &[&str]| {
        let mut command = Command::new(&cargo);
        command
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .args(["metadata", "--format-version", "1", "--locked"])
            .args(more);
        command.output().expect("cargo runs")
    };
    let mut output = run(&["--all-features"]);
    if !output.status.success() {
        // Without a network the packages of other platforms may not be there.
        let rustc = Command::new("rustc").arg("-vV").output().expect("rustc runs");
        let told = String::from_utf8_lossy(&rustc.stdout).into_owned();
        let host = told.lines().find_map(|line| line.strip_prefix("host: ")).expect("the host's name");
        println!(
            "packages of other platforms than {host} are not there and were not looked at; `cargo fetch` brings them"
        );
        output = run(&["--all-features", "--offline", "--filter-platform", host]);
    }
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Whether an SPDX expression can be met by licences that are allowed: `OR` (or an old `/`) needs one side, `AND` both.
fn allowed(expression: &str, list: &[String]) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let met = either(&words, &mut at, list);
    assert_eq!(at, words.len(), "the licence `{expression}` cannot be read");
    met
}

fn either(words: &[&str], at: &mut usize, list: &[String]) -> bool {
    let mut met = both(words, at, list);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        met |= both(words, at, list);
    }
    met
}

fn both(words: &[&str], at: &mut usize, list: &[String]) -> bool {
    let mut met = one(words, at, list);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        met &= one(words, at, list);
    }
    met
}

fn one(words: &[&str], at: &mut usize, list: &[String]) -> bool {
    let Some(word) = words.get(*at) else { return false };
    *at += 1;
    if *word == "(" {
        let met = either(words, at, list);
        *at += usize::from(words.get(*at) == Some(&")"));
        return met;
    }
    let mut name = word.to_string();
    if words.get(*at) == Some(&"WITH") {
        name = format!("{name} WITH {}", words.get(*at + 1).unwrap_or(&""));
        *at += 2;
    }
    list.contains(&name)
}

fn deny() -> toml::Table {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/deny.toml");
    std::fs::read_to_string(path).expect("deny.toml").parse().expect("TOML")
}

fn licences(deny: &toml::Table) -> Vec<String> {
    let list = deny["licenses"]["allow"].as_array().expect("a list");
    list.iter().map(|name| name.as_str().expect("a name").to_string()).collect()
}

#[test]
fn expressions() {
    let list = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"].map(String::from);
    for (expression, met) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("GPL-3.0 AND MIT", false),
        ("MIT/GPL-3.0", true),
        ("(MIT OR GPL-3.0) AND Apache-2.0", true),
        ("MIT AND (GPL-3.0 OR ISC)", false),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("MIT WITH LLVM-exception", false),
        ("GPL-3.0 OR MIT AND Apache-2.0", true),
        ("GPL-3.0 AND MIT OR ISC", false),
        ("", false),
    ] {
        assert_eq!(allowed(expression, &list), met, "{expression}");
    }
}

#[test]
fn licences_and_sources_are_those_that_deny_toml_allows() {
    let (metadata, deny) = (metadata(), deny());
    let list = licences(&deny);
    for rule in ["unknown-registry", "unknown-git"] {
        assert_eq!(deny["sources"][rule].as_str(), Some("deny"), "this test holds {rule} to be denied");
    }
    let packages = metadata["packages"].as_array().expect("packages");
    let mut wrong = Vec::new();
    for package in packages {
        let name = format!("{} {}", package["name"].as_str().unwrap(), package["version"].as_str().unwrap());
        match package["license"].as_str() {
            Some(licence) if allowed(licence, &list) => {}
            Some(licence) => wrong.push(format!("{name}: licence {licence}")),
            None => wrong.push(format!("{name}: no licence")),
        }
        match package["source"].as_str() {
            None if package["name"] == "recurve" => {}
            Some("registry+https://github.com/rust-lang/crates.io-index") => {}
            other => wrong.push(format!("{name}: source {other:?}")),
        }
    }
    // `bans`: no dependency of this crate may leave its version open.
    let own = packages.iter().find(|package| package["name"] == "recurve").expect("this crate");
    for dependency in own["dependencies"].as_array().expect("dependencies") {
        if dependency["req"] == "*" {
            wrong.push(format!("{}: any version", dependency["name"]));
        }
    }
    println!("{} packages", packages.len());
    assert!(packages.len() > 100, "{} packages are too few", packages.len());
    assert!(wrong.is_empty(), "not allowed by deny.toml:\n{}", wrong.join("\n"));
}
