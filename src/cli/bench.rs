//! `recurve bench`.

use super::Adapter;
use super::tune::Flags;
use anyhow::{Context, ensure};
use clap::Subcommand;
use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};
use recurve::bench::analysis::{Size, analysis};
use recurve::bench::cases::{Case, preset_cases, shape_cases};
use recurve::bench::ceilings::ceilings;
use recurve::bench::compare::{BaselineComparison, compare};
use recurve::bench::kernels::{self, jobs};
use recurve::bench::measure::figure;
use recurve::bench::roofline::html;
use recurve::bench::step::{PassEffect, Share, StepFigures, passes, step};
use recurve::bench::table::{Document, Row};
use recurve::bench::trace::trace;
use recurve::bench::variants::{GPUS, SHAPE, variants};
use recurve::files::write_atomically;
use recurve::gpu::Gpu;
use recurve::graph::passes::Passes;
use recurve::network::Preset;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Arguments of `recurve bench`.
#[derive(clap::Args)]
#[command(after_help = "\
Every result is compared with plain loops before it is timed (of convolutions 65 values; `recurve check` compares them \
whole); a wrong one is a failed row, and the exit code 1. Times are \
medians of samples of several runs each, with a 95 % bootstrap confidence interval; the cost of submitting, below a twentieth \
of a sample, is not subtracted. The device's timestamps are used where they make up 50 to 102 % of the wall time of the same \
submissions, else the wall clock. `% roof` is the time that the adapter's own ceilings allow, relative to the median: \
multiply-adds in registers, and bandwidth in a working set of the row's size, both measured at the start. Operations are \
those of the direct method: Winograd's needs fewer, so that its rows can pass 100. Samples of one run \
meet one state of the machine: what differs from run to run, often 20 % on a shared machine, is what --margin is for.")]
pub struct Arguments {
    #[command(subcommand)]
    what: What,
    /// Print one JSON object and nothing else.
    #[arg(long, global = true)]
    json: bool,
    /// Also write the rows as CSV.
    #[arg(long, global = true, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Also write the table and a roofline chart as one HTML page.
    #[arg(long, global = true, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Seconds per row (default: 2; kernels 0.5).
    #[arg(long, global = true)]
    seconds: Option<f64>,
    /// Do not measure the adapter's ceilings first (about 3 s); shares of them are absent then.
    #[arg(long, global = true)]
    no_ceilings: bool,
    /// Compare with the JSON of an earlier run of the same subcommand; exit 1 where a row is slower beyond the margin.
    #[arg(long, global = true, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// A row is a regression if the whole confidence interval of its ratio lies beyond this many per cent.
    #[arg(long, global = true, value_name = "PERCENT", default_value_t = 10.0)]
    margin: f64,
    /// Compare with a baseline of another adapter or driver too.
    #[arg(long, global = true)]
    any_adapter: bool,
}

