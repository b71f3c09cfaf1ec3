//! The areas below the readout: spaces of areas on a device against plain f64 loops over the same activity, what happens where
//! memory is short, and what a user finds of them in a report.

#[allow(dead_code)] // its network has a variant of its own here
mod own;

use assert_cmd::Command;
use pollster::FutureExt;
use recurve::dataset::{Dataset, Loader, Normaliser, open as open_data};
use recurve::dynamics::areas::{Area, AreaStream, Form, MOST_BYTES, Projection, SEED, chance, taps};
use recurve::dynamics::goldens::Golden;
use recurve::dynamics::space::Wanted;
use recurve::dynamics::{Parameters, Structure};
use recurve::engine::Engine;
use recurve::gpu::{Gpu, Store};
use recurve::graph::compile::Request;
use recurve::graph::taps::{Quantity, Tap};
use recurve::network::{Architecture, Network, Schedule, initialise};
use recurve::stream::{Collect, Networks, Order, Sink, Values, stream_from};
use recurve::trajectory::npz::Extraction;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

const DATA: &str = "glyphs:train=48,val=6,test=71,difficulty=0";

/// Retina and low are large maps, high is a small one; the readout sees a vector. Biologically unrolled, low begins at step 1
/// and high at 2.
fn network(unroll: &str) -> Network {
    let mut description = own::description(unroll, 5);
    description["classes"] = 10.into();
    let areas = description["areas"].as_array_mut().expect("areas");
    (areas[0]["channels"], areas[1]["channels"]) = (5.into(), 7.into());
    let connections = description["connections"].as_array_mut().expect("connections");
    connections.retain(|connection| connection["name"] != "skip");
    Architecture::from_golden_json(&description.to_string()).expect("valid").network().expect("valid")
}

fn engine<'g>(gpu: &'g Gpu, network: &Network, batch: usize, taps: &[Tap], store: &mut Store) -> Engine<'g> {
    let schedule = Schedule::plain(network.timesteps);
    let request = Request { taps, ..Request::forward(network, &schedule, batch, &gpu.target) };
    let mut engine = Engine::new(gpu, &request, store).block_on().expect("fits");
    engine.set_normaliser(&Normaliser::new([120.0, 110.0, 100.0], [60.0, 55.0, 50.0]));
    engine.set_parameters(&initialise(&network.parameters, 3)).expect("all parameters");
    engine
}

/// Activity by area and timestep, [N][numbers of the map], in the order of the stream.
type Activity = BTreeMap<(usize, usize), Vec<Vec<f32>>>;

/// What was streamed.
struct Streamed {
    areas: Vec<Area>,
    notes: Vec<String>,
    activity: Activity,
    /// In the order of the stream.
    labels: Vec<usize>,
    training: usize,
}

const RIDGE: f64 = 1.0;

/// Every third image, in the order of the stream.
fn rdm_images(images: usize) -> Vec<usize> {
    (0..images).filter(|i| i % 3 == 1).collect()
}

/// Measures the areas of a network in batches of `width`, and reads their activity beside.
fn streamed(gpu: &Gpu, network: &Network, width: usize, most: u64, ridge: f64) -> Streamed {
    let data: Arc<dyn Dataset> = open_data(DATA, Some(16)).expect("glyphs");
    let labels = data.labels("test").expect("labels");
    let order = Order::halves(&labels);
    let areas = 0..network.areas.len();
    let all: Vec<Tap> = areas.clone().map(|area| Tap::all(Quantity::Activation(area))).collect();
    let measured = engine(gpu, network, width, &taps(network), &mut Store::default());
    let mut shared = Store::default();
    measured.share_inputs(&mut shared);
    let beside = engine(gpu, network, width, &all, &mut shared);
    let mut store = Store::default();
    store.share("labels", measured.recording(), measured.compiled.feeds.labels);
    let wanted = Wanted {
        images: labels.len(),
        training: order.training(),
        classes: 10,
        rdm_images: rdm_images(labels.len()),
        shown_classes: vec![],
        ridge,
    };
    let made = AreaStream::new(gpu, &measured, &wanted, "labels", &mut store, most).block_on();
    let (mut stream, mut notes) = made.expect("can be made");
    let activity: RefCell<Activity> = RefCell::default();
    let keep = |area: usize, of: Values| {
        let (count, numbers) = (of.shape[3], of.shape[..3].iter().product::<usize>());
        let image = |n: usize| (0..numbers).map(|i| of.values[i * count + n]).collect();
        activity.borrow_mut().entry((area, of.timestep)).or_default().extend((0..of.images).map(image));
        Ok(())
    };
    let keep = &keep;
    let mut collected: Vec<_> =
        areas.map(|area| Collect::new(gpu, 1, Quantity::Activation(area), move |of: Values| keep(area, of))).collect();
    let mut sinks: Vec<&mut dyn Sink> = vec![&mut stream];
    sinks.extend(collected.iter_mut().map(|sink| sink as &mut dyn Sink));
    let loader = Loader::listed(&data, "test", order.ids(), order.training(), width, false).expect("pictures");
    let mut source = Networks { engines: vec![measured, beside], loader };
    stream_from(&mut source, Some(order.training()), &mut sinks, |_| ()).block_on().expect("streams");
    drop(sinks);
    drop(collected);
    let labels: Vec<u32> = order.ids().iter().map(|&id| labels[id as usize]).collect();
    let (areas, left_out) = stream.areas(&labels[order.training()..]).block_on().expect("measures");
    notes.extend(left_out);
    let labels = labels.into_iter().map(|label| label as usize).collect();
    Streamed { areas, notes, activity: activity.into_inner(), labels, training: order.training() }
}

