//! Dynamics: the stored results of the golden folder, and the kernels against the exact form.

mod golden_folder;

use std::path::PathBuf;

use golden_folder::golden_folder;
use pollster::FutureExt;
use recurve::dynamics::goldens::{Golden, TOLERANCE_F64};
use recurve::dynamics::gpu::ValuesStream;
use recurve::dynamics::parameters::{Parameters, bootstrap_counts};
use recurve::dynamics::values::{Datum, Values, Wants};
use recurve::dynamics::{Dynamics, Subject, gpu};
use recurve::gpu::{Gpu, Options, Store};
use recurve::reference::random::normal;
use recurve::trajectory::measured::{Layout, Measured};
use recurve::trajectory::npz::Extraction;
use recurve::trajectory::streaming::{Activity, ActivityBatch, image_innermost};

fn open() -> Gpu {
    Gpu::open(&Options { checked: true, ..Options::default() }).block_on().expect("this test needs an adapter")
}

/// Every stored result.
fn goldens() -> Vec<Golden> {
    let folder = golden_folder("golden-dynamics");
    let files = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "json"));
    paths.sort();
    assert!(paths.len() >= 14, "{} holds {} results", folder.display(), paths.len());
    paths.iter().map(|path| Golden::open(path).unwrap()).collect()
}

#[test]
#[ignore = "reads the golden files of ../shared: scripts/test.sh runs it where they are"]
fn golden_files_of_dynamics_in_f64() {
    let mut problems = Vec::new();
    for golden in goldens() {
        let found = serde_json::to_value(Dynamics::exact(&golden.subject()).unwrap()).unwrap();
        let (mut keys, mut expected) = (found.as_object().unwrap().keys().collect::<Vec<_>>(), golden.keys());
        keys.sort_unstable();
        expected.sort_unstable();
        assert_eq!(keys, expected, "{}", golden.path.display());
        let differences = golden.differences(&found, &golden.keys(), Some(TOLERANCE_F64));
        problems.extend(differences.into_iter().map(|what| format!("{}: {what}", golden.path.display())));
    }
    assert!(problems.is_empty(), "{} differences\n{}", problems.len(), problems.join("\n"));
}

#[test]
#[ignore = "reads the golden files of ../shared: scripts/test.sh runs it where they are"]
fn golden_files_of_dynamics_on_the_device() {
    let gpu = open();
    let mut problems = Vec::new();
    for golden in goldens() {
        let found = serde_json::to_value(golden.streamed(&gpu).block_on().unwrap()).unwrap();
        let differences = golden.differences(&found, &golden.keys(), None);
        problems.extend(differences.into_iter().map(|what| format!("{}: {what}", golden.path.display())));
    }
    assert!(problems.is_empty(), "{} differences\n{}", problems.len(), problems.join("\n"));
}

/// A network whose representations drift; labels of two thirds of the images are their last class. All numbers are those of
/// f32. Of the images, every eleventh is silent at one timestep and every thirteenth rests at first.
fn network([timesteps, samples, classes, features]: [usize; 4], size: f32, seed: u64) -> Extraction {
    let weight = normal(seed, classes * features);
    let bias = normal(seed + 1, classes);
    let start = normal(seed + 2, samples * features);
    let drift = normal(seed + 3, timesteps * samples * features);
    let mut representations = Vec::new();
    let mut outputs = Vec::new();
    let mut now = start;
    for t in 0..timesteps {
        for i in 0..samples {
            for d in 0..features {
                let at = i * features + d;
                if i % 13 != 5 || t > 2 {
                    now[at] += drift[t * samples * features + at] / (1 + t) as f32;
                }
            }
            let silent = i % 11 == 3 && t == 1;
            let r: Vec<f32> =
                now[i * features..][..features].iter().map(|x| if silent { 0.0 } else { size * x }).collect();
            representations.extend(r.iter().map(|&x| f64::from(x)));
            for k in 0..classes {
                let w = &weight[k * features..][..features];
                let logit: f32 = r.iter().zip(w).map(|(r, w)| r / size * w).sum::<f32>() + 0.1 * bias[k];
                outputs.push(f64::from(logit));
            }
        }
    }
    let last = &outputs[(timesteps - 1) * samples * classes..];
    let class =
        |i: usize| (0..classes).max_by(|&a, &b| last[i * classes + a].total_cmp(&last[i * classes + b])).unwrap();
    let labels = (0..samples).map(|i| if i % 3 == 0 { i % classes } else { class(i) }).collect();
    let readout_weight = weight.iter().map(|&w| f64::from(w)).collect();
    let readout_bias = Some(bias.iter().map(|&b| f64::from(0.1 * size * b)).collect());
    Extraction { timesteps, samples, classes, features, outputs, labels, representations, readout_weight, readout_bias }
}

