//! Networks of random descriptions, under random protocols, on the device against the twins, which share nothing with the
//! engine: activations, logits, loss, gradients and three steps of Adam, with the golden files' own tolerances.

use pollster::FutureExt;
use recurve::check::network::run_network;
use recurve::gpu::{Gpu, Options};
use recurve::graph::passes::Passes;
use recurve::kernels::choose::Choices;
use recurve::reference::golden::{NetworkGolden, made_up, worst};
use recurve::reference::random::SplitMix64;
use serde_json::{Value, json};

/// Networks of each kind of test. Any seed will do, but for networks in which a unit stands within rounding of its threshold (as
/// of seed 21): there a weight may move by its last place in one computation and not in the other.
const NETWORKS: u64 = 20;

/// Choices of a description, all from one seed.
struct Random(SplitMix64);

/// An area that is there already.
struct Placed {
    name: String,
    side: usize,
    vector: bool,
}

impl Random {
    fn below(&mut self, n: usize) -> usize {
        (self.0.bits() % n as u64) as usize
    }

    fn of<T: Clone>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())].clone()
    }

    /// True about `percent` times of a hundred.
    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// A connection of this kind with a random kernel and bias.
    fn connection(&mut self, from: &str, to: &str, kind: &str) -> Value {
        let mut connection = json!({ "from": from, "to": to, "kind": kind });
        if self.chance(50) {
            connection["kernel"] = self.of(&[1, 3, 5]).into();
        }
        if self.chance(50) {
            connection["bias"] = self.chance(50).into();
        }
        connection
    }

    /// A bottom-up connection that leads from a map of one side to one of another, where there is one: pooling, stride or both.
    fn down_to(&mut self, connection: &mut Value, from: usize, to: usize) -> bool {
        let ways: Vec<[usize; 2]> =
            [[1, 1], [1, 2], [2, 1], [1, 4], [2, 2], [2, 4]].into_iter().filter(|[p, s]| p * s * to == from).collect();
        if ways.is_empty() {
            return false;
        }
        let [pool, stride] = self.of(&ways);
        (connection["pool"], connection["stride"]) = (pool.into(), stride.into());
        true
    }

    /// A description of 2 to 6 areas. Norms have enough elements, of more than one channel: the gradient through the norm of
    /// two or three elements is all rounding, and so is that of a bias that the norm takes out again.
    fn architecture(&mut self) -> Value {
        let (size, timesteps) = (self.of(&[8, 16]), 1 + self.below(4));
        let (maps, gap) = (2 + self.below(4), self.chance(60));
        let (mut areas, mut connections, mut placed) = (Vec::new(), Vec::new(), Vec::<Placed>::new());
        for a in 0..maps {
            let name = format!("a{a}");
            let channels = if self.chance(30) { self.of(&[32, 33, 40]) } else { self.of(&[1, 2, 3, 4, 6, 8]) };
            let below = match a {
                0 => None,
                _ if self.chance(10) => None,
                _ => Some(if self.chance(75) { a - 1 } else { self.below(a) }),
            };
            let (from, source) = below.map_or(("input".into(), size), |b| (placed[b].name.clone(), placed[b].side));
            let side = if source > 1 && self.chance(45) { source / self.of(&[2, 2, 4]) } else { source };
            let mut up = self.connection(&from, &name, "bottom_up");
            let side = if side > 0 && self.down_to(&mut up, source, side) { side } else { source };
            connections.push(up);
            let mut area = json!({ "name": name, "channels": channels });
            let norm = self.of(&["layer", "layer", "group", "none"]);
            let groups = if norm == "group" && channels % 2 == 0 { self.of(&[1, 2]) } else { 1 };
            if norm == "none" || channels == groups || channels * side * side / groups < 16 {
                area["norm"] = "none".into();
            } else if norm == "group" {
                (area["norm"], area["groups"]) = ("group".into(), groups.into());
            }
            if self.chance(15) {
                area["activation"] = "none".into();
            }
            if self.chance(30) {
                area["interaction"] = "multiplicative".into();
            }
            areas.push(area);
            placed.push(Placed { name, side, vector: false });
        }
        if gap {
            let below = areas[maps - 1].clone();
            let channels = below["channels"].as_u64().expect("channels");
            let norm = if channels >= 16 { self.of(&["layer", "group", "none"]) } else { "none" };
            areas.push(json!({ "name": "gap", "channels": channels, "pool": "average", "norm": norm }));
            connections.push(json!({ "from": below["name"], "to": "gap", "kind": "bottom_up" }));
            placed.push(Placed { name: "gap".into(), side: 1, vector: true });
        }
        // Connections that jump areas, and back, wherever the sizes allow.
        for to in 0..placed.len() {
            let Placed { name, side, vector } = &placed[to];
            if self.chance(60) {
                let mut lateral = self.connection(name, name, "lateral");
                if *vector {
                    lateral["kernel"] = 1.into();
                }
                connections.push(lateral);
            }
            for from in (0..maps).filter(|&from| from != to && !vector) {
                let other = &placed[from];
                let label = format!("from_{}", other.name);
                if from < to && self.chance(25) {
                    let mut skip = self.connection(&other.name, name, "bottom_up");
                    skip["name"] = label.into();
                    if self.down_to(&mut skip, other.side, *side) {
                        connections.push(skip);
                    }
                } else if from > to && self.chance(50) && [1, 2, 4].contains(&(side / other.side)) {
                    let mut back = self.connection(&other.name, name, "top_down");
                    (back["name"], back["stride"]) = (label.into(), (side / other.side).into());
                    connections.push(back);
                }
            }
        }
        // Without a gap the one area that nothing leaves is read out: all that end nowhere lead into the last, or are taken
        // to the readout by its name.
        let ends = |name: &Value| !connections.iter().any(|c| c["from"] == *name && c["kind"] == "bottom_up");
        if !gap && areas.iter().filter(|area| ends(&area["name"])).count() > 1 {
            let last = areas[maps - 1]["name"].clone();
            areas[maps - 1]["name"] = "gap".into();
            for connection in &mut connections {
                for end in ["from", "to"] {
                    if connection[end] == last {
                        connection[end] = "gap".into();
                    }
                }
            }
        }
        for i in (1..areas.len()).rev() {
            areas.swap(i, self.below(i + 1));
        }
        let biological = self.chance(40);
        json!({
            "image_size": size, "classes": 2 + self.below(4), "timesteps": timesteps + if biological { maps } else { 0 },
            "unroll": if biological { "biological" } else { "engineering" }, "readout_bias": self.chance(50),
            "areas": areas, "connections": connections,
        })
    }

    /// A protocol that this network can have.
    fn protocol(&mut self, architecture: &Value) -> Value {
        let timesteps = architecture["timesteps"].as_u64().expect("timesteps") as usize + self.below(3);
        let connections = architecture["connections"].as_array().expect("connections");
        let mut gains = Vec::new();
        for _ in 0..1 + self.below(3) {
            let of = self.of(connections);
            let name = of["name"].as_str().or(of["kind"].as_str()).expect("a name");
            let one = format!("{}.{name}", of["to"].as_str().expect("a name"));
            let kind = of["kind"].as_str().expect("a kind");
            let all = if kind == "bottom_up" { one.clone() } else { format!("*.{kind}") };
            let from = self.below(timesteps);
            let mut gain = json!({ "connection": self.of(&[one, all]), "gain": self.of(&[0.0, 0.5, 1.0, -1.0, 1.75]) });
            if self.chance(60) {
                gain["from"] = from.into();
            }
            if self.chance(40) {
                gain["until"] = (from + 1 + self.below(3)).into();
            }
            gains.push(gain);
        }
        let mut inputs = Vec::new();
        for from in 0..timesteps {
            if self.chance(30) {
                inputs.push(json!({ "from": from, "show": self.of(&["blank", "next"]) }));
            }
        }
        inputs.reverse();
        let mut protocol = json!({ "gains": gains, "inputs": inputs });
        if self.chance(70) {
            protocol["timesteps"] = timesteps.into();
        }
        protocol
    }
}