/// An area's numbers by plain loops: [T'][N][D].
fn numbers(of: &Area, area: usize, channels: usize, activity: &Activity) -> Vec<f64> {
    let form = |x: &Vec<f32>| -> Vec<f64> {
        let at = |i: usize| f64::from(x[i]);
        match of.facts.form {
            Form::Average => {
                let pixels = x.len() / channels;
                let mean = |c: usize| (0..pixels).map(|p| at(c * pixels + p)).sum::<f64>() / pixels as f64;
                (0..channels).map(mean).collect()
            }
            Form::Map => (0..x.len()).map(at).collect(),
            Form::Projection => {
                let projection = Projection::random(SEED, area, x.len(), of.facts.features);
                let terms = (x.len() as f64).sqrt().ceil();
                let scale = (x.len() as f64 / (terms * of.facts.features as f64)).sqrt();
                let feature = |d| {
                    assert_eq!(projection.terms(d).count(), terms as usize);
                    scale * projection.terms(d).map(|(place, sign)| sign * at(place)).sum::<f64>()
                };
                (0..of.facts.features).map(feature).collect()
            }
        }
    };
    of.facts.timesteps.iter().flat_map(|&t| activity[&(area, t)].iter().flat_map(form)).collect()
}

/// Compares what was measured of an area with the exact measures of its numbers.
fn differences(of: &Area, network: &Network, streamed: &Streamed) -> Vec<String> {
    let area = network.area(&of.facts.name).expect("an area");
    let representations = numbers(of, area, network.areas[area].channels, &streamed.activity);
    let (timesteps, samples, features) = (of.facts.timesteps.len(), streamed.labels.len(), of.facts.features);
    assert_eq!(representations.len(), timesteps * samples * features);
    let extraction = Extraction {
        timesteps,
        samples,
        classes: 10,
        features,
        outputs: vec![0.0; timesteps * samples * 10],
        labels: streamed.labels.clone(),
        representations,
        readout_weight: vec![1.0; 10 * features],
        readout_bias: None,
    };
    let mut golden = Golden {
        path: PathBuf::from(format!("{}, {:?}", of.facts.name, of.facts.form)),
        parameters: Parameters {
            rdm_images: rdm_images(samples),
            shown_classes: vec![],
            ridge: RIDGE,
            ..Parameters::standard(&streamed.labels, 10)
        },
        tolerance: ["rdm", "rdm_time", "cka", "decoder", "pca"].map(|key| (key.to_string(), 1e-4)).into(),
        expected: serde_json::Map::new(),
        untrained: extraction.clone(),
        trained: extraction,
        train: (0..samples).map(|i| i < streamed.training).collect(),
        replicates: vec![],
    };
    let subject = recurve::dynamics::Subject { untrained: None, ..golden.subject() };
    let exact = serde_json::to_value(Structure::exact(&subject).expect("decoders can be fitted")).unwrap();
    let pca = ["explained", "participation", "participation_t"].map(|key| (key.to_string(), exact["pca"][key].clone()));
    let mut expected = exact.as_object().expect("a struct").clone();
    expected.insert("pca".into(), Value::Object(pca.into_iter().collect()));
    golden.expected = expected;
    let mut found = serde_json::to_value(of).unwrap();
    assert!(found.get("rdm").is_none(), "matrices have files of their own");
    found["rdm"] = serde_json::to_value(&of.rdm).unwrap();
    // Right answers may differ by near ties alone.
    for kind in ["ridge", "class_mean"] {
        for t in 0..timesteps {
            for u in 0..timesteps {
                let count = |of: &Value, key: &str| of["decoder"][kind][key][t][u].as_i64().expect("a count");
                let exact = Value::Object(golden.expected.clone());
                if (count(&found, "correct") - count(&exact, "correct")).abs() <= count(&exact, "unsafe") {
                    found["decoder"][kind]["correct"][t][u] = exact["decoder"][kind]["correct"][t][u].clone();
                }
            }
        }
    }
    let found = golden.differences(&found, &["rdm", "rdm_time", "cka", "decoder", "pca"], None);
    found.into_iter().map(|d| format!("{}: {d}", golden.path.display())).collect()
}

