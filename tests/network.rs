//! Configuration files, presets, parameter lists and initialisation.

mod golden_folder;

use golden_folder::golden_folder;
use recurve::network::*;
use std::collections::BTreeMap;

/// What a network of the family learns.
fn parameters(config: &NetworkConfig) -> Vec<ParameterSpec> {
    config.network().parameters
}

fn message(text: &str) -> String {
    RunConfig::parse(text).expect_err(text).to_string()
}

#[test]
fn an_empty_file_is_the_tiny_preset() {
    assert_eq!(RunConfig::parse("").unwrap(), Preset::Tiny.run());
}

#[test]
fn a_file_overrides_single_keys_of_its_preset() {
    let text = "preset = \"blt64\"\n[network]\ntopdown = true\nnorm = \"group\"\ngroups = 8\n[training]\nsteps = 7\nlearning_rate = 1\n";
    let run = RunConfig::parse(text).unwrap();
    let expected = NetworkConfig { topdown: true, norm: Normalisation::Group, groups: 8, ..Preset::Blt64.network() };
    assert_eq!(run.network, expected.into());
    assert_eq!((run.training.steps, run.training.epochs, run.training.learning_rate), (Some(7), None, 1.0));
    assert_eq!(run.training.batch, 1024);
}

#[test]
fn the_presets_have_the_published_sizes() {
    let (tiny, blt64, blt128) = (Preset::Tiny.network(), Preset::Blt64.network(), Preset::Blt128.network());
    assert_eq!((tiny.image_size, tiny.stem_channels, tiny.area_channels), (32, 16, [16, 32, 64, 128]));
    assert_eq!((tiny.kernel_size, tiny.timesteps, tiny.lateral, tiny.topdown), (3, 5, true, false));
    assert_eq!((blt64.image_size, blt64.stem_channels, blt64.area_channels), (64, 32, [64, 128, 256, 512]));
    assert_eq!((blt64.kernel_size, blt64.timesteps, blt64.classes), (3, 10, 100));
    assert_eq!(blt128, NetworkConfig { image_size: 128, kernel_size: 5, ..blt64 });
    for preset in Preset::ALL {
        preset.run().validate().unwrap();
        assert_eq!(preset.name().parse::<Preset>().unwrap(), preset);
    }
    let error = "blt32".parse::<Preset>().unwrap_err().to_string();
    assert!(error.contains("blt32") && error.contains("tiny, blt64, blt128"), "{error}");
}

#[test]
fn a_written_configuration_reads_back_the_same() {
    for preset in Preset::ALL {
        let mut run = preset.run();
        run.data.path = Some("a \"quoted\" path\\with\nodd characters.h5".into());
        let network = NetworkConfig {
            interaction: Interaction::Multiplicative,
            lt_position: LtPosition::Last,
            recurrent_from: RecurrentFrom::V1,
            ..preset.network()
        };
        run.network = network.into();
        run.training.learning_rate = 0.1 + 0.2;
        run.training.epsilon = 1.5e-37;
        run.training.seed = i64::MAX as u64;
        run.set_classes(16).unwrap();
        let text = run.to_toml();
        assert_eq!(RunConfig::parse(&text).unwrap(), run, "{text}");
    }
}

#[test]
fn every_documented_key_is_read() {
    let text = r#"[network]
image_size = 40
stem_channels = 3
area_channels = [4, 8, 12, 16]
kernel_size = 7
lateral = false
topdown = true
interaction = "multiplicative"
lt_position = "last"
recurrent_from = "v1"
norm = "none"
groups = 4
readout_bias = true
timesteps = 9
classes = 11
"#;
    let expected = NetworkConfig {
        image_size: 40,
        stem_channels: 3,
        area_channels: [4, 8, 12, 16],
        kernel_size: 7,
        lateral: false,
        topdown: true,
        interaction: Interaction::Multiplicative,
        lt_position: LtPosition::Last,
        recurrent_from: RecurrentFrom::V1,
        norm: Normalisation::None,
        groups: 4,
        readout_bias: true,
        timesteps: 9,
        classes: 11,
    };
    assert_eq!(RunConfig::parse(text).unwrap().network, expected.into());
}

