//! The twins against golden files of an independent implementation (the folders `golden`, `golden-arch` and
//! `golden-faults` of `$RECURVE_SHARED` or `../shared`), and against operations worked out by hand and files of random
//! networks that are made up and read back.

mod golden_folder;
mod made_up;

use std::collections::BTreeMap;
use std::path::PathBuf;

use golden_folder::golden_folder;
use made_up::{Parts, architectures, made_up_goldens};
use recurve::reference::Tensor;
use recurve::reference::conv_transpose2d::ConvTranspose2d;
use recurve::reference::conv2d::Conv2d;
use recurve::reference::golden::{self, Comparison, Golden, NetworkGolden, Op, OpCase, run_twin};
use recurve::reference::network::architecture;
use serde_json::{Value, json};

/// The `.safetensors` files directly in the golden folders.
fn golden_files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    for folder in ["golden", "golden-arch", "golden-faults"].map(golden_folder) {
        let before = files.len();
        files.extend(std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()));
        files.retain(|path: &PathBuf| path.extension().is_some_and(|e| e == "safetensors"));
        assert!(files.len() > before, "{} holds no .safetensors file", folder.display());
    }
    files.sort();
    files
}

/// Network goldens that are made up, written to a file and read back.
fn made_up_networks() -> Vec<(String, NetworkGolden)> {
    let read = |(name, golden): (String, NetworkGolden)| match Parts::of(&golden).read().unwrap() {
        Some(Golden::Network(read)) => (name, *read),
        _ => panic!("{name}: a network"),
    };
    made_up_goldens().into_iter().map(read).collect()
}

fn report(what: &str, comparisons: &[Comparison]) {
    let w = golden::worst(comparisons).expect("at least one tensor is compared");
    println!("{what}: {} tensors, worst {} at {:.3} of the tolerance", comparisons.len(), w.tensor, w.ratio());
    assert!(w.passes(), "{what}: {w:?}");
}

/// Cases of operations worked out by hand.
fn operations() -> Vec<(String, OpCase)> {
    let case = |name: &str, op, inputs: &[(&str, &[usize], &[f32])], expected: &[(&str, &[usize], &[f32])]| {
        let tensors = |list: &[(&str, &[usize], &[f32])]| -> BTreeMap<String, Tensor> {
            let one = |&(name, shape, values): &(&str, &[usize], &[f32])| {
                (name.to_owned(), Tensor { shape: shape.to_vec(), values: values.to_vec() })
            };
            list.iter().map(one).collect()
        };
        let (inputs, expected) = (tensors(inputs), tensors(expected));
        let case = OpCase { name: name.into(), op, data: String::new(), inputs, labels: Vec::new(), expected };
        (format!("by hand: {name}"), case)
    };
    let (row, three, square, one) = ([1, 1, 1, 3], [1, 1, 3, 3], [1, 1, 2, 2], [1, 1, 1, 1]);
    let conv2d = Op::Conv2d(Conv2d { n: 1, c_in: 1, c_out: 1, h: 1, w: 3, k: 3, stride: 1 });
    let transposed = Op::ConvTranspose2d(ConvTranspose2d { n: 1, c_in: 1, c_out: 1, h: 1, w: 1, k: 3, stride: 2 });
    vec![
        case(
            "conv2d",
            conv2d,
            &[
                ("x", &row, &[1.0, 10.0, 100.0]),
                ("w", &three, &[9.0, 9.0, 9.0, 1.0, 2.0, 4.0, 9.0, 9.0, 9.0]),
                ("b", &[1], &[0.5]),
                ("gy", &row, &[1.0, 10.0, 100.0]),
            ],
            &[
                ("y", &row, &[42.5, 421.5, 210.5]),
                ("gx", &row, &[12.0, 124.0, 240.0]),
                ("gw", &three, &[0.0, 0.0, 0.0, 1010.0, 10101.0, 1010.0, 0.0, 0.0, 0.0]),
                ("gb", &[1], &[111.0]),
            ],
        ),
        case(
            "conv_transpose2d",
            transposed,
            &[
                ("x", &one, &[2.0]),
                ("w", &three, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]),
                ("b", &[1], &[0.5]),
                ("gy", &square, &[1.0, 2.0, 3.0, 4.0]),
            ],
            &[
                ("y", &square, &[10.5, 12.5, 16.5, 18.5]),
                ("gx", &one, &[77.0]),
                ("gw", &three, &[0.0, 0.0, 0.0, 0.0, 2.0, 4.0, 0.0, 6.0, 8.0]),
                ("gb", &[1], &[10.0]),
            ],
        ),
        case(
            "relu",
            Op::Relu,
            &[("x", &[3], &[-1.0, 0.0, 2.0]), ("gy", &[3], &[5.0, 6.0, 7.0])],
            &[("y", &[3], &[0.0, 0.0, 2.0]), ("gx", &[3], &[0.0, 0.0, 7.0])],
        ),
    ]
}

#[test]
fn operations_by_hand() {
    check_operations(operations());
}

#[test]
#[ignore = "reads the golden files of ../shared: scripts/test.sh runs it where they are"]
fn golden_files_of_operations() {
    let mut cases = Vec::new();
    for path in golden_files() {
        if let Some(Golden::Ops(op, list)) = golden::read(&path).unwrap() {
            cases.extend(list.into_iter().map(|case| (format!("{op} {} {:?}", case.name, case.op), case)));
        }
    }
    assert!(cases.len() > 10, "only {} cases", cases.len());
    check_operations(cases);
}