#[derive(Subcommand)]
enum What {
    /// Operations and variants, in the shapes of presets' training steps or in shapes of your own.
    Kernels {
        /// The shapes of this preset's training step; may be repeated (without --shape: tiny).
        #[arg(long)]
        preset: Vec<Preset>,
        /// Images per batch (default: the preset's).
        #[arg(long)]
        batch: Option<usize>,
        /// A shape of your own; may be repeated. Six numbers are a convolution (images, channels in, channels out, rows,
        /// columns, kernel size), four a map (images, channels, rows, columns), three a matrix product (M, N, K).
        #[arg(long, value_name = "N,N,…")]
        shape: Vec<String>,
        /// Only this operation; may be repeated.
        #[arg(long, value_name = "NAME")]
        op: Vec<String>,
        /// What the engine chooses, or all variants that the adapter can run.
        #[arg(long, value_enum, default_value = "chosen")]
        variant: Variant,
        /// Only the row of this id, as a table's `args` give it.
        #[arg(long, value_name = "ID")]
        row: Option<String>,
    },
    /// A training step of a preset: the whole, by operation, by area.
    Step {
        #[command(flatten)]
        network: Network,
        /// Switch a graph pass off (hoist, fuse, fold, reuse); may be repeated.
        #[arg(long, value_name = "NAME")]
        no_pass: Vec<String>,
        /// Write a trace of one step for Perfetto or chrome://tracing.
        #[arg(long, value_name = "FILE")]
        trace: Option<PathBuf>,
        #[command(flatten)]
        variants: Flags,
    },
    /// The training step with each graph pass off, against all on, measured in turns.
    Passes {
        #[command(flatten)]
        network: Network,
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
    /// Every variant of the convolutions: what it is for, what it costs, and what three GPUs are PREDICTED to make of it.
    /// Needs no adapter.
    Variants {
        /// Kernel size, odd.
        #[arg(long, default_value_t = 3)]
        k: usize,
    },
    /// The statistics of an analysis, on made-up activations of a trained and an untrained network.
    Analysis {
        /// Pictures.
        #[arg(long, default_value_t = 2500)]
        images: usize,
        /// Timesteps.
        #[arg(long, default_value_t = 10)]
        timesteps: usize,
        /// Numbers that the readout sees of a picture.
        #[arg(long, default_value_t = 512)]
        features: usize,
        /// Classes.
        #[arg(long, default_value_t = 100)]
        classes: usize,
    },
    /// Pictures a second of a data set's training split: reading, decoding, augmenting, and batches as training gets them,
    /// beside a training step.
    Data {
        /// HDF5 file, folder of pictures, or `glyphs`.
        #[arg(long, value_name = "PATH|glyphs", default_value = "glyphs")]
        data: String,
        /// The network of the step, at the pictures' size.
        #[arg(long, default_value = "tiny")]
        preset: Preset,
        /// Images of the step.
        #[arg(long, default_value_t = 32)]
        batch: usize,
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

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum Variant {
    Chosen,
    All,
}

#[derive(clap::Args)]
struct Network {
    /// tiny, blt64, blt128, or published-l-add, -t-add, -l-mul, -t-mul.
    #[arg(long)]
    preset: Preset,
    /// Images per batch.
    #[arg(long, default_value_t = 32)]
    batch: usize,
}

impl Network {
    fn arguments(&self) -> String {
        format!("--preset {} --batch {}", self.preset.name(), self.batch)
    }
}

/// Runs `recurve bench`.
pub async fn run(arguments: &Arguments, adapter: &Adapter) -> anyhow::Result<ExitCode> {
    let usual = if matches!(arguments.what, What::Kernels { .. }) { 0.5 } else { 2.0 };
    let seconds = arguments.seconds.unwrap_or(usual);
    ensure!(seconds > 0.0 && seconds.is_finite(), "--seconds must be above 0");
    ensure!(arguments.margin >= 0.0, "--margin must not be negative");
    if let What::Variants { k } = arguments.what {
        return show_variants(k, arguments.json);
    }
    let cases = cases_without_device(&arguments.what)?;
    let baseline = arguments.baseline.as_deref().map(Document::read).transpose()?;
    let gpu = adapter.open(false).await?;
    let bench = Bench { arguments, gpu: &gpu, seconds };
    bench.say(&gpu.describe());
    if let What::Analysis { images, timesteps, features, classes } = arguments.what {
        return bench.analysis(Size { images, timesteps, features, classes }).await;
    }
    if let What::Data { data, preset, batch } = &arguments.what {
        return bench.data(data, *preset, *batch).await;
    }
    let (document, extra) = match &arguments.what {
        What::Kernels { .. } => bench.kernels(cases).await?,
        What::Conv { .. } | What::Gemm { .. } => bench.shapes(&cases).await?,
        What::Step { network, no_pass, trace, variants } => {
            bench.step(network, no_pass, variants, trace.as_deref()).await?
        }
        What::Passes { network } => bench.passes(network).await?,
        What::Variants { .. } | What::Analysis { .. } | What::Data { .. } => unreachable!("above"),
    };
    bench.finish(&document, extra, baseline)
}

/// Cases that need no device to be known, so that wrong sizes are refused before one is opened.
fn cases_without_device(what: &What) -> anyhow::Result<Vec<Case>> {
    let sizes = match what {
        What::Kernels { shape, .. } => shape
            .iter()
            .map(|text| {
                let numbers = text.split(',').map(|n| n.trim().parse::<usize>()).collect::<Result<Vec<_>, _>>();
                numbers.with_context(|| format!("--shape {text}: whole numbers separated by commas are expected"))
            })
            .collect::<anyhow::Result<Vec<_>>>()?,
        What::Conv { b, cin, cout, h, w, k } => vec![vec![*b, *cin, *cout, *h, *w, *k]],
        What::Gemm { m, n, k } => vec![vec![*m, *n, *k]],
        What::Step { network, .. } | What::Passes { network } => {
            ensure!(network.batch > 0, "the batch must be at least 1");
            Vec::new()
        }
        What::Analysis { images, timesteps, features, classes } => {
            for (flag, count) in
                [("images", images), ("timesteps", timesteps), ("features", features), ("classes", classes)]
            {
                ensure!(*count > 0, "--{flag} must be at least 1");
            }
            Vec::new()
        }
        What::Data { batch, .. } => {
            ensure!(*batch > 0, "the batch must be at least 1");
            Vec::new()
        }
        What::Variants { .. } => Vec::new(),
    };
    let mut cases = Vec::new();
    for sizes in sizes {
        cases.extend(shape_cases(&sizes)?);
    }
    Ok(cases)
}

/// A document and what its JSON object holds beyond the schema.
type Outcome = anyhow::Result<(Document, Map<String, Value>)>;

struct Bench<'a> {
    arguments: &'a Arguments,
    gpu: &'a Gpu,
    /// Per row.
    seconds: f64,
}

impl Bench<'_> {
    /// A line for people.
    fn say(&self, line: &str) {
        if !self.arguments.json {
            println!("{line}");
        }
    }

    /// A document with ceilings, unless they are not wanted.
    async fn document(&self, name: &str) -> anyhow::Result<Document> {
        let found = if self.arguments.no_ceilings { None } else { Some(ceilings(self.gpu, 1.5).await?) };
        if let Some(found) = &found {
            self.say(&found.describe());
        }
        Ok(Document::new(name, self.gpu, found))
    }

    async fn measure(&self, document: &mut Document, job: &kernels::Job<'_>) -> anyhow::Result<Row> {
        let row = kernels::run(self.gpu, job, document.ceilings.as_ref(), self.seconds).await?;
        document.rows.push(row.clone());
        Ok(row)
    }

    async fn kernels(&self, mut cases: Vec<Case>) -> Outcome {
        let What::Kernels { preset, batch, op, variant, row, .. } = &self.arguments.what else { unreachable!("asked") };
        let presets = if preset.is_empty() && cases.is_empty() { vec![Preset::Tiny] } else { preset.clone() };
        for preset in presets {
            let batch = batch.unwrap_or(preset.training().batch);
            ensure!(batch > 0, "the batch must be at least 1");
            let fresh = preset_cases(&self.gpu.target, preset, batch)?;
            let known: Vec<String> = cases.iter().map(Case::id).collect();
            cases.extend(fresh.into_iter().filter(|case| !known.contains(&case.id())));
        }
        let mut known: Vec<&str> = cases.iter().map(|c| c.op).collect();
        known.sort_unstable();
        known.dedup();
        if let Some(unknown) = op.iter().find(|name| !known.contains(&name.as_str())) {
            anyhow::bail!("no operation `{unknown}` in these shapes; there are: {}", known.join(", "));
        }
        let all = *variant == Variant::All || row.is_some();
        let mut jobs = jobs(&self.gpu.target, &cases, all);
        jobs.retain(|job| op.is_empty() || op.iter().any(|name| name == job.case.op));
        if let Some(id) = row {
            jobs.retain(|job| job.id() == *id);
            ensure!(!jobs.is_empty(), "no row `{id}` in these shapes on this adapter");
        }
        let mut document = self.document("kernels").await?;
        let total = jobs.len();
        for (i, job) in jobs.iter().enumerate() {
            if std::io::stderr().is_terminal() {
                _ = write!(std::io::stderr(), "\r{}/{total} {:70.70}", i + 1, job.id()); // nobody may be reading
            }
            self.measure(&mut document, job).await?;
        }
        if std::io::stderr().is_terminal() {
            _ = write!(std::io::stderr(), "\r{:80}\r", "");
        }
        self.say(&document.table());
        Ok((document, Map::new()))
    }

    async fn shapes(&self, cases: &[Case]) -> Outcome {
        let gemm = matches!(self.arguments.what, What::Gemm { .. });
        let mut document = self.document(if gemm { "gemm" } else { "conv" }).await?;
        let mut extra = Map::new();
        let names = [("conv2d", "forward"), ("conv2d_d_input", "d_input"), ("conv2d_d_weight", "d_weight")];
        for job in jobs(&self.gpu.target, cases, false) {
            // Stride 1 comes first.
            let Some((_, name)) = names.iter().find(|(op, _)| *op == job.case.op) else { continue };
            if !gemm && extra.contains_key(*name) {
                continue;
            }
            let value = serde_json::to_value(self.measure(&mut document, &job).await?)?;
            match value {
                Value::Object(row) if gemm => extra = row,
                value => drop(extra.insert((*name).into(), value)),
            }
        }
        self.say(&document.table());
        Ok((document, extra))
    }

    async fn step(
        &self,
        network: &Network,
        no_pass: &[String],
        variants: &Flags,
        trace_file: Option<&Path>,
    ) -> Outcome {
        let passes = Passes::without(no_pass)?;
        let off: String = no_pass.iter().map(|name| format!(" --no-pass {name}")).collect();
        let arguments = format!("recurve bench step {}{off}{}", network.arguments(), variants.arguments());
        let without: String = no_pass.iter().map(|name| format!("-no-{name}")).collect();
        let name = format!("{}-b{}{without}", network.preset.name(), network.batch);
        let mut document = self.document("step").await?;
        let config = network.preset.network().network();
        let chosen = variants.choose(self.gpu, &config, network.batch, passes).await?;
        self.say(&chosen.origin);
        let what = (&config, network.batch, passes, &chosen.choices);
        let (found, rows, launches) =
            step(self.gpu, what, (&name, &arguments), document.ceilings.as_ref(), self.seconds).await?;
        document.rows = rows;
        self.say(&report(&found));
        if let Some(path) = trace_file {
            let title = format!("{name}, {}", self.gpu.describe());
            let text = trace(&title, found.parts_by, &launches).to_string();
            write_atomically(path, text.as_bytes()).with_context(|| path.display().to_string())?;
            self.say(&format!("one step as a trace: {} (open it in ui.perfetto.dev)", path.display()));
        }
        match serde_json::to_value(found)? {
            Value::Object(mut extra) => {
                extra.insert("variants".into(), chosen.origin.into());
                Ok((document, extra))
            }
            _ => unreachable!("a struct is an object"),
        }
    }

    async fn passes(&self, network: &Network) -> Outcome {
        let mut document = Document::new("passes", self.gpu, None);
        let name = format!("{}-b{}", network.preset.name(), network.batch);
        let arguments = format!("recurve bench passes {}", network.arguments());
        let names = (name.as_str(), arguments.as_str());
        let (effects, rows) =
            passes(self.gpu, &network.preset.network().network(), network.batch, names, self.seconds).await?;
        document.rows = rows;
        self.say(&pass_table(&effects));
        Ok((document, Map::from_iter([("passes".to_string(), serde_json::to_value(effects)?)])))
    }

    async fn analysis(&self, size: Size) -> anyhow::Result<ExitCode> {
        let document = self.document("analysis").await?;
        let found = analysis(self.gpu, size, document.ceilings.as_ref()).await?;
        if self.arguments.json {
            println!("{}", serde_json::to_string(&found)?);
            return Ok(ExitCode::SUCCESS);
        }
        let mut table = Table::new();
        table.load_style(ASCII_MARKDOWN);
        table.set_header(["part", "ms", "GFLOP/s", "GB/s", "% roof"]);
        for part in &found.rows {
            let share = part.share.map_or(String::new(), |share| format!("{:.0}", 100.0 * share));
            let cells = [part.name.to_string(), figure(part.ms), figure(part.gflops), figure(part.gbytes_per_s), share];
            table.add_row(cells);
        }
        right(&mut table, 1..5);
        println!("{table}");
        println!("{} s; {:.2} MB copied back", figure(found.seconds), found.copied_back_bytes as f64 / 1e6);
        Ok(ExitCode::SUCCESS)
    }

    async fn data(&self, path: &str, preset: Preset, batch: usize) -> anyhow::Result<ExitCode> {
        let data = recurve::dataset::open(path, None)?;
        data.notes().iter().for_each(|note| eprintln!("note: {note}"));
        let mut config = preset.network();
        (config.image_size, config.classes) = (data.image_size(), data.classes().len());
        config.validate()?;
        let found = recurve::bench::data::data(self.gpu, &data, (&config.network(), batch), self.seconds).await?;
        if self.arguments.json {
            println!("{}", serde_json::to_string(&found)?);
            return Ok(ExitCode::SUCCESS);
        }
        println!("{}: {} training pictures of {2} x {2} pixels", found.data, found.pictures, found.image_size);
        let mut table = Table::new();
        table.load_style(ASCII_MARKDOWN);
        table.set_header(["pictures/s", "one thread", &format!("{} threads", found.loader_threads)]);
        for row in &found.rows {
            table.add_row([row.name.to_string(), format!("{:.0}", row.per_core), format!("{:.0}", row.threads)]);
        }
        right(&mut table, 1..3);
        println!("{table}");
        println!(
            "a training step of {} images of {}: {} images/s",
            found.step_batch,
            preset.name(),
            figure(found.step_images_per_s)
        );
        Ok(ExitCode::SUCCESS)
    }

    /// Files, comparison, JSON, exit code.
    fn finish(
        &self,
        document: &Document,
        extra: Map<String, Value>,
        baseline: Option<Document>,
    ) -> anyhow::Result<ExitCode> {
        if let Some(path) = &self.arguments.csv {
            write_atomically(path, document.csv().as_bytes()).with_context(|| path.display().to_string())?;
        }
        if let Some(path) = &self.arguments.html {
            write_atomically(path, html(document)?.as_bytes()).with_context(|| path.display().to_string())?;
            self.say(&format!("table and chart: {}", path.display()));
        }
        let margin = self.arguments.margin / 100.0;
        let comparison: Option<BaselineComparison> =
            baseline.map(|before| compare(document, &before, margin, self.arguments.any_adapter)).transpose()?;
        if let Some(comparison) = &comparison {
            self.say(&comparison.table());
        }
        if self.arguments.json {
            let mut object = serde_json::to_value(document)?;
            let members = object.as_object_mut().context("a document is an object")?;
            members.extend(extra);
            if let Some(comparison) = &comparison {
                members.insert("comparison".into(), serde_json::to_value(comparison)?);
            }
            println!("{object}");
        }
        let failed: Vec<&Row> = document.rows.iter().filter(|r| r.failure.is_some()).collect();
        for row in &failed {
            eprintln!("error: {}: {}", row.id, row.failure.as_deref().unwrap_or_default());
        }
        let worse = comparison.map_or(0, |c| c.regressions());
        if worse > 0 {
            eprintln!("error: {worse} rows are slower than the baseline beyond {:.0} %", self.arguments.margin);
        }
        Ok(if failed.is_empty() && worse == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }
}

fn show_variants(k: usize, json: bool) -> anyhow::Result<ExitCode> {
    ensure!(k % 2 == 1 && k <= 7, "the kernel size must be odd and at most 7, found {k}");
    let all = variants(k)?;
    if json {
        println!("{}", serde_json::json!({"shape": SHAPE, "k": k, "gpus": GPUS, "variants": all}));
        return Ok(ExitCode::SUCCESS);
    }
    let [n, cin, cout, h, w] = SHAPE;
    println!(
        "{n}x{cin}x{h}x{w} to {cout} channels, {k}x{k}. The last three columns are PREDICTIONS of a simple model,"
    );
    println!(
        "per cent of the direct method's roofline; nothing was measured. -: cannot run (no fixed subgroup size, or another one).\n"
    );
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    let facts = ["op", "variant", "for", "workgroup memory, B", "registers, estimated"];
    let costs = ["bytes loaded per output", "flop per output", "FMA per load"];
    table.set_header(facts.into_iter().chain(costs).chain(GPUS.map(|gpu| gpu.name)));
    for v in &all {
        let subgroup = v.subgroup.map_or(String::new(), |s| format!(" (subgroups of {s})"));
        let mut cells = vec![v.op.to_string(), format!("{}{subgroup}", v.tile), v.purpose.clone()];
        cells.extend([v.workgroup_memory.to_string(), v.registers.to_string()]);
        cells.extend([v.bytes_per_output, v.flops_per_output, v.fma_per_load].map(figure));
        cells.extend(v.predicted.map(|p| p.map_or("-".to_string(), |p| format!("{p:.0}"))));
        table.add_row(cells);
    }
    right(&mut table, 3..11);
    println!("{table}");
    for gpu in GPUS {
        println!("{}: {} TFLOP/s, {} GB/s (data sheet)", gpu.name, gpu.tflops, gpu.gbps);
    }
    Ok(ExitCode::SUCCESS)
}

fn right(table: &mut Table, columns: std::ops::Range<usize>) {
    for i in columns {
        if let Some(column) = table.column_mut(i) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

fn report(s: &StepFigures) -> String {
    let mib = |bytes: f64| bytes / 1048576.0;
    let share = s.percent.map_or(String::new(), |p| format!(", {p:.0} % of the roof"));
    let mut text = format!(
        "{:.1} images/s: {} ms per step ({} to {}){share}\n\
         {} dispatches, {} barriers; {:.1} MiB planned, {:.1} allocated; operands of {:.1} MiB and {:.2} GFLOP per step\n\
         host {:.2} ms per step; first step done after {:.0} ms: {:.0} to prepare, {:.0} of compiling in the first run\n\
         parts by {}{}\n",
        s.images_per_s,
        figure(s.ms),
        figure(s.spread[0]),
        figure(s.spread[1]),
        s.dispatches,
        s.barriers,
        mib(s.peak_bytes as f64),
        mib(s.allocated_bytes as f64),
        mib(s.operand_bytes),
        s.flops / 1e9,
        s.cpu_ms,
        s.first_step_ms,
        s.prepare_ms,
        s.compile_ms,
        s.parts_by,
        s.doubt.as_ref().map_or(String::new(), |d| format!(" ({d})")),
    );
    for (what, shares) in [("operation", &s.ops), ("area", &s.areas), ("kernel", &s.kernels)] {
        text += &share_table(what, shares);
    }
    text.trim_end().to_string()
}

fn share_table(what: &str, shares: &BTreeMap<String, Share>) -> String {
    let total: f64 = shares.values().map(|s| s.ms).sum();
    let mut rows: Vec<(&String, &Share)> = shares.iter().collect();
    rows.sort_by(|a, b| b.1.ms.total_cmp(&a.1.ms));
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header([what, "ms", "%", "launches"]);
    for (name, share) in rows {
        let name = if name.is_empty() { "other" } else { name };
        let percent = format!("{:.1}", 100.0 * share.ms / total);
        table.add_row([name.to_string(), figure(share.ms), percent, share.launches.to_string()]);
    }
    right(&mut table, 1..4);
    format!("\n{table}\n")
}

fn pass_table(effects: &[PassEffect]) -> String {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header(["without", "dispatches", "barriers", "MiB planned", "ms per step", "relative time", "95 % CI"]);
    for e in effects {
        let interval = format!("{:.2} – {:.2}", e.ratio_ci[0], e.ratio_ci[1]);
        table.add_row([
            if e.without.is_empty() { "(all on)".to_string() } else { e.without.clone() },
            e.dispatches.to_string(),
            e.barriers.to_string(),
            format!("{:.1}", e.peak_bytes as f64 / 1048576.0),
            figure(e.ms),
            format!("{:.2}", e.ratio),
            if e.without.is_empty() { String::new() } else { interval },
        ]);
    }
    right(&mut table, 1..7);
    table.to_string()
}