#[test]
fn mistakes_in_a_file_are_shown_where_they_are() {
    // (text, everything the message must hold)
    let cases: &[(&str, &[&str])] = &[
        ("[network]\nimage_size = 32\nlaterall = true\n", &["network", "line 3", "column 1", "laterall", "`lateral`"]),
        ("[netwrok]\nimage_size = 32\n", &["netwrok", "line 1", "network"]),
        ("[network]\n\nimage_size = \"big\"\n", &["network.image_size", "line 3", "column 14", "big"]),
        ("[network]\nimage_size = -8\n", &["network.image_size", "line 2", "-8"]),
        ("[network]\nimage_size = 32.5\n", &["network.image_size", "32.5"]),
        ("[network]\nlateral = 1\n", &["network.lateral", "boolean"]),
        ("[network]\narea_channels = [1, 2, 3]\n", &["network.area_channels", "line 2", "4"]),
        ("[network]\narea_channels = [1, 2, 3, 4, 5]\n", &["network.area_channels", "line 2", "4", "5"]),
        ("[network]\nnorm = \"batch\"\n", &["network.norm", "batch", "layer", "group", "none"]),
        ("[network]\ninteraction = \"mult\"\n", &["network.interaction", "mult", "additive", "multiplicative"]),
        ("network = 3\n", &["network", "line 1", "3"]),
        ("preset = \"huge\"\n", &["preset", "line 1", "huge", "tiny", "blt64"]),
        ("preset = 5\n", &["preset", "line 1"]),
        ("[network\n", &["line 1"]),
        ("[network]\nimage_size = 32\nimage_size = 64\n", &["line 3", "duplicate"]),
        ("[training]\nlearning_rat = 1e-3\n", &["training", "line 2", "learning_rat", "learning_rate"]),
        ("[data]\npath = 7\n", &["data.path", "line 2"]),
    ];
    for (text, words) in cases {
        let error = message(text);
        for word in *words {
            assert!(error.contains(word), "'{word}' is missing from the error for {text:?}:\n{error}");
        }
    }
}

#[test]
fn impossible_values_are_refused_by_key_found_and_allowed() {
    let network: &[(&str, &[&str])] = &[
        ("image_size = 30", &["image_size", "30", "multiple of 8"]),
        ("image_size = 0", &["image_size", "0", "8 to"]),
        ("image_size = 9223372036854775807", &["image_size", "9223372036854775807", "8 to"]),
        ("kernel_size = 4", &["kernel_size", "4", "odd"]),
        ("kernel_size = 0", &["kernel_size", "0"]),
        ("stem_channels = 0", &["stem_channels", "0"]),
        ("area_channels = [16, 0, 64, 128]", &["area_channels", "v2", "0"]),
        ("area_channels = [16, 32, 64, 4611686018427387904]", &["area_channels", "it", "4611686018427387904"]),
        ("timesteps = 0", &["timesteps", "0", "1 to"]),
        ("classes = 0", &["classes", "0"]),
        ("groups = 0", &["groups", "0"]),
        ("norm = \"group\"\ngroups = 32", &["groups", "32", "v1 has 16"]),
        ("image_size = 4096\nstem_channels = 16384", &["too large", "retina", "image_size"]),
        (
            "kernel_size = 31\narea_channels = [16, 32, 16384, 16384]",
            &["too large", "v4.lateral.weight", "kernel_size"],
        ),
    ];
    for (lines, words) in network {
        let error = message(&format!("[network]\n{lines}\n"));
        for word in *words {
            assert!(error.contains(word), "'{word}' is missing from the error for {lines:?}:\n{error}");
        }
    }
    let training: &[(&str, &[&str])] = &[
        ("batch = 0", &["batch", "0"]),
        ("epochs = 3\nsteps = 3", &["epochs", "steps", "one"]),
        ("steps = 0", &["steps", "0"]),
        ("learning_rate = 0", &["learning_rate", "above 0"]),
        ("learning_rate = nan", &["learning_rate", "NaN"]),
        ("learning_rate = inf", &["learning_rate", "inf"]),
        ("beta1 = 1.0", &["beta1", "1", "below 1"]),
        ("beta2 = -0.1", &["beta2", "-0.1"]),
        ("epsilon = 0.0", &["epsilon"]),
        ("seed = -1", &["seed", "-1"]),
    ];
    for (lines, words) in training {
        let error = message(&format!("[training]\n{lines}\n"));
        for word in *words {
            assert!(error.contains(word), "'{word}' is missing from the error for {lines:?}:\n{error}");
        }
    }
    let mut run = Preset::Tiny.run();
    run.training.seed = u64::MAX;
    assert!(run.validate().unwrap_err().to_string().contains("seed"));
}

