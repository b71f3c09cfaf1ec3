//! `recurve train`.

use super::Adapter;
use super::tune::Flags;
use recurve::dataset::Augmentation;
use recurve::gpu::Gpu;
use recurve::graph::passes::Passes;
use recurve::network::{Bytes, Keep, Precision, Preset, RunConfig};
use recurve::output;
use recurve::ranks::Ranks;
use recurve::train::run::{check_shards, describe};
use recurve::train::{Outcome, Run, Stop};
use recurve::tune::Tuning;
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `recurve train`.
#[derive(clap::Args)]
#[command(
    override_usage = "recurve train --data PATH|glyphs {--preset NAME | --config FILE} --out RUN [OPTIONS]\n       \
                            recurve train --resume RUN [--epochs N | --steps N]"
)]
pub struct Arguments {
    /// Network and training to start from: tiny, blt64, blt128; the four published networks with the published recipe:
    /// published-l-add, published-t-add, published-l-mul, published-t-mul
    #[arg(long, required_unless_present_any = ["config", "resume"])]
    preset: Option<Preset>,
    /// Configuration file (TOML) instead of a preset
    #[arg(long, value_name = "FILE", conflicts_with = "preset")]
    config: Option<PathBuf>,
    /// Folder of the new run
    #[arg(long, value_name = "RUN", required_unless_present = "resume")]
    out: Option<PathBuf>,
    /// Go on with an interrupted run, with its kernel variants; `--epochs` or `--steps` may raise its length
    #[arg(long, value_name = "RUN", conflicts_with_all = ["preset", "config", "out", "batch", "seed", "augment", "precision", "pack_activations", "tune", "no_tune", "choices"])]
    resume: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

/// What `train` and `sweep` are told of a run in the same words.
#[derive(clap::Args)]
pub struct Settings {
    /// HDF5 file in MiniEcoset's schema, folder of pictures, or `glyphs` for the built-in stimuli
    #[arg(long, value_name = "PATH|glyphs")]
    data: Option<String>,
    /// Length in passes over the training split
    #[arg(long, value_name = "N", conflicts_with = "steps")]
    epochs: Option<u64>,
    /// Length in batches
    #[arg(long, value_name = "N")]
    steps: Option<u64>,
    /// Pictures per step
    #[arg(long, value_name = "B")]
    batch: Option<usize>,
    /// Parts in which a step's pictures are computed one after the other, to need less memory; must divide the batch
    #[arg(long, value_name = "PARTS")]
    accumulate: Option<usize>,
    /// Memory that a training step may take, such as 6GiB, 512MiB or a number of bytes: what of the forward pass does not fit is
    /// computed again, at the least predicted cost. The result is the same
    #[arg(long, value_name = "BYTES")]
    memory: Option<Bytes>,
    /// Let what does not fit into `--memory` also be packed to f16 for the backward pass, where that is predicted to cost less: it
    /// takes half of the bytes, and gradients are rounded
    #[arg(long)]
    pack_activations: bool,
    /// In what maps are stored: `f32`, or `mixed`, which is f16 with a loss scale, as published: half of the memory
    #[arg(long, value_name = "f32|mixed")]
    precision: Option<Precision>,
    /// Choose the parts in which training and evaluation fit the adapter (and `--memory`) at the least predicted time, and more
    /// where it has no memory for these; the run's configuration keeps them
    #[arg(long, conflicts_with = "accumulate")]
    fit: bool,
    /// What is done to each training picture, drawn anew in each epoch: `trivial` is TrivialAugmentWide, as published; `none`
    #[arg(long, value_name = "none|trivial")]
    augment: Option<Augmentation>,
    /// Seed of initialisation, of the order of the pictures and of augmentation
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Adam's step size
    #[arg(long, value_name = "X")]
    learning_rate: Option<f64>,
    /// Largest norm of a step's gradients: beyond it they are shortened to it
    #[arg(long, value_name = "X")]
    clip_norm: Option<f64>,
    /// Steps between checkpoints; 0: only the first and the last
    #[arg(long, value_name = "STEPS")]
    checkpoint_every: Option<u64>,
    /// Which checkpoints stay: `first`, `last N`, `every N` (steps), `every N epochs`, `epoch N` (-1: before the first step, 0:
    /// after the first epoch), `best` (on the evaluation split), separated by commas; the newest two always do. Default: all
    #[arg(long, value_name = "TERMS", value_delimiter = ',')]
    keep: Option<Vec<String>>,
    /// Switch a graph pass off: hoist, fuse, fold or reuse (repeatable)
    #[arg(long, value_name = "NAME")]
    no_pass: Vec<String>,
    #[command(flatten)]
    variants: Flags,
}

impl Settings {
    /// Graph passes, and where kernel variants come from.
    pub fn how(&self) -> anyhow::Result<(Passes, Tuning)> {
        Ok((Passes::without(&self.no_pass)?, self.variants.tuning()?))
    }

    /// What the flag `--keep` says.
    pub fn keep(&self) -> recurve::Result<Option<Keep>> {
        self.keep.as_ref().map(|terms| Keep::parse(terms)).transpose()
    }

