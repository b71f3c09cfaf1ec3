//! From a network's description to planned programs: one that trains, one that only runs forward.

use super::autodiff::differentiate;
use super::build::{Network, unroll};
use super::lower::{Arenas, Lowered, lower};
use super::passes::{Passes, drop_unused, fuse_add, fuse_norm_relu, hoist};
use super::plan::Plan;
use super::{Origin, ValueId};
use crate::kernels::choose::Choices;
use crate::kernels::grid::{Cover, cover};
use crate::kernels::{BufferSpec, Kernel, Param, Program, Role, Settings, Target, View, align};
use crate::network::{AREAS, IMAGE_CHANNELS, NetworkConfig, parameters};
use crate::{Error, Result};
use std::collections::HashMap;

/// What is compiled and how.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The network.
    pub config: &'a NetworkConfig,
    /// Images per batch.
    pub batch: usize,
    /// The adapter.
    pub target: &'a Target,
    /// Graph passes.
    pub passes: Passes,
    /// Which kernel variant serves which shape.
    pub choices: &'a Choices,
    /// Whether gradients and the optimiser's step are part of it.
    pub train: bool,
    /// Whether activations, logits and log-probabilities can be read back (else only scores, and what `trajectory` asks).
    pub inspect: bool,
    /// Whether logits and gap representations of all timesteps lie in one buffer each, [T, K, N] and [T, D, N], for the
    /// statistics kernels. Demands a batch that is a multiple of 64.
    pub trajectory: bool,
}

/// A planned program and the places of what goes in and comes out.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The graph after all passes.
    pub network: Network,
    /// Program and views.
    pub lowered: Lowered,
    /// Memory.
    pub plan: Plan,
    /// Places of the used parameters: values, and (when training) gradients and Adam's moments.
    pub arenas: Arenas,
    /// Index into [`parameters()`] of each range of the arenas.
    pub used: Vec<usize>,
    /// Arenas of parameter values.
    pub values: Vec<View>,
    /// Arenas of gradients; empty without training.
    pub gradients: Vec<View>,
    /// Arenas of Adam's first moments; empty without training.
    pub adam_m: Vec<View>,
    /// Arenas of Adam's second moments; empty without training.
    pub adam_v: Vec<View>,
    /// Adam's step sizes (see `shaders/adam.wgsl`); when training.
    pub hyper: Option<View>,
    /// Loss and correctness: T times [2, N], `score_step` words apart.
    pub scores: View,
    /// Words from one timestep's scores to the next.
    pub score_step: usize,
    /// Logits [T, K, N] and gap representations [T, D, N], if asked for.
    pub trajectory: Option<(View, View)>,
    /// Nodes of the graph as first unrolled and differentiated, before passes.
    pub nodes_unrolled: usize,
}

impl Compiled {
    /// Bytes that a recording of this program allocates in all.
    pub fn peak_bytes(&self) -> u64 {
        self.plan.peak_bytes()
    }
}

/// One buffer for a value of every timestep, `step` bytes apart.
fn series(
    program: &mut Program,
    name: &str,
    values: &[ValueId],
    step: u64,
    bytes: u64,
) -> (View, Vec<(ValueId, View)>) {
    let total = align(step * values.len() as u64);
    let (name, area) = (name.to_string(), "outputs".to_string());
    let buffer = program.buffer(BufferSpec { name, bytes: total, role: Role::Output, area, timestep: None });
    let place = |(t, &v): (usize, &ValueId)| (v, View { buffer, offset: t as u64 * step, bytes });
    (program.whole(buffer), values.iter().enumerate().map(place).collect())
}

