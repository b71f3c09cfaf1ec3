//! The report of the dynamics: every shape of them becomes a page, tables and files with the right numbers, hostile
//! names do no harm, and what is undefined is shown as such.

mod golden_folder;
mod reports;

use golden_folder::golden_folder;
use recurve::dynamics::Parameters;
use recurve::dynamics::goldens::Golden;
use recurve::report::{Example, Images, Kind, Meta, Report, choose, write};
use recurve::trajectory::exact::{self, Silent};
use reports::{assert_self_contained, check, meta, statistics};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Numbers of a shape that look like those of a network, different from each other.
fn numbers(shape: &[usize], seed: f64) -> Value {
    match shape {
        [] => json!(seed.sin() * 0.5 + 0.5),
        [n, rest @ ..] => (0..*n).map(|i| numbers(rest, seed * 1.7 + i as f64 + 0.3)).collect(),
    }
}

/// Counts of a shape.
fn counts(shape: &[usize], seed: u64) -> Value {
    match shape {
        [] => json!(seed * 7 % 23),
        [n, rest @ ..] => (0..*n).map(|i| counts(rest, seed + 3 * i as u64 + 1)).collect(),
    }
}

fn parameters(n: usize, k: usize, rdm_images: usize) -> Parameters {
    Parameters {
        thresholds: vec![0.25, 0.5, 1.0],
        image_threshold: 1,
        bins: 15,
        rdm_images: (0..rdm_images.min(n)).collect(),
        shown_classes: (0..k).collect(),
        ridge: 0.5,
        level: 0.95,
        tables: false,
    }
}