/// Also with areas that begin late, with strides, and in batches that are not multiples of a vector.
#[test]
fn areas_are_measured_as_plain_loops_do_and_repeat_to_the_bit() {
    let gpu = own::open();
    let mut problems = Vec::new();
    for (unroll, width, first) in [("engineering", 8, [0, 0, 0]), ("biological", 13, [0, 1, 2])] {
        let network = network(unroll);
        let found = streamed(&gpu, &network, width, MOST_BYTES, RIDGE);
        assert_eq!(found.notes, [""; 0], "everything fits");
        let facts: Vec<_> = found.areas.iter().map(|of| &of.facts).collect();
        let kinds: Vec<_> = facts.iter().map(|f| (f.name.as_str(), f.form, f.features, f.projected_from)).collect();
        let expected = [
            ("retina", Form::Average, 5, None),
            ("retina", Form::Projection, 256, Some(1280)),
            ("low", Form::Average, 7, None),
            ("low", Form::Projection, 256, Some(448)),
            ("high", Form::Average, 12, None),
            ("high", Form::Map, 192, None),
        ];
        assert_eq!(kinds, expected);
        for (facts, first) in facts.iter().zip(first.into_iter().flat_map(|first| [first; 2])) {
            // Nothing recurrent reaches the retina.
            let constant = facts.name == "retina";
            let end = if constant { first + 1 } else { 5 };
            assert_eq!((facts.constant, &facts.timesteps), (constant, &(first..end).collect()), "{}", facts.name);
            assert_eq!(facts.seed, facts.projected_from.map(|_| SEED));
        }
        let tested: Vec<u32> = found.labels[found.training..].iter().map(|&label| label as u32).collect();
        let (share, by_chance) = chance(&tested).unwrap();
        for of in &found.areas {
            problems.extend(differences(of, &network, &found));
            assert_eq!((of.chance, of.by_chance), (Some(share), Some(by_chance)));
            let right = &of.decoder.ridge.correct;
            let above = (0..right.len()).find(|&t| right[t][t] > by_chance).map(|t| of.facts.timesteps[t]);
            assert_eq!(of.label_from, above);
        }
        assert_eq!(streamed(&gpu, &network, width, MOST_BYTES, RIDGE).areas, found.areas, "equal input, other results");
    }
    let shown = &problems[..problems.len().min(40)];
    assert!(problems.is_empty(), "{} differences, first\n{}", problems.len(), shown.join("\n"));
}

#[test]
fn what_cannot_be_measured_is_left_out_with_a_note() {
    let gpu = own::open();
    let network = network("engineering");
    let (mut problems, mut notes): (Vec<String>, Vec<String>) = Default::default();
    for most in [16, 12, 8, 6].map(|mib| mib << 20) {
        let short = streamed(&gpu, &network, 8, most, RIDGE);
        for of in &short.areas {
            problems.extend(differences(of, &network, &short));
        }
        let averages = short.areas.iter().filter(|of| of.facts.form == Form::Average).count();
        assert!(averages == 3 || short.areas.len() == averages, "averages come first");
        notes.extend(short.notes);
    }
    assert!(problems.is_empty(), "{problems:?}");
    for part in ["features, as memory is short", "was left out as map"] {
        assert!(notes.iter().any(|note| note.contains(part)), "`{part}` is missing in {notes:#?}");
    }
    // Fewer training images than features need a ridge.
    let singular = streamed(&gpu, &network, 8, MOST_BYTES, 0.0);
    assert!(singular.areas.iter().all(|of| of.facts.form == Form::Average), "{:?}", singular.notes);
    assert!(singular.notes.len() >= 3 && singular.areas.len() + singular.notes.len() == 6);
    assert!(singular.notes.iter().all(|note| note.contains("not positive definite")), "{:?}", singular.notes);
    let none = streamed(&gpu, &network, 8, 1 << 10, RIDGE);
    assert!(none.areas.is_empty());
    assert_eq!(none.notes.len(), 6);
    assert!(none.notes.iter().all(|note| note.contains("left out") && note.contains("MiB")), "{:?}", none.notes);
}

