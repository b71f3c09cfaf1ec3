//! `recurve plan`.

use super::Adapter;
use anyhow::Context;
use comfy_table::{Table, presets::UTF8_HORIZONTAL_ONLY};
use recurve::dataset::Loader;
use recurve::files::write_atomically;
use recurve::graph::compile::{Compiled, Request, compile};
use recurve::graph::dot::dot;
use recurve::graph::fit::{best_parts, largest_batch, within_bound};
use recurve::graph::passes::Passes;
use recurve::kernels::{Role, Target};
use recurve::network::{Bytes, Precision, Preset, RunConfig, Schedule, TrainingConfig};
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Arguments of `recurve plan`.
#[derive(clap::Args)]
#[command(override_usage = "recurve plan {--preset NAME | --config FILE} [OPTIONS]")]
pub struct Arguments {
    /// tiny, blt64, blt128, or published-l-add, -t-add, -l-mul, -t-mul.
    #[arg(long, required_unless_present = "config", conflicts_with = "config")]
    preset: Option<Preset>,
    /// A configuration file (TOML).
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Images per batch.
    #[arg(long)]
    batch: Option<usize>,
    /// Parts in which a batch is computed [default: the configuration's].
    #[arg(long, value_name = "PARTS")]
    accumulate: Option<usize>,
    /// Memory that a training step may take, such as 6GiB, 512MiB or a number of bytes: what of the forward pass does not fit
    /// is computed again [default: the configuration's, else as much as it needs].
    #[arg(long, value_name = "BYTES")]
    memory: Option<Bytes>,
    /// Let what does not fit into `--memory` also be packed to f16 for the backward pass, where that is predicted to cost less
    #[arg(long)]
    pack_activations: bool,
    /// In what maps are stored: `f32`, or `mixed`, which is f16 [default: the configuration's].
    #[arg(long, value_name = "f32|mixed")]
    precision: Option<Precision>,
    /// Choose the parts in which training and evaluation fit at the least predicted time.
    #[arg(long, conflicts_with_all = ["accumulate", "inference"])]
    fit: bool,
    /// Timesteps.
    #[arg(long)]
    timesteps: Option<usize>,
    /// Plan for a graphics card that is not here, with the limits that drivers of cards mostly have and the pace of a slow one.
    #[arg(long)]
    card: bool,
    /// Plan the forward pass alone.
    #[arg(long)]
    inference: bool,
    /// Switch a graph pass off (hoist, fuse, fold, reuse); may be repeated.
    #[arg(long, value_name = "NAME")]
    no_pass: Vec<String>,
    /// Print one JSON object and nothing else.
    #[arg(long)]
    json: bool,
    /// Write the graph in Graphviz's language.
    #[arg(long, value_name = "FILE")]
    dot: Option<PathBuf>,
}

