//! Networks of one's own: what a description becomes, and what is refused.

mod golden_folder;

use golden_folder::golden_folder;
use recurve::network::*;
use std::collections::BTreeMap;

const BASE: &str = r#"[architecture]
image_size = 32
classes = 7
timesteps = 6
areas = [
    { name = "retina", channels = 4, norm = "none" },
    { name = "v1", channels = 6 },
    { name = "v2", channels = 8 },
    { name = "v4", channels = 10 },
    { name = "gap", channels = 10, pool = "average" },
]
connections = [
    { from = "input", to = "retina", kind = "bottom_up" },
    { from = "retina", to = "v1", kind = "bottom_up", stride = 2 },
    { from = "v1", to = "v2", kind = "bottom_up", pool = 2 },
    { from = "v2", to = "v4", kind = "bottom_up" },
    { from = "v4", to = "gap", kind = "bottom_up" },
    { from = "v1", to = "v1", kind = "lateral" },
    { from = "gap", to = "gap", kind = "lateral" },
    { from = "v2", to = "v1", kind = "top_down", stride = 2 },
    { from = "v4", to = "v1", kind = "top_down", name = "far", stride = 2 },
]
"#;

/// The base with one text replaced, which must stand there once.
fn edited(from: &str, to: &str) -> String {
    assert_eq!(BASE.matches(from).count(), 1, "{from:?} stands in the base once");
    BASE.replace(from, to)
}

/// The base with one more area or connection.
fn with(list: &str, line: &str) -> String {
    let begin = format!("{list} = [\n");
    edited(&begin, &format!("{begin}    {{ {line} }},\n"))
}

fn own(text: &str) -> Architecture {
    match RunConfig::parse(text).unwrap_or_else(|e| panic!("{e}\n{text}")).network {
        Description::Own(architecture) => architecture,
        Description::Family(_) => panic!("an [architecture] was read as [network]"),
    }
}

fn refused(text: &str, words: &[&str]) {
    let error = RunConfig::parse(text).expect_err(text).to_string();
    for word in words {
        assert!(error.contains(word), "'{word}' is missing from the error for\n{text}\n{error}");
    }
}

#[test]
fn faults_of_keys_and_numbers_are_refused() {
    let cases: &[(&str, &str, &[&str])] = &[
        ("image_size = 32\n", "", &["architecture", "image_size"]),
        ("image_size = 32", "image_size = 0", &["image_size", "0", "1 to 4096"]),
        ("image_size = 32", "image_size = 8192", &["image_size", "8192", "4096"]),
        ("timesteps = 6\n", "", &["architecture", "timesteps"]),
        ("timesteps = 6", "timesteps = 0", &["timesteps", "0", "1 to 10000"]),
        ("timesteps = 6", "timesteps = -1", &["architecture.timesteps", "line 4", "-1"]),
        ("classes = 7", "classes = 0", &["classes", "0"]),
        ("timesteps = 6", "timesteps = 6\ntime_steps = 3", &["architecture", "line 5", "time_steps"]),
        ("timesteps = 6", "timesteps = 6\nunroll = \"backwards\"", &["unroll", "backwards", "biological"]),
        ("timesteps = 6", "timesteps = 6\nreadout_bias = 1", &["readout_bias", "boolean"]),
        ("\"v1\", channels = 6", "\"v1\", chanels = 6", &["architecture.areas[1]", "chanels", "channels"]),
        ("\"v1\", channels = 6", "\"v1\"", &["areas[1]", "missing", "channels"]),
        ("\"v1\", channels = 6", "\"v1\", channels = 0", &["area v1", "channels", "0"]),
        ("\"v1\", channels = 6", "\"v1\", channels = \"6\"", &["areas[1].channels", "string"]),
        ("\"v1\", channels = 6", "\"v1\", channels = 6, norm = \"batch\"", &["areas[1].norm", "batch", "group"]),
        ("\"v1\", channels = 6", "\"v1\", channels = 6, activation = \"gelu\"", &["activation", "gelu", "relu"]),
        ("\"v1\", channels = 6", "\"v1\", channels = 6, interaction = \"both\"", &["interaction", "both", "additive"]),
        ("pool = \"average\"", "pool = \"maximum\"", &["areas[4].pool", "maximum", "average"]),
        ("kind = \"bottom_up\", pool = 2", "pool = 2", &["connections[2]", "missing", "kind"]),
        ("kind = \"bottom_up\", pool = 2", "kind = \"sideways\"", &["connections[2].kind", "sideways", "lateral"]),
        ("kind = \"bottom_up\", pool = 2", "kind = \"bottom_up\", kernal = 5", &["connections[2]", "kernal", "kernel"]),
        ("kind = \"bottom_up\", pool = 2", "kind = \"bottom_up\", bias = \"yes\"", &["connections[2].bias", "boolean"]),
    ];
    for (from, to, words) in cases {
        refused(&edited(from, to), words);
    }
    let group = |groups| format!("\"v1\", channels = 6, norm = \"group\", groups = {groups}");
    refused(&edited("\"v1\", channels = 6", &group(4)), &["area v1", "groups = 4", "6 channels"]);
    refused(&edited("\"v1\", channels = 6", &group(0)), &["area v1", "groups = 0"]);
    refused(&edited("\"v1\", channels = 6", "\"v1\", channels = 6, groups = 2"), &["area v1", "groups = 2", "norm"]);
    refused("[architecture]\nimage_size = 8\ntimesteps = 1\nareas = []\nconnections = []\n", &["no areas"]);
    refused(&format!("{BASE}[network]\nlateral = true\n"), &["[network]", "[architecture]", "keep one"]);
}