#[test]
fn a_file_error_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.toml");
    let missing = RunConfig::read(&path).unwrap_err().to_string();
    assert!(missing.contains("mine.toml"), "{missing}");
    std::fs::write(&path, "[network]\nkernel_size = 4\n").unwrap();
    let wrong = RunConfig::read(&path).unwrap_err().to_string();
    assert!(wrong.contains("mine.toml") && wrong.contains("kernel_size"), "{wrong}");
    std::fs::write(&path, b"\xff\xfe").unwrap();
    assert!(RunConfig::read(&path).unwrap_err().to_string().contains("mine.toml"));
}

#[test]
fn the_data_set_gives_the_classes_unless_the_user_did() {
    let mut free = RunConfig::parse("[network]\ntimesteps = 2\n").unwrap();
    free.set_classes(16).unwrap();
    assert_eq!(free.network.classes(), Some(16));
    let fixed = RunConfig::parse("[network]\nclasses = 10\n").unwrap();
    fixed.clone().set_classes(10).unwrap();
    let error = fixed.clone().set_classes(16).unwrap_err().to_string();
    assert!(error.contains("10") && error.contains("16"), "{error}");
    assert!(free.set_classes(12).is_err(), "a data set with other classes than the run's");
    assert!(Preset::Tiny.run().set_classes(0).is_err());
}

#[test]
fn length_in_steps() {
    let mut training = Preset::Tiny.training();
    assert_eq!(training.total_steps(156), 1560);
    training.set_steps(9);
    assert_eq!(training.total_steps(156), 9);
    training.set_epochs(u64::MAX);
    assert_eq!(training.total_steps(156), u64::MAX);
}

fn names(config: &NetworkConfig) -> Vec<String> {
    parameters(config).into_iter().map(|p| p.name).collect()
}

/// The order in which torch lists the published network's modules, weight before bias.
#[test]
fn parameters_stand_in_state_dict_order() {
    let full =
        NetworkConfig { topdown: true, norm: Normalisation::None, readout_bias: true, ..Preset::Blt64.network() };
    let mut expected = vec!["retina.weight".to_string(), "retina.bias".into()];
    for area in ["v1", "v2", "v4", "it"] {
        for map in ["bottom_up", "lateral", "top_down"] {
            if (area, map) != ("it", "top_down") {
                expected.extend([format!("{area}.{map}.weight"), format!("{area}.{map}.bias")]);
            }
        }
    }
    expected.extend(["gap.lateral", "readout"].iter().flat_map(|m| [format!("{m}.weight"), format!("{m}.bias")]));
    assert_eq!(names(&full), expected);

    let normed = names(&NetworkConfig { norm: Normalisation::Layer, readout_bias: false, ..full });
    let at = |name: &str| normed.iter().position(|n| n == name).unwrap_or_else(|| panic!("{name} is missing"));
    assert_eq!(at("v1_ln.weight"), at("v1.top_down.weight") + 1);
    assert_eq!(at("v2.bottom_up.weight"), at("v1_ln.bias") + 1);
    assert_eq!(
        normed[at("gap.lateral.weight")..],
        ["gap.lateral.weight", "gap_ln.weight", "gap_ln.bias", "readout.weight"]
    );
    assert!(!normed.contains(&"v2.lateral.bias".to_string()));
}