/// Dynamics of T timesteps, N images, K classes, in which everything is defined.
fn dynamics(t: usize, n: usize, k: usize, p: &Parameters) -> Value {
    let steps = t - 1;
    let set = |names: &[&str], seed: f64| -> Map<String, Value> {
        names.iter().enumerate().map(|(i, name)| (name.to_string(), numbers(&[t], seed + i as f64))).collect()
    };
    let five = ["all", "correct", "incorrect", "now", "later"];
    let mut margin = set(&five, 1.0);
    margin.insert("negative".into(), counts(&[t], 1));
    let path = |seed: f64| {
        json!({"n": 5, "length": 4.5 + seed, "displacement": 2.25, "straightness": 0.5, "turning": 75.5,
            "turning_t": numbers(&[steps.saturating_sub(1)], seed), "speed": numbers(&[steps], seed),
            "to_final": numbers(&[t], seed)})
    };
    let pairs = |n: usize| n * n.saturating_sub(1) / 2;
    let rdm = |n: usize| {
        json!({"euclidean": numbers(&[t, pairs(n)], 1.0), "correlation": numbers(&[t, pairs(n)], 2.0),
            "cosine": numbers(&[t, pairs(n)], 3.0)})
    };
    let similar = |seed: f64| {
        let four = || {
            json!({"pearson": numbers(&[t, t], seed), "spearman": numbers(&[t, t], seed + 1.0),
                "cosine": numbers(&[t, t], seed + 2.0), "tau_a": numbers(&[t, t], seed + 3.0)})
        };
        json!({"euclidean": four(), "correlation": four(), "cosine": four()})
    };
    let decoder = || {
        json!({"correct": counts(&[t, t], 2), "unsafe": counts(&[t, t], 0), "score": numbers(&[t, t], 4.0),
            "weight_norm": numbers(&[t], 2.0)})
    };
    let contrast = |paired: bool| {
        let mut c = json!({"n": counts(&[t, 2], 3), "mean": numbers(&[t, 2], 1.0), "diff": numbers(&[t], 2.0),
            "se": numbers(&[t], 3.0), "boot_defined": counts(&[t], 4), "boot_se": numbers(&[t], 4.0),
            "boot_ci": (0..t).map(|i| json!([0.1 * i as f64, 0.1 * i as f64 + 0.4])).collect::<Vec<_>>(),
            "window": {"steps": (0..t).collect::<Vec<_>>(), "diff": 0.25, "se": 0.125, "replicates": [0.25, null, 0.5],
                "boot_se": 0.0625, "boot_ci": [0.125, 0.375]}});
        let extra: &[&str] = if paired { &["image_diff", "image_se", "dz"] } else { &["df", "g"] };
        for (i, key) in extra.iter().enumerate() {
            c[key] = numbers(&[t], 5.0 + i as f64);
        }
        if paired {
            c["image_n"] = counts(&[t], 5);
        }
        c
    };
    // An area that never changes, and one in two forms that exists from the second step on, where there is one.
    let area = |name: &str, form: &str, first: usize, t: usize| {
        let similar = || {
            json!({"pearson": numbers(&[t, t], 1.5), "spearman": numbers(&[t, t], 2.5), "cosine": numbers(&[t, t], 3.5),
                "tau_a": numbers(&[t, t], 4.5)})
        };
        let decoder =
            || json!({"correct": counts(&[t, t], 2), "unsafe": counts(&[t, t], 0), "score": numbers(&[t, t], 4.0)});
        let projected = form == "projection";
        json!({"name": name, "form": form, "features": 12, "timesteps": (first..first + t).collect::<Vec<_>>(),
            "projected_from": projected.then_some(1000), "seed": projected.then_some(0), "constant": name == "retina",
            "rdm_time": {"euclidean": similar(), "correlation": similar(), "cosine": similar()},
            "cka": {"biased": numbers(&[t, t], 1.0), "debiased": numbers(&[t, t], 2.0)},
            "decoder": {"n_test": 40, "ridge": decoder(), "class_mean": decoder()},
            "pca": {"explained": numbers(&[10], 1.0), "participation": 2.5, "participation_t": numbers(&[t], 3.0)},
            "chance": 0.125, "by_chance": 11, "label_from": if projected { json!(first + t - 1) } else { Value::Null }})
    };
    let late = usize::from(t > 1);
    json!({
        "areas": [area("retina", "pixel average", 0, 1), area("v2", "pixel average", late, t - late),
            area("v2", "projection", late, t - late)],
        "timesteps": t, "samples": n, "classes": k, "features": 6,
        "margin": margin, "label_margin": set(&five, 2.0), "relative_margin": set(&five, 3.0),
        "entropy": set(&five[..3], 4.0), "confidence": set(&five[..3], 5.0),
        "calibration": {"count": counts(&[t, 15], 1), "confidence": numbers(&[t, 15], 1.0),
            "accuracy": numbers(&[t, 15], 2.0), "ece": numbers(&[t], 3.0)},
        "reaction": {"mean": numbers(&[3], 1.0), "accuracy": numbers(&[3], 2.0), "reached": counts(&[3], 2),
            "histogram": counts(&[3, t], 3), "mean_correct": numbers(&[3], 3.0), "mean_incorrect": numbers(&[3], 4.0),
            "image": vec![0; n]},
        "solution": {"image": (0..n).map(|i| if i == 1 { -1 } else { 0 }).collect::<Vec<_>>(),
            "histogram": counts(&[t], 4), "unsolved": 1, "mean": 1.25},
        "visits": {"transitions": counts(&[k, k], 1), "occupancy": counts(&[t, k], 2), "switches": counts(&[t], 3),
            "zones": counts(&[t], 4),
            "dwell": {"histogram": counts(&[t], 5), "mean": 2.5, "mean_complete": 1.5, "mean_label": 3.0, "mean_other": 2.0},
            "label_zone": {"started": 3, "entered": counts(&[steps], 6), "left": counts(&[steps], 7), "visited": 4,
                "left_ever": 2, "lost": 1, "regained": 1}},
        "path": {"all": path(0.0), "stable_correct": path(1.0), "stable_incorrect": path(2.0),
            "unstable_correct": path(3.0), "unstable_incorrect": path(4.0)},
        "rdm": rdm(p.rdm_images.len()), "class_rdm": rdm(p.shown_classes.len()),
        "rdm_time": similar(1.0), "rdm_init": similar(2.0),
        "cka": {"biased": numbers(&[t, t], 1.0), "debiased": numbers(&[t, t], 2.0), "biased_init": numbers(&[t, t], 3.0),
            "debiased_init": numbers(&[t, t], 4.0)},
        "decoder": {"n_test": 40, "ridge": decoder(), "class_mean": decoder()},
        "pca": {"eigenvalues": numbers(&[6], 1.0), "explained": numbers(&[6], 2.0), "components": numbers(&[3, 6], 3.0),
            "class_mean": numbers(&[p.shown_classes.len(), t, 3], 4.0), "participation": 3.5,
            "participation_t": numbers(&[t], 5.0)},
        "consistency": {"same_class": counts(&[t, t], 1), "kappa": numbers(&[t, t], 1.0),
            "error_consistency": numbers(&[t, t], 2.0), "same_class_init": counts(&[t, t], 2),
            "kappa_init": numbers(&[t, t], 3.0), "error_consistency_init": numbers(&[t, t], 4.0)},
        "contrasts": {"norm": contrast(false), "cos_current": contrast(false), "margin": contrast(false),
            "cos_final": contrast(true)},
        "accuracy": {"mean": numbers(&[t], 1.0), "se": numbers(&[t], 2.0), "boot_se": numbers(&[t], 3.0),
            "boot_ci": (0..t).map(|_| json!([0.25, 0.5])).collect::<Vec<_>>()},
    })
}

