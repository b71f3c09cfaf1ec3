//! `recurve tune`, and the flags that say where other commands' kernel variants come from.

use super::Adapter;
use recurve::gpu::Gpu;
use recurve::graph::compile::{Request, compile};
use recurve::graph::fit::fits;
use recurve::graph::passes::Passes;
use recurve::network::{Network, Precision, Preset, RunConfig, Schedule};
use recurve::tune::{Chosen, Fate, SECONDS, Trial, TuneOptions, Tuned, Tuning, cache, choose, tune};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// Where kernel variants come from.
#[derive(clap::Args)]
pub struct Flags {
    /// First measure kernel variants that no earlier run measured, within SECONDS [10 if not given]. Without this, only a run
    /// that is expected to last at least 5 minutes does so, and only if nothing was measured for its network yet; all
    /// runs use what was measured earlier
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "10")]
    tune: Option<f64>,
    /// Kernel variants from the built-in table alone
    #[arg(long, conflicts_with = "tune")]
    no_tune: bool,
    /// Kernel variants from a file, such as choices.toml of another run: gives its bits again
    #[arg(long, value_name = "FILE", conflicts_with_all = ["tune", "no_tune"])]
    choices: Option<PathBuf>,
}

impl Flags {
    /// What they say.
    pub fn tuning(&self) -> anyhow::Result<Tuning> {
        Ok(match (&self.choices, self.no_tune, self.tune) {
            (Some(file), ..) => Tuning::File(file.clone()),
            (_, true, _) => Tuning::Off,
            (.., Some(seconds)) => Tuning::Now(positive(seconds)?),
            _ => Tuning::Auto,
        })
    }
}

impl Flags {
    /// They once more, as on the command line.
    pub fn arguments(&self) -> String {
        let tune = self.tune.map(|seconds| format!(" --tune {seconds}"));
        let file = self.choices.as_ref().map(|file| format!(" --choices {}", file.display()));
        let off = self.no_tune.then(|| " --no-tune".to_string());
        tune.or(file).or(off).unwrap_or_default()
    }

    /// The kernel variants for training steps of a network.
    pub async fn choose(
        &self,
        gpu: &Gpu,
        (network, batch, precision): (&Network, usize, Precision),
        passes: Passes,
    ) -> anyhow::Result<Chosen> {
        let schedule = Schedule::plain(network.timesteps);
        let request = Request { passes, precision, ..Request::training(network, &schedule, batch, &gpu.target) };
        let uses = compile(&request)?.uses;
        Ok(choose(gpu, &uses, &self.tuning()?, 0.0, cache::folder().as_deref()).await?)
    }
}

fn positive(seconds: f64) -> anyhow::Result<f64> {
    anyhow::ensure!(seconds >= 0.0 && seconds.is_finite(), "tuning takes 0 or more seconds, found {seconds}");
    Ok(seconds)
}

/// Arguments of `recurve tune`.
#[derive(clap::Args)]
pub struct Arguments {
    /// tiny, blt64, blt128, or published-l-add, -t-add, -l-mul, -t-mul
    #[arg(long, required_unless_present = "config")]
    preset: Option<Preset>,
    /// Configuration file (TOML) instead of a preset
    #[arg(long, value_name = "FILE", conflicts_with = "preset")]
    config: Option<PathBuf>,
    /// Pictures per batch [default: the configuration's]
    #[arg(long, value_name = "B")]
    batch: Option<usize>,
    /// In what maps are stored: `f32`, or `mixed`, which is f16 [default: the configuration's]
    #[arg(long, value_name = "f32|mixed")]
    precision: Option<Precision>,
    /// Switch a graph pass off: hoist, fuse, fold or reuse (repeatable)
    #[arg(long, value_name = "NAME")]
    no_pass: Vec<String>,
    /// Seconds for everything, compilation included; what was not reached keeps the table's choice
    #[arg(long, value_name = "S", default_value_t = SECONDS)]
    seconds: f64,
    /// Print one JSON object and nothing else
    #[arg(long)]
    json: bool,
}

