//! `recurve bench`.

use super::Adapter;
use anyhow::Context;
use clap::Subcommand;
use recurve::bench::{self, Product, Rate};
use recurve::gpu::driver;
use recurve::graph::passes::Passes;
use recurve::kernels::conv::ConvShape;
use recurve::network::Preset;
use std::process::ExitCode;

/// Arguments of `recurve bench`.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    what: What,
    /// Print one JSON object and nothing else.
    #[arg(long, global = true)]
    json: bool,
    /// Seconds per measurement.
    #[arg(long, global = true, default_value_t = 2.0)]
    seconds: f64,
}

#[derive(Subcommand)]
enum What {
    /// A training step of a preset.
    Step {
        /// tiny, blt64 or blt128.
        #[arg(long)]
        preset: Preset,
        /// Images per batch.
        #[arg(long, default_value_t = 32)]
        batch: usize,
        /// Switch a graph pass off (hoist, fuse, fold, reuse); may be repeated.
        #[arg(long, value_name = "NAME")]
        no_pass: Vec<String>,
    },
    /// A convolution and both its gradients: batch, channels in and out, rows, columns, kernel size.
    Conv {
        /// Images.
        b: usize,
        /// Channels in.
        cin: usize,
        /// Channels out.
        cout: usize,
        /// Rows.
        h: usize,
        /// Columns.
        w: usize,
        /// Kernel size, odd.
        k: usize,
    },
    /// The product of an M x K and a K x N matrix.
    Gemm {
        /// Rows of the result.
        m: usize,
        /// Columns of the result.
        n: usize,
        /// Terms of each sum.
        k: usize,
    },
}

/// Runs `recurve bench`.
pub fn run(arguments: &Arguments, adapter: &Adapter) -> anyhow::Result<ExitCode> {
    let sizes = match arguments.what {
        What::Step { batch, .. } => vec![batch],
        What::Conv { b, cin, cout, h, w, k } => vec![b, cin, cout, h, w, k],
        What::Gemm { m, n, k } => vec![m, n, k],
    };
    anyhow::ensure!(!sizes.contains(&0), "sizes must be at least 1, found {sizes:?}");
    if let What::Conv { k, .. } = arguments.what {
        anyhow::ensure!(k % 2 == 1, "the kernel size must be odd, found {k}");
    }
    let gpu = adapter.open(false)?;
    if !arguments.json {
        println!("{}", gpu.describe());
    }
    let result = match &arguments.what {
        What::Step { preset, batch, no_pass } => {
            let mut network = preset.network();
            if *preset == Preset::Tiny {
                network.classes = 10;
            }
            let step = bench::step(&gpu, &network, *batch, Passes::without(no_pass)?, arguments.seconds)?;
            if !arguments.json {
                println!(
                    "{:.1} images/s: {:.2} ms per step ({:.2} to {:.2}), {} dispatches, {:.1} MiB planned, {:.1} allocated",
                    step.images_per_s,
                    step.ms,
                    step.spread[0],
                    step.spread[1],
                    step.dispatches,
                    step.peak_bytes as f64 / 1048576.0,
                    step.allocated_bytes as f64 / 1048576.0
                );
                println!("host {:.2} ms per step; first step done after {:.0} ms", step.cpu_ms, step.first_step_ms);
                let mut rows: Vec<_> = step.kernels.iter().collect();
                rows.sort_by(|a, b| b.1.1.total_cmp(&a.1.1));
                for (kernel, (launches, ms)) in rows {
                    println!("  {ms:9.2} ms  {launches:4} x {kernel}");
                }
            }
            serde_json::to_value(step)?
        }
        What::Conv { b, cin, cout, h, w, k } => {
            let shape = ConvShape::same(*b, *cin, *cout, *h, *w, *k);
            let mut table = serde_json::Map::new();
            for (name, product) in
                [("forward", Product::Forward), ("d_input", Product::DInput), ("d_weight", Product::DWeight)]
            {
                let rate = bench::conv(&gpu, &shape, product, arguments.seconds).context(name)?;
                show(arguments, name, &rate);
                table.insert(name.into(), serde_json::to_value(rate)?);
            }
            table.into()
        }
        What::Gemm { m, n, k } => {
            let rate = bench::conv(&gpu, &bench::gemm_shape(*m, *n, *k), Product::Forward, arguments.seconds)?;
            show(arguments, "product", &rate);
            serde_json::to_value(rate)?
        }
    };
    if arguments.json {
        let mut result = result;
        result["adapter"] = gpu.info.name.clone().into();
        result["driver"] = driver(&gpu.info).into();
        println!("{result}");
    }
    Ok(ExitCode::SUCCESS)
}

fn show(arguments: &Arguments, name: &str, rate: &Rate) {
    if !arguments.json {
        let Rate { gflops, ms, spread, variant, error } = rate;
        println!(
            "{name:9} {gflops:7.1} GFLOP/s  {ms:9.3} ms ({:.3} to {:.3})  error {error:.0e}  {variant}",
            spread[0], spread[1]
        );
    }
}
