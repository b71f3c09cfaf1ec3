//! The twins against golden files of an independent implementation, where those files are at hand (the folders
//! `golden`, `golden-arch` and `golden-faults` of `$RECURVE_SHARED` or `../shared`), and always against finite differences
//! and files of random networks that are made up here.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use recurve::reference::finite_differences::gradient_errors;
use recurve::reference::golden::{self, Comparison, Golden, NetworkGolden, made_up, run_twin};
use recurve::reference::network::description::Map;
use recurve::reference::network::{architecture, train};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

fn shared() -> PathBuf {
    let shared = std::env::var_os("RECURVE_SHARED").map(PathBuf::from);
    shared.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"))
}

/// The `.safetensors` files directly in the golden folders that exist.
fn golden_files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    for folder in ["golden", "golden-arch", "golden-faults"].map(|name| shared().join(name)) {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        let before = files.len();
        files.extend(entries.map(|entry| entry.unwrap().path()));
        files.retain(|path: &PathBuf| path.extension().is_some_and(|e| e == "safetensors"));
        assert!(files.len() > before, "{} holds no .safetensors file", folder.display());
    }
    files.sort();
    files
}

/// Networks of areas and connections, small enough for finite differences, that together have every key.
fn architectures() -> Vec<(&'static str, Value)> {
    let connection = |from: &str, to: &str, kind: &str| json!({"from": from, "to": to, "kind": kind});
    let with = |mut connection: Value, more: Value| {
        for (key, value) in more.as_object().unwrap() {
            connection[key] = value.clone();
        }
        connection
    };
    let up = |from: &str, to: &str| connection(from, to, "bottom_up");
    let lateral = |area: &str| connection(area, area, "lateral");
    let down = |from: &str, to: &str| connection(from, to, "top_down");
    vec![
        (
            "biological, skip, feedback that comes late",
            json!({
                "image_size": 8, "classes": 3, "timesteps": 6, "unroll": "biological", "readout_bias": true,
                "areas": [
                    {"name": "retina", "channels": 2, "norm": "none"}, {"name": "v1", "channels": 3},
                    {"name": "v2", "channels": 4, "norm": "group", "groups": 2, "interaction": "multiplicative"},
                    {"name": "gap", "channels": 3, "pool": "average"}, {"name": "it", "channels": 3},
                ],
                "connections": [
                    with(up("input", "retina"), json!({"kernel": 5})), with(up("retina", "v1"), json!({"stride": 2})),
                    with(up("v1", "v2"), json!({"pool": 2})), up("it", "gap"),
                    with(up("retina", "v2"), json!({"name": "skip", "stride": 4, "bias": true})),
                    lateral("v1"), lateral("v2"), lateral("gap"),
                    with(down("v2", "v1"), json!({"stride": 2})),
                    with(down("it", "retina"), json!({"name": "late", "stride": 4, "kernel": 3})), up("v2", "it"),
                ],
            }),
        ),
        (
            "feedback of every stride, areas in any order",
            json!({
                "image_size": 8, "classes": 3, "timesteps": 3,
                "areas": [
                    {"name": "gap", "channels": 3, "pool": "average", "norm": "none", "interaction": "multiplicative"},
                    {"name": "it", "channels": 3}, {"name": "v1", "channels": 2, "interaction": "multiplicative"},
                    {"name": "v2", "channels": 3},
                ],
                "connections": [
                    with(lateral("gap"), json!({"kernel": 1})), up("it", "gap"),
                    with(up("v2", "it"), json!({"pool": 2})), with(up("v1", "v2"), json!({"stride": 2, "kernel": 5})),
                    with(up("input", "v1"), json!({"bias": false})),
                    with(down("v2", "v1"), json!({"stride": 2, "kernel": 1})),
                    with(down("it", "v1"), json!({"stride": 4, "kernel": 3, "bias": true, "name": "far"})),
                    with(down("it", "v2"), json!({"stride": 2})),
                ],
            }),
        ),
        (
            "two streams, a map read out, no activation",
            json!({
                "image_size": 8, "classes": 4, "timesteps": 3, "unroll": "engineering", "readout_bias": false,
                "areas": [
                    {"name": "m", "channels": 2, "norm": "none", "activation": "relu"},
                    {"name": "p", "channels": 4, "norm": "group", "groups": 2, "activation": "none"},
                    {"name": "top", "channels": 3, "norm": "layer", "interaction": "additive"},
                ],
                "connections": [
                    with(up("input", "m"), json!({"stride": 2})), with(up("input", "p"), json!({"pool": 2})),
                    with(up("m", "top"), json!({"name": "from_m", "pool": 2, "stride": 1})),
                    with(up("p", "top"), json!({"name": "from_p", "stride": 2})),
                    with(lateral("top"), json!({"kernel": 5})), lateral("p"),
                    with(down("p", "m"), json!({"kernel": 1})),
                ],
            }),
        ),
        (
            "one step, pooling and stride, maps of one pixel, a lateral map that never acts",
            json!({
                "image_size": 8, "classes": 3, "timesteps": 1,
                "areas": [{"name": "a", "channels": 3, "norm": "none"}, {"name": "b", "channels": 5}],
                "connections": [
                    with(up("input", "a"), json!({"stride": 2})), with(up("a", "b"), json!({"pool": 2, "stride": 2})),
                    lateral("a"),
                ],
            }),
        ),
    ]
}