    /// Whether the parts of a batch are to be chosen.
    pub fn fits(&self) -> bool {
        self.fit
    }

    /// Flags win over what the configuration says; `keep` is what the flag of that name says.
    pub fn apply(&self, config: &mut RunConfig, keep: &Option<Keep>) {
        let training = &mut config.training;
        self.epochs.inspect(|&n| training.set_epochs(n));
        self.steps.inspect(|&n| training.set_steps(n));
        training.batch = self.batch.unwrap_or(training.batch);
        training.accumulate = self.accumulate.unwrap_or(training.accumulate);
        training.augment = self.augment.unwrap_or(training.augment);
        training.memory = self.memory.or(training.memory);
        training.pack_activations |= self.pack_activations;
        training.precision = self.precision.unwrap_or(training.precision);
        training.seed = self.seed.unwrap_or(training.seed);
        training.learning_rate = self.learning_rate.unwrap_or(training.learning_rate);
        training.clip_norm = self.clip_norm.or(training.clip_norm);
        training.checkpoint_every = self.checkpoint_every.unwrap_or(training.checkpoint_every);
        self.data.iter().for_each(|path| config.data.set_path(path));
        training.keep = keep.clone().unwrap_or(std::mem::take(&mut training.keep));
    }
}

/// Runs `recurve train`: alone, or as one of several ranks that MPI's launcher has started.
pub async fn run(arguments: &Arguments, adapter: &Adapter) -> anyhow::Result<ExitCode> {
    let ranks = Ranks::launched()?;
    if !ranks.leads() {
        output::be_silent();
    }
    let ended = train(arguments, adapter, &ranks).await;
    if !ranks.several() {
        return ended;
    }
    // The launcher ends all where one ends with an error: the others end without one, and after the leader has spoken.
    match ended {
        Ok(status) if ranks.leads() => Ok(status),
        Ok(_) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            let together = ranks.fails_together();
            if !together {
                output::speak();
            }
            let which =
                if ranks.leads() { String::new() } else { format!("rank {} of {}: ", ranks.rank(), ranks.size()) };
            eprintln!("error: {which}{error:#}");
            if !together {
                ranks.end(1); // what the others wait for will not come
            }
            Ok(if ranks.leads() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
        }
    }
}

async fn train(arguments: &Arguments, adapter: &Adapter, ranks: &Ranks) -> anyhow::Result<ExitCode> {
    let settings = &arguments.settings;
    let (passes, tuning) = settings.how()?;
    let stop = Stop::on_signals()?;
    let root = arguments.resume.as_ref().or(arguments.out.as_ref()).expect("clap demands one of them");
    let started = match ranks.leads() {
        true => {
            let started = start(arguments, adapter, ranks).await;
            if !matches!(started, Ok(Some(_))) {
                Run::none_to_share(ranks).await?;
            }
            match started? {
                Some((run, gpu)) => Some((run.shared(ranks).await?, gpu)),
                None => None,
            }
        }
        false => {
            let gpu = adapter.open_one_of_several(ranks.local()).await?;
            Run::of_leader(ranks).await?.map(|run| (run, gpu))
        }
    };
    let Some((run, gpu)) = started else { return Ok(ExitCode::SUCCESS) };
    let finished = match run.train(&gpu, passes, &tuning, &stop).await? {
        Outcome::Finished(finished) => finished,
        Outcome::Stopped(stopped) => {
            eprintln!(
                "stopped and saved after step {} of {}; to go on: recurve train --resume {}",
                stopped.step,
                stopped.steps,
                root.display()
            );
            return Ok(ExitCode::from(stopped.status));
        }
    };
    println!("{} steps, {}: {}", finished.step, finished.split, describe(&finished.evaluation));
    println!("{}", root.display());
    Ok(ExitCode::SUCCESS)
}

/// The run, new or going on, and its device; `None` where all its steps are done.
async fn start(arguments: &Arguments, adapter: &Adapter, ranks: &Ranks) -> anyhow::Result<Option<(Run, Gpu)>> {
    let settings = &arguments.settings;
    let keep = settings.keep()?;
    let opened = async {
        match ranks.several() {
            true => adapter.open_one_of_several(ranks.local()).await,
            false => adapter.open(false).await,
        }
    };
    let (run, gpu) = match (&arguments.resume, &arguments.out) {
        (Some(root), _) => {
            let run = Run::resume(root, |config| settings.apply(config, &keep))?;
            if run.is_over()? {
                println!("{}: all {} steps are done; raise --steps or --epochs to go on", root.display(), run.step());
                return Ok(None);
            }
            (run, opened.await?)
        }
        (None, Some(out)) => {
            let mut config = match (&arguments.config, arguments.preset) {
                (Some(file), _) => RunConfig::read(file)?,
                (None, preset) => preset.unwrap_or(Preset::Tiny).run(),
            };
            settings.apply(&mut config, &keep);
            config.validate()?;
            check_shards(&config.training, ranks.size())?;
            Run::create(config, out, opened).await?
        }
        (None, None) => unreachable!("clap demands one of them"),
    };
    Ok(Some((if settings.fits() { run.in_parts_that_fit() } else { run }, gpu)))
}
