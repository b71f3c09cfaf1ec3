use recurve::{dataset::Batch, engine::*, gpu::*, graph::{compile::Request, passes::Passes}, kernels::choose::Choice, network::*};
use std::collections::BTreeMap;
use std::time::Instant;
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let preset: Preset = args[1].parse().unwrap();
    let batch: usize = args[2].parse().unwrap();
    let mut config = preset.network();
    if args.len() > 3 { config.classes = args[3].parse().unwrap(); }
    let gpu = Gpu::open(&Options::default()).unwrap();
    println!("{}", gpu.describe());
    let request = Request { config: &config, batch, target: &gpu.target, passes: Passes::default(), choice: Choice::default(), train: true, inspect: false, trajectory: false };
    let t = Instant::now();
    let mut e = Engine::new(&gpu, &request, &mut Store::default()).unwrap();
    println!("built in {:.2} s, planned {} allocated {}, {} launches", t.elapsed().as_secs_f64(), e.compiled.peak_bytes(), gpu.allocated(), e.compiled.lowered.program.launches.len());
    let specs = parameters(&config);
    let zeros: Vec<Vec<f32>> = specs.iter().map(|s| vec![0.0; s.len()]).collect();
    e.set_parameters(&initialise(&specs, 1)); e.set_moments(&zeros, &zeros);
    let x = recurve::reference::random::normal(1, 3 * config.image_size * config.image_size * batch);
    let labels = (0..batch).map(|i| (i % config.classes) as u32).collect();
    e.feed(&Batch { x, labels, n: batch });
    let adam = Adam { learning_rate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
    let t = Instant::now();
    e.set_step(&adam, 1); e.run(); gpu.wait().unwrap();
    println!("first step {:.2} s, loss {:?}", t.elapsed().as_secs_f64(), e.scores(batch).unwrap().loss);
    let mut times = vec![];
    for s in 0..8 { let t = Instant::now(); e.set_step(&adam, s + 2); e.run(); gpu.wait().unwrap(); times.push(t.elapsed().as_secs_f64()); }
    times.sort_by(f64::total_cmp);
    println!("step median {:.1} ms best {:.1} ms, {:.1} images/s, best {:.1}", times[4] * 1e3, times[0] * 1e3, batch as f64 / times[4], batch as f64 / times[0]);
    let each = e.recording().time_launches(&gpu, 3).unwrap();
    let mut by: BTreeMap<String, (usize, f64)> = BTreeMap::new();
    for (l, t) in e.compiled.lowered.program.launches.iter().zip(&each) { let k = by.entry(l.kernel.label()).or_default(); k.0 += 1; k.1 += t; }
    let mut rows: Vec<_> = by.into_iter().collect(); rows.sort_by(|a, b| b.1.1.total_cmp(&a.1.1));
    for (k, (n, t)) in rows { println!("{n:4} {:8.2} ms  {k}", t * 1e3); }
    if args.len() > 4 { for (l, t) in e.compiled.lowered.program.launches.iter().zip(&each) { println!("{:8.2} ms {} {:?} {}", t*1e3, l.kernel.label(), l.grid, l.label); } }
    println!("sum {:.1} ms", each.iter().sum::<f64>() * 1e3);
}