#[test]
fn the_published_network_has_the_published_shapes() {
    let shapes: BTreeMap<String, Vec<usize>> = parameters(&NetworkConfig { topdown: true, ..Preset::Blt64.network() })
        .into_iter()
        .map(|p| (p.name, p.shape))
        .collect();
    let expect = |name: &str, shape: &[usize]| assert_eq!(shapes[name], shape, "{name}");
    expect("retina.weight", &[32, 3, 3, 3]);
    expect("retina.bias", &[32]);
    expect("v1.bottom_up.weight", &[64, 32, 3, 3]);
    expect("v1.top_down.weight", &[128, 64, 3, 3]);
    expect("v4.top_down.weight", &[512, 256, 3, 3]);
    expect("it.lateral.weight", &[512, 512, 3, 3]);
    expect("v1_ln.weight", &[64, 64, 64]);
    expect("it_ln.bias", &[512, 8, 8]);
    expect("gap.lateral.weight", &[512, 512]);
    expect("gap_ln.weight", &[512]);
    expect("readout.weight", &[100, 512]);
    let group = NetworkConfig { norm: Normalisation::Group, groups: 4, ..Preset::Blt64.network() };
    let v2 = parameters(&group).into_iter().find(|p| p.name == "v2_ln.weight").unwrap();
    assert_eq!(v2.shape, [128], "group norm scales per channel");
}

#[test]
fn recurrent_parameters_exist_and_are_used_as_configured() {
    let both = NetworkConfig { topdown: true, ..Preset::Tiny.network() };
    let unused = |config: &NetworkConfig| -> Vec<String> {
        let network = config.network();
        let names = network.parameters.iter().map(|p| p.name.clone());
        names.filter(|name| !network.uses(name)).collect()
    };
    assert_eq!(unused(&both), ["v1.lateral.weight", "v1.top_down.weight"]);
    let from_v1 = NetworkConfig { recurrent_from: RecurrentFrom::V1, ..both.clone() };
    assert_eq!(unused(&from_v1), Vec::<String>::new());
    assert_eq!(names(&from_v1), names(&both));

    let recurrent = |config: &NetworkConfig| -> Vec<String> {
        names(config).into_iter().filter(|n| n.contains("lateral") || n.contains("top_down")).collect()
    };
    assert_eq!(recurrent(&NetworkConfig { timesteps: 1, ..both.clone() }), Vec::<String>::new());
    let last = NetworkConfig { lt_position: LtPosition::Last, ..both.clone() };
    assert_eq!(recurrent(&last), ["gap.lateral.weight"]);
    let top_down = NetworkConfig { lateral: false, ..both };
    assert_eq!(recurrent(&top_down), ["v1.top_down.weight", "v2.top_down.weight", "v4.top_down.weight"]);
}

/// Names, order, shapes and initial values of every combination of the family's keys are those that runs and checkpoints
/// were made with: a hash over them all (FNV-1a, 64 bits).
#[test]
fn what_the_family_learns_has_never_changed() {
    let small =
        NetworkConfig { image_size: 16, stem_channels: 3, area_channels: [4, 6, 8, 10], ..Preset::Tiny.network() };
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |bytes: &[u8]| {
        hash = bytes.iter().fold(hash, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3));
    };
    for flags in 0..128 {
        let flag = |bit: u32| flags >> bit & 1 == 1;
        for norm in [Normalisation::Layer, Normalisation::Group, Normalisation::None] {
            let config = NetworkConfig {
                lateral: flag(0),
                topdown: flag(1),
                lt_position: if flag(2) { LtPosition::Last } else { LtPosition::All },
                recurrent_from: if flag(3) { RecurrentFrom::V1 } else { RecurrentFrom::V2 },
                readout_bias: flag(4),
                timesteps: if flag(5) { 3 } else { 1 },
                kernel_size: if flag(6) { 5 } else { 1 },
                norm,
                groups: 2,
                ..small.clone()
            };
            config.validate().unwrap();
            let specs = config.network().parameters;
            let drawn = initialise(&specs, 5);
            for spec in &specs {
                add(spec.name.as_bytes());
                spec.shape.iter().for_each(|n| add(&(*n as u64).to_le_bytes()));
                drawn.values(&spec.name).unwrap().iter().for_each(|v| add(&v.to_le_bytes()));
            }
        }
    }
    assert_eq!(hash, 0x88da_6b0d_6584_cf5d, "{hash:#x}");
}

/// Draws enough values that the statistics below are tight: v4's lateral map here has 589,824.
fn drawn(seed: u64) -> BTreeMap<String, (ParameterSpec, Vec<f32>)> {
    let config =
        NetworkConfig { topdown: true, norm: Normalisation::None, readout_bias: true, ..Preset::Blt64.network() };
    let specs = parameters(&config);
    let values = initialise(&specs, seed);
    let of = |spec: &ParameterSpec| values.values(&spec.name).unwrap().to_vec();
    specs.iter().map(|s| (s.name.clone(), (s.clone(), of(s)))).collect()
}

