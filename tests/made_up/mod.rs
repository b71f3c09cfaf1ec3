//! Networks that tests of the twins make up, their goldens, and the files that hold those.

use std::collections::{BTreeMap, HashMap};

use recurve::reference::golden::{self, Golden, NetworkGolden, made_up};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

/// Networks of areas and connections, small enough for finite differences, that together have every key.
pub fn architectures() -> Vec<(&'static str, Value)> {
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
pub fn published() -> Vec<(String, Value)> {
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

pub fn protocol() -> Value {
    json!({
        "timesteps": 6, "gains": [{"connection": "*.lateral", "gain": 0.5, "from": 1, "until": 4}],
        "inputs": [{"from": 4, "show": "blank"}, {"from": 2, "show": "next"}],
    })
}

/// Made-up goldens of all of these, some under a protocol. The seeds are such that few kinks lie within a stencil.
pub fn made_up_goldens() -> Vec<(String, NetworkGolden)> {
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

/// A golden as the tensors and metadata of a file.
pub struct Parts {
    pub tensors: BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>,
    pub metadata: HashMap<String, String>,
}

impl Parts {
    pub fn of(golden: &NetworkGolden) -> Self {
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

    pub fn read(&self) -> recurve::Result<Option<Golden>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("some.safetensors");
        let view = |(dtype, shape, bytes)| TensorView::new(dtype, shape, bytes).unwrap();
        let views = self.tensors.iter().map(|(name, (d, s, b))| (name, view((*d, s.clone(), b.as_slice()))));
        safetensors::serialize_to_file(views, Some(self.metadata.clone()), &path).unwrap();
        golden::read(&path)
    }
}
