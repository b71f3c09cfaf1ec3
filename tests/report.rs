//! The report: every shape of statistics becomes a page with the right numbers, well-formed figures and the same
//! bytes every time.

mod golden_folder;
mod reports;

use golden_folder::golden_folder;
use recurve::report::{Epoch, Meta, Report, Training, write};
use reports::{assert_well_formed, check, meta, statistics};
use serde_json::{Value, json};

fn report(statistics: &Value) -> Report {
    Report::new(meta(), None, statistics).unwrap()
}

#[test]
fn the_xml_check_refuses_what_is_malformed() {
    assert_well_formed("<a b=\"c &lt;\"><d/>&amp;</a>");
    for bad in
        ["<a>", "<a><b></a></b>", "<a b=c/>", "<a b=\"1\" b=\"2\"/>", "<a>&nbsp;</a>", "<a/><b/>", "<a>1 < 2</a>"]
    {
        assert!(std::panic::catch_unwind(|| assert_well_formed(bad)).is_err(), "{bad}");
    }
}

/// A pair as the page prints it.
fn printed(pair: &Value, decimals: usize) -> String {
    let number = |v: &Value| match v.as_f64() {
        Some(v) => format!("{v:.decimals$}").replace('-', "\u{2212}"),
        None => "undefined".into(),
    };
    if pair[0].is_null() && pair[1].is_null() {
        "undefined".into()
    } else {
        format!("{} / {}", number(&pair[0]), number(&pair[1]))
    }
}

/// The row of the twelve-cell table that starts with `title`.
fn summary_row<'a>(page: &'a str, title: &str) -> &'a str {
    let start = page.find(&format!("<tr><th scope=\"row\">{title}<")).expect(title);
    &page[start..start + page[start..].find("</tr>").unwrap()]
}

/// The numbers of the statistics are on the page, with the verdict that follows from them.
fn check_numbers(page: &str, s: &Value) {
    for (title, key, decimals) in [
        ("L2 norm of the representation", "mean_norm_now_later", 2),
        ("Cosine to the current readout vector", "mean_cos_current_now_later", 3),
        ("Cosine to final classes", "mean_cos_final_own_other", 3),
    ] {
        let row = summary_row(page, title);
        let here = format!("<td class=\"here\">{}</td>", printed(&s[key], decimals));
        assert!(row.contains(&here), "{title}: {here} in {row}");
        let verdict = match (s[key][0].as_f64(), s[key][1].as_f64()) {
            (Some(a), Some(b)) if a > b => ">holds<",
            (Some(_), Some(_)) => ">does not hold<",
            _ => ">undefined<",
        };
        assert!(row.contains(verdict), "{title}: {verdict} in {row}");
    }
    for accuracy in s["accuracy"].as_array().unwrap() {
        let cell = format!("<td>{:.1}\u{a0}%</td>", 100.0 * accuracy.as_f64().unwrap());
        assert!(page.contains(&cell), "{cell}");
    }
    for (group, key) in [("stable-correct", "stable_correct"), ("unstable-incorrect", "unstable_incorrect")] {
        let cell = format!("<th scope=\"row\">{group}</th><td>{}</td>", s["counts"][key]);
        assert!(page.contains(&cell), "{cell}");
    }
}

#[test]
#[ignore = "reads the golden files of ../shared: scripts/test.sh runs it where they are"]
fn golden_files_render_with_their_numbers() {
    let folder = golden_folder("golden");
    let entries = std::fs::read_dir(&folder).unwrap();
    let mut seen = 0;
    for path in entries.map(|e| e.unwrap().path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("analysis_") && name.ends_with(".json") {
            println!("{name}");
            let s: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
            check_numbers(&check(&report(&s)), &s);
            seen += 1;
        }
    }
    assert!(seen > 0, "no analysis_*.json in {}", folder.display());
}