/// The readout sees a map here, whose pixel average is its own representation.
const CONFIG: &str = "
[architecture]
image_size = 16
timesteps = 3
areas = [
    { name = \"eye\", channels = 4, norm = \"none\" },
    { name = \"low\", channels = 6 },
    { name = \"high\", channels = 8, norm = \"group\", groups = 2 },
]
connections = [
    { from = \"input\", to = \"eye\", kind = \"bottom_up\" },
    { from = \"eye\", to = \"low\", kind = \"bottom_up\", stride = 2 },
    { from = \"low\", to = \"high\", kind = \"bottom_up\", pool = 2 },
    { from = \"low\", to = \"low\", kind = \"lateral\" },
    { from = \"high\", to = \"high\", kind = \"lateral\" },
]

[training]
batch = 12
steps = 4
";

#[test]
fn a_report_shows_the_areas_unless_they_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let recurve = |arguments: &[&str]| {
        let mut command = Command::cargo_bin("recurve").unwrap();
        command.current_dir(root).args(arguments);
        command.assert().success().get_output().stdout.clone()
    };
    std::fs::write(root.join("own.toml"), CONFIG).unwrap();
    recurve(&["train", "--data", DATA, "--no-tune", "--config", "own.toml", "--out", "run"]);
    let printed: Value =
        serde_json::from_slice(&recurve(&["analyse", "run", "--split", "test", "--out", "with", "--json"])).unwrap();
    let written = std::fs::read_to_string(root.join("with/report.json")).unwrap();
    let written: Value = serde_json::from_str(&written).unwrap();
    let areas = written["dynamics"]["areas"].as_array().expect("a list");
    assert_eq!(&written["dynamics"]["areas"], &printed["dynamics"]["areas"]);
    let kinds: Vec<_> = areas.iter().map(|area| json!([area["name"], area["form"], area["features"]])).collect();
    let expected = json!([
        ["eye", "pixel average", 4],
        ["eye", "projection", 256],
        ["low", "pixel average", 6],
        ["low", "projection", 256],
        ["high", "map", 128]
    ]);
    assert_eq!(Value::Array(kinds), expected);
    let page = std::fs::read_to_string(root.join("with/report.html")).unwrap();
    for name in ["areas_decoding", "areas_participation", "areas_similarity"] {
        assert!(page.contains(&format!("<section id=\"{name}\">")), "{name}");
    }
    for file in [
        "tables/areas.csv",
        "tables/areas_decoders.csv",
        "tables/areas_participation.csv",
        "tables/areas_variance.csv",
        "tables/areas_cka.csv",
        "tables/areas_rdm_similarity.csv",
        "figures/areas_similarity_high_map_cka.svg",
    ] {
        assert!(root.join("with").join(file).is_file(), "{file}");
    }
    let matrix = std::fs::File::open(root.join("with/rdms/areas_low_projection_correlation.npy")).unwrap();
    let matrix = npyz::NpyFile::new(matrix).unwrap();
    assert_eq!(matrix.shape(), [3, 71 * 70 / 2]);
    let values: Vec<f32> = matrix.into_vec().unwrap();
    assert!(values.iter().all(|d| (0.0..=2.0).contains(d)) && values.iter().any(|d| *d > 0.01));

    // Without them everything else is the same.
    let without: Value = serde_json::from_slice(&recurve(&[
        "analyse",
        "run",
        "--split",
        "test",
        "--out",
        "without",
        "--no-areas",
        "--json",
    ]))
    .unwrap();
    assert!(without["dynamics"].get("areas").is_none());
    let page = std::fs::read_to_string(root.join("without/report.html")).unwrap();
    assert!(!page.contains("areas_decoding") && page.contains("areas below the readout were left out"));
    let mut rest = printed["dynamics"].clone();
    rest.as_object_mut().unwrap().remove("areas");
    assert_eq!(rest, without["dynamics"]);
    assert_eq!(printed["statistics"], without["statistics"]);
}
