//! `recurve compare` as a user runs it: what it finds against the reports of the single runs and plain loops, and what it refuses.

use assert_cmd::Command;
use serde_json::Value;
use std::path::Path;
use std::sync::LazyLock;
use tempfile::TempDir;

const DATA: &str = "glyphs:train=240,val=6,test=90,difficulty=0";
/// The name of a run's folder that is markup, a word of the shell and no address.
const HOSTILE: &str = "<img src=x onerror=alert(1)> & \"q\" #1%";

fn recurve(arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("recurve").unwrap();
    command.args(arguments);
    command
}

fn train(folder: &Path, name: &str, topdown: bool, interaction: &str, seed: &str) {
    let lateral = !topdown;
    let text = format!(
        "[network]\nimage_size = 16\nstem_channels = 8\narea_channels = [8, 8, 16, 32]\ntimesteps = 3\nlateral = {lateral}\n\
         topdown = {topdown}\ninteraction = \"{interaction}\"\n[training]\nbatch = 12\nsteps = 80\nlearning_rate = 0.004\n"
    );
    let file = folder.join("network.toml");
    std::fs::write(&file, text).unwrap();
    let mut command = recurve(&["train", "--data", DATA, "--no-tune", "--seed", seed, "--config"]);
    command.arg(file).arg("--out").arg(folder.join(name)).assert().success();
}

/// Runs: twice L additive, in folders of one name, and T multiplicative.
static TRAINED: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a", "b"] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
    }
    train(folder.path(), "a/net", false, "additive", "1");
    train(folder.path(), "b/net", false, "additive", "2");
    train(folder.path(), HOSTILE, true, "multiplicative", "1");
    folder
});

fn compare(runs: &[&Path], out: &Path, more: &[&str]) -> Command {
    let mut command = recurve(&["compare"]);
    command.args(runs).arg("--out").arg(out).args(more);
    command
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn refused(mut command: Command, words: &[&str]) {
    let output = command.assert().code(1).get_output().clone();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.stdout.is_empty() && !error.contains("panicked"), "{error}");
    for word in words {
        assert!(error.contains(word), "`{word}` is missing in: {error}");
    }
}

/// A copy of a run folder.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
}

fn near(found: &Value, expected: f64, what: &str) {
    let found = found.as_f64().unwrap_or(f64::NAN);
    assert!((found - expected).abs() <= 1e-9 * (1.0 + expected.abs()), "{what}: {found}, expected {expected}");
}

/// \[T\]\[N\] Whether each image is classified correctly, from a report's table.
fn correct(report: &Path) -> Vec<Vec<bool>> {
    let mut reader = csv::Reader::from_path(report.join("tables/images.csv")).unwrap();
    let head = reader.headers().unwrap().clone();
    let column = |name: &str| head.iter().position(|h| h == name).unwrap();
    let label = column("label");
    let steps: Vec<usize> = (0..3).map(|t| column(&format!("class_t{t}"))).collect();
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    steps.iter().map(|&t| rows.iter().map(|row| row[t] == row[label]).collect()).collect()
}

/// Cohen's kappa of two lists of outcomes; none where chance agreement is 1.
fn kappa(a: &[bool], b: &[bool]) -> Option<f64> {
    let n = a.len() as f64;
    let share = |of: &[bool]| of.iter().filter(|x| **x).count() as f64 / n;
    let observed = a.iter().zip(b).filter(|(a, b)| a == b).count() as f64 / n;
    let chance = share(a) * share(b) + (1.0 - share(a)) * (1.0 - share(b));
    (chance < 1.0).then(|| (observed - chance) / (1.0 - chance))
}

