//! Dissimilarities, CKA, decoders and components: against stored results, and on a device against the exact forms.

mod golden_folder;

use golden_folder::golden_folder;
use pollster::FutureExt;
use recurve::dynamics::goldens::{Golden, TOLERANCE_F64};
use recurve::dynamics::space::{Space, SpaceStream, Wanted};
use recurve::dynamics::{Parameters, Structure, space};
use recurve::gpu::{Gpu, Options, Store};
use recurve::reference::random::normal;
use recurve::trajectory::npz::Extraction;
use std::collections::BTreeMap;
use std::path::PathBuf;

fn goldens() -> Vec<Golden> {
    let folder = golden_folder("golden-dynamics");
    let files = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "json"));
    paths.sort();
    assert!(!paths.is_empty(), "{} holds no stored dynamics", folder.display());
    paths.iter().map(|path| Golden::open(path).unwrap()).collect()
}

#[test]
#[ignore = "reads the golden files of ../shared: scripts/test.sh runs it where they are"]
fn golden_files_exact() {
    let mut problems = Vec::new();
    for golden in goldens() {
        let found = Structure::exact(&golden.subject()).unwrap();
        let found = serde_json::to_value(&found).unwrap();
        let differences = golden.differences(&found, &Structure::KEYS, Some(TOLERANCE_F64));
        println!("{}: {} differences", golden.path.display(), differences.len());
        problems.extend(differences.into_iter().map(|d| format!("{}: {d}", golden.path.display())));
    }
    let shown = &problems[..problems.len().min(40)];
    assert!(problems.is_empty(), "{} differences, first\n{}", problems.len(), shown.join("\n"));
}

#[test]
#[ignore = "reads the golden files of ../shared: scripts/test.sh runs it where they are"]
fn golden_files_on_the_device() {
    let gpu =
        Gpu::open(&Options { checked: true, ..Options::default() }).block_on().expect("this test needs an adapter");
    let mut problems = Vec::new();
    for golden in goldens() {
        for width in [8, 64] {
            let found = space::stored(&gpu, &golden.subject(), width).block_on().unwrap();
            let found = serde_json::to_value(&found).unwrap();
            let mut differences = golden.differences(&found, &Structure::KEYS, None);
            // Counts of correct images may differ by those with a near tie.
            differences.retain(|difference| !within_near_ties(&golden, &found, difference));
            println!("{}, width {width}: {} differences", golden.path.display(), differences.len());
            problems.extend(differences.into_iter().map(|d| format!("{}, {width}: {d}", golden.path.display())));
        }
    }
    let shown = &problems[..problems.len().min(60)];
    assert!(problems.is_empty(), "{} differences, first\n{}", problems.len(), shown.join("\n"));
}

/// Whether a difference is one of `decoder.<kind>.correct` that the stored number of near ties explains.
fn within_near_ties(golden: &Golden, found: &serde_json::Value, difference: &str) -> bool {
    let Some(place) = ["ridge", "class_mean"].into_iter().find_map(|kind| {
        let rest = difference.strip_prefix(&format!("decoder.{kind}.correct["))?;
        let (t, rest) = rest.split_once("][")?;
        let (u, _) = rest.split_once(']')?;
        Some((kind, t.parse::<usize>().ok()?, u.parse::<usize>().ok()?))
    }) else {
        return false;
    };
    let (kind, t, u) = place;
    let number = |of: &serde_json::Value, key: &str| of[kind][key][t][u].as_i64().expect("a count");
    let stored = &golden.expected["decoder"];
    (number(&found["decoder"], "correct") - number(stored, "correct")).abs() <= number(stored, "unsafe")
}

/// Made-up activity: T, N, D, K. Representations have a mean, and the timesteps something in common.
fn extraction(seed: u64, [timesteps, samples, features, classes]: [usize; 4]) -> Extraction {
    let (base, noise) = (normal(seed, samples * features), normal(seed + 1, timesteps * samples * features));
    let value = |i: usize| f64::from(3.0 + base[i % base.len()] + 0.6 * noise[i]);
    Extraction {
        timesteps,
        samples,
        classes,
        features,
        outputs: vec![0.0; timesteps * samples * classes],
        labels: (0..samples).map(|i| i * i % classes).collect(),
        representations: (0..timesteps * samples * features).map(value).collect(),
        readout_weight: vec![1.0; classes * features],
        readout_bias: None,
    }
}