#[test]
fn faults_of_names_are_refused() {
    refused(&with("areas", "name = \"input\", channels = 2"), &["\"input\"", "name"]);
    refused(&with("areas", "name = \"readout\", channels = 2"), &["\"readout\"", "name"]);
    refused(&with("areas", "name = \"\", channels = 2"), &["\"\"", "letters"]);
    refused(&with("areas", "name = \"v2.b\", channels = 2"), &["\"v2.b\"", "letters"]);
    refused(&with("areas", "name = \"v4\", channels = 2"), &["area v4", "two areas"]);
    refused(
        &edited("from = \"v1\", to = \"v2\"", "from = \"v9\", to = \"v2\""),
        &["v2.bottom_up", "\"v9\"", "retina, v1"],
    );
    let connection = |line: &str, words: &[&str]| refused(&with("connections", line), words);
    connection("from = \"v1\", to = \"v9\", kind = \"bottom_up\"", &["to = \"v9\"", "retina, v1"]);
    connection("from = \"v1\", to = \"input\", kind = \"top_down\"", &["from v1", "input", "nothing can end"]);
    connection("from = \"v1\", to = \"readout\", kind = \"bottom_up\"", &["to = \"readout\"", "no area"]);
    connection("from = \"v1\", to = \"v2\", kind = \"bottom_up\", pool = 2", &["v2.bottom_up", "another name"]);
    connection("from = \"v1\", to = \"v1\", kind = \"lateral\", name = \"norm\"", &["v1.norm", "not norm"]);
    connection("from = \"v1\", to = \"v1\", kind = \"lateral\", name = \"a-b\"", &["\"a-b\"", "letters"]);
    connection(
        "from = \"v1\", to = \"v1\", kind = \"lateral\", name = \"far\"",
        &["v1.far", "from v4", "another name"],
    );
}