/// A report of T timesteps and K classes with all dynamics.
fn report(t: usize, k: usize, meta: Meta) -> Report {
    let s = statistics(t, k);
    let n = s["samples"].as_u64().unwrap() as usize;
    let p = parameters(n, k, 8);
    Report::new(meta, None, &s).unwrap().with_dynamics(&dynamics(t, n, k, &p), &p).unwrap()
}

/// A CSV file as a header and rows, read back by the crate that pandas' format is checked against.
fn read_csv(text: &str) -> (Vec<String>, Vec<Vec<String>>) {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let head = reader.headers().unwrap().iter().map(String::from).collect();
    let rows = reader.records().map(|row| row.unwrap().iter().map(String::from).collect());
    (head, rows.collect())
}

const FIGURES: [&str; 29] = [
    "accuracy",
    "stability",
    "change",
    "norm",
    "cosine_current",
    "cosine_final",
    "contrasts",
    "margins",
    "certainty",
    "calibration",
    "reaction",
    "solution",
    "transitions",
    "occupancy",
    "visits",
    "label_zone",
    "path",
    "rdm",
    "class_rdm",
    "rdm_time",
    "cka",
    "pca",
    "participation",
    "decoders",
    "consistency",
    "areas_decoding",
    "areas_participation",
    "areas_similarity",
    "readout",
];

/// One section for each figure, in the order of the contents; those of areas only where areas were measured.
fn assert_all_figures(page: &str, with_areas: bool) {
    let mut at = 0;
    for name in FIGURES {
        if !with_areas && name.starts_with("areas_") {
            assert!(!page.contains(&format!("<section id=\"{name}\">")), "{name}, of no areas");
            continue;
        }
        let place = page.find(&format!("<section id=\"{name}\">")).unwrap_or_else(|| panic!("no figure {name}"));
        assert!(place > at, "{name} stands in its order");
        assert!(page.contains(&format!("<a href=\"#{name}\">")), "{name} is in the contents");
        at = place;
    }
}

#[test]
fn every_size_renders() {
    for (t, k) in [(1, 1), (1, 3), (2, 2), (3, 1), (5, 16), (10, 17), (14, 3)] {
        println!("T {t}, K {k}");
        let page = check(&report(t, k, meta()));
        assert_all_figures(&page, true);
        assert_eq!(page.matches("type=\"radio\" name=\"calibration\"").count(), t.min(12), "switched by timestep");
        let checked = page.matches(" checked><label").count();
        assert_eq!(checked, 5, "each of the five switches shows one of its panes first");
    }
}

