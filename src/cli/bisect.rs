//! `recurve bisect`.

use super::Adapter;
use anyhow::{bail, ensure};
use recurve::bisect::{
    Compared, Execution, Findings, Reference, Settings, Step, TOLERANCE, Trace, bisect, direct, trace,
};
use recurve::gpu::Gpu;
use recurve::graph::compile::{Request, compile};
use recurve::graph::passes::Passes;
use recurve::kernels::Target;
use recurve::kernels::choose::Choices;
use recurve::network::{Preset, RunConfig, Schedule};
use recurve::train::run_folder::choices_path;
use recurve::tune::cache;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Arguments of `recurve bisect`.
#[derive(clap::Args)]
#[command(
    override_usage = "recurve bisect {RUN | --preset NAME --data PATH | --config FILE} --against WHAT [OPTIONS]\n       \
                      recurve bisect {RUN | --preset NAME --data PATH | --config FILE} --write FILE [OPTIONS]",
    after_help = "\
Runs one training step twice, forward and backward (without the update), and compares every tensor that its operations write, \
in their order. Each operation is judged alone: after it, its result is replaced by that of the other execution, so that the \
next gets the same bits in both. A difference counts relative to the largest magnitude in the two tensors; a number that is not \
finite is always beyond. Exit code 1 if a tensor is beyond the tolerance, 0 if none is.

Two versions of this program: `recurve bisect RUN --write FILE` with one, `recurve bisect RUN --against FILE` with the other."
)]
pub struct Arguments {
    /// Folder of a run: the step that it would take after its newest checkpoint
    #[arg(value_name = "RUN", required_unless_present_any = ["preset", "config"], conflicts_with_all = ["preset", "config"])]
    run: Option<PathBuf>,
    /// Instead of a run, the first step of a new one: tiny, blt64, blt128, or published-l-add, -t-add, -l-mul, -t-mul
    #[arg(long, conflicts_with = "config")]
    preset: Option<Preset>,
    /// Instead of a run, the first step of the one that this configuration file (TOML) describes
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// What it is held against: another adapter (as for --adapter); kernel variants from FILE.toml, from the built-in `table`, or
    /// by the `direct` method alone; a graph pass switched off, `no-hoist`, `no-fuse`, `no-fold` or `no-reuse`; or
    /// FILE.safetensors, which --write has written
    #[arg(long, value_name = "WHAT", required_unless_present = "write", conflicts_with = "write")]
    against: Option<String>,
    /// Compare nothing, but write all tensors of the step to FILE.safetensors, in their order
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Another data set than the run's or configuration's: HDF5 file, folder of pictures, or glyphs
    #[arg(long, value_name = "PATH|glyphs")]
    data: Option<String>,
    /// Pictures of the step [default: the run's or configuration's; of a batch in parts, those of one part]
    #[arg(long, value_name = "B")]
    batch: Option<usize>,
    /// The step after the checkpoint of so many steps [default: the newest]
    #[arg(long, value_name = "STEP", conflicts_with_all = ["preset", "config"])]
    checkpoint: Option<u64>,
    /// Kernel variants from a file [default: the run's choices.toml, else what was tuned earlier for this adapter, else the table]
    #[arg(long, value_name = "FILE")]
    choices: Option<PathBuf>,
    /// Switch a graph pass off: hoist, fuse, fold or reuse (repeatable)
    #[arg(long, value_name = "NAME")]
    no_pass: Vec<String>,
    /// Largest difference allowed, relative to the largest magnitude in the two tensors; 0: equal in all bits
    #[arg(long, value_name = "X", default_value_t = TOLERANCE, conflicts_with = "write")]
    tolerance: f64,
    /// Leave each execution its own numbers, so that differences grow along the pass; tells where they grow most
    #[arg(long, conflicts_with = "write")]
    drift: bool,
    /// One line for each tensor, or in --json the list `all`
    #[arg(long, conflicts_with = "write")]
    all: bool,
    /// Print one JSON object and nothing else
    #[arg(long)]
    json: bool,
}

/// Kernel variants, and where they come from.
type Variants = (Choices, String);

impl Arguments {
    fn step(&self, target: &Target) -> anyhow::Result<Step> {
        if let Some(run) = &self.run {
            return Ok(Step::of_run(run, self.checkpoint, self.data.as_deref(), self.batch, target)?);
        }
        let mut config = match (&self.config, self.preset) {
            (Some(file), _) => RunConfig::read(file)?,
            (None, preset) => preset.unwrap_or(Preset::Tiny).run(),
        };
        self.data.iter().for_each(|path| config.data.set_path(path));
        Ok(Step::of_config(&config, self.batch)?)
    }