#[test]
fn faults_of_single_connections_are_refused() {
    let v2 = "from = \"v1\", to = \"v2\", kind = \"bottom_up\", pool = 2";
    for (to, words) in [
        (format!("{v2}, kernel = 4"), ["v2.bottom_up", "kernel = 4", "odd"]),
        (format!("{v2}, kernel = 0"), ["v2.bottom_up", "kernel = 0", "odd"]),
        (format!("{v2}, kernel = 33"), ["v2.bottom_up", "kernel = 33", "1 to 31"]),
        (format!("{v2}, stride = 3"), ["v2.bottom_up", "stride = 3", "1, 2 or 4"]),
        (format!("{v2}, stride = 0"), ["v2.bottom_up", "stride = 0", "1, 2 or 4"]),
        (v2.replace("pool = 2", "pool = 3"), ["v2.bottom_up", "pool = 3", "1 or 2"]),
        (v2.replace("pool = 2", "pool = 0"), ["v2.bottom_up", "pool = 0", "1 or 2"]),
    ] {
        refused(&edited(v2, &to), &words);
    }
    let lateral = "from = \"v1\", to = \"v1\", kind = \"lateral\"";
    refused(&edited(lateral, &format!("{lateral}, stride = 2")), &["v1.lateral", "stride = 2", "leave stride out"]);
    refused(&edited(lateral, &format!("{lateral}, pool = 2")), &["v1.lateral", "pool = 2", "leave pool out"]);
    refused(&edited(lateral, &lateral.replacen("v1", "v2", 1)), &["v1.lateral", "from v2 to v1", "set kind"]);
    let far = "name = \"far\", stride = 2";
    refused(&edited(far, &format!("{far}, pool = 2")), &["v1.far", "pool = 2", "leave pool out"]);
    refused(
        &edited("from = \"v4\", to = \"v1\"", "from = \"input\", to = \"v1\""),
        &["v1.far", "from input", "bottom_up"],
    );
    let connection = |line: &str, words: &[&str]| refused(&with("connections", line), words);
    connection("from = \"input\", to = \"v1\", kind = \"lateral\"", &["v1.lateral", "from input", "bottom_up"]);
    connection("from = \"v2\", to = \"v2\", kind = \"top_down\"", &["v2.top_down", "itself", "lateral"]);
    connection("from = \"v2\", to = \"v2\", kind = \"bottom_up\", name = \"a\"", &["v2.a", "itself", "lateral"]);
}

#[test]
fn faults_of_vectors_are_refused() {
    let average = "from = \"v4\", to = \"gap\", kind = \"bottom_up\"";
    for key in ["kernel = 1", "stride = 2", "pool = 2", "bias = true"] {
        let word = key.split(' ').next().unwrap();
        refused(&edited(average, &format!("{average}, {key}")), &["gap.bottom_up", &format!("leave {word} out")]);
    }
    refused(
        &edited("\"gap\", channels = 10", "\"gap\", channels = 12"),
        &["gap.bottom_up", "12 channels", "v4, which has 10"],
    );
    let lateral = "from = \"gap\", to = \"gap\", kind = \"lateral\"";
    refused(&edited(lateral, &format!("{lateral}, kernel = 3")), &["gap.lateral", "kernel = 3", "linear"]);
    let connection = |line: &str, words: &[&str]| refused(&with("connections", line), words);
    connection(&format!("{average}, name = \"again\""), &["area gap", "2 end here", "from v4, v4"]);
    connection("from = \"gap\", to = \"v4\", kind = \"top_down\"", &["v4.top_down", "gap is a vector"]);
    connection("from = \"gap\", to = \"v4\", kind = \"bottom_up\", name = \"a\"", &["v4.a", "gap is a vector"]);
    connection("from = \"v4\", to = \"gap\", kind = \"top_down\"", &["gap.top_down", "gap is a vector"]);
    let second = with("areas", "name = \"gap2\", channels = 10, pool = \"average\"");
    let between = "    { from = \"gap\", to = \"gap2\", kind = \"bottom_up\" },\n]\n";
    refused(&(second.strip_suffix("]\n").unwrap().to_string() + between), &["gap2.bottom_up", "gap is a vector"]);
}

