//! Several ranks that train one network, as threads of this process, each with a device of its own: they must end where one
//! rank ends that has the whole batch. What connects processes is tested by `tests/mpi.rs`. Needs an adapter.

use pollster::FutureExt;
use recurve::Result;
use recurve::dataset::LastBatch;
use recurve::gpu::{Gpu, Options};
use recurve::graph::compile::{Request, compile};
use recurve::graph::passes::Passes;
use recurve::network::{Bytes, Precision, RunConfig, Schedule};
use recurve::ops::LossScale;
use recurve::ranks::{Ranks, threads};
use recurve::train::run::check_shards;
use recurve::train::run_folder::read_metrics;
use recurve::train::{Checkpoint, Event, Outcome, Run, Stop};
use recurve::tune::Tuning;
use std::path::Path;
use std::sync::Arc;

const CONFIG: &str = "
[network]
image_size = 16
stem_channels = 4
area_channels = [4, 8, 8, 16]
lateral = true
topdown = true
timesteps = 3

[data]
path = 'glyphs:train=64,val=22,difficulty=0'

[training]
batch = 8
steps = 6
checkpoint_every = 4
seed = 5
";

fn config(change: impl FnOnce(&mut RunConfig)) -> RunConfig {
    let mut config = RunConfig::parse(CONFIG).unwrap();
    change(&mut config);
    config
}

/// What each rank does with its end and its number, all at once.
fn on_ranks(count: usize, work: impl Fn(&Ranks) -> Result<Outcome> + Send + Sync + 'static) -> Vec<Result<Outcome>> {
    let work = Arc::new(work);
    let start = |ranks: Ranks| {
        let work = work.clone();
        std::thread::spawn(move || {
            let ended = work(&ranks);
            if ended.is_err() && !ranks.fails_together() {
                ranks.end(1);
            }
            ended
        })
    };
    let ends = if count == 1 { vec![Ranks::alone()] } else { threads(count).unwrap() };
    let all: Vec<_> = ends.into_iter().map(start).collect();
    all.into_iter().map(|rank| rank.join().unwrap()).collect()
}

fn open() -> Gpu {
    Gpu::open(&Options::default()).block_on().expect("an adapter; scripts/setup.sh")
}

/// Trains a new run, or goes on with one to step 8; `stop` is asked of the last rank before it starts.
fn train(ranks: usize, root: &Path, config: Option<RunConfig>, stop: Option<u8>) -> Vec<Result<Outcome>> {
    train_to(8, ranks, root, config, stop)
}

/// The same, but a run that goes on does so to this step.
fn train_to(
    steps: u64,
    ranks: usize,
    root: &Path,
    config: Option<RunConfig>,
    stop: Option<u8>,
) -> Vec<Result<Outcome>> {
    let root = root.to_path_buf();
    on_ranks(ranks, move |ranks| {
        let gpu = open();
        let (run, gpu) = match (ranks.leads(), &config) {
            (true, Some(config)) => Run::create(config.clone(), &root, async { Ok(gpu) }).block_on()?,
            (true, None) => (Run::resume(&root, |config| config.training.set_steps(steps))?, gpu),
            (false, _) => (Run::of_leader(ranks).block_on()?.expect("there is a run"), gpu),
        };
        let run = if ranks.leads() { run.shared(ranks).block_on()? } else { run };
        let asked = Stop::new();
        if ranks.rank() + 1 == ranks.size() {
            stop.iter().for_each(|&status| asked.ask(status));
        }
        run.train(&gpu, Passes::default(), &Tuning::Off, &asked).block_on()
    })
}

fn finished(all: Vec<Result<Outcome>>) {
    for (rank, outcome) in all.into_iter().enumerate() {
        let outcome = outcome.unwrap_or_else(|error| panic!("rank {rank}: {error}"));
        assert!(matches!(outcome, Outcome::Finished(_)), "rank {rank}: {outcome:?}");
    }
}

fn newest(root: &Path) -> Checkpoint {
    Checkpoint::read(&root.join("checkpoint.safetensors")).unwrap()
}

/// The median and largest difference of all parameters.
fn apart(a: &Path, b: &Path) -> (f32, f32) {
    let (a, b) = (newest(a), newest(b));
    assert_eq!(a.state.step, b.state.step);
    let mut all = Vec::new();
    for (name, tensor) in a.parameters.iter() {
        let other = b.parameters.values(name).unwrap();
        all.extend(tensor.values.iter().zip(other).map(|(a, b)| (a - b).abs()));
    }
    assert!(all.iter().all(|d| d.is_finite()) && all.len() > 1000);
    all.sort_by(f32::total_cmp);
    (all[all.len() / 2], all[all.len() - 1])
}

