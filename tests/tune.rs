//! The tuner on the adapter that is found: its deadline, its comparison with plain loops, and that a run keeps its choices.

use assert_cmd::Command;
use pollster::FutureExt;
use recurve::dataset::{Batch, Normaliser, Pictures};
use recurve::engine::Engine;
use recurve::gpu::{Gpu, Store};
use recurve::graph::compile::{Request, compile};
use recurve::kernels::choose::{Choices, ConvOp, Key, Uses, Variant};
use recurve::network::{Precision, RunConfig, Schedule, initialise};
use recurve::ops::Hyper;
use recurve::tune::{Fate, Trial, TuneOptions, Tuned, cache, model, tune};
use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};

const CONFIG: &str = "
[network]
image_size = 16
stem_channels = 4
area_channels = [4, 4, 8, 8]
topdown = true
timesteps = 2
classes = 10

[training]
batch = 4
steps = 6
checkpoint_every = 3
";
const DATA: &str = "glyphs:train=40,val=10,test=12,testplus=12,difficulty=0";

/// One device for the whole process: lavapipe leaks a little with each.
fn gpu() -> &'static Gpu {
    static GPU: std::sync::OnceLock<Gpu> = std::sync::OnceLock::new();
    GPU.get_or_init(|| {
        Gpu::open(&Default::default()).block_on().unwrap_or_else(|e| panic!("tuning needs an adapter: {e}"))
    })
}

fn config() -> RunConfig {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("small.toml"), CONFIG).unwrap();
    RunConfig::read(&folder.path().join("small.toml")).unwrap()
}

fn uses() -> Uses {
    uses_in(Precision::F32)
}

fn uses_in(precision: Precision) -> Uses {
    let network = config().network.network().unwrap();
    let schedule = Schedule::plain(network.timesteps);
    let request = Request { precision, ..Request::training(&network, &schedule, 4, &gpu().target) };
    compile(&request).unwrap().uses
}

/// For every shape the candidate that the model likes least: other variants than the table's wherever there are any.
fn others(uses: &Uses) -> Choices {
    let other = |key: &Key, present: &Variant| {
        model::candidates(&gpu().target, key, present).last().copied().unwrap_or(*present)
    };
    Choices { tuned: uses.iter().map(|(k, u)| (*k, other(k, &u.variant))).collect(), ..Choices::default() }
}

/// The shapes with the most work, one of each kernel: few enough to try all their variants.
fn one_of_each() -> Uses {
    one_of_each_in(Precision::F32)
}

fn one_of_each_in(precision: Precision) -> Uses {
    let mut list: Vec<_> = uses_in(precision).into_iter().collect();
    list.sort_by(|(a, _), (b, _)| b.flops().total_cmp(&a.flops()));
    let mut found = Uses::new();
    for (key, used) in list {
        if !found.keys().any(|k: &Key| k.op == key.op) {
            found.insert(key, used);
        }
    }
    assert_eq!(found.len(), ConvOp::ALL.len(), "{found:?}");
    found
}

/// Seconds within which every compilation is expected to end.
const LONG: f64 = 600.0;

/// Tunes while the clock stands still but for `step` seconds whenever a variant runs; gives the times at which variants had
/// run, too.
fn run(
    uses: &Uses,
    (seconds, step): (f64, f64),
    alter: &dyn Fn(&Key, &Variant, &mut [f32]),
) -> (recurve::Result<Tuned>, Vec<f64>) {
    let (now, ends, mut told) = (Cell::new(0.0), RefCell::new(Vec::new()), 0);
    let alter = |key: &Key, variant: &Variant, result: &mut [f32]| {
        now.set(now.get() + step);
        ends.borrow_mut().push(now.get());
        alter(key, variant, result);
    };
    let mut options =
        TuneOptions { seconds, clock: &|| now.get(), progress: &mut |_: &Trial| told += 1, alter: &alter };
    let tuned = tune(gpu(), uses, &mut options).block_on();
    if let Ok(tuned) = &tuned {
        assert_eq!(told, tuned.trials.len(), "every trial is told of");
        assert_eq!(tuned.seconds, now.get(), "the same clock for all");
    }
    (tuned, ends.into_inner())
}

fn table(key: &Key) -> Variant {
    Choices::TABLE.variant(&gpu().target, key)
}