/// Largest difference of two lists, in units of the largest number of either, or of `least`; infinite where one is defined and
/// the other is not.
fn apart(found: &[f64], expected: &[f64], least: f64) -> f64 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().filter(|x| !x.is_nan()).fold(least, |largest, x| largest.max(x.abs()));
    let one = |(a, b): (&f64, &f64)| match (a.is_nan(), b.is_nan()) {
        (true, true) => 0.0,
        (false, false) => (a - b).abs() / largest,
        _ => f64::INFINITY,
    };
    found.iter().zip(expected).map(one).fold(0.0, f64::max)
}

fn assert_close(found: &Values, expected: &Values, what: &str) {
    assert_eq!(found.labels, expected.labels, "{what}");
    assert_eq!(found.class, expected.class, "{what}");
    for of in Datum::ALL {
        for t in 0..of.rows(expected.timesteps) {
            let error = apart(found.row(of, t), expected.row(of, t), 1e-30);
            let tolerance = if of == Datum::Turning { 1e-5 } else { 4e-6 };
            assert!(error < tolerance, "{what}: {of:?} at {t}: {error:e}");
        }
    }
    for t in 0..expected.timesteps {
        let (found, expected) = (found.later(t), expected.later(t));
        assert_eq!(found.images, expected.images, "{what}: later at {t}");
        let error = apart(&found.cosines, &expected.cosines, 1.0);
        assert!(error < 2e-6, "{what}: cosines at {t}: {error:e}");
    }
}

#[test]
fn kernels_agree_with_the_exact_form_and_repeat_to_the_bit() {
    let gpu = open();
    // T, N, K, D, width of a batch.
    for (extents, width) in [
        ([6, 150, 7, 33], 64),
        ([5, 90, 300, 70], 64),
        ([4, 61, 5, 1], 50),
        ([3, 41, 1, 9], 7),
        ([2, 33, 4, 130], 33),
        ([1, 10, 3, 4], 64),
    ] {
        let (trained, untrained) = (network(extents, 1.0, 1), network(extents, 1.0, 9));
        let untrained = Extraction { labels: trained.labels.clone(), ..untrained };
        let run = || gpu::stream(&gpu, [&trained, &untrained], &Wants::all(), width).block_on().unwrap();
        let (found, found_untrained) = run();
        let found_untrained = found_untrained.unwrap();
        let what = format!("{extents:?} in batches of {width}");
        assert_close(&found, &Values::exact(&trained, &Wants::all()).unwrap(), &what);
        assert_eq!(found_untrained, Values::exact(&untrained, &Wants::classes()).unwrap(), "{what}");
        assert_eq!(format!("{found:?}"), format!("{:?}", run().0), "{what}: equal input, other bits");
    }
}

#[test]
fn representations_of_any_size_have_values() {
    let gpu = open();
    for size in [1e27, 1e15, 1e-12, 1e-16, 1e-20, 1e-27] {
        let of = network([4, 70, 5, 40], size, 3);
        let (found, _) = gpu::stream(&gpu, [&of, &of], &Wants::all(), 64).block_on().unwrap();
        assert_close(&found, &Values::exact(&of, &Wants::all()).unwrap(), &format!("of size {size:e}"));
    }
}

/// The kernels get each readout vector divided by a power of two of its own.
#[test]
fn readout_vectors_of_very_different_lengths_have_margins_and_cosines() {
    let gpu = open();
    let mut of = network([3, 40, 6, 50], 1.0, 4);
    of.readout_bias = None;
    for (vector, length) in of.readout_weight.chunks_exact_mut(50).zip([1.0, 1e-3, 1e3, 1e-12, 3e5, 1e-30]) {
        vector.iter_mut().for_each(|w| *w = f64::from((*w * length) as f32));
    }
    let (found, _) = gpu::stream(&gpu, [&of, &of], &Wants::all(), 64).block_on().unwrap();
    assert_close(&found, &Values::exact(&of, &Wants::all()).unwrap(), "lengths");
}