/// Runs `recurve plan`.
pub async fn run(arguments: &Arguments, adapter: &Adapter) -> anyhow::Result<ExitCode> {
    let mut config = match (&arguments.config, arguments.preset) {
        (Some(path), _) => RunConfig::read(path)?,
        (None, Some(preset)) => preset.run(),
        (None, None) => unreachable!("clap demands one of the two"),
    };
    if let Some(batch) = arguments.batch {
        config.training.batch = batch;
    }
    if let Some(parts) = arguments.accumulate {
        config.training.accumulate = parts;
    }
    config.training.memory = arguments.memory.or(config.training.memory);
    config.training.pack_activations |= arguments.pack_activations;
    config.training.precision = arguments.precision.unwrap_or(config.training.precision);
    if let Some(timesteps) = arguments.timesteps {
        config.network = config.network.with_timesteps(timesteps);
    }
    config.validate()?;
    let classes = config.network.classes().context("the readout has no classes")?;
    let assumed = config.classes_open; // a data set would say how many
    let target = if arguments.card { Target::card() } else { adapter.target(Target::minimum()).await? };
    let network = config.network.network()?;
    let schedule = Schedule::plain(network.timesteps);
    let (passes, clip) = (Passes::without(&arguments.no_pass)?, config.training.clip_norm.is_some());
    let memory = config.training.memory.map(|bytes| bytes.0);
    let TrainingConfig { precision, pack_activations: pack, .. } = config.training;
    if arguments.fit {
        let request = Request::training(&network, &schedule, config.training.batch, &target);
        let request = Request { passes, clip, memory, pack, precision, ..request };
        config.training.accumulate = best_parts(&request, config.training.batch, 1)?;
    }
    let parts = config.training.accumulate;
    let request = |passes: Passes| {
        let training = Request::training(&network, &schedule, config.training.batch / parts, &target);
        let train = !arguments.inference;
        Request { passes, train, clip, memory, pack, precision, parts: if train { parts } else { 1 }, ..training }
    };
    let progress = Progress::start();
    progress.say(format!("unrolling {} timesteps and planning their memory", config.network.timesteps()));
    let compiled = compile(&request(passes))?;
    progress.say("looking for what would fit".into());
    let fits = compiled.plan.fits(&compiled.program, &target).and_then(|()| within_bound(&compiled, &request(passes)));
    let mut effects = Vec::new();
    // A bound changes what a pass does.
    let shown = Passes::NAMES.iter().filter(|name| memory.is_none() && !arguments.no_pass.iter().any(|n| n == *name));
    for name in shown {
        progress.say(format!("the same without {name}, to show what it does"));
        let mut off = arguments.no_pass.clone();
        off.push(name.to_string());
        effects.push((*name, Figures::of(&compile(&request(Passes::without(&off)?))?)));
    }
    if let Some(path) = &arguments.dot {
        write_atomically(path, dot(&compiled.unrolled.graph).as_bytes()).with_context(|| path.display().to_string())?;
    }
    let parameters: usize = compiled.places.arenas.ranges.iter().map(|r| r.2 as usize / 4).sum();
    let Figures { nodes, dispatches, peak_bytes } = Figures::of(&compiled);
    let why_not = fits.err().map(|error| error.to_string());
    progress.say("searching the largest batch that fits".into());
    let largest = largest_batch(&request(passes))?;
    let memory = asked_for(&compiled);
    let in_parts = if arguments.inference { 1 } else { parts };
    let batches = Loader::host_bytes(network.image_size, config.training.batch, false, in_parts);
    let host_bytes = batches + compiled.plan.staging_bytes();
    let code = if why_not.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    if arguments.json {
        let effects: BTreeMap<&str, Figures> = effects.into_iter().collect();
        let rows: Vec<_> =
            memory.iter().map(|((area, t), bytes)| json!({ "area": area, "timestep": t, "bytes": bytes })).collect();
        let plan = json!({
            "peak_bytes": peak_bytes,
            "host_bytes": host_bytes,
            "parameters": parameters,
            "dispatches": dispatches,
            "nodes": nodes,
            "nodes_unrolled": compiled.nodes_unrolled,
            "batch": config.training.batch,
            "accumulate": in_parts,
            "timesteps": config.network.timesteps(),
            "classes": classes,
            "classes_assumed": assumed,
            "adapter": target.name,
            "fits": why_not.is_none(),
            "why_not": why_not,
            "largest_batch": largest,
            "predicted_seconds": compiled.predicted_seconds(&request(passes)),
            "bound": compiled.bound,
            "without_pass": effects,
            "memory": rows,
            "persistent_bytes": compiled.plan.persistent_bytes,
            "slots": compiled.plan.slots,
        });
        println!("{plan}");
        return Ok(code);
    }
    let what = if arguments.inference { "forward" } else { "training step" };
    println!(
        "{what}, batch {}{}, {} timesteps, for {}: {parameters} parameters, {dispatches} dispatches, peak {:.1} MiB; host \
         memory {:.1} MiB: batches read ahead {:.1}, to and from the device {:.1}\n",
        config.training.batch,
        if in_parts > 1 { format!(" in {in_parts} parts") } else { String::new() },
        config.network.timesteps(),
        target.name,
        mib(peak_bytes),
        mib(host_bytes),
        mib(batches),
        mib(compiled.plan.staging_bytes())
    );
    if let Some(bound) = &compiled.bound {
        println!("Memory: {bound}\n");
    }
    if assumed {
        println!("The configuration names no `classes`: {classes} are assumed. A run takes those of its data set.\n");
    }
    nodes_table(&compiled);
    if !effects.is_empty() {
        println!(
            "\nWhat each pass does: the figures without it, against {nodes} nodes, {dispatches} dispatches with all asked for"
        );
        let mut table = table(&["without", "nodes", "dispatches", "peak MiB"]);
        for (name, Figures { nodes, dispatches, peak_bytes }) in effects {
            let peak = format!("{:.1}", mib(peak_bytes));
            table.add_row([name.to_string(), nodes.to_string(), dispatches.to_string(), peak]);
        }
        println!("{table}");
    }
    memory_tables(&compiled, &memory);
    let batch = config.training.batch;
    let parts = if in_parts > 1 { format!(" in {in_parts} parts of {}", batch / in_parts) } else { String::new() };
    match why_not {
        None => println!("\nBatch {batch}{parts} fits {}", target.name),
        Some(why) => println!("\nBatch {batch}{parts} does not fit: {why}"),
    }
    match largest {
        0 => println!("Not even a batch of 1 fits: use a smaller network"),
        _ => println!(
            "The largest batch whose buffers, bindings and dispatches are within the adapter's limits is {largest}"
        ),
    }
    Ok(code)
}

/// How large a compiled network is.
#[derive(serde::Serialize)]
struct Figures {
    nodes: usize,
    dispatches: usize,
    peak_bytes: u64,
}

impl Figures {
    fn of(compiled: &Compiled) -> Figures {
        let (nodes, dispatches) = (compiled.unrolled.graph.nodes.len(), compiled.program.launches.len());
        Figures { nodes, dispatches, peak_bytes: compiled.peak_bytes() }
    }
}

/// Says on stderr what is being done, once it has taken so long that the user may wonder.
struct Progress(mpsc::Sender<String>);

impl Progress {
    /// What takes longer is announced.
    const SILENCE: Duration = Duration::from_secs(2);

