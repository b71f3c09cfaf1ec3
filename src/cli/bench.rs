//! `recurve bench`.

use super::Adapter;
use super::tune::Flags;
use anyhow::{Context, ensure};
use clap::Subcommand;
use comfy_table::presets::{ASCII_MARKDOWN, NOTHING};
use comfy_table::{CellAlignment, Table};
use recurve::bench::analysis::{Size, analysis};
use recurve::bench::cases::{Case, preset_cases, shape_cases};
use recurve::bench::ceilings::{Roof, reference, roof};
use recurve::bench::compare::{BaselineComparison, By, How, compare};
use recurve::bench::kernels::{self, jobs};
use recurve::bench::ladder::{Step, ladder};
use recurve::bench::measure::figure;
use recurve::bench::roofline::html;
use recurve::bench::step::{PassEffect, Share, StepFigures, passes, step};
use recurve::bench::table::{Document, Row, short_variant};
use recurve::bench::trace::trace;
use recurve::bench::variants::{GPUS, SHAPE, variants};
use recurve::check::ladder::RUNGS;
use recurve::files::write_atomically;
use recurve::gpu::Gpu;
use recurve::graph::passes::Passes;
use recurve::host::Processor;
use recurve::kernels::conv::ConvShape;
use recurve::network::{Precision, Preset};
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
those of the direct method: Winograd's needs fewer, so that its rows can pass 100.

Shared machines have slow minutes in which everything takes twice as long. So before and after every sample a loop of \
multiply-adds in registers runs on the same device, with the same threads where that is a processor. `share` is the row's rate \
over that loop's, the median over all samples: it stays where the time of the row moves with the machine. With --baseline, \
--vs-ceiling judges by shares. Rows that wait for memory or for launches follow that loop less than others: look at both. \
`CPU ms` is the processor time of a run, all threads together: of a software driver the work itself, of a GPU only its driver's.")]
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
    /// Measure no ceilings, neither at the start (about 3 s) nor beside the rows; shares are absent then.
    #[arg(long, global = true)]
    no_ceilings: bool,
    /// Compare with the JSON of an earlier run of the same subcommand; exit 1 where a row is slower beyond the margin.
    /// Prints ratios of times and of shares; rows are judged by their times unless --vs-ceiling is given.
    #[arg(long, global = true, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Judge by shares of the multiply-add ceiling beside each row, in this run and in the baseline, rather than by times: for
    /// machines whose speed changes. Both runs need ceilings.
    #[arg(long, global = true, requires = "baseline", conflicts_with = "no_ceilings")]
    vs_ceiling: bool,
    /// Print every column, with whole names of rows and variants, however wide; the table is Markdown then.
    #[arg(long, global = true)]
    wide: bool,
    /// A row is a regression if the whole confidence interval of its ratio lies beyond this many per cent.
    #[arg(long, global = true, value_name = "PERCENT", default_value_t = 10.0)]
    margin: f64,
    /// Compare with a baseline of another adapter, driver or processor too.
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
        /// In what maps are stored: `f32`, or `mixed`, which is f16.
        #[arg(long, value_name = "f32|mixed", default_value = "f32")]
        precision: Precision,
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
    /// The rungs of docs/kernels.md: one convolution, from plain loops to the fastest kernel, and what each step brings here.
    Ladder {
        /// Images, channels in, channels out, rows, columns, kernel size (odd, 3 to 7).
        #[arg(long, value_name = "N,N,N,N,N,N", default_value = "8,128,128,16,16,3")]
        shape: String,
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
    bench.say(&format!("{}\nCPU: {}", gpu.describe(), Processor::this().describe()));
    if let What::Analysis { images, timesteps, features, classes } = arguments.what {
        return bench.analysis(Size { images, timesteps, features, classes }).await;
    }
    if let What::Data { data, preset, batch } = &arguments.what {
        return bench.data(data, *preset, *batch).await;
    }
    let (document, extra) = match &arguments.what {
        What::Kernels { .. } => bench.kernels(cases).await?,
        What::Conv { .. } | What::Gemm { .. } => bench.shapes(&cases).await?,
        What::Step { network, no_pass, precision, trace, variants } => {
            bench.step(network, (no_pass, *precision), variants, trace.as_deref()).await?
        }
        What::Passes { network } => bench.passes(network).await?,
        What::Ladder { shape } => bench.ladder(shape).await?,
        What::Variants { .. } | What::Analysis { .. } | What::Data { .. } => unreachable!("above"),
    };
    bench.finish(&document, extra, baseline)
}