/// Split, losses and accuracies at each timestep, images.
type Evaluation = (String, Vec<f64>, Vec<f64>, u64);

/// Losses of steps, and of evaluations the losses, accuracies and images.
fn measured(root: &Path) -> (Vec<(u64, f64)>, Vec<Evaluation>) {
    let (mut steps, mut epochs) = (Vec::new(), Vec::new());
    for event in read_metrics(root).unwrap() {
        match event {
            Event::Step { step, loss, .. } => steps.push((step, loss)),
            Event::Epoch { split, loss, accuracy, images, .. } => {
                epochs.push((
                    split,
                    loss.into_iter().flatten().collect(),
                    accuracy.into_iter().flatten().collect(),
                    images,
                ));
            }
            _ => {}
        }
    }
    (steps, epochs)
}

/// Both logs tell the same, to rounding.
fn alike(a: &Path, b: &Path) {
    let close = |a: f64, b: f64| (a - b).abs() <= 1e-4 * (1.0 + a.abs());
    let ((steps, epochs), (other_steps, other_epochs)) = (measured(a), measured(b));
    assert!(!steps.is_empty() && !epochs.is_empty());
    assert_eq!(steps.len(), other_steps.len());
    for (a, b) in steps.iter().zip(&other_steps) {
        assert!(a.0 == b.0 && close(a.1, b.1), "{a:?} {b:?}");
    }
    assert_eq!(epochs.len(), other_epochs.len());
    for ((split, loss, accuracy, images), (other, other_loss, other_accuracy, other_images)) in
        epochs.iter().zip(&other_epochs)
    {
        assert_eq!((split, images), (other, other_images));
        assert!(
            loss.len() == other_loss.len() && loss.iter().zip(other_loss).all(|(a, b)| close(*a, *b)),
            "{loss:?} {other_loss:?}"
        );
        // A picture whose two best classes are as good as each other may fall either way.
        let near = |(a, b): (&f64, &f64)| (a - b).abs() <= 1.5 / *images as f64;
        assert!(accuracy.len() == other_accuracy.len() && accuracy.iter().zip(other_accuracy).all(near));
    }
}

/// Rule `ranks`.
#[test]
fn several_ranks_end_where_one_does_and_repeat_their_bits() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    finished(train(1, &path("1"), Some(config(|_| ())), None));
    for ranks in [2, 4] {
        let root = path(&ranks.to_string());
        finished(train(ranks, &root, Some(config(|_| ())), None));
        let (median, largest) = apart(&path("1"), &root);
        println!("{ranks} ranks: median difference {median:.1e}, largest {largest:.1e}");
        assert!(median <= 1e-6, "{ranks} ranks: {median:e}");
        alike(&path("1"), &root);
    }
    // As ranks add up what parts add up, in the same order, the bits are those of one device with as many parts.
    for ranks in [2, 4] {
        let root = path(&format!("{ranks} parts"));
        finished(train(1, &root, Some(config(|config| config.training.accumulate = ranks)), None));
        assert_eq!(apart(&root, &path(&ranks.to_string())), (0.0, 0.0), "{ranks} ranks and {ranks} parts");
    }
    finished(train(2, &path("again"), Some(config(|_| ())), None));
    let bytes = |name: &str| std::fs::read(path(name).join("checkpoint.safetensors")).unwrap();
    assert!(bytes("2") == bytes("again"), "two ranks give the same bytes each time");
    // A run goes on on any number of ranks.
    for name in ["1", "2", "4"] {
        finished(train(2, &path(name), None, None));
        assert_eq!(newest(&path(name)).state.step, 8);
    }
    let (median, _) = apart(&path("1"), &path("4"));
    assert!(median <= 1e-6, "{median:e}");
}

#[test]
fn ranks_with_parts_and_clipped_gradients_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let clipped = |parts: usize| {
        config(|config| {
            config.training.clip_norm = Some(0.05);
            config.training.accumulate = parts;
        })
    };
    finished(train(1, &path("1"), Some(clipped(1)), None));
    finished(train(2, &path("2"), Some(clipped(2)), None));
    let (median, largest) = apart(&path("1"), &path("2"));
    println!("2 ranks in 2 parts: median difference {median:.1e}, largest {largest:.1e}");
    assert!(median <= 1e-6, "{median:e}");
    alike(&path("1"), &path("2"));
    let norms = |name: &str| -> Vec<f64> {
        let events = read_metrics(&path(name)).unwrap();
        events.iter().filter_map(|e| if let Event::Step { grad_norm, .. } = e { *grad_norm } else { None }).collect()
    };
    let (one, two) = (norms("1"), norms("2"));
    assert!(!one.is_empty() && one.len() == two.len() && one[0] > 0.05, "{one:?}");
    assert!(one.iter().zip(&two).all(|(a, b)| (a - b).abs() <= 1e-3 * a), "{one:?} {two:?}");
}