#[test]
#[ignore = "reads the golden files of ../shared: scripts/test.sh runs it where they are"]
fn golden_files_of_dynamics_render() {
    let mut seen = 0;
    let mut paths: Vec<_> =
        std::fs::read_dir(golden_folder("golden-dynamics")).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|e| e == "json")) {
        println!("{}", path.display());
        let golden = Golden::open(path).unwrap();
        let s = exact::statistics(&golden.trained, &golden.untrained, Silent::LeftOut).unwrap();
        let report = Report::new(meta(), None, &s).unwrap();
        let report = report.with_dynamics(&golden.expected, &golden.parameters).unwrap();
        assert_all_figures(&check(&report), false);
        // Written for eyes, too: target/tmp/report/CASE/report.html.
        let k = golden.trained.classes;
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let mut dressed = report.with_examples(examples(&golden)).unwrap();
        dressed.meta.classes = if name.ends_with("_walk") { hostile(k) } else { objects(k) };
        let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("report").join(&name);
        write(&dressed, &folder).unwrap();
        seen += 1;
    }
    assert_eq!(seen, 15, "golden dynamics");
}

/// Names such as data sets have.
fn objects(k: usize) -> Vec<String> {
    let names = ["teapot", "fire engine", "zebra", "hot-air balloon", "toothbrush", "lighthouse", "pineapple"];
    (0..k).map(|i| names.get(i).map_or_else(|| format!("object {i}"), |name| name.to_string())).collect()
}

/// Made-up pictures of the images that trajectories choose.
fn examples(golden: &Golden) -> Vec<Example> {
    let x = &golden.trained;
    let best = |row: &[f64]| (0..row.len()).rev().max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap();
    let classes: Vec<Vec<usize>> =
        (0..x.timesteps).map(|t| (0..x.samples).map(|i| best(x.output(t, i))).collect()).collect();
    // Not the margin, which is not stored here: by how much the label's output leads or lags.
    let lead = |t: usize, i: usize| {
        let (row, y) = (x.output(t, i), x.labels[i]);
        row[y] - (0..row.len()).filter(|k| *k != y).map(|k| row[k]).fold(f64::NEG_INFINITY, f64::max)
    };
    let margins: Vec<Vec<f64>> = (0..x.timesteps).map(|t| (0..x.samples).map(|i| lead(t, i)).collect()).collect();
    let picture = |i: usize| {
        let pixel = |x: u32, y: u32| image::Rgb([8 * x as u8, 8 * y as u8, (37 * i % 256) as u8]);
        let mut file = std::io::Cursor::new(Vec::new());
        image::RgbImage::from_fn(32, 32, pixel).write_to(&mut file, image::ImageFormat::Png).unwrap();
        Example::picture_of(&file.into_inner())
    };
    let chosen = choose(&classes, &x.labels, &margins, 4).unwrap();
    let example = |(kind, i): (Kind, usize)| Example {
        kind,
        image: i,
        label: x.labels[i],
        classes: classes.iter().map(|row| row[i]).collect(),
        label_margin: margins.iter().map(|row| Some(row[i]).filter(|v| v.is_finite())).collect(),
        picture: picture(i),
    };
    chosen.into_iter().map(example).collect()
}

#[test]
fn everything_undefined_is_shown_as_such() {
    let mut r = report(4, 3, meta());
    // Every number that may be undefined is; counts, which always exist, stay.
    fn clear(value: &mut Value) {
        match value {
            Value::Array(values) => values.iter_mut().for_each(clear),
            Value::Object(members) => {
                let keep = ["window", "timesteps", "samples", "classes"];
                members.iter_mut().filter(|(key, _)| !keep.contains(&key.as_str())).for_each(|(_, v)| clear(v));
            }
            Value::Number(number) if number.is_f64() => *value = Value::Null,
            _ => {}
        }
    }
    clear(r.dynamics.as_mut().unwrap());
    let page = check(&r);
    assert_all_figures(&page, true);
    assert!(page.matches(">undefined</text>").count() > 10, "panels say that they have nothing");
    assert!(page.contains(": undefined</title>") && page.contains("undef."), "cells are crossed out and explained");
    let tables: BTreeMap<_, _> = r.tables().unwrap().into_iter().collect();
    let (head, rows) = read_csv(&tables["cka"]);
    assert_eq!(head, ["estimate", "second_network", "timestep", "second_timestep", "cka"]);
    assert_eq!((rows.len(), rows[0][4].as_str()), (4 * 16, ""), "undefined is an empty cell");
}