/// Compiles a network for a batch size: unroll, pass, differentiate, pass, lower, plan. Pure: nothing is allocated.
///
/// # Errors
/// A batch beyond what 32-bit indices reach; a kernel variant that naga refuses.
pub fn compile(request: &Request) -> Result<Compiled> {
    let Request { config, batch, target, passes, .. } = *request;
    let most = indexable_batch(config);
    if batch > most {
        let why = format!("32-bit indices reach the maps of at most {most} images of this network");
        return Err(does_not_fit(request, &why)?);
    }
    let mut network = unroll(config, batch);
    let specs = parameters(config);
    let used: Vec<usize> = (0..specs.len()).filter(|&i| network.parameters[i].is_some()).collect();
    let values: Vec<ValueId> = used.iter().map(|&i| network.parameters[i].expect("used")).collect();
    let mut nodes_unrolled = network.graph.nodes.len();
    network.graph.outputs = network.scores.clone();
    if request.trajectory {
        network.graph.outputs.extend(network.logits.iter().chain(&network.activations["gap"]).copied());
    }
    if passes.hoist {
        let renamed = hoist(&mut network.graph);
        network.rename(renamed);
    }
    if request.inspect {
        let lists = network.activations.values().chain([&network.logits, &network.logprobs]);
        let all: Vec<ValueId> = lists.flatten().copied().collect();
        network.graph.outputs.extend(all);
    }
    if passes.fuse {
        fuse_norm_relu(&mut network.graph);
        fuse_add(&mut network.graph);
    }
    let mut gradients = Vec::new();
    if request.train {
        let before = network.graph.nodes.len();
        let seeds: Vec<(ValueId, ValueId)> = network.logprobs.iter().map(|&v| (v, v)).collect();
        gradients = differentiate(&mut network.graph, &seeds, &values, passes.fold);
        nodes_unrolled += network.graph.nodes.len() - before;
        network.graph.outputs.extend(gradients.iter().flatten());
        if passes.fuse {
            fuse_add(&mut network.graph);
        }
    }
    drop_unused(&mut network.graph);

    let mut program = Program::default();
    let counts: Vec<usize> = used.iter().map(|&i| specs[i].len()).collect();
    let arenas = Arenas::new(&counts, target);
    let mut placed: HashMap<ValueId, View> = HashMap::new();
    let value_arenas = arenas.buffers(&mut program, "parameters");
    for (i, &value) in values.iter().enumerate() {
        placed.insert(value, arenas.view(&value_arenas, i));
    }
    let (mut gradient_arenas, mut adam_m, mut adam_v) = (Vec::new(), Vec::new(), Vec::new());
    if request.train {
        gradient_arenas = arenas.buffers(&mut program, "gradients");
        adam_m = arenas.buffers(&mut program, "adam_m");
        adam_v = arenas.buffers(&mut program, "adam_v");
        for (i, gradient) in gradients.iter().enumerate() {
            let gradient = gradient.expect("every used parameter reaches the loss");
            placed.insert(gradient, arenas.view(&gradient_arenas, i));
        }
    }
    let score_bytes = 8 * batch as u64;
    let (scores, places) = series(&mut program, "scores", &network.scores, align(score_bytes), score_bytes);
    placed.extend(places);
    let trajectory = request.trajectory.then(|| {
        assert!(batch.is_multiple_of(64), "bindings start at multiples of 256 bytes");
        let mut place = |name: &str, list: &[ValueId], rows: usize| {
            let bytes = 4 * (rows * batch) as u64;
            let (view, places) = series(&mut program, name, list, bytes, bytes);
            placed.extend(places);
            view
        };
        let logits = place("logits", &network.logits, config.classes);
        (logits, place("representations", &network.activations["gap"], config.gap_channels()))
    });
    // Persistent and placed values are no outputs of their own.
    let owned: Vec<ValueId> = network.graph.outputs.iter().filter(|v| !placed.contains_key(v)).copied().collect();
    let all_outputs = std::mem::replace(&mut network.graph.outputs, owned);
    let mut lowered = lower(&network.graph, target, request.choices, program, &placed)?;
    network.graph.outputs = all_outputs;
    let hyper = if request.train {
        let (name, area) = ("hyper".to_string(), "parameters".to_string());
        let spec = BufferSpec { name, bytes: align(20), role: Role::Input, area, timestep: None };
        let buffer = lowered.program.buffer(spec);
        let hyper = lowered.program.whole(buffer);
        for i in 0..value_arenas.len() {
            let count = (value_arenas[i].bytes / 4) as usize;
            let Cover { groups, unroll } = cover(count, 64, 4, target);
            let kernel = Kernel::new("adam", &Settings::new().set("L", 64).set("UNROLL", unroll as u32))?;
            let operands = [
                ("hyper", hyper),
                ("grad", gradient_arenas[i]),
                ("param", value_arenas[i]),
                ("m", adam_m[i]),
                ("v", adam_v[i]),
            ];
            let params: &[(&str, Param)] = &[("count", count.into())];
            lowered.program.launch(&kernel, &operands, params, [groups, 1, 1], "adam", "parameters");
        }
        Some(hyper)
    } else {
        None
    };
    let plan = Plan::new(&lowered.program, passes.reuse);
    debug_assert!(network.graph.values.iter().all(|v| v.origin != Origin::Node || !v.shape.is_empty()));
    Ok(Compiled {
        network,
        lowered,
        plan,
        arenas,
        used,
        values: value_arenas,
        gradients: gradient_arenas,
        adam_m,
        adam_v,
        hyper,
        scores,
        score_step: align(score_bytes) as usize / 4,
        trajectory,
        nodes_unrolled,
    })
}