/// Runs `recurve tune`: measures all shapes anew, and keeps what it found.
pub async fn run(arguments: &Arguments, adapter: &Adapter) -> anyhow::Result<ExitCode> {
    let mut config = match (&arguments.config, arguments.preset) {
        (Some(file), _) => RunConfig::read(file)?,
        (None, preset) => preset.unwrap_or(Preset::Tiny).run(),
    };
    config.training.batch = arguments.batch.unwrap_or(config.training.batch);
    config.training.precision = arguments.precision.unwrap_or(config.training.precision);
    config.validate()?;
    let seconds = positive(arguments.seconds)?;
    let gpu = adapter.open(false).await?;
    let passes = Passes::without(&arguments.no_pass)?;
    let network = config.network.network()?;
    let (schedule, parts) = (Schedule::plain(network.timesteps), config.training.accumulate);
    let plain = Request::training(&network, &schedule, config.training.batch / parts, &gpu.target);
    let request = Request { passes, parts, precision: config.training.precision, ..plain };
    let compiled = compile(&request)?;
    fits(&compiled, &request)?;
    let mut show = |trial: &Trial| {
        let ms = trial.ms.map_or("-".into(), |ms| format!("{ms:.3} ms"));
        eprintln!("{}: {} {ms}", trial.key, trial.variant);
    };
    let begin = Instant::now();
    let clock = || begin.elapsed().as_secs_f64();
    let mut options = TuneOptions { seconds, clock: &clock, progress: &mut show, alter: &|_, _, _| () };
    let tuned = tune(&gpu, &compiled.uses, &mut options).await?;
    let folder = cache::folder();
    cache::remember(folder.as_deref(), &gpu.target, &tuned.choices);
    if arguments.json {
        let mut object = serde_json::to_value(&tuned)?;
        object["adapter"] = gpu.info.name.clone().into();
        object["driver"] = recurve::gpu::driver(&gpu.info).into();
        object["cache"] = folder.map(|f| f.display().to_string()).into();
        println!("{object}");
    } else {
        println!("{}", gpu.describe());
        print(&tuned);
        if let Some(folder) = folder {
            println!("kept in {}", folder.display());
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print(tuned: &Tuned) {
    let mut last = None;
    println!("  {:52} {:>9} {:>8} {:>9} {:>7} {:>9}", "variant", "ms", "GFLOP/s", "predicted", "error", "first run");
    for trial in &tuned.trials {
        if last != Some(trial.key) {
            println!("{}, {} launches a step", trial.key, trial.launches);
            last = Some(trial.key);
        }
        let outcome = match &trial.outcome {
            Fate::Chosen if trial.present => "stays".to_string(),
            Fate::Chosen => "chosen".into(),
            Fate::Slower => String::new(),
            Fate::Wrong => "wrong".into(),
            Fate::Refused(why) => format!("refused: {why}"),
            Fate::NotTried => "no time left".into(),
        };
        let of = |value: Option<f64>, digits: usize| value.map_or(String::new(), |v| format!("{v:.digits$}"));
        println!(
            "  {:55} {:>9} {:>8} {:>6} {:>9} {:>7} {:>9}  {outcome}",
            trial.variant.to_string(),
            of(trial.ms, 3),
            of(trial.gflops, 1),
            of(trial.ratio, 2),
            of(trial.predicted_ms, 3),
            trial.error.map_or(String::new(), |e| format!("{e:.0e}")),
            of(trial.compile_ms, 0)
        );
    }
    println!(
        "ms: of one launch; predicted: by the model from the time of the first row; first run: ms with compilation"
    );
    println!(
        "{} shapes tuned in {:.1} s, {} left to the table; their launches take {:.1} ms a step by the table, {:.1} ms tuned",
        tuned.shapes, tuned.seconds, tuned.left, tuned.before_ms, tuned.after_ms
    );
}