#[test]
fn nothing_begins_after_the_deadline() {
    let uses = one_of_each();
    let nothing = |_: &Key, _: &Variant, _: &mut [f32]| ();
    let (none, ends) = run(&uses, (0.0, 1.0), &nothing);
    let none = none.expect("the device answers");
    assert_eq!((none.shapes, none.left, none.choices), (0, uses.len(), Choices::default()), "no time, no choice");
    assert!(none.trials.iter().all(|t| t.outcome == Fate::NotTried && t.ms.is_none()));
    assert_eq!(ends.len(), 0);

    // With a clock that stands still everything is tried: so many runs, so many seconds at a second each.
    let (all, ends) = run(&uses, (LONG, 0.0), &nothing);
    let (all, runs) = (all.expect("the device answers"), ends.len());
    assert_eq!((all.shapes, all.left), (uses.len(), 0));
    assert!(all.trials.iter().all(|t| t.outcome != Fate::NotTried), "{:?}", all.trials);
    assert!(runs > 2 * uses.len(), "some shape has candidates: {runs} runs");

    for seconds in [4.5, 9.5, 20.5] {
        let (tuned, ends) = run(&uses, (seconds, 1.0), &nothing);
        let tuned = tuned.expect("the device answers");
        // What has begun is finished; a run begins at the end of the one before it.
        assert!(!ends.is_empty() && ends.iter().all(|end| end - 1.0 < seconds), "{seconds} s: {ends:?}");
        assert!(ends.len() < runs, "{seconds} s: {} of {runs} runs", ends.len());
        assert_eq!(tuned.shapes + tuned.left, uses.len(), "{seconds} s");
        assert_eq!(tuned.shapes, tuned.choices.tuned.len());
        let ran = |t: &&Trial| matches!(t.outcome, Fate::Chosen | Fate::Slower);
        assert_eq!(tuned.trials.iter().filter(ran).count(), ends.len(), "{seconds} s: {:?}", tuned.trials);
        for trial in &tuned.trials {
            assert_eq!(ran(&trial), trial.ms.is_some(), "{trial:?}");
            assert_eq!(ran(&trial), trial.error.is_some_and(|e| e <= 1e-4), "{trial:?}");
        }
        for (key, variant) in &tuned.choices.tuned {
            let chosen: Vec<_> = tuned.trials.iter().filter(|t| t.key == *key && t.outcome == Fate::Chosen).collect();
            assert_eq!(chosen.len(), 1, "{key}");
            assert_eq!(chosen[0].variant, *variant);
        }
    }
}

/// Rule `right-first`.
#[test]
fn a_wrong_candidate_is_never_chosen() {
    // One value off, somewhere in the middle: not in the sample of a large result, but the whole is compared too.
    let spoil = |key: &Key, variant: &Variant, result: &mut [f32]| {
        if *variant != table(key) {
            result[result.len() / 3] += 1.0;
        }
    };
    for precision in [Precision::F32, Precision::Mixed] {
        let (tuned, _) = run(&one_of_each_in(precision), (LONG, 0.0), &spoil);
        let tuned = tuned.expect("the table is right");
        let tried: Vec<&Trial> =
            tuned.trials.iter().filter(|t| !t.present && !matches!(t.outcome, Fate::Refused(_))).collect();
        assert!(!tried.is_empty(), "some candidate was tried: {:?}", tuned.trials);
        for trial in tried {
            assert_eq!(trial.outcome, Fate::Wrong, "{}: {}", trial.key, trial.variant);
            assert!(trial.ms.is_none(), "what is wrong is not timed");
        }
        assert!(tuned.choices.tuned.iter().all(|(key, variant)| *variant == table(key)), "the table stays");
    }

    // The table's own variant gets no privilege.
    let spoil = |key: &Key, variant: &Variant, result: &mut [f32]| {
        if *variant == table(key) {
            result[0] = f32::NAN;
        }
    };
    let (tuned, _) = run(&one_of_each(), (LONG, 0.0), &spoil);
    let tuned = tuned.expect("other variants are right");
    assert!(tuned.trials.iter().all(|t| t.present == (t.outcome == Fate::Wrong)), "{:?}", tuned.trials);
    assert_eq!(tuned.choices.tuned.len(), one_of_each().len());
    assert!(tuned.choices.tuned.iter().all(|(key, variant)| *variant != table(key)), "{:?}", tuned.choices);
}