/// The exact results, as a stored file would hold them, with the tolerances of the stored files.
fn made_up(seed: u64, size: [usize; 4]) -> Golden {
    let [_, samples, _, classes] = size;
    let mut golden = Golden {
        path: PathBuf::from(format!("made up {size:?}")),
        parameters: Parameters {
            thresholds: vec![1.0],
            image_threshold: 0,
            bins: 15,
            rdm_images: (0..samples).filter(|i| i % 3 != 1).take(if samples == 310 { 210 } else { 9 }).collect(),
            shown_classes: (0..classes).filter(|k| k % 2 == 0).take(5).collect(),
            ridge: 0.5,
            level: 0.95,
            tables: false,
        },
        tolerance: BTreeMap::from(
            [
                ("rdm", 1e-5),
                ("class_rdm", 1e-4),
                ("rdm_time", 1e-4),
                ("rdm_init", 1e-4),
                ("cka", 1e-5),
                ("decoder", 1e-4),
                ("pca", 1e-4),
            ]
            .map(|(key, tolerance)| (key.to_string(), tolerance)),
        ),
        expected: serde_json::Map::new(),
        trained: extraction(seed, size),
        untrained: extraction(seed + 10, size),
        train: (0..samples).map(|i| i % 5 != 3 && i % 7 != 2).collect(),
        replicates: Vec::new(),
    };
    let exact = serde_json::to_value(Structure::exact(&golden.subject()).unwrap()).unwrap();
    golden.expected = exact.as_object().expect("a struct").clone();
    golden
}

#[test]
fn the_device_gives_the_exact_results_in_all_sizes_and_repeats_to_the_bit() {
    let mut gpu =
        Gpu::open(&Options { checked: true, ..Options::default() }).block_on().expect("this test needs an adapter");
    let mut problems = Vec::new();
    let usual = gpu.target.max_binding;
    // T, N, D, K, images of a batch. The last: in launches of two blocks, and panels of one batch.
    for (seed, [timesteps, samples, features, classes, width]) in [
        [1, 1, 1, 1, 4],
        [3, 1, 3, 2, 8],
        [1, 7, 3, 1, 4],
        [3, 7, 1, 2, 5],
        [2, 41, 513, 3, 16],
        [2, 61, 5, 300, 64],
        [4, 130, 33, 7, 32],
        [5, 90, 8, 4, 100],
        [2, 4000, 6, 3, 64],
        [2, 310, 7, 3, 64], // dissimilarities on the device
        [4, 90, 65, 7, 8],
    ]
    .into_iter()
    .enumerate()
    {
        gpu.target.max_binding = if features == 65 { 40 << 10 } else { usual };
        let golden = made_up(100 * seed as u64, [timesteps, samples, features, classes]);
        let run = || space::stored(&gpu, &golden.subject(), width).block_on().unwrap();
        let found = run();
        assert_eq!(found, run(), "{}: equal input, other results", golden.path.display());
        let found = serde_json::to_value(&found).unwrap();
        let mut differences = golden.differences(&found, &Structure::KEYS, None);
        differences.retain(|difference| !within_near_ties(&golden, &found, difference));
        problems.extend(differences.into_iter().map(|d| format!("{}: {d}", golden.path.display())));
    }
    let shown = &problems[..problems.len().min(40)];
    assert!(problems.is_empty(), "{} differences, first\n{}", problems.len(), shown.join("\n"));
}

#[test]
fn what_does_not_fit_is_refused_and_so_is_what_is_not_finite() {
    let mut gpu =
        Gpu::open(&Options { checked: true, ..Options::default() }).block_on().expect("this test needs an adapter");
    let mut golden = made_up(1, [2, 12, 6, 2]);
    golden.trained.representations[17] = f64::INFINITY;
    let error = space::stored(&gpu, &golden.subject(), 8).block_on().unwrap_err().to_string();
    assert!(error.contains("not finite"), "{error}");
    golden.train = vec![false; 12];
    let error = space::stored(&gpu, &golden.subject(), 8).block_on().unwrap_err().to_string();
    assert!(error.contains("training image"), "{error}");

    let space = Space {
        name: "large".into(),
        timesteps: 2,
        features: 300,
        width: 8,
        step: 2400,
        trained: "r".into(),
        untrained: None,
        labels: "labels".into(),
    };
    let wanted = Wanted { images: 16, training: 8, classes: 2, rdm_images: vec![], shown_classes: vec![], ridge: 1.0 };
    gpu.target.max_binding = 256 << 10; // one block is 300 x 300 words
    let Err(error) = SpaceStream::new(&gpu, space.clone(), wanted.clone(), &mut Store::default()).block_on() else {
        panic!("a block of 352 KiB was not refused")
    };
    assert!(error.to_string().contains("MiB"), "{error}");
    let wanted = Wanted { rdm_images: vec![0; space::MOST_RDM_IMAGES + 1], ..wanted };
    let Err(error) = SpaceStream::new(&gpu, space, wanted, &mut Store::default()).block_on() else {
        panic!("too many images were not refused")
    };
    assert!(error.to_string().contains("1000"), "{error}");
}