#[test]
fn initial_values_are_uniform_within_the_published_limits() {
    let drawn = drawn(3);
    let limits = [
        ("retina.weight", (6.0 / (27.0 + 288.0_f64)).sqrt()),
        ("retina.bias", 1.0 / 27.0_f64.sqrt()),
        ("v4.lateral.weight", (6.0 / (2.0 * 256.0 * 9.0_f64)).sqrt()),
        ("v4.lateral.bias", 1.0 / (256.0 * 9.0_f64).sqrt()),
        ("it.bottom_up.weight", (6.0 / ((256.0 + 512.0) * 9.0_f64)).sqrt()),
        ("v4.top_down.weight", 1.0 / (256.0 * 9.0_f64).sqrt()),
        ("v4.top_down.bias", 1.0 / (256.0 * 9.0_f64).sqrt()),
        ("gap.lateral.weight", (6.0 / 1024.0_f64).sqrt()),
        ("gap.lateral.bias", 1.0 / 512.0_f64.sqrt()),
        ("readout.weight", (6.0 / 612.0_f64).sqrt()),
        ("readout.bias", 1.0 / 512.0_f64.sqrt()),
    ];
    for (name, limit) in limits {
        let (spec, values) = &drawn[name];
        let n = spec.len() as f64;
        assert_eq!(values.len(), spec.len(), "{name}");
        let largest = values.iter().fold(0.0_f64, |m, &v| m.max(f64::from(v).abs()));
        assert!(largest <= limit * (1.0 + 1e-6) && largest >= limit * (1.0 - 20.0 / n), "{name}: {largest} of {limit}");
        // Mean 0 and variance limit^2 / 3, within 5 standard errors.
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        assert!(mean.abs() <= 5.0 * limit / (3.0 * n).sqrt(), "{name}: mean {mean}");
        let variance = values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / n;
        let error = 5.0 * (4.0_f64 / 45.0).sqrt() * limit * limit / n.sqrt();
        assert!((variance - limit * limit / 3.0).abs() <= error, "{name}: variance {variance}");
    }
}

#[test]
fn norms_start_as_the_identity() {
    let specs = parameters(&Preset::Tiny.network());
    let mut seen = 0;
    for (name, tensor) in initialise(&specs, 9).iter().filter(|(name, _)| name.contains("_ln.")) {
        let expected = if name.ends_with("weight") { 1.0 } else { 0.0 };
        assert!(tensor.values.iter().all(|&v| v == expected), "{name}");
        seen += 1;
    }
    assert_eq!(seen, 10);
}

#[test]
fn each_parameter_has_its_own_reproducible_stream() {
    assert_eq!(drawn(3), drawn(3));
    let (a, b) = (drawn(3), drawn(4));
    for (name, (_, values)) in &a {
        assert_ne!(values, &b[name].1, "{name} does not depend on the seed");
    }
    assert_ne!(a["v2.lateral.bias"].1, a["v2.bottom_up.bias"].1[..], "two parameters share a stream");

    // The same values whether or not top-down maps and readout bias exist.
    let specs = parameters(&NetworkConfig { norm: Normalisation::None, ..Preset::Blt64.network() });
    for (name, tensor) in initialise(&specs, 3).iter() {
        assert_eq!(tensor.values, a[name].1, "{name} depends on other parameters");
    }
    // Fixed numbers: they must not change with platform or version, or runs could no longer be repeated.
    let bits: Vec<u32> = a["retina.bias"].1[..3].iter().map(|v| v.to_bits()).collect();
    assert_eq!(bits, [1041712276, 3186782236, 3154629429]);
}