#[test]
fn reports_without_dynamics_and_with_some_of_them() {
    let without = Report::new(meta(), None, &statistics(4, 3)).unwrap();
    let page = check(&without);
    assert!(page.contains("the dynamics were not measured") && !page.contains("<section id=\"margins\">"));

    let mut some = report(4, 3, meta());
    let members = some.dynamics.as_mut().unwrap().as_object_mut().unwrap();
    members.remove("pca");
    members.remove("rdm_init");
    members["cka"].as_object_mut().unwrap().remove("debiased_init");
    members["cka"].as_object_mut().unwrap().remove("biased_init");
    let page = check(&some);
    assert!(page.contains("Not measured here: principal components."), "what is missing is named");
    assert!(!page.contains("<section id=\"pca\">") && page.contains("<section id=\"cka\">"));
}

#[test]
fn numbers_are_on_the_page_and_in_the_tables() {
    let mut r = report(3, 3, meta());
    let d = r.dynamics.as_mut().unwrap();
    d["label_margin"]["all"] = json!([-0.5, 0.125, 0.75]);
    d["cka"]["debiased"][0][2] = json!(0.4375);
    d["visits"]["transitions"] = json!([[9, 4, 0], [1, 9, 17], [0, 2, 9]]);
    let page = check(&r);
    assert!(page.contains("all images, t = 1: 0.1250</title>"), "the value of a point");
    assert!(page.contains("t = 0, t = 2: 0.4375</title>"), "the value of a cell");
    assert!(page.contains("there are 24 switches in all") && page.contains("from class 1 to class 2 (17 times)"));
    assert!(page.contains("rises from \u{2212}0.5000 at the first timestep to 0.7500 at the last"));
    let tables: BTreeMap<_, _> = r.tables().unwrap().into_iter().collect();
    let (head, rows) = read_csv(&tables["margins"]);
    let column = head.iter().position(|h| h == "label_margin_distance").unwrap();
    let all: Vec<&str> = rows.iter().filter(|row| row[0] == "all").map(|row| row[column].as_str()).collect();
    assert_eq!(all, ["-0.5", "0.125", "0.75"]);
    let (_, rows) = read_csv(&tables["transitions"]);
    assert!(rows.contains(&["1", "2", "class 1", "class 2", "17"].map(String::from).to_vec()));
    // Every file that a caption names exists.
    let names: Vec<&String> = tables.keys().collect();
    for named in page.split("<code>tables/").skip(1) {
        let name = named.split(".csv</code>").next().unwrap();
        assert!(names.iter().any(|n| *n == name), "the page names tables/{name}.csv");
    }
}

/// Representations in fewer dimensions than components are looked for, as of a network most of whose features are silent.
#[test]
fn components_that_there_are_not() {
    let mut r = report(3, 3, meta());
    let pca = &mut r.dynamics.as_mut().unwrap()["pca"];
    pca["components"][2] = Value::Null;
    for step in pca["class_mean"].as_array_mut().unwrap().iter_mut().flat_map(|class| class.as_array_mut().unwrap()) {
        step[2] = Value::Null;
    }
    check(&r);
    let tables: BTreeMap<_, _> = r.tables().unwrap().into_iter().collect();
    let (_, rows) = read_csv(&tables["pca_components"]);
    assert_eq!((rows.len(), rows.iter().filter(|row| row[0] == "3").count()), (12, 0));
}

/// Class names that break what does not escape.
fn hostile(k: usize) -> Vec<String> {
    let begin = [
        "<img src=x onerror=alert(1)>".to_string(),
        "quotes \" and ' and `, comma; semicolon\nnew line\ttab\r\nreturn".into(),
        "x".repeat(200),
        "\u{1f98a} fox \u{202e}backwards \u{0}nul".into(),
        "=1+1 ../../etc/passwd </title></svg></script> {{ x }} var(--ink) \"var(--ink)\"".into(),
        String::new(),
    ];
    (0..k).map(|i| begin.get(i).cloned().unwrap_or_else(|| format!("{}{i}", begin[i % 5]))).collect()
}