/// The sizes that `--shape` gives.
fn numbers(text: &str) -> anyhow::Result<Vec<usize>> {
    let numbers = text.split(',').map(|n| n.trim().parse::<usize>()).collect::<Result<Vec<_>, _>>();
    numbers.with_context(|| format!("--shape {text}: whole numbers separated by commas are expected"))
}

/// The convolution that the ladder climbs.
fn climbed(text: &str) -> anyhow::Result<ConvShape> {
    let sizes = numbers(text)?;
    let &[n, cin, cout, h, w, k] = &sizes[..] else {
        anyhow::bail!(
            "--shape {text}: six numbers are expected: images, channels in, channels out, rows, columns, kernel size"
        );
    };
    ensure!(k % 2 == 1 && (3..=7).contains(&k), "--shape {text}: the kernel size must be 3, 5 or 7, found {k}");
    shape_cases(&sizes)?; // refuses what is 0 or too large
    Ok(ConvShape::same(n, cin, cout, h, w, k))
}

/// Cases that need no device to be known, so that wrong sizes are refused before one is opened.
fn cases_without_device(what: &What) -> anyhow::Result<Vec<Case>> {
    let sizes = match what {
        What::Kernels { shape, .. } => shape.iter().map(|text| numbers(text)).collect::<anyhow::Result<Vec<_>>>()?,
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
        What::Ladder { shape } => {
            climbed(shape)?;
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

    /// The ceilings, unless they are not wanted.
    async fn roof(&self) -> anyhow::Result<Option<Roof>> {
        let found = if self.arguments.no_ceilings { None } else { Some(roof(self.gpu, 1.5).await?) };
        if let Some(found) = &found {
            self.say(&found.ceilings.describe());
        }
        Ok(found)
    }

    /// A document with its ceilings.
    fn document(&self, name: &str, roof: Option<&Roof>) -> Document {
        Document::new(name, self.gpu, roof.map(|roof| roof.ceilings.clone()))
    }

    /// The table of a document, as wide as is asked for.
    fn say_table(&self, document: &Document) {
        self.say(&if self.arguments.wide { document.wide_table() } else { document.table() });
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
        let roof = self.roof().await?;
        let mut document = self.document("kernels", roof.as_ref());
        let total = jobs.len();
        for (i, job) in jobs.iter().enumerate() {
            if std::io::stderr().is_terminal() {
                _ = write!(std::io::stderr(), "\r{}/{total} {:70.70}", i + 1, job.id()); // nobody may be reading
            }
            document.rows.push(kernels::run(self.gpu, job, roof.as_ref(), self.seconds).await?);
        }
        if std::io::stderr().is_terminal() {
            _ = write!(std::io::stderr(), "\r{:80}\r", "");
        }
        self.say_table(&document);
        Ok((document, Map::new()))
    }

    async fn shapes(&self, cases: &[Case]) -> Outcome {
        let gemm = matches!(self.arguments.what, What::Gemm { .. });
        let roof = self.roof().await?;
        let mut document = self.document(if gemm { "gemm" } else { "conv" }, roof.as_ref());
        let mut extra = Map::new();
        let names = [("conv2d", "forward"), ("conv2d_d_input", "d_input"), ("conv2d_d_weight", "d_weight")];
        for job in jobs(&self.gpu.target, cases, false) {
            // Stride 1 comes first.
            let Some((_, name)) = names.iter().find(|(op, _)| *op == job.case.op) else { continue };
            if !gemm && extra.contains_key(*name) {
                continue;
            }
            let row = kernels::run(self.gpu, &job, roof.as_ref(), self.seconds).await?;
            let value = serde_json::to_value(&row)?;
            document.rows.push(row);
            match value {
                Value::Object(row) if gemm => extra = row,
                value => drop(extra.insert((*name).into(), value)),
            }
        }
        self.say_table(&document);
        Ok((document, extra))
    }

    async fn step(
        &self,
        network: &Network,
        (no_pass, precision): (&[String], Precision),
        variants: &Flags,
        trace_file: Option<&Path>,
    ) -> Outcome {
        let passes = Passes::without(no_pass)?;
        let off: String = no_pass.iter().map(|name| format!(" --no-pass {name}")).collect();
        let mixed = if precision.is_f32() { ["", ""] } else { [" --precision mixed", "-mixed"] };
        let arguments = format!("recurve bench step {}{off}{}{}", network.arguments(), mixed[0], variants.arguments());
        let without: String = no_pass.iter().map(|name| format!("-no-{name}")).collect();
        let name = format!("{}-b{}{}{without}", network.preset.name(), network.batch, mixed[1]);
        let roof = self.roof().await?;
        let mut document = self.document("step", roof.as_ref());
        let config = network.preset.network().network();
        let chosen = variants.choose(self.gpu, (&config, network.batch, precision), passes).await?;
        self.say(&chosen.origin);
        let what = (&config, network.batch, passes, &chosen.choices, precision);
        let (found, rows, launches) = step(self.gpu, what, (&name, &arguments), roof.as_ref(), self.seconds).await?;
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
        let beside = if self.arguments.no_ceilings { None } else { Some(reference(self.gpu).await?) };
        let config = network.preset.network().network();
        let (effects, rows) = passes(self.gpu, &config, network.batch, names, self.seconds, beside.as_ref()).await?;
        self.say(&pass_table(&effects, &rows));
        document.rows = rows;
        Ok((document, Map::from_iter([("passes".to_string(), serde_json::to_value(effects)?)])))
    }

    async fn ladder(&self, shape: &str) -> Outcome {
        let roof = self.roof().await?;
        let mut document = self.document("ladder", roof.as_ref());
        let shape = climbed(shape)?;
        let ConvShape { n, cin, cout, in_h, in_w, k, .. } = shape;
        let arguments = format!("recurve bench ladder --shape {n},{cin},{cout},{in_h},{in_w},{k}");
        let (steps, rows) = ladder(self.gpu, &shape, &arguments, roof.as_ref(), self.seconds).await?;
        self.say(&format!("{arguments}: what each step is and why: docs/kernels.md"));
        self.say(&ladder_table(&steps, &rows));
        document.rows = rows;
        if self.arguments.wide {
            self.say_table(&document);
        }
        for (name, step) in RUNGS.iter().filter(|(name, _)| document.rows.iter().all(|row| row.op != *name)) {
            self.say(&format!("{name} ({step}): not in this shape on this adapter"));
        }
        Ok((document, Map::from_iter([("ladder".to_string(), serde_json::to_value(steps)?)])))
    }

    async fn analysis(&self, size: Size) -> anyhow::Result<ExitCode> {
        let found = analysis(self.gpu, size, self.roof().await?.as_ref()).await?;
        if self.arguments.json {
            println!("{}", serde_json::to_string(&found)?);
            return Ok(ExitCode::SUCCESS);
        }
        let mut table = Table::new();
        table.load_style(ASCII_MARKDOWN);
        table.set_header(["part", "ms", "GFLOP/s", "share", "GB/s", "% roof"]);
        for part in &found.rows {
            let share = part.share.map_or(String::new(), |share| format!("{share:.2}"));
            let percent = part.percent.map_or(String::new(), |percent| format!("{percent:.0}"));
            let (ms, gflops, gbps) = (figure(part.ms), figure(part.gflops), figure(part.gbytes_per_s));
            table.add_row([part.name.to_string(), ms, gflops, share, gbps, percent]);
        }
        right(&mut table, 1..6);
        println!("{table}");
        let processor =
            found.processor_seconds.map_or(String::new(), |s| format!(", {} s of processor time", figure(s)));
        let ceiling = found.ceiling_gflops;
        let ceiling =
            ceiling.map_or(String::new(), |c| format!("; multiply-adds between the batches: {} GFLOP/s", figure(c)));
        let copied = found.copied_back_bytes as f64 / 1e6;
        println!("{} s{processor}; {copied:.2} MB copied back{ceiling}", figure(found.seconds));
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
        let by = if self.arguments.vs_ceiling { By::Share } else { By::Time };
        let how = How { margin, by, any_adapter: self.arguments.any_adapter };
        let comparison: Option<BaselineComparison> =
            baseline.map(|before| compare(document, &before, how)).transpose()?;
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
    let percent = s.percent.map_or(String::new(), |p| format!(", {p:.0} % of the roof"));
    let beside = s.share.zip(s.ceiling_gflops);
    let beside = beside.map_or(String::new(), |(share, ceiling)| {
        format!("{share:.3} of multiply-adds in registers, {} GFLOP/s between the steps; ", figure(ceiling))
    });
    let processor =
        s.processor_ms.map_or(String::new(), |ms| format!("{} ms of processor time per step, ", figure(ms)));
    let mut text = format!(
        "{:.1} images/s: {} ms per step ({} to {}){percent}\n\
         {beside}{processor}{:.2} to encode\n\
         {} dispatches, {} barriers; {:.1} MiB planned, {:.1} allocated; operands of {:.1} MiB and {:.2} GFLOP per step\n\
         first step done after {:.0} ms: {:.0} to prepare, {:.0} of compiling in the first run\n\
         parts by {}{}\n",
        s.images_per_s,
        figure(s.ms),
        figure(s.spread[0]),
        figure(s.spread[1]),
        s.cpu_ms,
        s.dispatches,
        s.barriers,
        mib(s.peak_bytes as f64),
        mib(s.allocated_bytes as f64),
        mib(s.operand_bytes),
        s.flops / 1e9,
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

/// At most as wide as a terminal, with short names of variants.
fn ladder_table(steps: &[Step], rows: &[Row]) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(["rung", "step", "ms", "gain", "± %", "in all", "GFLOP/s", "share", "variant"]);
    for (step, row) in steps.iter().zip(rows) {
        let half = step.gain.zip(step.gain_ci).map(|(gain, [low, high])| 50.0 * (high - low) / gain);
        table.add_row([
            step.rung.to_string(),
            step.step.to_string(),
            figure(row.ms),
            step.gain.map_or(String::new(), |gain| format!("{gain:.2}")),
            half.map_or(String::new(), |half| format!("{half:.1}")),
            figure(step.from_first),
            figure(row.gflops),
            row.share.map_or(String::new(), |share| format!("{share:.3}")),
            short_variant(row),
        ]);
    }
    right(&mut table, 2..8);
    for i in 0..9 {
        table.column_mut(i).expect("set").set_padding((0, if i < 8 { 2 } else { 0 }));
    }
    table.to_string().lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

fn pass_table(effects: &[PassEffect], rows: &[Row]) -> String {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    let head =
        ["without", "dispatches", "barriers", "MiB planned", "ms", "share", "CPU ms", "relative time", "95 % CI"];
    table.set_header(head);
    for (e, row) in effects.iter().zip(rows) {
        let interval = format!("{:.2} – {:.2}", e.ratio_ci[0], e.ratio_ci[1]);
        table.add_row([
            if e.without.is_empty() { "(all on)".to_string() } else { e.without.clone() },
            e.dispatches.to_string(),
            e.barriers.to_string(),
            format!("{:.1}", e.peak_bytes as f64 / 1048576.0),
            figure(e.ms),
            row.share.map_or(String::new(), |share| format!("{share:.3}")),
            row.processor_ms.map_or(String::new(), figure),
            format!("{:.2}", e.ratio),
            if e.without.is_empty() { String::new() } else { interval },
        ]);
    }
    right(&mut table, 1..9);
    table.to_string()
}
