use recurve::check::{network::run_network, run::run_case};
use recurve::gpu::{Gpu, Options};
use recurve::graph::passes::Passes;
use recurve::kernels::choose::Choice;
use recurve::reference::golden::{Golden, read, worst};
fn main() {
    let gpu = Gpu::open(&Options { adapter: None, checked: std::env::var("UNCHECKED").is_err() }).unwrap();
    println!("{}", gpu.describe());
    let mut files: Vec<_> = std::fs::read_dir(std::env::args().nth(1).unwrap())
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "safetensors"))
        .collect();
    files.sort();
    let only = std::env::args().nth(2);
    for f in files {
        let stem = f.file_stem().unwrap().to_string_lossy().to_string();
        if only.as_ref().is_some_and(|o| !stem.contains(o.as_str())) {
            continue;
        }
        match read(&f).unwrap() {
            Some(Golden::Ops(op, cases)) => {
                for case in cases {
                    match run_case(&gpu, &case, Choice::default()) {
                        Ok(r) => {
                            let c = case.compare(&r);
                            let w = worst(&c).unwrap();
                            println!(
                                "{} {op}/{}: {:.3} {w:?}",
                                if w.passes() { "ok" } else { "FAIL" },
                                case.name,
                                w.ratio()
                            );
                        }
                        Err(e) => println!("FAIL {op}/{}: {e}", case.name),
                    }
                }
            }
            Some(Golden::Network(n)) => {
                let t = std::time::Instant::now();
                match run_network(&gpu, &n, Passes::default(), Choice::default()) {
                    Ok(r) => {
                        let c = n.compare(&r);
                        let w = worst(&c).unwrap();
                        println!(
                            "{} {stem}: {:.3} {w:?} {:?}",
                            if w.passes() { "ok" } else { "FAIL" },
                            w.ratio(),
                            t.elapsed()
                        );
                        if !w.passes() {
                            for c in &c {
                                if !c.passes() {
                                    println!("    {} {:.3}", c.tensor, c.ratio());
                                }
                            }
                        }
                    }
                    Err(e) => println!("FAIL {stem}: {e}"),
                }
            }
            None => {}
        }
    }
}