#[test]
fn three_runs_of_two_networks() {
    let folder = TRAINED.path();
    let out = tempfile::tempdir().unwrap();
    let out = out.path().join("out");
    let runs = [folder.join(HOSTILE), folder.join("a/net"), folder.join("b/net")];
    let runs: Vec<&Path> = runs.iter().map(|run| run.as_path()).collect();
    let printed = compare(&runs, &out, &[]).assert().success().get_output().stdout.clone();
    let printed = String::from_utf8(printed).unwrap();
    assert!(printed.contains("L additive, norm") && printed.contains("published"), "{printed}");
    assert_eq!(printed.lines().last(), out.join("compare.html").to_str());

    let found = json(&out.join("compare.json"));
    let contrasts = found["contrasts"].as_array().unwrap();
    let order: Vec<String> = contrasts
        .iter()
        .map(|c| format!("{}: {} {}", c["network"].as_str().unwrap(), c["contrast"].as_str().unwrap(), c["seeds"]))
        .collect();
    let expected = [
        "L additive: norm 2",
        "L additive: cos_current 2",
        "L additive: cos_final 2",
        "T multiplicative: norm 1",
        "T multiplicative: cos_current 1",
        "T multiplicative: cos_final 1",
    ];
    assert_eq!(order, expected);
    assert_eq!(contrasts[0]["published"], serde_json::json!([8.04, 7.45]));
    assert_eq!(contrasts[5]["published"], serde_json::json!([0.017, -0.066]));
    let reports = ["net", "net-2", HOSTILE].map(|name| out.join(name));
    let texts = reports.each_ref().map(|report| json(&report.join("report.json")));
    let mut defined = 0;
    for (i, c) in contrasts.iter().enumerate() {
        let of_network = if i < 3 { &texts[..2] } else { &texts[2..] };
        let (means, key) = [
            ("mean_norm_now_later", "norm"),
            ("mean_cos_current_now_later", "cos_current"),
            ("mean_cos_final_own_other", "cos_final"),
        ][i % 3];
        let pairs: Vec<[f64; 2]> = of_network
            .iter()
            .filter_map(|report| {
                let pair = &report["statistics"][means];
                let difference = report["dynamics"]["contrasts"][key]["window"]["diff"].as_f64();
                difference.and(Some([pair[0].as_f64()?, pair[1].as_f64()?]))
            })
            .collect();
        assert_eq!(c["defined"], pairs.len(), "{c}");
        let verdict = c["verdict"].as_str().unwrap();
        assert!(["holds", "does not hold", "undecided", "undefined"].contains(&verdict), "{c}");
        assert_eq!(verdict == "undefined", c["p"].is_null(), "{c}");
        assert_eq!(verdict == "undefined", c["why"].is_string(), "{c}");
        if pairs.is_empty() {
            assert!(c["difference"].is_null() && verdict == "undefined", "{c}");
            continue;
        }
        defined += 1;
        let mean = |of: usize| pairs.iter().map(|pair| pair[of]).sum::<f64>() / pairs.len() as f64;
        near(&c["first"], mean(0), "first");
        near(&c["second"], mean(1), "second");
        // Means and differences have been summed along two ways, in f32 and in f64.
        let difference = c["difference"].as_f64().unwrap();
        assert!((difference - (mean(0) - mean(1))).abs() < 1e-4 * (1.0 + mean(0).abs()), "{c}");
        if let (Some(low), Some(high)) = (c["low"].as_f64(), c["high"].as_f64()) {
            assert!(low < difference && difference < high, "{c}");
        }
        assert_eq!(c["se_seeds"].is_null(), pairs.len() < 2, "{c}");
    }
    assert!(defined >= 3, "these runs are made so that something can be compared: {contrasts:?}");

    // Agreement, from the tables of the reports.
    let outcomes = reports.each_ref().map(|report| correct(report));
    let within = found["consistency"]["networks"].as_array().unwrap();
    assert_eq!((within.len(), &within[0]["network"]), (1, &Value::from("L additive")));
    assert_eq!(within[0]["pairs"][0]["runs"], serde_json::json!(["net", "net-2"]));
    let last = &found["consistency"]["last"];
    assert_eq!(last["runs"], serde_json::json!(["net", "net-2", HOSTILE]));
    let agree = |found: &Value, a: &[bool], b: &[bool]| match kappa(a, b) {
        Some(kappa) => near(found, kappa, "kappa"),
        None => assert!(found.is_null(), "{found}"),
    };
    for t in 0..3 {
        agree(&within[0]["pairs"][0]["error_consistency"][t], &outcomes[0][t], &outcomes[1][t]);
        for (run, outcomes) in outcomes.iter().enumerate() {
            let share = outcomes[t].iter().filter(|x| **x).count() as f64 / 90.0;
            near(&found["runs"][run]["accuracy"][t], share, "accuracy");
        }
    }
    for i in 0..3 {
        near(&last["spearman"][i][i], 1.0, "a run with itself");
        for j in 0..3 {
            agree(&last["error_consistency"][i][j], &outcomes[i][2], &outcomes[j][2]);
            for measure in ["spearman", "pearson"] {
                assert_eq!(last[measure][i][j], last[measure][j][i]);
                assert!(last[measure][i][j].as_f64().is_some_and(|r| (-1.0..=1.0 + 1e-12).contains(&r)), "{last}");
            }
        }
    }

    // The page: nothing of a name is markup, links lead to the reports, and it says what a single seed leaves open.
    let page = std::fs::read_to_string(out.join("compare.html")).unwrap();
    assert!(!page.contains("<img") && !page.contains("<script") && !page.contains("http://www.w3.org/1999"), "markup");
    assert!(page.contains("href=\"./net-2/report.html\""));
    let link = "./%3Cimg%20src%3Dx%20onerror%3Dalert%281%29%3E%20%26%20%22q%22%20%231%25/report.html";
    assert!(page.contains(&format!("href=\"{link}\"")), "the address of a hostile name");
    assert!(page.contains("Of T multiplicative there is a single run"));
    assert_eq!(page.matches("<figure>").count(), page.matches("<figcaption>").count());
    for name in ["contrasts", "contrast_runs", "runs", "accuracy", "consistency", "consistency_last"] {
        let table = csv::Reader::from_path(out.join(format!("tables/{name}.csv"))).unwrap().records().count();
        assert!(table > 0, "{name}");
    }
    assert!(out.join("figures/contrasts_norm.png").is_file());

    // The same again gives the same bytes, and --json prints them.
    let before = ["compare.html", "compare.json"].map(|name| std::fs::read_to_string(out.join(name)).unwrap());
    let printed = compare(&runs, &out, &["--json"]).assert().success().get_output().stdout.clone();
    let after = ["compare.html", "compare.json"].map(|name| std::fs::read_to_string(out.join(name)).unwrap());
    // They differ in the command that repeats them.
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(*before, after.replace(" --json", ""));
    }
    assert_eq!(serde_json::from_slice::<Value>(&printed).unwrap(), json(&out.join("compare.json")));
}

