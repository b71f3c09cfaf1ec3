//! The built-in cases of `recurve check`, on the adapter that is found.

use pollster::FutureExt;
use recurve::check::CaseReport;
use recurve::check::cases::run_cases;
use recurve::check::rows::ROWS;
use recurve::gpu::{Gpu, Options};

#[test]
fn every_kernel_agrees_with_its_twin() {
    let gpu = Gpu::open(&Options { checked: true, ..Options::default() })
        .block_on()
        .unwrap_or_else(|e| panic!("the kernels can only be tested on an adapter: {e}"));
    println!("{}", gpu.describe());
    let mut cases: Vec<CaseReport> = Vec::new();
    run_cases(&gpu, 2, &mut |case| cases.push(case)).block_on().unwrap();
    let failed: Vec<String> = cases
        .iter()
        .filter(|c| !c.passed || c.equal_bits != Some(true))
        .map(|c| format!("{} [{}]: {}", c.name, c.kind, c.detail))
        .collect();
    let worst = cases.iter().map(|c| c.error).fold(0.0, f64::max);
    println!("{} cases, worst error {worst:.3} of its tolerance", cases.len());
    assert!(failed.is_empty(), "{} of {} cases failed:\n{}", failed.len(), cases.len(), failed.join("\n"));
    assert!(cases.len() > 602, "only {} cases", cases.len());
    let covers = |name: &str| cases.iter().any(|c| c.kind.split(' ').next() == Some(name));
    for name in ROWS.iter().map(|row| row.names()[0]).chain(["linear", "fused", "ceiling", "ladder"]) {
        assert!(covers(name), "no case of {name}");
    }
}