#[test]
fn faults_of_sizes_are_refused() {
    let sized = |size: usize| edited("image_size = 32", &format!("image_size = {size}"));
    refused(&sized(31), &["v1.bottom_up", "stride = 2", "31 x 31"]);
    refused(&sized(34), &["v2.bottom_up", "pool = 2", "17 x 17"]);
    let both = sized(28).replace("pool = 2", "pool = 2, stride = 2");
    refused(&both, &["v2.bottom_up", "stride = 2 does not divide 7 x 7", "14 x 14 before the pooling"]);
    let connection = |line: &str, words: &[&str]| refused(&with("connections", line), words);
    connection(
        "from = \"v1\", to = \"v4\", kind = \"bottom_up\", name = \"skip\"",
        &["area v4", "skip", "16 x 16", "8 x 8"],
    );
    let far = "name = \"far\", stride = 2";
    refused(&edited(far, "name = \"far\", stride = 4"), &["v1.far", "32 x 32", "16 x 16", "set stride = 2"]);
    refused(&edited(far, "name = \"far\""), &["v1.far", "8 x 8", "16 x 16", "set stride = 2"]);
    connection("from = \"retina\", to = \"v1\", kind = \"top_down\", name = \"a\"", &["v1.a", "no stride fits"]);
    let large = edited("image_size = 32", "image_size = 4096").replace("channels = 4,", "channels = 65,");
    refused(&large, &["too large", "retina's map", "image_size"]);
    let wide = BASE.replace("channels = 10", "channels = 16384");
    let wide = wide.replace(
        "from = \"v2\", to = \"v4\", kind = \"bottom_up\"",
        "from = \"v2\", to = \"v4\", kind = \"bottom_up\" }, { from = \"v4\", to = \"v4\", kind = \"lateral\", kernel = 31",
    );
    refused(&wide, &["too large", "v4.lateral.weight", "kernel"]);
}

#[test]
fn faults_of_the_whole_are_refused() {
    let connection = |line: &str, words: &[&str]| refused(&with("connections", line), words);
    connection(
        "from = \"v4\", to = \"v2\", kind = \"bottom_up\", name = \"b\"",
        &["cycle", "v2 -> v4 -> v2", "top_down"],
    );
    refused(
        &edited("    { from = \"input\", to = \"retina\", kind = \"bottom_up\" },\n", ""),
        &["area retina", "input"],
    );
    let lonely = with("areas", "name = \"lonely\", channels = 2");
    refused(&lonely, &["area lonely", "input"]);
    let more = |line: &str| lonely.replace("connections = [\n", &format!("connections = [\n    {{ {line} }},\n"));
    refused(&more("from = \"v4\", to = \"lonely\", kind = \"top_down\""), &["area lonely", "input"]);
    // The area that follows an unreached one is not where to begin.
    let island = more("from = \"lonely\", to = \"island\", kind = \"bottom_up\"")
        .replace("areas = [\n", "areas = [\n    { name = \"island\", channels = 2 },\n");
    refused(&island, &["area lonely", "input"]);
    let open = BASE
        .replace("\"gap\", channels = 10, pool = \"average\"", "\"v5\", channels = 3")
        .replace("from = \"v4\", to = \"gap\"", "from = \"v2\", to = \"v5\"");
    let open = open.replace("    { from = \"gap\", to = \"gap\", kind = \"lateral\" },\n", "");
    refused(&open, &["readout", "v4, v5", "gap"]);
    let biological = |t: usize| edited("timesteps = 6", &format!("timesteps = {t}\nunroll = \"biological\""));
    refused(&biological(4), &["timesteps = 4", "gap", "step 4 on", "5 or more"]);
    assert_eq!(own(&biological(5)).network().unwrap().first_steps(), [0, 1, 2, 3, 4]);
}

/// Texts that must be refused, made by others; the tests above have every kind of fault.
#[test]
#[ignore = "reads the golden files of ../shared: scripts/test.sh runs it where they are"]
fn golden_files_of_wrong_descriptions_are_refused() {
    let text = std::fs::read_to_string(golden_folder("golden-arch").join("arch_bad.json")).unwrap();
    let cases: Vec<BTreeMap<String, String>> = serde_json::from_str(&text).unwrap();
    assert!(cases.len() >= 59, "only {} wrong descriptions", cases.len());
    for case in &cases {
        let (name, word) = (&case["name"], &case["word"]);
        let error = RunConfig::parse(&case["toml"]).expect_err(name).to_string();
        assert!(error.lines().any(|line| found(word, line)), "{name}: no line matches {word}:\n{error}");
    }
}