#[test]
fn every_size_renders_with_its_numbers() {
    for (t, k) in [(2, 1), (2, 2), (3, 12), (5, 13), (10, 41), (10, 100), (40, 3)] {
        let s = statistics(t, k);
        check_numbers(&check(&report(&s)), &s);
    }
}

#[test]
fn published_networks_are_matched() {
    let s = statistics(4, 3);
    for (lateral, topdown, interaction, published) in [
        (true, false, "additive", "8.04 / 7.45"),
        (false, true, "additive", "22.99 / 22.43"),
        (true, false, "multiplicative", "24.15 / 23.58"),
        (false, true, "multiplicative", "22.43 / 21.83"),
    ] {
        let mut report = report(&s);
        report.meta.network = json!({"lateral": lateral, "topdown": topdown, "interaction": interaction});
        let page = report.html().unwrap();
        assert!(page.contains(&format!("<td class=\"match\">{published}</td>")), "{published}");
        assert!(!page.contains("so L additive is shown"));
    }
    for network in [json!({"lateral": true, "topdown": true}), json!({"lateral": false, "topdown": false}), Value::Null]
    {
        let mut report = report(&s);
        report.meta.network = network;
        let page = report.html().unwrap();
        assert!(page.contains("so L additive is shown") && !page.contains("<td class=\"match\""));
        assert!(page.contains("8.04 / 7.45 (L additive)"));
    }
}

#[test]
fn a_reversed_contrast_does_not_hold() {
    let mut s = statistics(4, 3);
    s["mean_norm_now_later"] = json!([7.0, 7.00001]);
    let page = check(&report(&s));
    let row = summary_row(&page, "L2 norm of the representation");
    assert!(row.contains("7.00000 / 7.00001") && row.contains(">does not hold<"), "{row}");
    assert!(page.contains("2 of the three contrasts hold here, 1 not"));
}

#[test]
fn undefined_numbers_are_explained() {
    let mut s = statistics(4, 3);
    s["timesteps_analyse"] = Value::Null;
    for key in ["mean_norm_now_later", "mean_cos_current_now_later", "mean_cos_final_own_other"] {
        s[key] = json!([null, null]);
    }
    for key in ["norm_now_later", "cos_current_now_later", "cos_final_own_other"] {
        s[key] = json!([[null, null], [null, null], [null, null], [null, null]]);
    }
    s["t_stable_histogram"] = json!([0, 0, 0, 0]);
    s["counts"]["stable_correct"] = json!(0);
    s["change_by_t_stable"] = json!([[null, null, null], [null, null, null], [null, null, null]]);
    let page = check(&report(&s));
    assert!(page.contains("Undefined: no image is stable-correct"));
    assert!(page.contains("undefined at every timestep"));
}

#[test]
fn without_an_untrained_network() {
    let mut s = statistics(5, 4);
    s["accuracy_init"] = Value::Null;
    s.as_object_mut().unwrap().remove("change_by_t_stable_init");
    let page = check(&report(&s));
    assert!(page.contains("no untrained network was given"));
}

#[test]
fn training_curves_are_drawn_where_given() {
    let epoch = |e: u64| Epoch {
        epoch: e,
        train_loss: (e > 0).then_some(2.0),
        loss: vec![Some(2.5), None, Some(1.375)],
        accuracy: vec![Some(0.2), None, Some(0.4375)],
    };
    for epochs in [0, 1, 30] {
        let training = Training { epochs: (0..epochs).map(epoch).collect() };
        let report = Report::new(meta(), Some(training), &statistics(3, 3)).unwrap();
        let page = check(&report);
        assert_eq!(page.contains("id=\"training\""), epochs > 0);
        assert_eq!(page.contains("<td>1.375</td><td>20.0\u{a0}%</td><td>43.8\u{a0}%</td>"), epochs > 0);
    }
}

