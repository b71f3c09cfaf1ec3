//! The tuner on the adapter that is found: its deadline, its comparison with plain loops, and that a run keeps its choices.

use assert_cmd::Command;
use recurve::dataset::Batch;
use recurve::engine::{Adam, Engine};
use recurve::gpu::{Gpu, Store};
use recurve::graph::compile::{Request, compile};
use recurve::graph::passes::Passes;
use recurve::kernels::choose::{Choices, Key, Uses, Variant};
use recurve::network::{NetworkConfig, RunConfig, initialise, parameters};
use recurve::reference::random::normal;
use recurve::tune::{Options, Outcome, Trial, Tuned, cache, model, tune};
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
const DATA: &str = "glyphs:train=40,val=10,difficulty=0";

/// One device for the whole process: lavapipe leaks a little with each.
fn gpu() -> &'static Gpu {
    static GPU: std::sync::OnceLock<Gpu> = std::sync::OnceLock::new();
    GPU.get_or_init(|| Gpu::open(&Default::default()).unwrap_or_else(|e| panic!("tuning needs an adapter: {e}")))
}

fn config() -> RunConfig {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("small.toml"), CONFIG).unwrap();
    RunConfig::read(&folder.path().join("small.toml")).unwrap()
}

fn request<'a>(config: &'a NetworkConfig, choices: &'a Choices) -> Request<'a> {
    let (target, passes) = (&gpu().target, Passes::default());
    Request { config, batch: 4, target, passes, choices, train: true, inspect: false, trajectory: false }
}

fn uses() -> Uses {
    compile(&request(&config().network, Choices::TABLE)).unwrap().lowered.uses
}

/// For every shape the candidate that the model likes least: other variants than the table's wherever there are any.
fn others(uses: &Uses) -> Choices {
    let other = |key: &Key, present: &Variant| {
        model::candidates(&gpu().target, key, present).last().copied().unwrap_or(*present)
    };
    Choices { forced: None, tuned: uses.iter().map(|(k, u)| (*k, other(k, &u.variant))).collect() }
}

fn run(seconds: f64, alter: &dyn Fn(&Key, &Variant, &mut [f32])) -> Tuned {
    let mut told = 0;
    let mut options = Options { seconds, progress: &mut |_: &Trial| told += 1, alter };
    let tuned = tune(gpu(), &uses(), &mut options).expect("the device answers");
    assert_eq!(told, tuned.trials.len(), "every trial is told of");
    tuned
}

#[test]
fn the_deadline_holds() {
    let none = run(0.0, &|_, _, _| ());
    assert_eq!((none.shapes, none.choices), (0, Choices::default()), "no time, no choice");
    assert!(none.left > 0 && none.trials.iter().all(|t| t.outcome == Outcome::NotTried && t.ms.is_none()));

    let tuned = run(4.0, &|_, _, _| ());
    assert!(tuned.shapes > 0, "4 s are enough for the first shape");
    // What has begun is finished: one compilation may last longer than it should.
    assert!(tuned.seconds < 10.0, "{} s for 4", tuned.seconds);
    for trial in &tuned.trials {
        let ran = matches!(trial.outcome, Outcome::Chosen | Outcome::Slower);
        assert_eq!(ran, trial.ms.is_some(), "{trial:?}");
        assert!(trial.error.is_none_or(|e| e <= 1e-4), "{trial:?}");
    }
    for (key, variant) in &tuned.choices.tuned {
        let chosen: Vec<_> = tuned.trials.iter().filter(|t| t.key == *key && t.outcome == Outcome::Chosen).collect();
        assert_eq!(chosen.len(), 1, "{key}");
        assert_eq!(chosen[0].variant, *variant);
    }
}

#[test]
fn a_wrong_candidate_is_never_chosen() {
    // One value off, somewhere in the middle: not in the sample of a large result, but the whole is compared too.
    let table = |key: &Key| Choices::TABLE.variant(&gpu().target, key);
    let spoil = |key: &Key, variant: &Variant, result: &mut [f32]| {
        if *variant != table(key) {
            result[result.len() / 3] += 1.0;
        }
    };
    let tuned = run(6.0, &spoil);
    let tried: Vec<&Trial> = tuned
        .trials
        .iter()
        .filter(|t| !t.present && !matches!(t.outcome, Outcome::NotTried | Outcome::Refused(_)))
        .collect();
    assert!(!tried.is_empty(), "some candidate was tried: {:?}", tuned.trials);
    for trial in tried {
        assert_eq!(trial.outcome, Outcome::Wrong, "{}: {}", trial.key, trial.variant);
        assert!(trial.ms.is_none(), "what is wrong is not timed");
    }
    assert!(tuned.choices.tuned.iter().all(|(key, variant)| *variant == table(key)), "the table stays");

    // The table's own variant gets no privilege.
    let spoil = |key: &Key, variant: &Variant, result: &mut [f32]| {
        if *variant == table(key) {
            result[0] = f32::NAN;
        }
    };
    let tuned = run(6.0, &spoil);
    assert!(tuned.trials.iter().any(|t| t.present && t.outcome == Outcome::Wrong), "{:?}", tuned.trials);
    assert!(tuned.choices.tuned.iter().all(|(key, variant)| *variant != table(key)), "{:?}", tuned.choices);
}

#[test]
fn other_choices_compute_the_same_gradients() {
    let uses = uses();
    let others = others(&uses);
    let changed = others.tuned.iter().filter(|(key, variant)| uses[key].variant != **variant).count();
    assert!(changed > uses.len() / 2, "{changed} of {} shapes have another variant", uses.len());
    let gradients = |choices: &Choices| {
        let config = config().network;
        let mut engine = Engine::new(gpu(), &request(&config, choices), &mut Store::default()).unwrap();
        if choices.tuned.len() == uses.len() {
            let used = &engine.compiled.lowered.uses;
            assert!(used.iter().all(|(key, used)| choices.tuned[key] == used.variant), "choices are obeyed");
        }
        let specs = parameters(&config);
        let zeros: Vec<Vec<f32>> = specs.iter().map(|s| vec![0.0; s.len()]).collect();
        engine.set_parameters(&initialise(&specs, 1));
        engine.set_moments(&zeros, &zeros);
        engine.feed(&Batch { x: normal(1, 3 * 16 * 16 * 4), labels: vec![0, 3, 5, 9], n: 4 });
        engine.set_step(&Adam { learning_rate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }, 1);
        engine.run();
        engine.gradients().unwrap()
    };
    for (spec, (a, b)) in
        parameters(&config().network).iter().zip(gradients(Choices::TABLE).iter().zip(&gradients(&others)))
    {
        let largest = a.iter().fold(1e-6_f32, |m, v| m.max(v.abs()));
        let worst = a.iter().zip(b).fold(0.0_f32, |m, (a, b)| m.max((a - b).abs()));
        assert!(a.iter().chain(b).all(|v| v.is_finite()), "{}: not finite", spec.name);
        assert!(a.len() == b.len() && worst <= 1e-4 * largest, "{}: {worst:e} of {largest:e}", spec.name);
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

    let mut tune = recurve(folder.path(), &["tune", "--config", &config, "--seconds", "4", "--json"]);
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