/// Whether an extended regular expression of literals, `.*`, groups and `|` occurs in a line, in any case.
fn found(pattern: &str, line: &str) -> bool {
    let (pattern, line) = (pattern.to_lowercase(), line.to_lowercase());
    let (pattern, line): (Vec<char>, Vec<char>) = (pattern.chars().collect(), line.chars().collect());
    (0..=line.len()).any(|start| matches(&pattern, &line[start..], &mut |_| true))
}

/// Whether `text` begins with the pattern and `then` accepts what follows.
fn matches(pattern: &[char], text: &[char], then: &mut dyn FnMut(&[char]) -> bool) -> bool {
    let mut depth = 0;
    let mut closed = None;
    for (i, c) in pattern.iter().enumerate() {
        depth += i32::from(*c == '(') - i32::from(*c == ')');
        if depth == 0 && *c == '|' {
            return matches(&pattern[..i], text, then) || matches(&pattern[i + 1..], text, then);
        }
        if depth == 0 && *c == ')' {
            closed = closed.or(Some(i));
        }
    }
    match pattern {
        [] => then(text),
        ['(', ..] => {
            let end = closed.expect("the group is closed");
            matches(&pattern[1..end], text, &mut |text| matches(&pattern[end + 1..], text, then))
        }
        ['.', '*', rest @ ..] => (0..=text.len()).any(|skip| matches(rest, &text[skip..], then)),
        ['\\', c, rest @ ..] | [c, rest @ ..] => text.first() == Some(c) && matches(rest, &text[1..], then),
    }
}

#[test]
fn the_matcher_of_patterns_can_fail() {
    assert!(found("(v1).*(30)|(30).*(v1)", "at 30 into V1") && found("(v1).*(30)|(30).*(v1)", "v1: 30"));
    assert!(!found("(v1).*(30)|(30).*(v1)", "v1: 3 0") && !found("v2\\.b", "v2xb") && found("v2\\.b", "a v2.b c"));
    assert!(found("v2|areas.*channels", "areas[2].channels") && !found("v2|areas.*channels", "channels of areas"));
    assert!(found("(v2).*(3.*16|16.*3)", "v2: 16 by 3") && !found("(v2).*(3.*16|16.*3)", "v2: 16"));
    assert!(found("(a).*(gap|4|5)", "a 5") && !found("(a).*(gap|4|5)", "a 6"));
}

/// Names and shapes of the golden networks' parameters, their descriptions written as they were read, and the areas that
/// exist at each step.
#[test]
#[ignore = "reads the golden files of ../shared: scripts/test.sh runs it where they are"]
fn golden_files_of_networks_are_what_their_descriptions_say() {
    let mut count = 0;
    for path in std::fs::read_dir(golden_folder("golden-arch")).unwrap().map(|f| f.unwrap().path()) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !name.ends_with(".safetensors") {
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        let metadata = header.metadata().as_ref().unwrap();
        let network = Description::from_golden_metadata(metadata).unwrap().network().unwrap();
        let golden: BTreeMap<String, Vec<usize>> = header
            .tensors()
            .iter()
            .filter_map(|(n, info)| Some((n.strip_prefix("param/")?.to_string(), info.shape.clone())))
            .collect();
        let ours: BTreeMap<String, Vec<usize>> =
            network.parameters.iter().map(|p| (p.name.clone(), p.shape.clone())).collect();
        assert_eq!(ours, golden, "{name}");
        assert_eq!(ours.len(), network.parameters.len(), "{name}: a name stands twice");
        let mut steps = network.timesteps;
        if let Some(json) = metadata.get("protocol") {
            let protocol = Protocol::from_golden_json(json).unwrap();
            protocol.validate(&network).unwrap_or_else(|e| panic!("{name}: {e}"));
            steps = protocol.timesteps(steps);
        }
        for (area, first) in network.areas.iter().zip(network.first_steps()) {
            for t in 0..=steps {
                let tensor = header.tensors().contains_key(&format!("act/{}/{t}", area.name));
                assert_eq!(tensor, (first..steps).contains(&t), "{name}: {} at step {t}", area.name);
            }
            if let Some(info) = header.tensors().get(&format!("act/{}/{first}", area.name)) {
                let map = [area.channels, area.side, area.side];
                assert_eq!(info.shape[1..], if area.vector { &map[..1] } else { &map }[..], "{name}: {}", area.name);
            }
        }
        if let Some(json) = metadata.get("architecture") {
            let read = Architecture::from_golden_json(json).unwrap();
            let value: serde_json::Value = serde_json::from_str(json).unwrap();
            assert_eq!(serde_json::to_value(&read).unwrap(), value, "{name}: defaults are left out");
            let mut run = Preset::Tiny.run();
            run.network = read.into();
            assert_eq!(RunConfig::parse(&run.to_toml()).unwrap().network, run.network, "{name}");
            count += 1;
        }
    }
    assert!(count >= 9, "only {count} golden networks of one's own");
}