/// What is measured for mixed precision are the kernels that read and write f16, which are other texts than those of f32.
#[test]
fn shapes_are_tuned_as_their_maps_are_stored() {
    let uses = one_of_each_in(Precision::Mixed);
    assert!(uses.keys().all(|key| key.half && key.to_string().ends_with("in f16")), "{uses:?}");
    let in_f32 = uses.iter().map(|(key, used)| (Key { half: false, ..*key }, *used)).collect();
    let nothing = |_: &Key, _: &Variant, _: &mut [f32]| ();
    let [mixed, f32] = [&uses, &in_f32].map(|uses| run(uses, (LONG, 0.0), &nothing).0.expect("the device answers"));
    assert_eq!((mixed.shapes, mixed.choices.tuned.len()), (uses.len(), uses.len()));
    let mut right = 0;
    for trial in &mixed.trials {
        if matches!(trial.outcome, Fate::Refused(_)) {
            continue;
        }
        assert!(matches!(trial.outcome, Fate::Chosen | Fate::Slower), "{trial:?}");
        assert!(trial.error.is_some_and(|error| error <= 1e-4), "{trial:?}");
        right += 1;
        let key = Key { half: false, ..trial.key };
        let other = f32.trials.iter().find(|t| t.key == key && t.variant == trial.variant).expect("the same variants");
        let winograd = matches!(trial.variant, Variant::Conv(tile) if tile.winograd.is_some());
        assert!(winograd || other.text_bytes != trial.text_bytes, "{trial:?}");
    }
    assert!(right > 2 * uses.len(), "{:?}", mixed.trials);
    // Neither is taken for the other.
    let folder = tempfile::tempdir().unwrap();
    cache::remember(Some(folder.path()), &gpu().target, &mixed.choices);
    assert_eq!(cache::recall(Some(folder.path()), &gpu().target), mixed.choices);
    cache::remember(Some(folder.path()), &gpu().target, &f32.choices);
    assert_eq!(cache::recall(Some(folder.path()), &gpu().target).tuned.len(), 2 * uses.len());
}

/// Rule `right-first`.
#[test]
fn a_shape_that_nothing_computes_right_is_refused() {
    let uses = one_of_each();
    let wrong = *uses.keys().find(|key| key.op == ConvOp::ConvTranspose2d).expect("one of each");
    let spoil = |key: &Key, _: &Variant, result: &mut [f32]| {
        if *key == wrong {
            result[0] = f32::NAN;
        }
    };
    // Whether all others are wrong too, or there is only time to learn that the table's choice is.
    let alone = Uses::from([(wrong, uses[&wrong])]);
    for (uses, time) in [(&uses, (LONG, 0.0)), (&alone, (1.5, 1.0))] {
        let error = run(uses, time, &spoil).0.expect_err("no variant is right").to_string();
        let gpu = &gpu().target;
        for word in ["conv_transpose2d", &wrong.to_string(), &gpu.name, &gpu.driver, "recurve check", "--adapter"] {
            assert!(error.contains(word), "`{word}`: {error}");
        }
        assert_eq!(error.contains("more seconds"), time.1 > 0.0, "{error}");
    }
}

#[test]
fn other_choices_compute_the_same_gradients() {
    let uses = uses();
    let others = others(&uses);
    let changed = others.tuned.iter().filter(|(key, variant)| uses[key].variant != **variant).count();
    assert!(changed > uses.len() / 2, "{changed} of {} shapes have another variant", uses.len());
    let gradients = |choices: &Choices| {
        let network = config().network.network().unwrap();
        let schedule = Schedule::plain(network.timesteps);
        let request = Request { choices, ..Request::training(&network, &schedule, 4, &gpu().target) };
        let mut engine = Engine::new(gpu(), &request, &mut Store::default()).block_on().unwrap();
        if choices.tuned.len() == uses.len() {
            let used = &engine.compiled.uses;
            assert!(used.iter().all(|(key, used)| choices.tuned[key] == used.variant), "choices are obeyed");
        }
        let values = initialise(&network.parameters, 1);
        engine.set_parameters(&values).unwrap();
        engine.set_moments(&values.zeros(), &values.zeros()).unwrap();
        engine.set_normaliser(&Normaliser::new([127.5; 3], [74.0; 3]));
        let data = (0..3 * 16 * 16 * 4).map(|i| (37 * i % 251) as u8).collect();
        engine.feed(&Batch::new(Pictures { data, labels: vec![0, 3, 5, 9], n: 4, side: 16 }, 4)).block_on().unwrap();
        engine
            .set_step(&Hyper { learning_rate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }, 1, 1.0)
            .block_on()
            .unwrap();
        engine.run();
        engine.gradients().block_on().unwrap()
    };
    let (table, other) = (gradients(Choices::TABLE), gradients(&others));
    assert!(table.len() > 10);
    for (name, a) in table.iter() {
        let (a, b) = (&a.values, other.values(name).unwrap());
        assert!(a.len() == b.len() && a.iter().chain(b).all(|v| v.is_finite()), "{name}: {a:?}, {b:?}");
        let largest = a.iter().fold(1e-6_f32, |m, v| m.max(v.abs()));
        let worst = a.iter().zip(b).fold(0.0_f32, |m, (a, b)| m.max((a - b).abs()));
        assert!(worst <= 1e-4 * largest, "{name}: {worst:e} of {largest:e}");
    }
}

fn recurve(cache: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("recurve").unwrap();
    // Mesa keeps its own cache where it was: compiling everything anew takes minutes.
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"));
    let set = ["MESA_SHADER_CACHE_DIR", "XDG_CACHE_HOME"].into_iter().find_map(std::env::var_os).map(PathBuf::from);
    set.or_else(home).inspect(|folder| _ = command.env("MESA_SHADER_CACHE_DIR", folder));
    command.env("XDG_CACHE_HOME", cache).args(arguments);
    command
}