#[test]
fn one_run_and_a_training_counted_twice() {
    let folder = TRAINED.path();
    let out = tempfile::tempdir().unwrap();
    let run = folder.join("a/net");
    let twin = out.path().join("twin");
    copy(&run, &twin);
    let output = compare(&[&run, &twin], &out.path().join("two"), &[]).assert().success().get_output().clone();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("net and twin (L additive) hold the same checkpoint"), "{said}");
    let page = std::fs::read_to_string(out.path().join("two/compare.html")).unwrap();
    assert!(page.contains("they are one training, counted twice"));

    compare(&[&run], &out.path().join("one"), &["--split", "val"]).assert().success();
    let page = std::fs::read_to_string(out.path().join("one/compare.html")).unwrap();
    assert!(page.contains("nothing is known about other trainings"));
    let found = json(&out.path().join("one/compare.json"));
    assert_eq!((found["meta"]["images"].as_u64(), found["meta"]["split"].as_str()), (Some(6), Some("val")));
    assert_eq!(found["consistency"]["networks"], serde_json::json!([]));
}

#[test]
fn what_cannot_be_compared_is_refused_before_anything_is_measured() {
    let folder = TRAINED.path();
    let place = tempfile::tempdir().unwrap();
    let out = place.path().join("out");
    let [a, b] = ["a/net", "b/net"].map(|name| folder.join(name));
    let refuse = |runs: &[&Path], more: &[&str], words: &[&str]| {
        refused(compare(runs, &out, more), words);
        assert!(!out.exists(), "nothing is written");
    };
    refuse(&[&a, &b, &folder.join("a/../a/net")], &[], &["same run", "name each run once"]);
    refuse(&[&a, folder], &[], &["is not a run folder"]);
    let stored = place.path().join("r1.npz");
    std::fs::write(&stored, "activity").unwrap();
    refuse(&[&a, &stored], &[], &["r1.npz is a file, not a run folder", "config.toml", "recurve analyse"]);
    refuse(&[&a, &b], &["--split", "testmore"], &["testmore", "net"]);

    // A run that names other pictures; --data gives one data set for all.
    let other = place.path().join("other");
    copy(&b, &other);
    let config = std::fs::read_to_string(other.join("config.toml")).unwrap();
    let shown = |data: &str| std::fs::write(other.join("config.toml"), config.replace(DATA, data)).unwrap();
    shown("glyphs:train=240,val=6,test=80,difficulty=0");
    refuse(&[&a, &other], &[], &["not shown the same pictures", "has 80", "90", "--data"]);
    shown("glyphs:train=240,val=6,test=90,difficulty=0,seed=3");
    refuse(&[&a, &other], &[], &["not shown the same pictures", "seed 3", "--data"]);

    refused(compare(&[&a], &folder.join("a"), &[]), &["would be written into the run folder", "choose another folder"]);
    recurve(&["compare", "--out", "x"]).assert().code(2);
    recurve(&["compare"]).arg(&a).assert().code(2);

    compare(&[&a, &other], &out, &["--data", DATA, "--json"]).assert().success();
    assert_eq!(json(&out.join("compare.json"))["contrasts"][0]["seeds"], 2);
}