    /// What would be used on this adapter: by the flag, by the run if its variants are for this adapter, else what was tuned.
    fn variants(&self, target: &Target) -> anyhow::Result<Variants> {
        if let Some(file) = &self.choices {
            return from_file(file, target);
        }
        if let Some(run) = &self.run
            && let Ok(Some(choices)) = cache::read(&choices_path(run), target)
        {
            return Ok((choices, format!("from {}", choices_path(run).display())));
        }
        let tuned = cache::recall(cache::folder().as_deref(), target);
        let origin = if tuned.tuned.is_empty() { "from the table" } else { "tuned earlier, else from the table" };
        Ok((tuned, origin.into()))
    }
}

fn from_file(file: &Path, target: &Target) -> anyhow::Result<Variants> {
    match cache::read(file, target)? {
        Some(choices) => Ok((choices, format!("from {}", file.display()))),
        None => bail!("{}: no such file", file.display()),
    }
}

/// What the step is held against.
enum Against<'a> {
    Trace(&'a Path),
    Choices(&'a Path),
    Table,
    Direct,
    Without(&'a str),
    Adapter(&'a str),
}

/// Whether a file is called as a trace is.
fn is_trace(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("safetensors"))
}

impl Against<'_> {
    fn parse(what: &str) -> anyhow::Result<Against<'_>> {
        let path = Path::new(what);
        Ok(match what {
            "table" => Against::Table,
            "direct" => Against::Direct,
            _ if is_trace(path) => Against::Trace(path),
            _ if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("toml")) => Against::Choices(path),
            _ if path.is_dir() => bail!(
                "--against {what}: a folder; of another run or version, write its tensors first: recurve bisect {what} \
                 --write FILE.safetensors"
            ),
            _ if path.is_file() => {
                bail!(
                    "--against {what}: a file of kernel variants is called .toml, one that --write wrote .safetensors"
                )
            }
            _ => match what.strip_prefix("no-").filter(|pass| Passes::NAMES.contains(pass)) {
                Some(pass) => Against::Without(pass),
                None => Against::Adapter(what),
            },
        })
    }
}