/// Laid out by a browser, a figure with its title, caption and numbers is moved to the next page whole.
#[test]
fn figures_are_not_cut_in_print() {
    let page = include_str!("../assets/style.html");
    let (_, print) = page.rsplit_once("@media print").unwrap();
    for rule in ["section section, .figure, figure { break-inside: avoid; }", ".numbers { break-before: avoid;"] {
        assert!(print.contains(rule), "{rule}");
    }
}

#[test]
fn hostile_text_is_escaped() {
    let hostile = "<script>alert('x')</script>&\"\u{0}\u{1b}";
    let mut meta = meta();
    meta.classes = (0..3).map(|i| format!("{i}{hostile}")).collect();
    meta.name = Some(hostile.into());
    meta.dataset = Some(hostile.into());
    meta.configuration = Some(format!("</pre>{hostile}"));
    meta.notes = vec![hostile.into()];
    let page = check(&Report::new(meta, None, &statistics(4, 3)).unwrap());
    assert!(page.contains("&lt;script&gt;") || page.contains("&#60;script&#62;"));
    assert!(!page.contains("</pre><") && page.matches("</pre>").count() == 1);
}

#[test]
fn malformed_statistics_name_the_key() {
    let fails = |change: &dyn Fn(&mut Value), expected: &str| {
        let mut s = statistics(4, 3);
        change(&mut s);
        let error = Report::new(meta(), None, &s).unwrap_err().to_string();
        assert!(error.contains(expected), "{error:?} names {expected:?}");
    };
    fails(&|s| s["accuracy"] = json!([0.5]), "accuracy: expected 4 entries (timesteps), found 1");
    fails(&|s| s["timesteps"] = json!(0), "timesteps: expected at least 1, found 0");
    fails(&|s| s["norm_now_later"] = json!([[1, "x"], [1, 1], [1, 1], [1, 1]]), "norm_now_later[0][1]");
    fails(&|s| s["change_by_t_stable"][1] = json!([1.0]), "change_by_t_stable: expected 3 columns");
    fails(&|s| s["readout_leaves"] = json!([0, 1, 1]), "readout_leaves: expected each of 0..3 once, found 1");
    fails(&|s| s["readout_linkage"][0] = json!([0.0, 9.0, 0.1, 2.0]), "readout_linkage");
    fails(&|s| s["readout_linkage"][0] = json!([0.0, 0.0, 0.1, 2.0]), "readout_linkage");
    fails(&|s| s["readout_distance"] = json!([]), "readout_distance: expected 3 rows, found 0");
    fails(&|s| s["t_max_accuracy"] = json!(4), "t_max_accuracy: expected below 4 (timesteps), found 4");

    let two = Meta { classes: vec!["a".into(), "b".into()], ..meta() };
    let error = Report::new(two, None, &statistics(4, 3)).unwrap_err().to_string();
    assert!(error.contains("2 class names for a readout of 3 classes"), "{error}");
}

#[test]
fn files_are_written_and_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let written = report(&statistics(4, 3));
    let page = write(&written, &dir.path().join("a/b")).unwrap();
    assert_eq!(page, dir.path().join("a/b/report.html"));
    assert_eq!(std::fs::read_to_string(&page).unwrap(), written.html().unwrap());
    for (name, svg) in written.figures().unwrap() {
        let file = page.with_file_name("figures").join(format!("{name}.svg"));
        assert_eq!(std::fs::read_to_string(file).unwrap(), svg);
    }
    let json = std::fs::read_to_string(page.with_file_name("report.json")).unwrap();
    assert!(json.contains("\n    \"t_stable_histogram\": [40,20,13,0],\n"), "{json}");
    let read = Report::read(&page.with_file_name("report.json")).unwrap();
    assert_eq!(read.json().unwrap(), json);
    assert_eq!(read.html().unwrap(), written.html().unwrap());

    std::fs::write(dir.path().join("x.json"), "{\"meta\": {\"images\": -1}}").unwrap();
    let error = Report::read(&dir.path().join("x.json")).unwrap_err().to_string();
    assert!(error.contains("x.json") && error.contains("meta.images"), "{error}");
}