/// Members of the published family, likewise.
fn published() -> Vec<(String, Value)> {
    let changes = [
        json!({}),
        json!({"interaction": "multiplicative"}),
        json!({"topdown": false, "norm": "GN"}),
        json!({"lateral": false, "interaction": "multiplicative"}),
        json!({"norm": "None", "classifier_bias": false}),
        json!({"lt_position": "last"}),
        json!({"timesteps": 1}),
        json!({"recurrent_from": "v1", "kernel_size": 5}),
        json!({"recurrent_from": "v1", "norm": "None", "interaction": "multiplicative"}),
    ];
    let all = changes.map(|changes| {
        let mut json = json!({
            "image_size": 8, "in_channels": 3, "stem_channels": 4, "area_channels": [4, 4, 8, 8], "kernel_size": 3,
            "lateral": true, "topdown": true, "interaction": "additive", "lt_position": "all", "norm": "LN",
            "groups": 2, "classifier_bias": true, "timesteps": 3, "n_classes": 3
        });
        for (key, value) in changes.as_object().unwrap() {
            json[key] = value.clone();
        }
        (format!("published {changes}"), json)
    });
    all.into()
}

fn protocol() -> Value {
    json!({
        "timesteps": 6, "gains": [{"connection": "*.lateral", "gain": 0.5, "from": 1, "until": 4}],
        "inputs": [{"from": 4, "show": "blank"}, {"from": 2, "show": "next"}],
    })
}

/// Made-up goldens of all of these, some under a protocol. The seeds are such that few kinks lie within a stencil.
fn made_up_goldens() -> Vec<(String, NetworkGolden)> {
    let mut goldens = Vec::new();
    for (name, json) in architectures() {
        goldens.push((name.to_owned(), made_up(None, Some(json.clone()), None, 2, 6).unwrap()));
        goldens.push((format!("{name}, protocol"), made_up(None, Some(json), Some(protocol()), 2, 2).unwrap()));
    }
    for (name, json) in published() {
        goldens.push((name, made_up(Some(json), None, None, 2, 16).unwrap()));
    }
    let (_, first) = published().remove(0);
    goldens.push(("published, protocol".into(), made_up(Some(first), None, Some(protocol()), 2, 4).unwrap()));
    goldens
}

/// The largest error of the gradient of a parameter (see [`gradient_errors`]), over all that have one.
fn worst_gradient(golden: &NetworkGolden, step: f32) -> (String, f64) {
    let params = &golden.params;
    let names: Vec<&String> = params.keys().filter(|name| !golden.unused_params.contains(name)).collect();
    let results = |values: &[Vec<f32>]| {
        let mut params = params.clone();
        for (name, values) in names.iter().zip(values) {
            params.get_mut(*name).unwrap().values = values.clone();
        }
        train(&golden.network, &params, &golden.x.values, &golden.labels, 0).unwrap()
    };
    let inputs: Vec<Vec<f32>> = names.iter().map(|name| params[*name].values.clone()).collect();
    let gradient = |values: &[Vec<f32>], d: &[f32]| {
        let results = results(values);
        names.iter().map(|name| results[&format!("grad/{name}")].iter().map(|g| g * d[0]).collect()).collect()
    };
    let errors = gradient_errors(&inputs, step, 3, |values| results(values)["loss"].clone(), gradient);
    assert!(errors.len() > 3 && errors.iter().all(|error| error.is_finite()), "{errors:?}");
    let worst = names.iter().zip(errors).max_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
    (worst.0.to_string(), worst.1)
}