#[test]
fn areas_stand_in_the_order_of_the_drive_and_parameters_with_them() {
    let text = r#"[architecture]
image_size = 16
classes = 5
timesteps = 3
readout_bias = true
areas = [
    { name = "it", channels = 7 },
    { name = "retina", channels = 3, norm = "none" },
    { name = "gap", channels = 7, pool = "average", norm = "group", groups = 7 },
    { name = "v1", channels = 4, activation = "none", interaction = "multiplicative" },
]
connections = [
    { from = "retina", to = "it", kind = "bottom_up", name = "skip", pool = 2, stride = 4, kernel = 5 },
    { from = "v1", to = "it", kind = "bottom_up", stride = 2, bias = true },
    { from = "it", to = "v1", kind = "top_down", stride = 2 },
    { from = "input", to = "retina", kind = "bottom_up", bias = false },
    { from = "retina", to = "v1", kind = "bottom_up", stride = 4, kernel = 1 },
    { from = "it", to = "gap", kind = "bottom_up" },
    { from = "gap", to = "gap", kind = "lateral", kernel = 1 },
    { from = "v1", to = "retina", kind = "top_down", stride = 4 },
    { from = "retina", to = "retina", kind = "lateral", bias = false },
    { from = "it", to = "it", kind = "top_down", name = "x" },
]
"#;
    refused(text, &["it.x", "itself"]);
    let network = own(&text.replace("kind = \"top_down\", name = \"x\"", "kind = \"lateral\"")).network().unwrap();
    let areas: Vec<(&str, usize, bool)> = network.areas.iter().map(|a| (&a.name[..], a.side, a.vector)).collect();
    assert_eq!(areas, [("retina", 16, false), ("v1", 4, false), ("it", 2, false), ("gap", 1, true)]);
    assert_eq!((network.areas[1].relu, network.areas[1].interaction), (false, Interaction::Multiplicative));
    let labels: Vec<&str> = network.connections.iter().map(|c| &c.label[..]).collect();
    let expected = ["it.skip", "it.bottom_up", "v1.top_down", "retina.bottom_up", "v1.bottom_up", "gap.bottom_up"];
    assert_eq!(labels[..6], expected);
    assert_eq!((network.connections[0].from, network.connections[0].to), (From::Area(0), 2));
    assert_eq!(network.connections[3].from, From::Input);
    assert_eq!(network.connections[5].map, Map::Average);
    let parameters: Vec<(&str, &[usize])> = network.parameters.iter().map(|p| (&p.name[..], &p.shape[..])).collect();
    let expected: &[(&str, &[usize])] = &[
        ("retina.bottom_up.weight", &[3, 3, 3, 3]),
        ("retina.top_down.weight", &[4, 3, 3, 3]),
        ("retina.top_down.bias", &[3]),
        ("retina.lateral.weight", &[3, 3, 3, 3]),
        ("v1.top_down.weight", &[7, 4, 3, 3]),
        ("v1.bottom_up.weight", &[4, 3, 1, 1]),
        ("v1.norm.weight", &[4, 4, 4]),
        ("v1.norm.bias", &[4, 4, 4]),
        ("it.skip.weight", &[7, 3, 5, 5]),
        ("it.bottom_up.weight", &[7, 4, 3, 3]),
        ("it.bottom_up.bias", &[7]),
        ("it.lateral.weight", &[7, 7, 3, 3]),
        ("it.norm.weight", &[7, 2, 2]),
        ("it.norm.bias", &[7, 2, 2]),
        ("gap.lateral.weight", &[7, 7]),
        ("gap.norm.weight", &[7]),
        ("gap.norm.bias", &[7]),
        ("readout.weight", &[5, 7]),
        ("readout.bias", &[5]),
    ];
    assert_eq!(parameters, expected);
    let limit = |name: &str| match network.parameters.iter().find(|p| p.name == name).unwrap().init {
        Init::Uniform { limit } => limit,
        Init::Constant(_) => panic!("{name} is drawn"),
    };
    assert_eq!(limit("it.skip.weight"), (6.0 / (75.0 + 175.0_f64)).sqrt());
    assert_eq!(limit("v1.top_down.weight"), 1.0 / 36.0_f64.sqrt());
    assert_eq!(limit("retina.top_down.bias"), 1.0 / 27.0_f64.sqrt());
    assert_eq!(limit("gap.lateral.weight"), (6.0 / 14.0_f64).sqrt());
    assert!(network.parameters.iter().all(|p| network.uses(&p.name)), "every parameter has its place");
}

