//! `recurve check`.

use super::Adapter;
use recurve::check::CaseReport;
use recurve::check::goldens::{Found, check_file, files};
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `recurve check`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Check the golden files under this folder, whatever their names, instead of the built-in cases.
    #[arg(long, value_name = "DIR")]
    goldens: Option<PathBuf>,
    /// Run each case N times and demand equal bits.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    /// Print one JSON object and nothing else.
    #[arg(long)]
    json: bool,
}

/// Runs `recurve check`.
pub async fn run(arguments: &Arguments, adapter: &Adapter) -> anyhow::Result<ExitCode> {
    let gpu = adapter.open(true).await?;
    let repeat = arguments.repeat as usize;
    if !arguments.json {
        println!("{}", gpu.describe());
    }
    let mut cases: Vec<CaseReport> = Vec::new();
    let mut take = |case: CaseReport| {
        if !arguments.json {
            show(&case);
        }
        cases.push(case);
    };
    match &arguments.goldens {
        None => recurve::check::cases::run_cases(&gpu, repeat, &mut take).await?,
        Some(folder) => {
            for path in files(folder)? {
                let name = path.strip_prefix(folder).unwrap_or(&path).display().to_string();
                match check_file(&gpu, &path, &name, repeat).await {
                    Found::Checked(case) => take(case),
                    Found::Left(why) if !arguments.json => println!("     {name}: {why}"),
                    Found::Left(_) | Found::Partner => {}
                }
            }
        }
    }
    let failed = cases.iter().filter(|c| !c.passed).count();
    let passed = cases.len() - failed;
    if arguments.json {
        let adapter = gpu.describe();
        println!("{}", serde_json::json!({ "adapter": adapter, "passed": passed, "failed": failed, "cases": cases }));
    } else {
        if cases.is_empty() {
            println!("nothing to check was found");
        }
        println!("{passed} passed, {failed} failed");
    }
    Ok(ExitCode::from(u8::from(failed > 0 || passed == 0)))
}

fn show(case: &CaseReport) {
    let mark = if case.passed { "ok  " } else { "FAIL" };
    let bits = match case.equal_bits {
        Some(true) => ", equal bits",
        Some(false) => ", BITS DIFFER",
        None => "",
    };
    println!("{mark} {} [{}{bits}] {:.3} of the tolerance; {}", case.name, case.kind, case.error, case.detail);
}
