//! Protocols: what is read, what is refused, which factor acts and what is shown at which step.

use recurve::network::*;

fn network() -> Network {
    NetworkConfig { topdown: true, ..Preset::Tiny.network() }.network()
}

fn connection(network: &Network, label: &str) -> Connection {
    network.connections.iter().find(|c| c.label == label).unwrap_or_else(|| panic!("{label} is missing")).clone()
}

#[test]
fn every_key_is_read_and_written_again() {
    let text = r#"[protocol]
timesteps = 20
[[protocol.gains]]
connection = "v4.lateral"
gain = 0.5
from = 3
until = 6
[[protocol.gains]]
connection = "*.top_down"
gain = 0
[[protocol.inputs]]
from = 4
show = "blank"
[[protocol.inputs]]
from = 2
show = "next"
"#;
    let protocol = Protocol::parse(text).unwrap();
    let gain = |connection: &str, gain, from, until| Gain { connection: connection.into(), gain, from, until };
    let expected = Protocol {
        timesteps: Some(20),
        gains: vec![gain("v4.lateral", 0.5, 3, Some(6)), gain("*.top_down", 0.0, 0, None)],
        inputs: vec![Input { from: 4, show: Shown::Blank }, Input { from: 2, show: Shown::Next }],
    };
    assert_eq!(protocol, expected);
    let json = serde_json::to_string(&protocol).unwrap();
    let golden = r#"{"timesteps":20,"gains":[{"connection":"v4.lateral","gain":0.5,"from":3,"until":6},{"connection":"*.top_down","gain":0.0}],"inputs":[{"from":4,"show":"blank"},{"from":2,"show":"next"}]}"#;
    assert_eq!(json, golden);
    assert_eq!(Protocol::from_golden_json(golden).unwrap(), expected);
    assert_eq!(Protocol::parse("[protocol]\n").unwrap(), Protocol::default());
    protocol.validate(&network()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lesion.toml");
    std::fs::write(&path, text).unwrap();
    assert_eq!(Protocol::read(&path).unwrap(), expected);
    std::fs::write(&path, "[protocol]\ntimestep = 3\n").unwrap();
    let error = Protocol::read(&path).unwrap_err().to_string();
    assert!(error.contains("lesion.toml") && error.contains("timestep") && error.contains("line 2"), "{error}");
    assert!(Protocol::read(&folder.path().join("none.toml")).unwrap_err().to_string().contains("none.toml"));
}

#[test]
fn faults_are_refused() {
    let gain = |lines: &str| format!("[[protocol.gains]]\n{lines}\n");
    let input = |lines: &str| format!("[[protocol.inputs]]\n{lines}\n");
    let cases: &[(String, &[&str])] = &[
        (String::new(), &["protocol"]),
        ("[network]\nlateral = true\n".into(), &["network", "protocol"]),
        ("[protocol]\ntimesteps = 0\n".into(), &["timesteps", "0"]),
        ("[protocol]\ntimesteps = 10001\n".into(), &["timesteps", "10001", "10000"]),
        (gain("connection = \"v9.lateral\"\ngain = 0"), &["v9.lateral", "v2.lateral", "*.top_down"]),
        (gain("connection = \"v1.lateral\"\ngain = 0"), &["v1.lateral", "v2.lateral"]),
        (gain("connection = \"v2.*\"\ngain = 0"), &["v2.*", "v2.lateral"]),
        (gain("connection = \"*.far\"\ngain = 0"), &["*.far", "*.lateral"]),
        (gain("connection = \"lateral\"\ngain = 0"), &["\"lateral\"", "*.lateral"]),
        (gain("connection = \"v2.lateral\""), &["gain", "missing"]),
        (gain("gain = 0"), &["connection", "missing"]),
        (gain("connection = \"v2.lateral\"\ngain = \"none\""), &["gain", "line 3"]),
        (gain("connection = \"v2.lateral\"\ngain = nan"), &["v2.lateral", "NaN", "finite"]),
        (gain("connection = \"v2.lateral\"\ngain = inf"), &["v2.lateral", "inf", "finite"]),
        (gain("connection = \"v2.lateral\"\ngain = 1e39"), &["protocol.gains[0].gain", "1e39", "range of f32"]),
        (gain("connection = \"v2.lateral\"\ngain = 0\nfrom = 3\nuntil = 3"), &["v2.lateral", "until = 3", "from = 3"]),
        (gain("connection = \"v2.lateral\"\ngain = 0\nuntil = 0"), &["v2.lateral", "until = 0", "from = 0"]),
        (gain("connection = \"v2.lateral\"\ngain = 0\nfrom = -1"), &["from", "-1"]),
        (
            gain("connection = \"*.lateral\"\ngain = 1e30")
                + &gain("connection = \"v4.lateral\"\ngain = 1e30\nfrom = 2"),
            &["v4.lateral", "step 2", "finite"],
        ),
        (input("from = 3\nshow = \"noise\""), &["noise", "blank", "next"]),
        (input("from = 3\nshow = \"picture\""), &["picture", "blank", "next"]),
        (input("show = \"blank\""), &["from", "missing"]),
        (input("from = 3"), &["show", "missing"]),
        (input("from = 3\nshow = \"blank\"") + &input("from = 3\nshow = \"next\""), &["two inputs", "from = 3"]),
    ];
    for (text, words) in cases {
        let error = Protocol::parse(text).and_then(|p| p.validate(&network())).expect_err(text).to_string();
        for word in *words {
            assert!(error.contains(word), "'{word}' is missing from the error for\n{text}\n{error}");
        }
    }
}

#[test]
fn gains_act_in_their_steps_and_multiply() {
    let network = network();
    let text = r#"[[protocol.gains]]
connection = "*.lateral"
gain = 0.5
from = 1
[[protocol.gains]]
connection = "v4.lateral"
gain = 3
from = 2
until = 4
[[protocol.gains]]
connection = "it.bottom_up"
gain = 1
"#;
    let protocol = Protocol::parse(text).unwrap();
    protocol.validate(&network).unwrap();
    let over_time = |label: &str| [0, 1, 2, 3, 4].map(|t| protocol.gain(&connection(&network, label), t));
    assert_eq!(over_time("v4.lateral"), [1.0, 0.5, 1.5, 1.5, 0.5]);
    assert_eq!(over_time("gap.lateral"), [1.0, 0.5, 0.5, 0.5, 0.5]);
    assert_eq!(over_time("v4.top_down"), [1.0; 5]);
    let labels: Vec<&str> = protocol.disturbed(&network).iter().map(|&i| &network.connections[i].label[..]).collect();
    assert_eq!(labels, ["v2.lateral", "v4.lateral", "it.lateral", "gap.lateral"], "a gain of 1 disturbs nothing");
    assert_eq!((protocol.timesteps(5), Protocol { timesteps: Some(9), ..protocol }.timesteps(5)), (5, 9));
}

#[test]
fn a_pattern_means_a_kind_whatever_the_names() {
    let text = include_str!("../docs/networks.md").split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let network = RunConfig::parse(text).unwrap().network.network().unwrap();
    let named = network.connections.iter().find(|c| c.kind == Kind::TopDown && !c.label.ends_with(".top_down"));
    let named = named.expect("the example has a top-down connection with a name of its own");
    let pattern = |p: &str| Protocol::parse(&format!("[[protocol.gains]]\nconnection = \"{p}\"\ngain = 0\n")).unwrap();
    assert_eq!(pattern("*.top_down").gain(named, 1), 0.0);
    assert_eq!(pattern("*.lateral").gain(named, 1), 1.0);
    assert_eq!(pattern(&named.label).gain(named, 1), 0.0);
}

#[test]
fn of_the_inputs_the_one_that_began_last_counts() {
    let text = "[[protocol.inputs]]\nfrom = 5\nshow = \"blank\"\n[[protocol.inputs]]\nfrom = 2\nshow = \"next\"\n";
    let protocol = Protocol::parse(text).unwrap();
    let shown: Vec<Shown> = [0, 1, 2, 4, 5, 9].iter().map(|&t| protocol.shown(t)).collect();
    let expected = [Shown::Picture, Shown::Picture, Shown::Next, Shown::Next, Shown::Blank, Shown::Blank];
    assert_eq!(shown, expected);
}

#[test]
fn a_run_that_ends_before_anything_is_read_out_is_refused() {
    let text = include_str!("../docs/networks.md").split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let mut network = RunConfig::parse(text).unwrap().network.network().unwrap();
    let short = Protocol { timesteps: Some(1), ..Protocol::default() };
    short.validate(&network).unwrap();
    network.unroll = Unroll::Biological;
    let error = short.validate(&network).unwrap_err().to_string();
    assert!(error.contains("timesteps = 1") && error.contains("or more"), "{error}");
}

/// The published family's connections are those that protocols name.
#[test]
fn the_family_s_connections_have_their_labels() {
    let labels =
        |config: NetworkConfig| -> Vec<String> { config.network().connections.into_iter().map(|c| c.label).collect() };
    let both = NetworkConfig { topdown: true, ..Preset::Tiny.network() };
    let expected = [
        "retina.bottom_up",
        "v1.bottom_up",
        "v2.bottom_up",
        "v2.lateral",
        "v2.top_down",
        "v4.bottom_up",
        "v4.lateral",
        "v4.top_down",
        "it.bottom_up",
        "it.lateral",
        "gap.bottom_up",
        "gap.lateral",
    ];
    assert_eq!(labels(both.clone()), expected);
    let mut from_v1 = expected.to_vec();
    from_v1.splice(2..2, ["v1.lateral", "v1.top_down"]);
    assert_eq!(labels(NetworkConfig { recurrent_from: RecurrentFrom::V1, ..both.clone() }), from_v1);
    let forward: Vec<&str> = expected.into_iter().filter(|l| l.ends_with("bottom_up")).collect();
    assert_eq!(labels(NetworkConfig { timesteps: 1, ..both }), forward);
}