/// The largest batch whose maps 32-bit indices can reach.
fn indexable_batch(config: &NetworkConfig) -> usize {
    let areas = (0..AREAS.len()).map(|a| config.area_channels[a] * config.area_side(a).pow(2));
    let pixels = config.image_size.pow(2);
    let largest = areas.chain([config.stem_channels * pixels, IMAGE_CHANNELS * pixels, config.classes]).max();
    u32::MAX as usize / largest.expect("a list that is not empty")
}

fn fits(request: &Request, batch: usize) -> Result<bool> {
    if batch > indexable_batch(request.config) {
        return Ok(false);
    }
    let compiled = compile(&Request { batch, ..request.clone() })?;
    Ok(compiled.plan.fits(&compiled.lowered.program, request.target).is_ok())
}

/// The error for a batch that does not fit: why not, and the largest that does.
///
/// # Errors
/// When a kernel variant is refused.
pub fn does_not_fit(request: &Request, why: &str) -> Result<Error> {
    let advice = match largest_batch(request)? {
        0 => "not even a batch of 1 fits: use a smaller network".to_string(),
        largest => format!("the largest batch that fits is {largest}"),
    };
    Ok(Error::Gpu(format!("batch {}: {why}; {advice}", request.batch)))
}

/// The largest batch for which `request` fits the adapter, whatever its own batch; 0 when not even one image fits (with
/// `trajectory`: 64 images).
///
/// # Errors
/// When a kernel variant is refused.
pub fn largest_batch(request: &Request) -> Result<usize> {
    let unit = if request.trajectory { 64 } else { 1 };
    let mut high = 1; // in units; does not fit, once the loop is done
    while fits(request, high * unit)? {
        high *= 2;
    }
    let mut low = high / 2; // fits
    while low + 1 < high {
        let middle = (low + high) / 2;
        if fits(request, middle * unit)? { low = middle } else { high = middle }
    }
    Ok(low * unit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Preset;

    /// The search for the largest batch takes for granted that smaller ones fit: no kernel may need more memory where it
    /// has less to do.
    #[test]
    fn what_fits_is_monotone_in_the_batch() {
        let target = Target { cpu: true, subgroup: 8, ..Target::minimum() };
        let config = NetworkConfig {
            image_size: 32,
            stem_channels: 16,
            area_channels: [16, 16, 64, 512],
            timesteps: 10,
            ..Preset::Blt64.network()
        };
        let (passes, choices) = (Passes::default(), Choices::TABLE);
        let request = |batch| Request {
            config: &config,
            batch,
            target: &target,
            passes,
            choices,
            train: true,
            inspect: false,
            trajectory: false,
        };
        let largest = largest_batch(&request(1)).unwrap();
        assert!(largest > 1000, "{largest}");
        for batch in [1, 2, 3, 7, 19, 32, 75, 76, 100, 200, 300, 1000, 1001, largest] {
            assert!(fits(&request(batch), batch).unwrap(), "{batch} of {largest}");
        }
        assert!(!fits(&request(1), largest + 1).unwrap());
    }
}