/// Runs a golden with these passes and compares.
fn passes(gpu: &Gpu, golden: &NetworkGolden, passes: Passes, what: &str) -> usize {
    let found = run_network(gpu, golden, passes, Choices::TABLE).block_on().unwrap_or_else(|e| panic!("{what}: {e}"));
    let comparisons = golden.compare(&found);
    let worst = worst(&comparisons).expect("something is compared");
    assert!(comparisons.iter().all(|c| c.passes()), "{what}: {worst:?}");
    comparisons.len()
}

#[test]
fn random_networks_equal_their_twins() {
    let gpu =
        Gpu::open(&Options { checked: true, ..Options::default() }).block_on().expect("this test needs an adapter");
    let mut compared = 0;
    for seed in 0..NETWORKS {
        let architecture = Random(SplitMix64::new(seed)).architecture();
        let n = [2, 1, 3, 5][seed as usize % 4];
        let what = format!("seed {seed}, batch {n}: {architecture}");
        let golden = made_up(None, Some(architecture), None, n, seed).unwrap_or_else(|e| panic!("{what}: {e}"));
        compared += passes(&gpu, &golden, Passes::default(), &what);
        if seed % 3 == 0 {
            let none = Passes::without(&Passes::NAMES).expect("known passes");
            compared += passes(&gpu, &golden, none, &format!("without passes, {what}"));
        }
    }
    println!("{compared} tensors");
}