/// Of 43 pictures in batches of 8, the last batch has 3: of 4 ranks one has 2 of them, one 1, and two none.
#[test]
fn ranks_divide_the_last_smaller_batch_of_an_epoch_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let of_43 = |last: LastBatch, parts: usize| {
        config(|config| {
            config.data.path = Some("glyphs:train=43,val=22,difficulty=0".into());
            (config.training.last_batch, config.training.accumulate) = (last, parts);
            config.training.steps = Some(7);
        })
    };
    for (last, name) in [(LastBatch::Keep, "keep"), (LastBatch::Drop, "drop")] {
        let path = |of: &str| path(&format!("{name} {of}"));
        finished(train(1, &path("1"), Some(of_43(last, 1)), None));
        finished(train(4, &path("4"), Some(of_43(last, 1)), None));
        let (median, largest) = apart(&path("1"), &path("4"));
        println!("{name}: median difference {median:.1e}, largest {largest:.1e}");
        assert!(median <= 1e-6, "{name}: {median:e}");
        alike(&path("1"), &path("4"));
        let ends: Vec<u64> = measured(&path("4")).1.iter().map(|(.., images)| *images).collect();
        let trained = if last == LastBatch::Keep { [43, 8] } else { [40, 16] };
        assert!(trained.iter().all(|images| ends.contains(images)), "{name}: {ends:?}");
        finished(train(1, &path("4 parts"), Some(of_43(last, 4)), None));
        assert_eq!(apart(&path("4 parts"), &path("4")), (0.0, 0.0), "{name}");
    }
}

#[test]
fn a_bound_of_memory_changes_no_bit_of_ranks() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let gpu = open();
    let network = config(|_| ()).network.network().unwrap();
    let schedule = Schedule::plain(network.timesteps);
    let of_rank = Request { ranks: 2, ..Request::training(&network, &schedule, 4, &gpu.target) };
    let free = compile(&of_rank).unwrap();
    let tight = |percent: u64| {
        let bytes = free.peak_bytes() * percent / 100;
        let bound = compile(&Request { memory: Some(bytes), ..of_rank.clone() }).unwrap().bound.unwrap();
        (bound.met && bound.given_up > 0).then_some(bytes)
    };
    let bytes = [70, 80, 90, 95].into_iter().find_map(tight).expect("something can be given up");
    println!("{bytes} bytes of {}", free.peak_bytes());
    let bounded = config(|config| config.training.memory = Some(Bytes(bytes)));
    finished(train(2, &path("free"), Some(config(|_| ())), None));
    finished(train(2, &path("bounded"), Some(bounded), None));
    assert_eq!(apart(&path("free"), &path("bounded")), (0.0, 0.0));
}

/// Rule `ranks`, in mixed precision.
#[test]
fn ranks_in_mixed_precision_end_where_one_does() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mixed = |parts: usize| {
        config(|config| (config.training.precision, config.training.accumulate) = (Precision::Mixed, parts))
    };
    finished(train(1, &path("1"), Some(mixed(1)), None));
    for ranks in [2, 4] {
        let root = path(&ranks.to_string());
        finished(train(ranks, &root, Some(mixed(1)), None));
        let (median, largest) = apart(&path("1"), &root);
        println!("{ranks} ranks in mixed precision: median difference {median:.1e}, largest {largest:.1e}");
        assert!(median <= 1e-6, "{ranks} ranks: {median:e}");
        alike(&path("1"), &root);
        let scale = |root: &Path| newest(root).state.loss_scale.expect("mixed precision has one");
        let (one, several) = (scale(&path("1")), scale(&root));
        assert_eq!((one.scale, one.good_steps, one.skipped), (several.scale, several.good_steps, several.skipped));
        let parts = path(&format!("{ranks} parts"));
        finished(train(1, &parts, Some(mixed(ranks)), None));
        assert_eq!(apart(&parts, &root), (0.0, 0.0), "{ranks} ranks and {ranks} parts");
    }
    finished(train(2, &path("again"), Some(mixed(1)), None));
    let bytes = |name: &str| std::fs::read(path(name).join("checkpoint.safetensors")).unwrap();
    assert!(bytes("2") == bytes("again"), "two ranks give the same bytes each time");
}