/// Kinks (ReLU, pooling) and the rounding of the loss to f32 leave 5 % at most here; a path of the backward pass that is
/// missing or counted twice shows as far more.
#[test]
fn finite_differences_confirm_every_gradient() {
    for (name, golden) in made_up_goldens().iter().filter(|(_, golden)| golden.protocol.is_none()) {
        let (parameter, error) = worst_gradient(golden, 1.0 / 4096.0);
        println!("{name}: {parameter} {error:.1e}");
        assert!(error < 0.1, "{name}: {parameter} {error:.1e}");
    }
}

/// Without ReLU and with strides in place of pooling there are no kinks, and a longer step leaves less of the rounding.
#[test]
fn finite_differences_are_sharp_where_nothing_has_kinks() {
    for (name, mut golden) in made_up_goldens().into_iter().filter(|(_, golden)| golden.protocol.is_none()) {
        golden.network.areas.iter_mut().for_each(|area| area.relu = false);
        // Without norms products of products grow, until probabilities reach the clamp of the loss, which has a kink.
        if golden.network.areas.iter().all(|area| area.norm.is_none()) {
            golden.params.values_mut().flat_map(|parameter| &mut parameter.values).for_each(|value| *value *= 0.75);
        }
        for connection in &mut golden.network.connections {
            if let Map::Convolution { pooled: true, kernel, stride } = connection.map {
                connection.map = Map::Convolution { pooled: false, kernel, stride: 2 * stride };
            }
        }
        let (parameter, error) = worst_gradient(&golden, 1.0 / 256.0);
        println!("{name}: {parameter} {error:.1e}");
        assert!(error < 2e-3, "{name}: {parameter} {error:.1e}");
    }
}

/// The loss feels every parameter but those that are said to be without use.
#[test]
fn unused_parameters_change_nothing_and_all_others_do() {
    let mut unused = 0;
    for (name, golden) in made_up_goldens().iter().filter(|(_, golden)| golden.protocol.is_none()) {
        for parameter in golden.params.keys() {
            let mut moved = golden.params.clone();
            moved.get_mut(parameter).unwrap().values.iter_mut().for_each(|value| *value = 0.5 * *value + 0.25);
            let results = train(&golden.network, &moved, &golden.x.values, &golden.labels, 0).unwrap();
            let same = results["loss"] == golden.expected["loss"].values;
            assert_eq!(same, golden.unused_params.contains(parameter), "{name}: {parameter}");
            unused += usize::from(same);
        }
    }
    assert!(unused > 4, "only {unused} parameters without use");
}

/// A golden as the tensors and metadata of a file.
struct Parts {
    tensors: BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>,
    metadata: HashMap<String, String>,
}

impl Parts {
    fn of(golden: &NetworkGolden) -> Self {
        let mut tensors = BTreeMap::new();
        let bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        let size = golden.network.image_size;
        let n = golden.labels.len();
        tensors.insert("images".to_owned(), (Dtype::U8, vec![n, size, size, 3], golden.images.clone()));
        let labels = golden.labels.iter().flat_map(|&label| (label as i64).to_le_bytes()).collect();
        tensors.insert("labels".to_owned(), (Dtype::I64, vec![n], labels));
        for (name, values) in [("mean", golden.mean), ("std", golden.std)] {
            let values = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            tensors.insert(format!("train_img_{name}_channels"), (Dtype::F64, vec![3], values));
        }
        for (name, tensor) in &golden.params {
            tensors.insert(format!("param/{name}"), (Dtype::F32, tensor.shape.clone(), bytes(&tensor.values)));
        }
        for (name, safe) in &golden.adam3_safe {
            let shape = golden.params[name].shape.clone();
            tensors.insert(format!("adam3_safe/{name}"), (Dtype::U8, shape, safe.iter().map(|&s| s.into()).collect()));
        }
        for (name, tensor) in &golden.expected {
            tensors.insert(name.clone(), (Dtype::F32, tensor.shape.clone(), bytes(&tensor.values)));
        }
        let mut metadata = HashMap::new();
        let texts = [
            ("config", &golden.config_json),
            ("architecture", &golden.architecture_json),
            ("protocol", &golden.protocol_json),
        ];
        for (key, json) in texts {
            metadata.extend(json.as_ref().map(|json| (key.to_owned(), json.to_string())));
        }
        if golden.protocol.is_none() {
            metadata.insert("unused_params".to_owned(), json!(golden.unused_params).to_string());
        }
        Self { tensors, metadata }
    }

    fn read(&self) -> recurve::Result<Option<Golden>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("some.safetensors");
        let view = |(dtype, shape, bytes)| TensorView::new(dtype, shape, bytes).unwrap();
        let views = self.tensors.iter().map(|(name, (d, s, b))| (name, view((*d, s.clone(), b.as_slice()))));
        safetensors::serialize_to_file(views, Some(self.metadata.clone()), &path).unwrap();
        golden::read(&path)
    }
}