/// Runs `recurve bisect`.
pub async fn run(arguments: &Arguments, adapter: &Adapter) -> anyhow::Result<ExitCode> {
    let tolerance = arguments.tolerance;
    ensure!(
        tolerance >= 0.0 && tolerance.is_finite(),
        "--tolerance: expected 0 or a finite number above, found {tolerance}"
    );
    let passes = Passes::without(&arguments.no_pass)?;
    let against = arguments.against.as_deref().map(Against::parse).transpose()?;
    if let Some(file) = arguments.write.as_deref().filter(|file| !is_trace(file)) {
        bail!("--write {}: call it .safetensors, which --against tells it by", file.display());
    }
    // What takes no device comes first: a file that is none costs no time.
    let trace = match against {
        Some(Against::Trace(path)) => Some((Trace::open(path)?, path)),
        _ => None,
    };
    let gpu = adapter.open(false).await?;
    let step = arguments.step(&gpu.target)?;
    let (choices, origin) = arguments.variants(&gpu.target)?;
    let mut this = Execution::new(&gpu, &step, passes, &choices, &origin).await?;
    if let Some(path) = &arguments.write {
        let (tensors, bytes) = trace::write(&mut this, path).await?;
        match arguments.json {
            true => println!("{}", json!({ "tensors": tensors, "bytes": bytes, "file": path.display().to_string() })),
            false => println!("{}, {tensors} tensors, {bytes} bytes: {}", step.what, path.display()),
        }
        return Ok(ExitCode::SUCCESS);
    }

    let mut other_gpu: Option<Gpu> = None;
    let mut reference = match (against.expect("clap demands it or --write"), trace) {
        (_, Some((trace, path))) => {
            this.was_given(&trace.head.given, &path.display().to_string())?;
            Reference::Traced(Box::new(trace))
        }
        (Against::Adapter(name), _) => {
            let other = Adapter { selector: Some(name.into()), smaller: adapter.smaller };
            let other = &*other_gpu.insert(other.open(false).await?);
            // A file that is given is for the adapter that it names.
            let (choices, origin) = match &arguments.choices {
                Some(_) if other.target.name == gpu.target.name && other.target.driver == gpu.target.driver => {
                    (choices.clone(), origin.clone())
                }
                Some(_) => (Choices::default(), "from the table".into()),
                None => arguments.variants(&other.target)?,
            };
            Reference::of(Execution::new(other, &step, passes, &choices, &origin).await?, &this).await?
        }
        (against, _) => {
            let (choices, origin) = match &against {
                Against::Choices(file) => from_file(file, &gpu.target)?,
                Against::Table => (Choices::default(), "from the table".into()),
                Against::Direct => {
                    let schedule = Schedule::plain(step.network.timesteps);
                    let images = step.batch.labels.len();
                    let plain = Request::training(&step.network, &schedule, images, &gpu.target);
                    let uses = compile(&Request { passes, ..plain })?.uses;
                    (direct(&uses, &gpu.target), "by the direct method".into())
                }
                _ => (choices.clone(), origin.clone()),
            };
            let passes = match against {
                Against::Without(pass) => Passes::without(&[&arguments.no_pass[..], &[pass.to_string()]].concat())?,
                _ => passes,
            };
            Reference::of(Execution::new(&gpu, &step, passes, &choices, &origin).await?, &this).await?
        }
    };
    let (held, other) = (this.side.clone(), reference.side().clone());
    if !arguments.json {
        println!("{}, {} pictures", step.what, this.images());
        println!("this:    {held}\nagainst: {other}");
    }
    let mut all: Vec<Compared> = Vec::new();
    let mut tell = |compared: &Compared| match (arguments.all, arguments.json) {
        (false, _) => {}
        (true, true) => all.push(compared.clone()),
        (true, false) => println!("{}", line(compared)),
    };
    let settings = Settings { tolerance, drift: arguments.drift };
    let findings = bisect(&mut this, &mut reference, settings, &mut tell).await?;
    let passed = findings.beyond == 0;
    if arguments.json {
        let mut object = serde_json::to_value(&findings)?;
        object["passed"] = passed.into();
        object["step"] = step.what.clone().into();
        object["pictures"] = this.images().into();
        object["tolerance"] = tolerance.into();
        object["drift"] = arguments.drift.into();
        object["this"] = serde_json::to_value(&held)?;
        object["against"] = serde_json::to_value(&other)?;
        if arguments.all {
            object["all"] = serde_json::to_value(&all)?;
        }
        println!("{object}");
    } else {
        summary(&findings, settings);
    }
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn line(compared: &Compared) -> String {
    let word = match (compared.passed, compared.identical) {
        (false, _) => "DIFFERS",
        (true, true) => "equal",
        (true, false) => "close",
    };
    format!("{word:8}{:8.1e}  {:40} {}", compared.error, compared.facts.name, compared.facts.operation)
}

/// A tensor and where in it the largest difference is.
fn place(compared: &Compared) -> String {
    let Compared { facts, error, index, position, found, expected, largest, .. } = compared;
    let time = facts.timestep.map_or(String::new(), |t| format!(", timestep {t}"));
    let extents = match facts.extents() {
        "" => String::new(),
        extents => format!(" ({extents})"),
    };
    format!(
        "{} by `{}` (area {}{time})\n    [{index}], at {position:?}{extents}: {found:e} against {expected:e}; {error:.1e} of \
         the largest magnitude, {largest:e}",
        facts.name, facts.operation, facts.area
    )
}

fn summary(findings: &Findings, settings: Settings) {
    let Findings { compared, left_out, identical, beyond, first, largest, grown } = findings;
    let rest = match left_out {
        0 => String::new(),
        n => format!("; {n} more have no counterpart in the other execution"),
    };
    println!("{compared} tensors compared, {identical} equal in all bits{rest}");
    match largest {
        None => println!("no difference"),
        Some(largest) => println!("largest difference: {}", place(largest)),
    }
    if let Some(grown) = grown {
        let (before, after) = (grown.before, grown.tensor.error);
        println!("grows most, from {before:.1e} to {after:.1e}, in: {}", place(&grown.tensor));
    }
    match first {
        None => println!("none is beyond {:.1e}", settings.tolerance),
        Some(first) => println!("{beyond} beyond {:.1e}, the first: {}", settings.tolerance, place(first)),
    }
}