/// Of 43 pictures in batches of 8 the sixth has 3: of 4 ranks two have pictures, and overflow; the gradients of the others are 0.
#[test]
fn a_step_that_overflows_on_some_ranks_is_skipped_by_all() {
    let folder = tempfile::tempdir().unwrap();
    let scaled = 2.0_f32.powi(60);
    let mut ends = Vec::new();
    for (ranks, parts) in [(1, 1), (4, 1), (1, 4)] {
        let root = folder.path().join(format!("{ranks} {parts}"));
        let of_43 = config(|config| {
            config.data.path = Some("glyphs:train=43,val=22,difficulty=0".into());
            (config.training.precision, config.training.accumulate) = (Precision::Mixed, parts);
            config.training.steps = Some(5);
        });
        finished(train(ranks, &root, Some(of_43), None));
        let before = newest(&root);
        let scale = before.state.loss_scale.expect("mixed precision has one");
        assert_eq!((scale.good_steps, scale.skipped), (5, 0), "{ranks} ranks: {scale:?}");
        let mut spoilt = before.clone();
        spoilt.state.loss_scale = Some(LossScale { scale: scaled, ..scale });
        for file in ["checkpoint.safetensors", "checkpoints/00000005.safetensors"] {
            spoilt.write(&root.join(file)).unwrap();
        }
        finished(train_to(6, ranks, &root, None, None));
        let after = newest(&root);
        assert!(after.parameters == before.parameters, "{ranks} ranks: parameters have changed");
        assert!(after.adam_m == before.adam_m && after.adam_v == before.adam_v, "{ranks} ranks: moments have changed");
        let scale = after.state.loss_scale.unwrap();
        assert_eq!((scale.scale, scale.good_steps, scale.skipped), (scaled / 2.0, 0, 1), "{ranks} ranks");
        let skipped = read_metrics(&root).unwrap().into_iter().filter(|e| matches!(e, Event::Skipped { .. }));
        let skipped: Vec<u64> = skipped.map(|event| event.step()).collect();
        assert_eq!(skipped, [6], "{ranks} ranks");
        ends.push(after);
    }
    let [_, ranks, parts] = &ends[..] else { panic!("three runs") };
    assert!(ranks.parameters == parts.parameters, "4 ranks and 4 parts");
}

#[test]
fn a_signal_to_one_rank_stops_all_after_the_same_step() {
    let folder = tempfile::tempdir().unwrap();
    for outcome in
        train(3, folder.path(), Some(config(|c| (c.training.batch, c.training.steps) = (6, Some(50)))), Some(143))
    {
        let Outcome::Stopped(stopped) = outcome.unwrap() else { panic!("it was told to stop") };
        assert_eq!((stopped.status, stopped.steps), (143, 50));
        assert!(stopped.step < 5 && stopped.step == newest(folder.path()).state.step, "{stopped:?}");
    }
}

#[test]
fn what_cannot_be_divided_is_refused_with_what_can() {
    let training = |batch: usize, accumulate: usize| {
        config(|c| (c.training.batch, c.training.accumulate) = (batch, accumulate)).training
    };
    assert!(check_shards(&training(8, 2), 4).is_ok() && check_shards(&training(7, 7), 1).is_ok());
    let error = check_shards(&training(10, 1), 4).unwrap_err().to_string();
    assert!(error.contains("10") && error.contains("4 ranks") && error.contains("--batch 8 or 12"), "{error}");
    let error = check_shards(&training(4, 4), 2).unwrap_err().to_string();
    assert!(error.contains("4 parts") && error.contains("--batch 8,"), "{error}");
}

#[test]
fn the_leader_s_error_ends_the_others_too() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().to_path_buf();
    let ended = on_ranks(2, move |ranks| {
        if ranks.leads() {
            let (run, _) = Run::create(config(|c| c.training.batch = 9), &root, async { Ok(open()) }).block_on()?;
            return run.shared(ranks).block_on().map(|_| panic!("9 images are not divided by 2"));
        }
        assert!(Run::of_leader(ranks).block_on()?.is_none());
        Err(recurve::Error::Training("there is no run".into()))
    });
    assert!(ended[0].as_ref().unwrap_err().to_string().contains("--batch 8 or 10"));
    assert!(ended[1].as_ref().unwrap_err().to_string().contains("no run"));
}