#[test]
fn nearly_identical_readout_vectors_have_margins() {
    let gpu = open();
    let mut of = network([3, 40, 6, 50], 1.0, 4);
    for d in 0..50 {
        let w = of.readout_weight[d] as f32;
        of.readout_weight[50 + d] = f64::from(w * (1.0 + 1e-4 * (d % 7) as f32));
        of.readout_weight[100 + d] = f64::from(w);
    }
    let (found, _) = gpu::stream(&gpu, [&of, &of], &Wants::all(), 64).block_on().unwrap();
    assert_close(&found, &Values::exact(&of, &Wants::all()).unwrap(), "near");
}

#[test]
fn only_what_is_wanted_is_there() {
    let gpu = open();
    let of = network([3, 40, 6, 5], 1.0, 4);
    let exact = |wants: &Wants| Values::exact(&of, wants).unwrap();
    for data in [vec![Datum::Entropy], vec![Datum::Step], vec![Datum::Margin], vec![]] {
        let wants = Wants { data, later: false, untrained: true };
        let (found, _) = gpu::stream(&gpu, [&of, &of], &wants, 64).block_on().unwrap();
        for datum in &wants.data {
            assert!(apart(found.row(*datum, 1), exact(&wants).row(*datum, 1), 1.0) < 1e-5);
        }
        assert_eq!(found.class, exact(&wants).class);
    }
    let wants = Wants { data: vec![], later: true, untrained: true };
    let (found, _) = gpu::stream(&gpu, [&of, &of], &wants, 64).block_on().unwrap();
    assert!(!found.later(0).images.is_empty() && found.later(0).images == exact(&wants).later(0).images);
    assert!(apart(&found.later(0).cosines, &exact(&wants).later(0).cosines, 1.0) < 2e-6);
}

#[test]
fn the_smallest_networks_have_measures() {
    let gpu = open();
    for extents in [[1, 1, 1, 1], [2, 1, 2, 1], [3, 2, 1, 1], [3, 2, 2, 3], [5, 3, 2, 2]] {
        for replicates in [0, 1, 3] {
            let [_, samples, classes, features] = extents;
            let of = network(extents, 1.0, 2);
            let told = Parameters::standard(&of.labels, classes);
            told.check(samples, classes).unwrap();
            let counts = bootstrap_counts(1, replicates, samples);
            let train = vec![true; samples];
            let (trained, untrained) = (&of, None);
            let subject = Subject { trained, untrained, train: &train, replicates: &counts, parameters: &told };
            let exact = Dynamics::exact(&subject).unwrap();
            let (found, _) = gpu::stream(&gpu, [&of, &of], &Wants::all(), 64).block_on().unwrap();
            let found = Dynamics::new(&found, None, None, features, &told, &counts);
            assert_eq!((&found.visits, &found.solution), (&exact.visits, &exact.solution), "{extents:?}");
            assert_eq!(found.contrasts.cos_final.boot.window.replicates.len(), replicates);
            let json = serde_json::to_value(&exact).unwrap();
            assert!(json["consistency"].get("kappa_init").is_none(), "no untrained network was given");
        }
    }
}