#[test]
fn hostile_class_names_do_no_harm() {
    for k in [6, 300] {
        println!("{k} classes");
        let names = hostile(k);
        let r = report(3, k, Meta { classes: names.clone(), name: Some(names[0].clone()), ..meta() });
        let page = check(&r);
        // For eyes and browsers, too.
        let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("report/hostile_{k}"));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("report.html"), &page).unwrap();
        assert!(!page.contains("<img src=x") && page.len() < 3_000_000, "{} bytes", page.len());
        for (name, text) in r.tables().unwrap() {
            let (head, rows) = read_csv(&text);
            assert!(rows.iter().all(|row| row.len() == head.len()), "{name}");
        }
        let tables: BTreeMap<_, _> = r.tables().unwrap().into_iter().collect();
        let (_, rows) = read_csv(&tables["classes"]);
        assert_eq!(rows.iter().map(|row| row[1].clone()).collect::<Vec<_>>(), names, "names come back as they were");
    }
}

#[test]
fn large_reports_stay_small() {
    // As many cells as are drawn one by one, and so many that they become pictures.
    for (k, images) in [(16, 16), (100, 110)] {
        let s = statistics(10, k);
        let n = s["samples"].as_u64().unwrap() as usize;
        let p = parameters(n, k, images);
        let r = Report::new(meta(), None, &s).unwrap().with_dynamics(&dynamics(10, n, k, &p), &p).unwrap();
        let page = check(&r);
        assert!(page.len() < 3_000_000, "{k} classes: {} bytes", page.len());
    }
}

fn example(kind: Kind, image: usize) -> Example {
    let png = b"\x89PNG\r\n\x1a\nmade up";
    Example {
        kind,
        image,
        label: 1,
        classes: vec![0, 2, 1],
        label_margin: vec![Some(-0.5), None, Some(0.25)],
        picture: Example::picture_of(png),
    }
}

#[test]
fn pictures_are_shown_with_their_trajectories() {
    let examples = Kind::ALL.into_iter().enumerate().map(|(i, kind)| example(kind, i)).collect();
    let r = report(3, 3, meta()).with_examples(examples).unwrap();
    let page = check(&r);
    for text in ["Corrected late", "Lost again", "Never found", "Closest to the boundary"] {
        assert!(page.contains(&format!("<h3>{text}</h3>")), "{text}");
    }
    assert!(
        page.contains("alt=\"Image 2, label class 1\"") && page.contains("src=\"data:image/png;base64,iVBORw0KGgpt")
    );
    assert!(page.contains("<td class=\"right\">&#10003;&nbsp;class 1</td><td>0.2500</td>"));
    assert_eq!(Report::default().examples, [], "older reports have none");
    let read: Report = serde_json::from_str(&r.json().unwrap()).unwrap();
    assert_eq!(read.examples, r.examples);

    let refused = |change: &dyn Fn(&mut Example), expected: &str| {
        let mut e = example(Kind::LostAgain, 7);
        change(&mut e);
        let error = report(3, 3, meta()).with_examples(vec![e]).unwrap_err().to_string();
        assert!(error.contains("example of image 7") && error.contains(expected), "{error}");
    };
    refused(&|e| e.classes.truncate(2), "classes: expected 3 entries (timesteps), found 2");
    refused(&|e| e.label = 3, "class: expected a number below 3, found 3");
    refused(&|e| e.picture = "https://example.org/x.png".into(), "picture: expected data:image/png;base64,");
    refused(&|e| e.picture = "data:image/png;base64,AA\" onerror=\"x".into(), "picture");
}