    fn start() -> Progress {
        let (sender, receiver) = mpsc::channel::<String>();
        let start = Instant::now();
        let announce = move || {
            let mut doing = String::new();
            loop {
                match receiver.recv_timeout(Progress::SILENCE.saturating_sub(start.elapsed())) {
                    Ok(next) => doing = next,
                    Err(mpsc::RecvTimeoutError::Timeout) => break eprintln!("plan: {doing} …"),
                    Err(mpsc::RecvTimeoutError::Disconnected) => return,
                }
            }
            receiver.iter().for_each(|next| eprintln!("plan: {next} …"));
        };
        // Where the system starts no further thread, nothing is said.
        let _ = std::thread::Builder::new().spawn(announce);
        Progress(sender)
    }

    fn say(&self, what: String) {
        let _ = self.0.send(what); // the thread, if there is one, lives as long as this
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / (1u64 << 20) as f64
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_header(header.to_vec());
    table
}

/// The graph: operations by area, with how often each stands in it.
fn nodes_table(compiled: &Compiled) {
    let mut areas: Vec<&str> = Vec::new(); // in the order in which they first take part
    let mut rows: HashMap<&str, BTreeMap<&str, usize>> = HashMap::new();
    for node in &compiled.unrolled.graph.nodes {
        let operations = rows.entry(&node.area).or_insert_with(|| {
            areas.push(&node.area);
            BTreeMap::new()
        });
        *operations.entry(node.op.name()).or_default() += 1;
    }
    println!(
        "Operations by area ({} nodes unrolled, {} after all passes)",
        compiled.nodes_unrolled,
        compiled.unrolled.graph.nodes.len()
    );
    let mut table = table(&["area", "operations"]);
    for area in areas {
        let list: Vec<String> = rows[area].iter().map(|(op, n)| format!("{n} x {op}")).collect();
        table.add_row([area.to_string(), list.join(", ")]);
    }
    println!("{table}");
}

/// Bytes that values ask for by area and timestep, before slots are shared; stacks of timesteps count at `None`.
fn asked_for(compiled: &Compiled) -> BTreeMap<(String, Option<usize>), u64> {
    let mut rows: BTreeMap<(String, Option<usize>), u64> = BTreeMap::new();
    for (spec, life) in compiled.program.buffers.iter().zip(&compiled.plan.lifetime) {
        if life.0 != usize::MAX {
            *rows.entry((spec.area.clone(), spec.timestep)).or_default() += spec.bytes;
        }
    }
    rows
}

fn memory_tables(compiled: &Compiled, memory: &BTreeMap<(String, Option<usize>), u64>) {
    /// Most timesteps that have a column of their own.
    const COLUMNS: usize = 12;
    let steps = compiled.unrolled.scores.len();
    let (shown, rest) = (steps.min(COLUMNS), COLUMNS.min(steps)..steps);
    println!("\nBytes asked for by area and timestep, MiB (\"all\": kept for all timesteps together, or timeless)");
    let mut header = vec!["area".to_string(), "all".to_string()];
    header.extend((0..shown).map(|t| format!("t={t}")));
    header.extend((!rest.is_empty()).then(|| format!("the other {}", rest.len())));
    let mut areas: Vec<&String> = memory.keys().map(|k| &k.0).collect();
    areas.dedup();
    let mut by_area = Table::new();
    by_area.load_style(UTF8_HORIZONTAL_ONLY).set_header(header);
    let mut total = 0;
    for area in areas {
        let bytes = |t: Option<usize>| memory.get(&(area.clone(), t)).copied().unwrap_or(0);
        let mut cells = vec![bytes(None)];
        cells.extend((0..shown).map(|t| bytes(Some(t))));
        cells.extend((!rest.is_empty()).then(|| rest.clone().map(|t| bytes(Some(t))).sum::<u64>()));
        total += cells.iter().sum::<u64>();
        by_area.add_row(std::iter::once(area.clone()).chain(cells.iter().map(|&cell| format!("{:.2}", mib(cell)))));
    }
    println!("{by_area}");
    let plan = &compiled.plan;
    println!(
        "asked for {:.1} MiB in all; {:.1} MiB in {} slots, {:.1} MiB persistent, {:.2} MiB parameters of launches and staging",
        mib(total),
        mib(plan.slots.iter().sum()),
        plan.slots.len(),
        mib(plan.persistent_bytes),
        mib(plan.params_bytes + plan.staging_bytes())
    );
    println!("\nLargest buffers");
    let mut largest: Vec<_> = compiled.program.buffers.iter().collect();
    largest.sort_by_key(|b| std::cmp::Reverse(b.bytes));
    let mut list = table(&["buffer", "area", "kept", "MiB"]);
    for spec in largest.iter().take(10) {
        let kept = match spec.role {
            Role::Temporary => "while needed",
            Role::Persistent => "from step to step",
            Role::Input | Role::Output => "for the host",
        };
        list.add_row([spec.name.clone(), spec.area.clone(), kept.to_string(), format!("{:.2}", mib(spec.bytes))]);
    }
    println!("{list}");
}