/// Every image three times changes no mean, kappa or interval: those of the sample, not of how many there are.
#[test]
fn repeated_images_leave_what_is_a_mean() {
    let of = network([4, 30, 4, 6], 1.0, 7);
    let thrice = |numbers: &[f64], row: usize| -> Vec<f64> {
        let rows = numbers.chunks_exact(row).flat_map(|row| [row; 3]);
        rows.flatten().copied().collect()
    };
    let repeated = Extraction {
        samples: 90,
        outputs: thrice(&of.outputs, 4),
        labels: of.labels.iter().flat_map(|&label| [label; 3]).collect(),
        representations: thrice(&of.representations, 6),
        ..of.clone()
    };
    let counts = bootstrap_counts(3, 25, 30);
    let counts_of_all: Vec<Vec<u8>> =
        counts.iter().map(|counts| counts.iter().flat_map(|&count| [count; 3]).collect()).collect();
    let told = Parameters { tables: false, ..Parameters::standard(&of.labels, 4) };
    let measure = |of: &Extraction, counts: &[Vec<u8>]| {
        let values = Values::exact(of, &Wants::all()).unwrap();
        serde_json::to_value(Dynamics::new(&values, Some(&values), None, 6, &told, counts)).unwrap()
    };
    let (one, three) = (measure(&of, &counts), measure(&repeated, &counts_of_all));
    let close = |place: &str| {
        let numbers = |value: &serde_json::Value| -> Vec<f64> {
            let found = value.pointer(place).unwrap_or_else(|| panic!("{place}"));
            let rows = found.as_array().unwrap().iter();
            rows.flat_map(|row| row.as_array().cloned().unwrap_or(vec![row.clone()]))
                .map(|number| number.as_f64().unwrap_or(f64::NAN))
                .collect()
        };
        let error = apart(&numbers(&three), &numbers(&one), 1e-3);
        assert!(error < 1e-12, "{place}: {error:e}");
    };
    for place in ["margin/all", "margin/later", "entropy/correct", "calibration/ece", "reaction/mean", "path/all/speed"]
    {
        close(&format!("/{place}"));
    }
    for place in ["consistency/kappa_init", "consistency/error_consistency", "accuracy/boot_ci", "accuracy/mean"] {
        close(&format!("/{place}"));
    }
    for contrast in ["norm", "cos_current", "margin", "cos_final"] {
        for key in ["mean", "diff", "boot_se", "boot_ci", "window/replicates"] {
            close(&format!("/contrasts/{contrast}/{key}"));
        }
    }
    let count = |of: &serde_json::Value| of["contrasts"]["cos_final"]["n"][0].clone();
    let (one, three) = (count(&one), count(&three));
    assert!(one[1].as_u64() > Some(0), "the example is to have pairs");
    assert_eq!(three[0], 3 * one[0].as_u64().unwrap());
    assert_eq!(three[1], 9 * one[1].as_u64().unwrap(), "pairs are nine times as many");
}

/// Rule `planned`.
#[test]
fn batches_make_no_buffer() {
    let gpu = open();
    let of = network([3, 8, 6, 5], 1.0, 4);
    let (logits, representations) = image_innermost(&of, 0..8, 8);
    let activity = Activity { logits: &logits, representations: &representations };
    let labels: Vec<u32> = of.labels.iter().map(|&label| label as u32).collect();
    let (readout, layout, mut store) = (of.readout().unwrap(), Layout::aligned(6, 5, 3, 8), Store::default());
    let mut measured = Measured::new(&gpu, readout, layout, &mut store).block_on().unwrap();
    let bias = of.readout_bias.as_deref();
    let mut stream = ValuesStream::new(&gpu, &measured, bias, 80, &Wants::all(), &mut store).block_on().unwrap();
    let batch = ActivityBatch { width: 8, images: 8, labels: &labels, trained: activity, untrained: Some(activity) };
    measured.write(&batch);
    let mut take = |first: usize| {
        measured.run(8).block_on().unwrap();
        stream.run(first, 8).block_on().unwrap();
    };
    take(0);
    let (before, allocated) = (gpu.passing(), gpu.allocated());
    (8..80).step_by(8).for_each(&mut take);
    assert_eq!((gpu.passing() - before, gpu.allocated() - allocated), (0, 0));
    let (found, _) = stream.finish().block_on().unwrap();
    assert_eq!(found.row(Datum::Margin, 1)[..8], found.row(Datum::Margin, 1)[72..], "the same images ten times");
    assert_eq!(found.later(0).images.len(), 10 * Values::exact(&of, &Wants::all()).unwrap().later(0).images.len());
}

#[test]
fn numbers_that_are_not_finite_are_an_error() {
    let gpu = open();
    let of = network([3, 40, 4, 6], 1.0, 5);
    let mut broken = of.clone();
    broken.representations[(2 * 40 + 7) * 6 + 3] = f64::INFINITY;
    let mut diverged = of.clone();
    diverged.outputs[(40 + 9) * 4] = f64::NAN;
    let mut long = of.clone();
    long.representations[5] = 1e30;
    for (trained, untrained, words) in [
        (&broken, &of, ["trained", "representations of 1", "timestep 2"]),
        (&long, &of, ["trained", "longer than 4e28", "timestep 0"]),
        (&diverged, &of, ["trained", "logits of 1", "timestep 1"]),
        (&of, &diverged, ["untrained", "logits of 1", "timestep 1"]),
    ] {
        let error = gpu::stream(&gpu, [trained, untrained], &Wants::all(), 64).block_on().unwrap_err().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    }
}