#[test]
fn malformed_dynamics_name_the_key() {
    let fails = |change: &dyn Fn(&mut Value), expected: &str| {
        let (t, k) = (4, 3);
        let s = statistics(t, k);
        let n = s["samples"].as_u64().unwrap() as usize;
        let p = parameters(n, k, 8);
        let mut d = dynamics(t, n, k, &p);
        change(&mut d);
        let error = Report::new(meta(), None, &s).unwrap().with_dynamics(&d, &p).unwrap_err().to_string();
        assert!(error.contains(expected), "{error:?} names {expected:?}");
    };
    fails(&|d| d["timesteps"] = json!(0), "dynamics: timesteps: expected at least 1, found 0");
    fails(&|d| d["timesteps"] = json!(5), "expected 5 entries, found 4");
    fails(&|d| d["samples"] = json!(9), "dynamics: reaction.image: expected 9 entries");
    fails(&|d| d["margin"]["now"] = json!([1.0]), "dynamics: margin.now: expected 4 entries, found 1");
    fails(&|d| d["cka"]["debiased"][1] = json!([1.0]), "dynamics: cka.debiased: expected 4 columns, found 1");
    fails(&|d| d["rdm"]["cosine"][0] = json!([1.0]), "dynamics: rdm.cosine: expected 28 columns, found 1");
    fails(&|d| d["visits"]["transitions"] = json!([]), "dynamics: visits.transitions: expected 3 rows, found 0");
    fails(&|d| d["pca"]["class_mean"] = json!([]), "dynamics: pca.class_mean");
    fails(&|d| d["solution"]["histogram"] = json!(["x"]), "dynamics: solution");
    fails(&|d| d["contrasts"]["norm"]["window"]["steps"] = json!([4]), "contrasts.norm.window.steps");
    fails(&|d| d["decoder"]["ridge"]["correct"] = json!([[1]]), "dynamics: decoder.ridge.correct");

    let s = statistics(4, 3);
    let n = s["samples"].as_u64().unwrap() as usize;
    let p = Parameters { shown_classes: vec![3], ..parameters(n, 3, 8) };
    let error = Report::new(meta(), None, &s).unwrap().with_dynamics(&dynamics(4, n, 3, &p), &p).unwrap_err();
    assert!(error.to_string().contains("parameters.shown_classes: expected classes below 3, found 3"), "{error}");
}