#[test]
fn random_protocols_equal_their_twins() {
    let gpu =
        Gpu::open(&Options { checked: true, ..Options::default() }).block_on().expect("this test needs an adapter");
    for seed in 0..NETWORKS {
        let mut random = Random(SplitMix64::new(1000 + seed));
        let architecture = random.architecture();
        let protocol = random.protocol(&architecture);
        let n = [3, 2, 1, 5][seed as usize % 4];
        let what = format!("seed {seed}, batch {n}: {protocol} {architecture}");
        let golden =
            made_up(None, Some(architecture), Some(protocol), n, seed).unwrap_or_else(|e| panic!("{what}: {e}"));
        passes(&gpu, &golden, Passes::default(), &what);
        if seed % 3 == 0 {
            let none = Passes::without(&Passes::NAMES).expect("known passes");
            passes(&gpu, &golden, none, &format!("without passes, {what}"));
        }
    }
}

/// A weight of one channel lies in one order for a strided map and for its gradient; they are packed differently all the same.
#[test]
fn strided_connections_of_one_channel_equal_their_twins() {
    let gpu =
        Gpu::open(&Options { checked: true, ..Options::default() }).block_on().expect("this test needs an adapter");
    for [low, high] in [[1, 6], [6, 1], [1, 1]] {
        let architecture = json!({
            "image_size": 8, "classes": 3, "timesteps": 3,
            "areas": [
                { "name": "low", "channels": low, "norm": "none" }, { "name": "high", "channels": high, "norm": "none" },
            ],
            "connections": [
                { "from": "input", "to": "low", "kind": "bottom_up" },
                { "from": "low", "to": "high", "kind": "bottom_up", "stride": 2 },
                { "from": "low", "to": "high", "kind": "bottom_up", "stride": 2, "kernel": 5, "name": "more" },
                { "from": "high", "to": "low", "kind": "top_down", "stride": 2 },
            ],
        });
        let golden = made_up(None, Some(architecture), None, 3, 1).expect("valid");
        passes(&gpu, &golden, Passes::default(), &format!("{low} and {high} channels"));
    }
}

/// A state that nothing but a sum carries from step to step, in a map and in the vector that is read out.
#[test]
fn states_without_norm_and_activation_equal_their_twins() {
    let gpu =
        Gpu::open(&Options { checked: true, ..Options::default() }).block_on().expect("this test needs an adapter");
    for (unroll, interaction) in
        [("engineering", "additive"), ("biological", "additive"), ("engineering", "multiplicative")]
    {
        let state = |name: &str, channels: usize| json!({ "name": name, "channels": channels, "norm": "none", "activation": "none" });
        let mut areas = [state("low", 3), state("high", 6), state("gap", 6)];
        areas[0]["interaction"] = interaction.into();
        areas[2]["pool"] = "average".into();
        let architecture = json!({
            "image_size": 8, "classes": 3, "timesteps": 5, "unroll": unroll, "areas": areas,
            "connections": [
                { "from": "input", "to": "low", "kind": "bottom_up" },
                { "from": "low", "to": "high", "kind": "bottom_up", "stride": 2 },
                { "from": "high", "to": "gap", "kind": "bottom_up" },
                { "from": "low", "to": "low", "kind": "lateral" },
                { "from": "high", "to": "high", "kind": "lateral" },
                { "from": "gap", "to": "gap", "kind": "lateral" },
                { "from": "high", "to": "low", "kind": "top_down", "stride": 2 },
            ],
        });
        let golden = made_up(None, Some(architecture), None, 3, 1).expect("valid");
        passes(&gpu, &golden, Passes::default(), &format!("{unroll}, {interaction}"));
        let none = Passes::without(&Passes::NAMES).expect("known passes");
        passes(&gpu, &golden, none, &format!("{unroll}, {interaction}, without passes"));
    }
}