/// Names, shapes and unused parameters as the network's twin has them, which shares no code with the engine's network.
#[test]
fn parameters_are_those_of_the_twin() {
    let mut compared = 0;
    for bits in 0..1 << 8 {
        let on = |bit: u32| bits >> bit & 1 == 1;
        let norm = ["LN", "GN", "None"][bits % 3];
        let description = serde_json::json!({
            "image_size": 16, "in_channels": 3, "stem_channels": 4, "area_channels": [4, 8, 16, 32],
            "kernel_size": if on(0) { 3 } else { 5 }, "lateral": on(1), "topdown": on(2),
            "interaction": if on(3) { "additive" } else { "multiplicative" },
            "lt_position": if on(4) { "all" } else { "last" },
            "recurrent_from": if on(5) { "v1" } else { "v2" },
            "norm": norm, "groups": 2, "classifier_bias": on(6),
            "timesteps": if on(7) { 3 } else { 1 }, "n_classes": 5,
        });
        let twin = recurve::reference::network::blt::network(&description).unwrap();
        let unused = recurve::reference::network::unroll::unused_parameters(&twin);
        let config = NetworkConfig::from_golden_json(&description.to_string()).unwrap();
        let specs = parameters(&config);
        let ours: BTreeMap<String, Vec<usize>> = specs.iter().map(|p| (p.name.clone(), p.shape.clone())).collect();
        let theirs = twin.parameters();
        assert_eq!(ours, theirs, "{description}");
        assert_eq!(ours.len(), specs.len(), "{description}: a name stands twice");
        for spec in &specs {
            let used = config.network().uses(&spec.name);
            assert_eq!(used, !unused.contains(&spec.name), "{description}: {}", spec.name);
        }
        compared += specs.len();
    }
    assert!(compared > 2000, "only {compared} parameters");
}

/// The same of every golden network.
#[test]
#[ignore = "reads the golden files of ../shared: scripts/test.sh runs it where they are"]
fn golden_files_of_networks_have_exactly_these_parameters() {
    let folder = golden_folder("golden");
    let files = std::fs::read_dir(&folder).expect("RECURVE_SHARED names the folder that holds golden/");
    let mut count = 0;
    for path in files.map(|f| f.unwrap().path()) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !name.starts_with("blt_") || !name.ends_with(".safetensors") {
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        let metadata = header.metadata().as_ref().unwrap();
        let config = NetworkConfig::from_golden_json(&metadata["config"]).unwrap();
        let golden: BTreeMap<String, Vec<usize>> = header
            .tensors()
            .iter()
            .filter_map(|(n, info)| Some((n.strip_prefix("param/")?.to_string(), info.shape.clone())))
            .collect();
        let specs = parameters(&config);
        let ours: BTreeMap<String, Vec<usize>> = specs.iter().map(|p| (p.name.clone(), p.shape.clone())).collect();
        assert_eq!(ours, golden, "{name}");
        assert_eq!(ours.len(), specs.len(), "{name}: a name stands twice");
        let mut unused: Vec<String> =
            specs.iter().map(|p| p.name.clone()).filter(|name| !config.network().uses(name)).collect();
        unused.sort();
        let mut golden_unused: Vec<String> = serde_json::from_str(&metadata["unused_params"]).unwrap();
        golden_unused.sort();
        assert_eq!(unused, golden_unused, "{name}");
        count += 1;
    }
    assert!(count >= 13, "only {count} golden networks in {}", folder.display());
}

#[test]
fn a_golden_config_that_cannot_be_is_refused() {
    let good = r#"{"area_channels": [4, 8, 16, 32], "classifier_bias": true, "groups": 1, "image_size": 16, "in_channels": 3,
        "interaction": "additive", "kernel_size": 3, "lateral": true, "lt_position": "all", "n_classes": 5, "norm": "GN",
        "stem_channels": 4, "timesteps": 3, "topdown": false}"#;
    let config = NetworkConfig::from_golden_json(good).unwrap();
    assert_eq!((config.norm, config.classes, config.readout_bias), (Normalisation::Group, 5, true));
    for (from, to, word) in [
        ("\"GN\"", "\"BN\"", "BN"),
        ("\"image_size\": 16", "\"image_size\": 17", "image_size"),
        ("\"in_channels\": 3", "\"in_channels\": 4", "in_channels"),
        ("\"groups\": 1", "\"groups\": 3", "groups"),
        ("\"groups\": 1, ", "", "groups"),
        ("{", "[", "config"),
    ] {
        let error = NetworkConfig::from_golden_json(&good.replace(from, to)).unwrap_err().to_string();
        assert!(error.contains(word), "'{word}' is missing: {error}");
    }
}