#[test]
fn the_folder_holds_everything_and_nothing_of_before() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let mut r = report(3, 3, Meta { command: Some("recurve analyse a --out <b>".into()), ..meta() });
    let n = r.statistics["samples"].as_u64().unwrap() as usize;
    r.statistics["group"] = json!((0..n).map(|i| i as i64 % 5 - 1).collect::<Vec<_>>());
    r.statistics["t_stable"] = json!(vec![-1; n]);
    let images = Images {
        ids: (0..n).map(|i| format!("folder/{i}, \"x\".png")).collect(),
        labels: vec![1; n],
        classes: vec![vec![2; n]; 3],
        margin: vec![vec![0.25; n], vec![f64::NAN; n], vec![0.5; n]],
        ..Images::default()
    };
    let r = r.with_images(images).unwrap();
    std::fs::create_dir_all(dir.join("figures")).unwrap();
    std::fs::write(dir.join("figures/calibration_t9.svg"), "of an earlier report").unwrap();
    let users = [
        "figures/notes.md",
        "figures/photo.png",
        "figures/fig1.svg",
        "tables/subjects.csv",
        "rdms/fmri.npy",
        "mine.csv",
    ];
    for name in users {
        std::fs::create_dir_all(dir.join(name).parent().unwrap()).unwrap();
        std::fs::write(dir.join(name), "of the user").unwrap();
    }
    // Whatever the list of an earlier report says, nothing but what reports write is removed.
    let list = dir.join("report.html.files");
    let listed = std::fs::read_to_string(&list).unwrap_or_default();
    let folder = dir.join("figures/folder");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("a.svg"), "of the user").unwrap();
    std::fs::write(&list, listed + "figures/calibration_t9.svg\nfigures/folder/a.svg\n../mine.csv\n").unwrap();
    let page = write(&r, dir).unwrap();
    assert_self_contained(&std::fs::read_to_string(&page).unwrap());
    assert!(!dir.join("figures/calibration_t9.svg").exists() && folder.join("a.svg").exists());
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(users.iter().all(|name| dir.join(name).exists()));
    let listed = std::fs::read_to_string(&list).unwrap();
    assert!(listed.lines().all(|name| dir.join(name).is_file() && !users.contains(&name)), "{listed}");

    for (name, svg) in r.figures().unwrap() {
        assert_eq!(std::fs::read_to_string(dir.join(format!("figures/{name}.svg"))).unwrap(), svg);
        let picture = image::open(dir.join(format!("figures/{name}.png"))).unwrap().to_rgb8();
        let dark = picture.pixels().filter(|p| p.0.iter().all(|&v| v < 100)).count();
        assert!(dark > 200, "{name}.png has text: {dark} dark pixels");
    }
    for (name, text) in r.tables().unwrap() {
        assert_eq!(std::fs::read_to_string(dir.join(format!("tables/{name}.csv"))).unwrap(), text);
    }
    let (head, rows) = read_csv(&std::fs::read_to_string(dir.join("tables/images.csv")).unwrap());
    let expected = [
        "image",
        "id",
        "label",
        "label_name",
        "group",
        "t_stable_timestep",
        "reaction_time_timestep",
        "solution_time_timestep",
        "class_t0",
        "class_t1",
        "class_t2",
        "margin_t0",
        "margin_t1",
        "margin_t2",
    ];
    assert_eq!(head, expected);
    let row =
        ["1", "folder/1, \"x\".png", "1", "class 1", "stable-correct", "", "0", "", "2", "2", "2", "0.25", "", "0.5"];
    assert_eq!((rows.len(), rows[1].clone()), (n, row.map(String::from).to_vec()));

    let bytes = std::fs::read(dir.join("rdms/rdm_cosine.npy")).unwrap();
    let npy = npyz::NpyFile::new(&bytes[..]).unwrap();
    assert_eq!(npy.shape(), [3, 28]);
    let stored: Vec<f64> = npy.into_vec().unwrap();
    let expected = r.dynamics.as_ref().unwrap()["rdm"]["cosine"].as_array().unwrap().iter();
    let expected: Vec<f64> = expected.flat_map(|row| row.as_array().unwrap()).map(|v| v.as_f64().unwrap()).collect();
    assert_eq!(stored, expected);

    // The same report gives the same bytes, whatever was there before.
    let read = |dir: &std::path::Path| -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        for folder in ["figures", "tables", "rdms"] {
            for entry in std::fs::read_dir(dir.join(folder)).unwrap() {
                let path = entry.unwrap().path();
                files
                    .insert(format!("{folder}/{}", path.file_name().unwrap().display()), std::fs::read(&path).unwrap());
            }
        }
        files
    };
    let before = read(dir);
    write(&r, dir).unwrap();
    assert!(read(dir) == before, "written twice, the same bytes");
}

#[test]
fn images_that_do_not_fit_are_refused() {
    let images = Images { classes: vec![vec![0; 2]; 3], ..Images::default() };
    let error = report(3, 3, meta()).with_images(images).unwrap_err().to_string();
    assert!(error.contains("images: classes: expected") && error.contains("found 2"), "{error}");
}

/// What others have put into a folder stays: a report is refused rather than written over it.
#[test]
fn files_of_others_are_not_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, r) = (folder.path(), report(3, 4, meta()));
    std::fs::write(dir.join("report.json"), "of the user").unwrap();
    let refused = write(&r, dir).unwrap_err().to_string();
    assert!(refused.contains("report.json") && refused.contains("--out"), "{refused}");
    assert_eq!(std::fs::read_to_string(dir.join("report.json")).unwrap(), "of the user");
    assert!(!dir.join("figures").exists() && !dir.join("report.html").exists());
    std::fs::remove_file(dir.join("report.json")).unwrap();
    write(&r, dir).unwrap();
    write(&r, dir).unwrap(); // its own files may be

    std::fs::rename(dir.join("report.html"), dir.join("compare.html")).unwrap();
    assert!(write(&r, dir).unwrap_err().to_string().contains("compare.html"));
    let run = tempfile::tempdir().unwrap();
    std::fs::create_dir(run.path().join("checkpoints")).unwrap();
    std::fs::write(run.path().join("config.toml"), "").unwrap();
    assert!(write(&r, run.path()).unwrap_err().to_string().contains("a run"));
    let file = run.path().join("config.toml");
    assert!(write(&r, &file).unwrap_err().to_string().contains("config.toml"));
}