fn stderr(command: &mut Command) -> String {
    String::from_utf8(command.assert().success().get_output().stderr.clone()).unwrap()
}

#[test]
fn a_run_keeps_its_choices() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let text = |name: &str| path(name).display().to_string();
    std::fs::write(path("small.toml"), CONFIG).unwrap();
    let others = others(&uses());
    cache::write(&path("others.toml"), &gpu().target, &others).unwrap();
    let train = |name: &str, flags: &[&str]| {
        let (config, out) = (text("small.toml"), text(name));
        let base = ["train", "--data", DATA, "--config", &config, "--out", &out];
        stderr(&mut recurve(folder.path(), &[&base, flags].concat()))
    };
    let newest = |name: &str| std::fs::read(path(name).join("checkpoint.safetensors")).unwrap();
    let kept = |name: &str| cache::read(&path(name).join("choices.toml"), &gpu().target).unwrap().expect("is there");

    let said = train("whole", &["--choices", &text("others.toml")]);
    assert!(said.contains("others.toml"), "{said}");
    assert_eq!(kept("whole"), others);

    // Stopped half-way and resumed: the same choices without a flag, and the same bytes.
    train("halves", &["--choices", &text("others.toml"), "--steps", "3"]);
    stderr(&mut recurve(folder.path(), &["train", "--resume", &text("halves"), "--steps", "6"]));
    assert_eq!(kept("halves"), others);
    assert!(newest("whole") == newest("halves"), "the same bytes after a resume");

    // The run's own file reproduces it; the table alone makes other choices.
    train("again", &["--choices", &path("whole").join("choices.toml").display().to_string()]);
    assert!(newest("whole") == newest("again"), "the same bytes from the same choices");
    let said = train("table", &["--no-tune"]);
    assert!(said.contains("from the table"), "{said}");
    assert_ne!(kept("table"), others);

    // A damaged record is named, and the run goes on.
    std::fs::write(path("table").join("choices.toml"), "choices = [").unwrap();
    let said = stderr(&mut recurve(folder.path(), &["train", "--resume", &text("table"), "--steps", "7"]));
    assert!(said.contains("warning") && said.contains("choices.toml"), "{said}");
    assert!(!kept("table").tuned.is_empty(), "and written anew");
}

#[test]
fn what_was_tuned_is_used_by_later_runs() {
    let folder = tempfile::tempdir().unwrap();
    let text = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(folder.path().join("small.toml"), CONFIG).unwrap();
    let (config, out) = (text("small.toml"), text("run"));
    let train = ["train", "--data", DATA, "--config", &config, "--steps", "1", "--out"];
    let said = stderr(&mut recurve(folder.path(), &[&train[..], &[&out]].concat()));
    assert!(said.contains("none tuned yet"), "a short run is not worth tuning: {said}");

    let mut tune = recurve(folder.path(), &["tune", "--config", &config, "--seconds", "20", "--json"]);
    let output = tune.assert().success().get_output().stdout.clone();
    let json: serde_json::Value = serde_json::from_slice(&output).unwrap();
    assert!(json["shapes"].as_u64().unwrap() > 0 && !json["adapter"].as_str().unwrap().is_empty(), "{json}");
    let first = &json["trials"][0];
    assert!(
        first["ms"].as_f64().unwrap() > 0.0 && first["present"] == true && first["key"]["op"].is_string(),
        "{first}"
    );

    let said = stderr(&mut recurve(folder.path(), &[&train[..], &[&text("run2")]].concat()));
    assert!(said.contains("tuned earlier for"), "{said}");
    let said = stderr(&mut recurve(folder.path(), &[&train[..], &[&text("run3"), "--tune", "2"]].concat()));
    assert!(said.contains("tuned"), "{said}");
}

#[test]
fn choices_for_something_else_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (config, file, out) =
        (folder.path().join("small.toml"), folder.path().join("c.toml"), folder.path().join("run"));
    std::fs::write(&config, CONFIG).unwrap();
    let target = recurve::kernels::Target { driver: "another".into(), ..gpu().target.clone() };
    cache::write(&file, &target, &Choices::default()).unwrap();
    for (file, words) in
        [(file.as_path(), ["driver", "another"]), (&folder.path().join("none.toml"), ["none.toml", "no such"])]
    {
        let mut command = recurve(folder.path(), &["train", "--data", DATA]);
        command.arg("--config").arg(&config).arg("--out").arg(&out).arg("--choices").arg(file);
        let error = String::from_utf8(command.assert().code(1).get_output().stderr.clone()).unwrap();
        assert!(words.iter().all(|w| error.contains(w)) && !error.contains("panicked"), "{error}");
    }
}