/// A network of the family described by its areas and connections is the same but for the names of its parameters.
#[test]
fn the_family_can_be_described_as_one_s_own() {
    let family = NetworkConfig {
        topdown: true,
        recurrent_from: RecurrentFrom::V1,
        norm: Normalisation::Group,
        groups: 4,
        interaction: Interaction::Multiplicative,
        ..Preset::Tiny.network()
    };
    let area = |name: &str, channels: usize| AreaDescription {
        name: name.into(),
        channels,
        norm: if name == "retina" { Normalisation::None } else { Normalisation::Group },
        groups: if name == "retina" { 1 } else { 4 },
        activation: Activation::Relu,
        interaction: Interaction::Multiplicative,
        pool: (name == "gap").then_some(Pool::Average),
    };
    let connection = |from: &str, to: &str, kind, pool, stride| ConnectionDescription {
        from: from.into(),
        to: to.into(),
        kind,
        kernel: None,
        stride,
        pool,
        bias: None,
        name: None,
    };
    let names = ["input", "retina", "v1", "v2", "v4", "it", "gap"];
    let mut connections = Vec::new();
    for (i, pair) in names.windows(2).enumerate() {
        let pool = if (2..5).contains(&i) { 2 } else { 1 };
        connections.push(connection(pair[0], pair[1], Kind::BottomUp, pool, 1));
        if i > 0 {
            connections.push(connection(pair[1], pair[1], Kind::Lateral, 1, 1));
        }
        if (1..4).contains(&i) {
            connections.push(connection(names[i + 2], pair[1], Kind::TopDown, 1, 2));
        }
    }
    let channels = [16, 16, 32, 64, 128, 128];
    let described = Architecture {
        image_size: 32,
        classes: Some(10),
        timesteps: 5,
        unroll: Unroll::Engineering,
        readout_bias: false,
        areas: names[1..].iter().zip(channels).map(|(name, channels)| area(name, channels)).collect(),
        connections,
    };
    let (ours, family) = (described.network().unwrap(), family.network());
    let renamed = |name: &str| match name.replace("_ln.", ".norm.").split_once('.') {
        Some(("retina", rest)) => format!("retina.bottom_up.{rest}"),
        _ => name.replace("_ln.", ".norm."),
    };
    let parameters: Vec<ParameterSpec> =
        family.parameters.iter().map(|p| ParameterSpec { name: renamed(&p.name), ..p.clone() }).collect();
    assert_eq!(ours.parameters, parameters);
    let mut expected = Network { parameters, ..family };
    for area in &mut expected.areas {
        if let Some(norm) = &mut area.norm {
            (norm.weight, norm.bias) = (renamed(&norm.weight), renamed(&norm.bias));
        }
    }
    for connection in &mut expected.connections {
        if let Map::Convolution { weight, bias, .. } | Map::Transposed { weight, bias, .. } = &mut connection.map {
            (*weight, *bias) = (renamed(weight), bias.as_deref().map(renamed));
        }
    }
    assert_eq!(ours, expected);
}

