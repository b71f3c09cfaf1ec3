use recurve::{gpu::*, graph::plan::Plan, kernels::{*, conv::*}};
use std::time::Instant;
fn main() {
    let a: Vec<usize> = std::env::args().skip(2).map(|s| s.parse().unwrap()).collect();
    let what = std::env::args().nth(1).unwrap();
    let gpu = Gpu::open(&Options::default()).unwrap();
    let (n, cin, cout, h, w, k) = (a[0], a[1], a[2], a[3], a[4], a[5]);
    let shape = ConvShape::same(n, cin, cout, h, w, k);
    let f = |s: &mut u64| { *s ^= *s << 13; *s ^= *s >> 7; *s ^= *s << 17; (*s >> 40) as f32 / (1u64 << 24) as f32 - 0.5 };
    let mut seed = 1u64;
    let xs: Vec<f32> = (0..n * cin * h * w).map(|_| f(&mut seed)).collect();
    let ws: Vec<f32> = (0..cout * cin * k * k).map(|_| f(&mut seed)).collect();
    let dys: Vec<f32> = (0..n * cout * h * w).map(|_| f(&mut seed)).collect();
    let mut p = Program::default();
    let mut buf = |p: &mut Program, name: &str, count: usize, role| { let b = p.buffer(BufferSpec { name: name.into(), bytes: align(4 * count as u64), role, area: "".into(), timestep: None }); p.whole(b) };
    let x = buf(&mut p, "x", xs.len(), Role::Input);
    let site = Site { label: "t", area: "" };
    let (out, second, data): (View, View, &Vec<f32>);
    if what == "d" {
        let dy = buf(&mut p, "dy", dys.len(), Role::Input); second = dy; data = &dys;
        out = buf(&mut p, "dw", ws.len(), Role::Output);
        let tile = WeightTile { along: if a[11] == 1 { Lanes::Channels } else { Lanes::Pixels }, subgroup: a[6] == 1, lanes: a[7], r: a[8], c: a[9], splits: a[10], unroll: *a.get(12).unwrap_or(&1) };
        conv2d_d_weight(&mut p, &gpu.target, &tile, &shape, (x, 0, dy, 0, 1), out, site).unwrap();
    } else {
        let wv = buf(&mut p, "w", ws.len(), Role::Input); second = wv; data = &ws;
        out = buf(&mut p, "y", dys.len(), Role::Output);
        let tile = Tile { source: [Source::Subgroup, Source::Shared, Source::Uniform][a[6]], lanes: a[7], r: a[8], nv: a[9] };
        conv2d(&mut p, &gpu.target, &tile, &shape, (x, wv, WeightOrder { out_step: cin * k * k, in_step: k * k, flip: false }, Start::default(), out), site).unwrap();
    }
    let plan = Plan::new(&p, true);
    let t = Instant::now();
    let rec = Recording::new(&gpu, &p, &plan, &mut Store::default()).unwrap();
    rec.write(&gpu, x, &xs); rec.write(&gpu, second, data);
    rec.run(&gpu); gpu.wait().unwrap();
    let compile = t.elapsed().as_secs_f64();
    let y: Vec<f32> = rec.read(&gpu, out).unwrap();
    // a few entries against plain loops
    let mut worst = 0f64;
    for trial in 0..40usize {
        let (mut s, i);
        s = 0f64;
        if what == "d" {
            i = trial * 7919 % ws.len();
            let (co, ci, ky, kx) = (i / (cin * k * k), i / (k * k) % cin, i / k % k, i % k);
            for yo in 0..h { for xo in 0..w { for b in 0..n {
                let (yi, xi) = (yo + ky, xo + kx); if yi < k / 2 || xi < k / 2 || yi - k / 2 >= h || xi - k / 2 >= w { continue; }
                s += dys[((co * h + yo) * w + xo) * n + b] as f64 * xs[((ci * h + yi - k / 2) * w + xi - k / 2) * n + b] as f64;
            } } }
        } else {
            i = trial * 7919 * 13 % dys.len();
            let (co, yo, xo, b) = (i / (h * w * n), i / (w * n) % h, i / n % w, i % n);
            for ci in 0..cin { for ky in 0..k { for kx in 0..k {
                let (yi, xi) = (yo + ky, xo + kx); if yi < k / 2 || xi < k / 2 || yi - k / 2 >= h || xi - k / 2 >= w { continue; }
                s += ws[((co * cin + ci) * k + ky) * k + kx] as f64 * xs[((ci * h + yi - k / 2) * w + xi - k / 2) * n + b] as f64;
            } } }
        }
        worst = worst.max((s - y[i] as f64).abs());
    }
    let mut times = vec![];
    let start = Instant::now();
    while times.len() < 5 || start.elapsed().as_secs_f64() < 1.0 { let t = Instant::now(); rec.run(&gpu); gpu.wait().unwrap(); times.push(t.elapsed().as_secs_f64()); }
    times.sort_by(f64::total_cmp);
    let m = times[times.len() / 2];
    println!("{a:?} compile {compile:.2} s, median {:.2} ms, {:.1} GFLOP/s, best {:.1}, error {worst:.1e}", m * 1e3, shape.flops() / m / 1e9, shape.flops() / times[0] / 1e9);
}