/// Every network golden: those of the files, and those made up here, written to a file and read back.
fn networks() -> Vec<(String, NetworkGolden)> {
    let mut networks = Vec::new();
    for (name, golden) in made_up_goldens() {
        let Some(Golden::Network(read)) = Parts::of(&golden).read().unwrap() else { panic!("{name}: a network") };
        networks.push((name, *read));
    }
    for path in golden_files() {
        if let Some(Golden::Network(golden)) = golden::read(&path).unwrap() {
            networks.push((path.display().to_string(), *golden));
        }
    }
    networks
}

fn report(what: &str, comparisons: &[Comparison]) {
    let w = golden::worst(comparisons).expect("at least one tensor is compared");
    println!("{what}: {} tensors, worst {} at {:.3} of the tolerance", comparisons.len(), w.tensor, w.ratio());
    assert!(w.passes(), "{what}: {w:?}");
}

#[test]
fn every_operation() {
    for path in golden_files() {
        let Some(Golden::Ops(op, cases)) = golden::read(&path).unwrap() else { continue };
        for case in &cases {
            report(&format!("{op} {} {:?}", case.name, case.op), &case.compare(&run_twin(case)));
        }
    }
}

/// One run of each network's twin: right as it is, wrong when any one tensor is a little wrong, or an entry whose gradient
/// is 0 has moved at all.
#[test]
fn every_network() {
    let mut still = 0;
    for (name, golden) in networks() {
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

#[test]
fn operations_with_a_small_error_fail() {
    for path in golden_files() {
        let Some(Golden::Ops(_, cases)) = golden::read(&path).unwrap() else { continue };
        for case in &cases {
            let right = run_twin(case);
            for name in case.expected.keys() {
                let mut results = right.clone();
                spoil(results.get_mut(name).unwrap(), &case.allowed_errors(name));
                assert_fails(case.compare(&results), name);
            }
        }
    }
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
fn damaged_files_are_refused_with_the_place() {
    let (_, json) = architectures().remove(0);
    let training = made_up(None, Some(json.clone()), None, 2, 1).unwrap();
    let disturbed = made_up(None, Some(json), Some(protocol()), 2, 1).unwrap();
    let message = |golden: &NetworkGolden, change: &dyn Fn(&mut Parts)| {
        let mut parts = Parts::of(golden);
        change(&mut parts);
        parts.read().unwrap_err().to_string()
    };
    // Every tensor is needed, in both kinds of file.
    for golden in [&training, &disturbed] {
        for name in Parts::of(golden).tensors.keys() {
            let message = message(golden, &|parts| drop(parts.tensors.remove(name)));
            assert!(message.contains(&format!("`{name}`")) && message.contains("some.safetensors"), "{message}");
        }
        // A vector's activation before it exists, and anything else that nothing asks for.
        for name in ["act/gap/0", "act/retina", "logits/0", "param/v9.weight"] {
            let extra =
                message(golden, &|parts| drop(parts.tensors.insert(name.into(), (Dtype::F32, vec![1], vec![0; 4]))));
            assert!(extra.contains(&format!("`{name}`")), "{extra}");
        }
    }
    let of_training = Parts::of(&training).tensors;
    let gradient = message(&disturbed, &|parts| {
        let name = "grad/v1.lateral.weight";
        parts.tensors.insert(name.into(), of_training[name].clone());
    });
    assert!(gradient.contains("grad/v1.lateral.weight"), "{gradient}");

    let set =
        |key: &'static str, value: String| move |p: &mut Parts| drop(p.metadata.insert(key.into(), value.clone()));
    let both = message(&training, &set("config", published()[0].1.to_string()));
    assert!(both.contains("either `config` or `architecture`"), "{both}");
    let unused = message(&training, &set("unused_params", json!(["v1.lateral.weight"]).to_string()));
    assert!(unused.contains("unused_params") && unused.contains("retina.late.weight"), "{unused}");
    let wrong = json!({"gains": [{"connection": "v9.lateral", "gain": 0}]}).to_string();
    let unknown = message(&disturbed, &set("protocol", wrong));
    assert!(unknown.contains("v9.lateral"), "{unknown}");
}

/// The descriptions that every reader of the contract must refuse, and descriptions that are right.
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
    let Ok(text) = std::fs::read_to_string(shared().join("golden-arch/arch_bad.json")) else { return };
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