#[test]
fn a_file_with_an_architecture_takes_training_and_data_from_its_preset_and_no_network() {
    let run = RunConfig::parse(&format!("preset = \"blt64\"\n{BASE}[training]\nsteps = 9\n")).unwrap();
    assert_eq!((run.training.batch, run.training.steps, run.training.epochs), (1024, Some(9), None));
    let text = run.to_toml();
    assert!(text.contains("[architecture]") && !text.contains("[network]"), "{text}");
    assert!(!text.contains("kernel") && !text.contains("groups") && !text.contains("unroll"), "{text}");
    assert_eq!(RunConfig::parse(&text).unwrap(), run);
    assert_eq!(RunConfig::parse(BASE).unwrap().training, Preset::Tiny.training());
    assert_eq!((run.network.image_size(), run.network.timesteps()), (32, 6));
    assert_eq!(run.network.with_timesteps(9).network().unwrap().timesteps, 9);
}

#[test]
fn the_data_set_gives_the_classes_of_an_architecture_without() {
    let mut free = RunConfig::parse(&edited("classes = 7\n", "")).unwrap();
    free.set_classes(16).unwrap();
    assert_eq!(free.network.network().unwrap().classes, 16);
    let error = RunConfig::parse(BASE).unwrap().set_classes(16).unwrap_err().to_string();
    assert!(error.contains("[architecture] classes = 7") && error.contains("16"), "{error}");
    let mut bare = own(BASE);
    bare.classes = None;
    bare.validate().unwrap();
    assert!(bare.network().unwrap_err().to_string().contains("classes"));
}

/// Every example of the page for users is what it says.
#[test]
fn the_examples_of_the_documentation_are_read() {
    let blocks = |page: &'static str| page.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let worked: Vec<&str> = blocks(include_str!("../docs/disturb.md")).collect();
    assert_eq!(worked.len(), 5, "a network and four protocols");
    let both = format!("{}\n", worked[0]).replace("topdown = false", "topdown = true");
    let family = RunConfig::parse(&both).unwrap().network.network().unwrap();
    for block in &worked[1..] {
        Protocol::parse(block).and_then(|p| p.validate(&family)).unwrap_or_else(|e| panic!("{e}\n{block}"));
    }
    let mut networks = Vec::new();
    let mut protocols = Vec::new();
    for block in blocks(include_str!("../docs/networks.md")) {
        if block.contains("[architecture]") {
            networks.push(RunConfig::parse(block).unwrap_or_else(|e| panic!("{e}\n{block}")));
        } else {
            protocols.push(Protocol::parse(block).unwrap_or_else(|e| panic!("{e}\n{block}")));
        }
    }
    assert!(!networks.is_empty() && protocols.len() >= 3, "{} networks, {} protocols", networks.len(), protocols.len());
    let mut network = networks[0].network.network().unwrap();
    for protocol in protocols {
        protocol.validate(&network).unwrap_or_else(|e| panic!("{e}\n{protocol:?}"));
    }
    let names: Vec<&str> = network.areas.iter().map(|a| &a.name[..]).collect();
    network.unroll = Unroll::Biological;
    assert_eq!((names, network.first_steps()), (vec!["retina", "v1", "v2", "it", "gap"], vec![0, 1, 2, 2, 3]));
}