fn check_operations(cases: Vec<(String, OpCase)>) {
    for (name, case) in cases {
        let right = run_twin(&case);
        report(&name, &case.compare(&right));
        for tensor in case.expected.keys() {
            let mut results = right.clone();
            spoil(results.get_mut(tensor).unwrap(), &case.allowed_errors(tensor));
            assert_fails(case.compare(&results), tensor);
        }
    }
}

#[test]
fn made_up_networks_agree() {
    check_networks(made_up_networks());
}

#[test]
#[ignore = "reads the golden files of ../shared: scripts/test.sh runs it where they are"]
fn golden_files_of_networks() {
    let mut networks = Vec::new();
    for path in golden_files() {
        if let Some(Golden::Network(golden)) = golden::read(&path).unwrap() {
            networks.push((path.display().to_string(), *golden));
        }
    }
    assert!(networks.len() > 20, "only {} networks", networks.len());
    check_networks(networks);
}

/// One run of each network's twin: right as it is, wrong when any one tensor is a little wrong, or an entry whose gradient
/// is 0 has moved at all.
fn check_networks(networks: Vec<(String, NetworkGolden)>) {
    let mut still = 0;
    for (name, golden) in networks {
        let right = golden.run_twin().unwrap();
        report(&name, &golden.compare(&right));
        for tensor in golden.expected.keys() {
            let mut results = right.clone();
            spoil(results.get_mut(tensor).unwrap(), &golden.allowed_errors(tensor));
            assert_fails(golden.compare(&results), tensor);
            results.remove(tensor);
            assert_fails(golden.compare(&results), tensor);
        }
        for (parameter, start) in golden.params.iter().filter(|_| golden.protocol.is_none()) {
            let gradient = golden.expected.get(&format!("grad/{parameter}"));
            let after = format!("adam3/{parameter}");
            let unmoved = |i: &usize| {
                gradient.is_none_or(|g| g.values[*i] == 0.0) && golden.expected[&after].values[*i] == start.values[*i]
            };
            let Some(i) = (0..start.values.len()).find(unmoved) else { continue };
            still += 1;
            let mut results = right.clone();
            let value = &mut results.get_mut(&after).unwrap()[i];
            *value = f32::from_bits(value.to_bits() + 1);
            assert_fails(golden.compare(&results), &after);
        }
    }
    assert!(still > 4, "only {still} parameters have an entry without a gradient");
}

/// Moves the element with the strictest tolerance by 3 thousandths of the tensor's scale; where all are loose (Adam's steps
/// of made-up networks) by 3 times that.
fn spoil(values: &mut [f32], allowed: &[f64]) {
    let scale = values.iter().fold(1f32, |scale, value| scale.max(value.abs()));
    let strictest = (0..values.len()).min_by(|&a, &b| allowed[a].total_cmp(&allowed[b])).unwrap();
    values[strictest] += if allowed[strictest] == 6e-3 { 0.009 } else { 0.003 } * scale;
}

/// Asserts that exactly the tensor `name` fails.
fn assert_fails(comparisons: Vec<Comparison>, name: &str) {
    let failed: Vec<_> = comparisons.into_iter().filter(|c| !c.passes()).collect();
    assert!(matches!(&failed[..], [c] if c.tensor == name), "{name}: {failed:?}");
}

#[test]
fn wrong_descriptions_are_refused() {
    let (_, right) = architectures().remove(0);
    assert!(architecture::network(&right).is_ok());
    let change = |place: &str, value: Value| {
        let mut json = right.clone();
        *json.pointer_mut(place).unwrap_or_else(|| panic!("{place}")) = value;
        json
    };
    for (place, value, word) in [
        ("/image_size", json!(0), "image_size"),
        ("/timesteps", json!(2), "gap"),
        ("/areas/2/groups", json!(3), "v2"),
        ("/areas/3/channels", json!(5), "gap.bottom_up"),
        ("/connections/0/kernel", json!(4), "kernel"),
        ("/connections/1/stride", json!(3), "v1.bottom_up"),
        ("/connections/8/stride", json!(4), "8 rows"),
        ("/connections/4/stride", json!(2), "v2"),
        ("/connections/3/from", json!("v9"), "v9"),
        ("/connections/5/from", json!("v2"), "v1.lateral"),
        ("/connections/1/from", json!("v2"), "circle"),
    ] {
        let message = architecture::network(&change(place, value)).unwrap_err().to_string();
        assert!(message.contains(word), "{place}: {message}");
    }
}

#[test]
#[ignore = "reads the golden files of ../shared: scripts/test.sh runs it where they are"]
fn golden_files_of_wrong_descriptions_are_refused() {
    let text = std::fs::read_to_string(golden_folder("golden-arch").join("arch_bad.json")).unwrap();
    let cases: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert!(!cases.is_empty());
    for case in cases {
        let toml: toml::Table = toml::from_str(case["toml"].as_str().unwrap()).unwrap();
        if toml.contains_key("network") {
            continue; // two sections: not a matter of the description
        }
        let mut json = serde_json::to_value(&toml["architecture"]).unwrap();
        if json.get("classes").is_none() {
            json["classes"] = 5.into(); // a data set would say it
        }
        println!("{}: {:?}", case["name"], architecture::network(&json).map(|_| ()).map_err(|e| e.to_string()));
        assert!(architecture::network(&json).is_err(), "{}", case["name"]);
    }
}
