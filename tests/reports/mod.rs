//! Made-up statistics, and what holds for every report; shared by the tests of the published figures and of the dynamics.

#![allow(dead_code)] // each test binary uses a part

use recurve::report::{Meta, Report};
use serde_json::{Value, json};

/// Statistics with T timesteps and K classes in which everything is defined that can be.
pub fn statistics(t: usize, k: usize) -> Value {
    let steps = t - 1;
    let table = |height: f64| -> Vec<Vec<f64>> {
        (0..steps).map(|g| (0..steps).map(|s| height / (1.0 + s as f64 + 0.01 * g as f64)).collect()).collect()
    };
    let pairs = |a: f64, b: f64| -> Vec<Value> {
        (0..t).map(|i| json!([a, if i + 1 < t { json!(b) } else { Value::Null }])).collect()
    };
    let distance = |i: usize, j: usize| if i == j { 0.0 } else { 0.3 + 0.4 * ((i * j + i + j) % 7) as f64 / 7.0 };
    let distances: Vec<Vec<f64>> = (0..k).map(|i| (0..k).map(|j| distance(i, j)).collect()).collect();
    // A tree that joins class after class.
    let linkage: Vec<[f64; 4]> = (1..k)
        .map(|i| [if i == 1 { 0.0 } else { (k + i - 2) as f64 }, i as f64, 0.1 * i as f64, (i + 1) as f64])
        .collect();
    let histogram: Vec<u64> = (0..t).map(|g| if g + 1 < t { 40 / (g as u64 + 1) } else { 0 }).collect();
    let correct: u64 = histogram.iter().sum();
    json!({
        "samples": correct + 6, "timesteps": t,
        "accuracy": (0..t).map(|i| 0.25 + 0.5 * i as f64 / t as f64).collect::<Vec<_>>(),
        "accuracy_init": vec![0.125; t], "t_max_accuracy": t - 1, "max_accuracy": 0.25 + 0.5 * (t - 1) as f64 / t as f64,
        "counts": {"stable_correct": correct, "stable_incorrect": 3, "unstable_correct": 2, "unstable_incorrect": 1},
        "t_stable_histogram": histogram, "timesteps_analyse": steps,
        "change_by_t_stable": table(3.0), "change_by_t_stable_init": table(0.5),
        "norm_now_later": pairs(8.5, 7.25), "cos_current_now_later": pairs(0.2125, 0.125),
        "cos_final_own_other": pairs(0.0625, -0.03125),
        "mean_norm_now_later": [8.5, 7.25], "mean_cos_current_now_later": [0.2125, 0.125],
        "mean_cos_final_own_other": [0.0625, -0.03125],
        "readout_distance": distances, "readout_linkage": linkage, "readout_leaves": (0..k).collect::<Vec<_>>(),
        "silent_representations": 0,
    })
}

pub fn meta() -> Meta {
    let network = json!({"lateral": true, "topdown": false, "interaction": "additive", "lt_position": "all"});
    Meta { name: Some("tiny".into()), network, recurve_version: "0.0".into(), ..Meta::default() }
}

/// Panics unless `text` is one well-formed XML element: nested tags, quoted attributes, none twice, known entities.
pub fn assert_well_formed(text: &str) {
    let check_entities = |s: &str| {
        for part in s.split('&').skip(1) {
            let name = part.split(';').next().unwrap_or_default();
            assert!(["amp", "lt", "gt", "quot", "#39"].contains(&name) && part.contains(';'), "entity &{name}");
        }
    };
    assert!(!text.chars().any(|c| c.is_control() && !matches!(c, '\t' | '\n')), "control character");
    let (mut open, mut roots, mut rest) = (Vec::<&str>::new(), 0, text.trim());
    while let Some(at) = rest.find('<') {
        check_entities(&rest[..at]);
        assert!(!open.is_empty() || rest[..at].trim().is_empty(), "text outside the root");
        rest = &rest[at + 1..];
        if let Some(close) = rest.strip_prefix('/') {
            let end = close.find('>').expect("tag is closed");
            assert_eq!(open.pop(), Some(&close[..end]));
            rest = &close[end + 1..];
            continue;
        }
        let name_end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap();
        assert!(name_end > 0, "tag without a name: {:.30}", rest);
        let name = &rest[..name_end];
        rest = &rest[name_end..];
        let mut attributes = Vec::new();
        loop {
            let trimmed = rest.trim_start();
            if let Some(after) = trimmed.strip_prefix("/>") {
                (roots, rest) = (roots + usize::from(open.is_empty()), after);
                break;
            }
            if let Some(after) = trimmed.strip_prefix('>') {
                roots += usize::from(open.is_empty());
                open.push(name);
                rest = after;
                break;
            }
            assert!(trimmed.len() < rest.len(), "space before an attribute of <{name}>");
            let (key, value) = trimmed.split_once("=\"").expect("attribute with quoted value");
            assert!(key.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "attribute {key:?}");
            assert!(!attributes.contains(&key), "attribute {key} twice in <{name}>");
            attributes.push(key);
            let end = value.find('"').expect("closing quote");
            assert!(!value[..end].contains('<'), "< in an attribute");
            check_entities(&value[..end]);
            rest = &value[end + 1..];
        }
    }
    assert!(
        open.is_empty() && roots == 1 && rest.trim().is_empty(),
        "{open:?} left open, {roots} roots, {rest:?} left"
    );
}

/// Every address in the page: a place in the page itself, or a picture that it holds.
pub fn assert_self_contained(page: &str) {
    for outside in ["<script", "url(", "@import", "<link", "<iframe", "<object", "<form"] {
        assert!(!page.contains(outside), "the page contains {outside}");
    }
    // Text has no "<" of its own, so that each begins a tag; outside of quotation marks are the names of attributes.
    for tag in page.split('<').skip(1).filter_map(|rest| rest.split('>').next()) {
        let parts: Vec<&str> = tag.split('"').collect();
        for pair in parts.chunks(2).filter(|pair| pair.len() == 2) {
            let name = pair[0].trim_end_matches('=').rsplit(' ').next().unwrap_or_default();
            let inside = pair[1].starts_with('#') || pair[1].starts_with("data:image/png;base64,");
            assert!(!["src", "href"].contains(&name) || inside, "the page has {name} = {:.60}", pair[1]);
            assert!(!name.starts_with("on"), "the page has {name} = {:.60}", pair[1]);
        }
    }
}

/// Renders and checks what holds for every report. Returns the page.
pub fn check(report: &Report) -> String {
    let page = report.html().unwrap();
    let drawings = report.figures().unwrap();
    for (name, svg) in &drawings {
        assert_well_formed(svg);
        assert!(svg.contains("role=\"img\" aria-label=\"") && svg.contains("<title>"), "{name} has a title");
        let pictures: Vec<&str> = svg.split("base64,").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        let text = pictures.iter().fold(svg.clone(), |text, picture| text.replace(picture, ""));
        for bad in ["NaN", "inf", "=\"var(--"] {
            assert!(!text.contains(bad), "{name} contains {bad}");
        }
        let safe = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        assert!(safe, "{name} is safe as the name of a file");
    }
    assert_eq!(page.matches("<svg ").count(), drawings.len(), "every drawing is in the page");
    assert_eq!(page.matches("<figure>").count(), page.matches("<figcaption>").count(), "every figure has a caption");
    assert_self_contained(&page);
    assert_eq!(page, report.html().unwrap(), "the same report gives the same bytes");
    page
}
