//! `bench variants`: what each variant of the convolutions is for and what it costs, and what a simple model expects of it on
//! three GPUs of which only the data sheets are at hand. The model is a prediction, printed as such; where a GPU is at hand,
//! `recurve bench kernels --variant all` measures there.
//!
//! The inner loop of a variant is counted per lane: multiply-adds, loads and the words that they bring, accesses of workgroup
//! memory, broadcasts. Then, for a GPU:
//!
//! ```text
//! issue  = multiply-adds / rate + loads + workgroup accesses + broadcasts + 2 per load of a map (address, edge)
//! pipe   = schedulers * (what goes through the core's load/store pipe: one wave-wide word per clock, or 4
//!          cache lines where lanes' addresses lie apart)
//! waves  = the least of: the limit, registers / (registers of a wave), workgroup memory / (that of a group)
//! share  = multiply-adds / rate / max(issue, pipe) * min(1, waves * max(issue, pipe) / LATENCY) * lanes used of a wave
//! ```
//!
//! Winograd's method takes the time of its products by that share, and that of moving transformed maps at the memory's rate.
//!
//! Left out: the second-level cache, bank conflicts, clocks that fall under load, loop overhead, filling at the edges.

use super::cases::shape_cases;
use crate::Result;
use crate::kernels::Target;
use crate::kernels::choose::{self, Choices, ConvOp, Variant};
use crate::kernels::conv::{ConvShape, Lanes, Source, Tile, WeightTile, Winograd};
use serde::Serialize;

/// Clocks from a load to its result, mostly from the second-level cache.
const LATENCY: f64 = 250.0;
/// Cache lines that a core looks up per clock for lanes whose addresses lie apart.
const LINES_PER_CLOCK: f64 = 4.0;
/// Registers per invocation for addresses, indices and loop counters.
const OTHER_REGISTERS: usize = 20;

/// A GPU by its data sheet, and what is published of its cores.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Gpu {
    /// What people call it.
    pub name: &'static str,
    /// Peak f32 operations per second, in 10^12.
    pub tflops: f64,
    /// Memory bandwidth, 10^9 bytes per second.
    pub gbps: f64,
    /// Lanes of a wave, as compute shaders run on it.
    pub wave: usize,
    /// The subgroup size, if it is fixed; else variants with subgroup operations cannot run (see [`Target::subgroup`]).
    pub subgroup: Option<usize>,
    /// Schedulers per core; each issues one instruction per clock.
    pub schedulers: f64,
    /// Wave-wide multiply-adds per scheduler and clock.
    pub rate: f64,
    /// Bytes of registers per scheduler.
    pub register_bytes: usize,
    /// Registers that an invocation may have.
    pub most_registers: usize,
    /// Waves that a scheduler may hold.
    pub most_waves: usize,
    /// Bytes of workgroup memory per core.
    pub workgroup_bytes: usize,
    /// Whether a broadcast goes through the load/store pipe (else it is one instruction).
    pub broadcast_in_pipe: bool,
    /// Cost of a load whose address is the same for all lanes, in wave-wide loads.
    pub uniform_load: f64,
}

/// Three GPUs. Sources: NVIDIA's Ada whitepaper (128 cores of 128 lanes at 2.52 GHz); AMD's RX 7900 XTX data sheet and RDNA3
/// ISA guide (96 cores of 2 x 32 lanes, two multiply-adds per clock where they pair, at 2.5 GHz; uniform loads are scalar and
/// bring many words); Apple's M2 (10 cores of 128 lanes at 1.4 GHz; registers and broadcasts as measured by others).
pub const GPUS: [Gpu; 3] = [
    Gpu {
        name: "NVIDIA RTX 4090",
        tflops: 82.6,
        gbps: 1008.0,
        wave: 32,
        subgroup: Some(32),
        schedulers: 4.0,
        rate: 1.0,
        register_bytes: 64 << 10,
        most_registers: 255,
        most_waves: 12,
        workgroup_bytes: 100 << 10,
        broadcast_in_pipe: true,
        uniform_load: 1.0,
    },
    Gpu {
        name: "AMD RX 7900 XTX",
        tflops: 61.4,
        gbps: 960.0,
        wave: 32,
        subgroup: None,
        schedulers: 2.0,
        rate: 2.0,
        register_bytes: 192 << 10,
        most_registers: 256,
        most_waves: 16,
        workgroup_bytes: 64 << 10,
        broadcast_in_pipe: false,
        uniform_load: 0.125,
    },
    Gpu {
        name: "Apple M2, 10 cores",
        tflops: 3.6,
        gbps: 100.0,
        wave: 32,
        subgroup: Some(32),
        schedulers: 4.0,
        rate: 1.0,
        register_bytes: 52 << 10,
        most_registers: 128,
        most_waves: 24,
        workgroup_bytes: 60 << 10,
        broadcast_in_pipe: false,
        uniform_load: 1.0,
    },
];

/// The inner loop of a variant, per lane and turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Loop {
    /// Multiply-adds.
    pub fma: f64,
    /// Loads, each lane its own address.
    pub loads: f64,
    /// 32-bit words that these bring: more than one each where vectors are loaded.
    pub words: f64,
    /// Whether the lanes' addresses lie apart, each in a cache line of its own.
    pub scattered: bool,
    /// Loads of which all lanes have the same address.
    pub uniform_loads: f64,
    /// Reads and writes of workgroup memory.
    pub workgroup: f64,
    /// Broadcasts between lanes.
    pub broadcasts: f64,
}

/// What is known of a variant without running it, and what is predicted.
#[derive(Clone, Debug, Serialize)]
pub struct VariantFacts {
    /// Operation that the variant serves.
    pub op: &'static str,
    /// The variant as text.
    pub tile: String,
    /// Which property of an adapter it is for.
    pub purpose: String,
    /// Invocations of a workgroup.
    pub lanes: usize,
    /// Subgroup size that it is compiled for, if it uses subgroup operations.
    pub subgroup: Option<usize>,
    /// Bytes of workgroup memory.
    pub workgroup_memory: u32,
    /// Registers per invocation: accumulators, operands held, addresses. An estimate.
    pub registers: usize,
    /// Its inner loop.
    pub inner: Loop,
    /// Bytes loaded per output, in the shape of the table.
    pub bytes_per_output: f64,
    /// Operations per output, in the shape of the table, without those of transforms.
    pub flops_per_output: f64,
    /// Operations per output of the direct method.
    pub direct_per_output: f64,
    /// Bytes per output that transforms write and matrix products read again.
    pub moved_per_output: f64,
    /// Operations per byte of the whole operation, every operand counted once.
    pub intensity: f64,
    /// Multiply-adds per load, workgroup memory included.
    pub fma_per_load: f64,
    /// Predicted per cent of the direct method's roofline on each of [`GPUS`], above 100 where Winograd's method needs fewer
    /// operations; absent where it cannot run.
    pub predicted: [Option<f64>; 3],
}

/// The shape that the table is about.
pub const SHAPE: [usize; 5] = [16, 64, 128, 32, 32];

/// Facts about every variant for kernel size `k` that lavapipe or a GPU with subgroups of 32 can run.
///
/// # Errors
/// A variant that naga refuses.
pub fn variants(k: usize) -> Result<Vec<VariantFacts>> {
    let software = Target { cpu: true, subgroup: 8, ..Target::minimum() };
    let gpu = Target { subgroup: 32, ..Target::minimum() };
    let mut all: Vec<VariantFacts> = Vec::new();
    let mut add = |facts: VariantFacts| {
        let same = |v: &VariantFacts| (v.op, &v.tile, v.subgroup) == (facts.op, &facts.tile, facts.subgroup);
        if !all.iter().any(same) {
            all.push(facts);
        }
    };
    for target in [&software, &gpu] {
        for op in ConvOp::ALL {
            for variant in choose::variants(target, op, k, if op == ConvOp::ConvTranspose2d { 2 } else { 1 }) {
                match variant {
                    Variant::Conv(tile) => add(convolution(op, target, &tile, k)?),
                    Variant::Weight(tile) if tile.splits == 1 => add(weight_gradient(target, &tile, k)?),
                    Variant::Weight(_) => {}
                }
            }
        }
    }
    all.sort_by_key(|v| v.op);
    Ok(all)
}

/// What the kernel of `op` with a forced variant says of itself in the table's shape: bytes of workgroup memory, operations
/// per byte.
fn in_shape(op: &str, target: &Target, choices: &Choices, k: usize) -> Result<(u32, f64)> {
    let [n, cin, cout, h, w] = SHAPE;
    let cases = shape_cases(&[n, cin, cout, h, w, k])?;
    let case = cases.iter().find(|case| case.op == op).expect("a convolution's shape has all of them");
    let program = case.program(target, choices)?;
    let memory = program.launches.iter().map(|l| l.kernel.workgroup_memory).max().unwrap_or(0);
    Ok((memory, case.flops() / case.bytes()))
}

/// What a variant computes per output in the table's shape.
struct Work {
    /// Multiply-adds.
    products: f64,
    /// Multiply-adds of the direct method.
    direct: f64,
    /// Bytes that transforms write and matrix products read again.
    moved: f64,
}

/// The work of an operation by Winograd's method, or directly.
fn work(op: ConvOp, target: &Target, tile: &Tile, k: usize) -> Work {
    let [n, cin, cout, h, w] = SHAPE;
    let Some(cut) = Winograd::of(tile, &ConvShape::same(n, cin, cout, h, w, k), target) else {
        let direct = (cin * k * k) as f64 / if op == ConvOp::ConvTranspose2d { 4.0 } else { 1.0 };
        return Work { products: direct, direct, moved: 0.0 };
    };
    let (outputs, direct) = match op {
        ConvOp::Conv2dDWeight => (cin * cout * k * k, n * h * w),
        _ => (cout * n * h * w, cin * k * k),
    };
    let products = (cut.words(cin) * cout) as f64 / outputs as f64;
    let moved = (8 * (cut.words(cin) + cut.words(cout))) as f64 / outputs as f64;
    Work { products, direct: direct as f64, moved }
}

fn convolution(op: ConvOp, target: &Target, tile: &Tile, k: usize) -> Result<VariantFacts> {
    let choices = Choices::force(Variant::Conv(*tile));
    let subgroup = (tile.source == Source::Subgroup).then_some(target.subgroup as usize);
    let transposed = op == ConvOp::ConvTranspose2d;
    let product = !transposed && (k == 1 || tile.winograd.is_some());
    // One turn is an input channel and a kernel column of K taps; in the transposed convolution one tap of one phase, in
    // matrix products one term.
    let (taps, rows) = if transposed || product { (1, tile.nv) } else { (k, tile.nv + k - 1) };
    let weights = (taps * tile.r) as f64;
    let (loads, words) = (rows as f64, (rows * tile.vec) as f64);
    let mut inner = Loop { fma: weights * (tile.nv * tile.vec) as f64, loads, words, ..Loop::default() };
    // Held: values of the rows (products take 4 terms at a time), their offsets and flags, weights in flight.
    let together = if product { 4 } else { 1 };
    let mut held = together * rows * tile.vec + 2 * rows + 4;
    match tile.source {
        Source::Subgroup => {
            let loaded = (taps * tile.r).div_ceil(target.subgroup as usize);
            // Weights come as vectors where whole subgroups of them are needed at a time.
            let wide = [4, 2].into_iter().find(|wide| (taps * tile.r).is_multiple_of(wide * target.subgroup as usize));
            inner.loads += loaded as f64 / wide.unwrap_or(1) as f64;
            inner.words += loaded as f64;
            inner.broadcasts = weights;
            held += together * loaded;
        }
        Source::Shared if !transposed => {
            inner.workgroup = weights * (1.0 + 1.0 / tile.lanes as f64);
            inner.loads += weights / tile.lanes as f64;
            inner.words += weights / tile.lanes as f64;
        }
        _ => inner.uniform_loads = weights,
    }
    let purpose = match tile.source {
        _ if tile.winograd.is_some() => "Winograd: fewer products for more loads and stores; pays with many channels",
        Source::Subgroup if tile.lanes == 8 => "software drivers: a load costs 20 multiply-adds, a broadcast 3",
        Source::Subgroup => "GPUs with a fixed subgroup size: weights stay in registers, no barrier",
        Source::Shared if transposed => "GPUs: as uniform, nothing is staged for the transposed convolution",
        Source::Shared => "GPUs: weights staged once per workgroup",
        Source::Uniform if tile.lanes == 8 => "software drivers without subgroups",
        Source::Uniform => "GPUs that load uniform addresses by a scalar unit",
    };
    let registers = tile.r * tile.nv * tile.vec + held + OTHER_REGISTERS;
    let of_shape = in_shape(op.name(), target, &choices, k)?;
    let work = work(op, target, tile, k);
    Ok(facts(op.name(), tile.to_string(), purpose, (tile.lanes, subgroup), of_shape, registers, inner, work))
}

fn weight_gradient(target: &Target, tile: &WeightTile, k: usize) -> Result<VariantFacts> {
    let op = "conv2d_d_weight";
    let choices = Choices::force(Variant::Weight(*tile));
    let subgroup = tile.subgroup.then_some(target.subgroup as usize);
    let accumulators = tile.r * tile.c * k * k;
    let (mut inner, held);
    match tile.along {
        // One turn is a row: the window moves by one row of x, and R values of dy meet all of it.
        Lanes::Pixels => {
            let loads = (tile.c * k + tile.r) as f64;
            inner = Loop { fma: accumulators as f64, loads, words: loads, ..Loop::default() };
            held = tile.c * k * k + 1;
        }
        // One turn is `unroll` rows of x with K columns each, of `vec` images; rows of dy wait in a window.
        Lanes::Channels => {
            let spots = tile.unroll * k;
            let mut loads = tile.unroll * tile.r;
            inner = Loop { fma: (spots * tile.vec * tile.c * k * tile.r) as f64, ..Loop::default() };
            if tile.subgroup {
                loads += spots * tile.c.div_ceil(tile.lanes);
                inner.broadcasts = (spots * tile.vec * tile.c) as f64;
            } else {
                inner.uniform_loads = (spots * tile.vec * tile.c) as f64;
            }
            (inner.loads, inner.words, inner.scattered) = (loads as f64, (loads * tile.vec) as f64, true);
            let window = (2 * (k / 2) + tile.unroll) * tile.r;
            held = tile.vec * (window + tile.unroll * tile.c.div_ceil(tile.lanes));
        }
    }
    let purpose = match (tile.along, tile.subgroup) {
        (Lanes::Pixels, true) => "few output channels; sums between lanes by subgroup operations",
        (Lanes::Pixels, false) if tile.lanes == 8 => "software drivers without subgroups",
        (Lanes::Pixels, false) => "GPUs: consecutive loads, sums through workgroup memory at the end",
        (Lanes::Channels, true) if tile.lanes == 8 => "software drivers: nothing is exchanged at the end",
        (Lanes::Channels, true) => "GPUs with a fixed subgroup size, many output channels",
        (Lanes::Channels, false) => "GPUs that load uniform addresses by a scalar unit",
    };
    let registers = accumulators + held + OTHER_REGISTERS;
    let (memory, intensity) = in_shape(op, target, &choices, k)?;
    let products = (SHAPE[0] * SHAPE[3] * SHAPE[4]) as f64;
    let work = Work { products, direct: products, moved: 0.0 };
    Ok(facts(op, tile.to_string(), purpose, (tile.lanes, subgroup), (memory, intensity), registers, inner, work))
}

fn facts(
    op: &'static str,
    tile: String,
    purpose: &str,
    (lanes, subgroup): (usize, Option<usize>),
    (workgroup_memory, intensity): (u32, f64),
    registers: usize,
    inner: Loop,
    work: Work,
) -> VariantFacts {
    let mut facts = VariantFacts {
        op,
        tile,
        purpose: purpose.into(),
        lanes,
        subgroup,
        workgroup_memory,
        registers,
        inner,
        bytes_per_output: 4.0 * (inner.words + inner.uniform_loads) * work.products / inner.fma + work.moved,
        flops_per_output: 2.0 * work.products,
        direct_per_output: 2.0 * work.direct,
        moved_per_output: work.moved,
        intensity,
        fma_per_load: inner.fma / (inner.loads + inner.uniform_loads + inner.workgroup),
        predicted: [None; 3],
    };
    facts.predicted = GPUS.map(|gpu| predict(&gpu, &facts));
    facts
}

/// Predicted per cent of the GPU's roofline in the table's shape; `None` where the variant cannot run. See the module.
pub fn predict(gpu: &Gpu, v: &VariantFacts) -> Option<f64> {
    if v.subgroup.is_some_and(|s| gpu.subgroup != Some(s)) {
        return None;
    }
    let Loop { fma, loads, words, scattered, uniform_loads, workgroup, broadcasts } = v.inner;
    let uniform = uniform_loads * gpu.uniform_load;
    let issue = fma / gpu.rate + 3.0 * loads + uniform + workgroup + broadcasts;
    let lines = if scattered { loads * gpu.wave as f64 / LINES_PER_CLOCK } else { words };
    let accesses = lines + uniform + workgroup;
    let pipe = gpu.schedulers * (accesses + if gpu.broadcast_in_pipe { broadcasts } else { 0.0 });
    let turn = f64::max(issue, pipe);
    let group_waves = v.lanes.div_ceil(gpu.wave);
    let by_registers = gpu.register_bytes / (4 * gpu.wave * v.registers.min(gpu.most_registers));
    let groups = if v.workgroup_memory == 0 { usize::MAX } else { gpu.workgroup_bytes / v.workgroup_memory as usize };
    let by_memory = groups.saturating_mul(group_waves) as f64 / gpu.schedulers;
    let waves = f64::min(gpu.most_waves.min(by_registers) as f64, by_memory);
    let hidden = f64::min(1.0, waves * turn / LATENCY);
    let used = v.lanes as f64 / (group_waves * gpu.wave) as f64;
    // Registers beyond the limit are kept in memory: two accesses per turn for each.
    let spilled = v.registers.saturating_sub(gpu.most_registers) as f64;
    let spill = turn / f64::max(turn, issue.max(gpu.schedulers * (accesses + 2.0 * spilled)));
    let share = fma / gpu.rate / turn * hidden * used * spill;
    let roof = f64::min(gpu.tflops * 1e3, gpu.gbps * v.intensity);
    let rate = if v.moved_per_output > 0.0 {
        let seconds = v.flops_per_output / (share * gpu.tflops * 1e3) + v.moved_per_output / gpu.gbps;
        v.direct_per_output / seconds
    } else {
        f64::min(share * gpu.tflops * 1e3, roof)
    };
    Some(100.0 * rate / roof)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variant_has_facts_for_every_kernel_size() {
        for k in [1, 3, 5, 7] {
            let all = variants(k).unwrap();
            for op in ["conv2d", "conv_transpose2d", "conv2d_d_weight"] {
                assert!(all.iter().filter(|v| v.op == op).count() >= 5, "{op} k{k}");
            }
            for v in &all {
                assert!(v.registers > OTHER_REGISTERS && v.fma_per_load > 0.0 && v.bytes_per_output > 0.0, "{v:?}");
                assert!(v.predicted.iter().flatten().all(|p| (0.0..=410.0).contains(p)), "{v:?}");
            }
        }
    }

    #[test]
    fn counted_by_hand() {
        let all = variants(3).unwrap();
        let find = |op: &str, tile: &str| all.iter().find(|v| v.op == op && v.tile == tile).unwrap();
        // 3 taps x 8 channels x 4 rows; 6 rows of x; 24 weights from workgroup memory, staged by 64 lanes.
        let v = find("conv2d", "shared l64 r8 nv4 v1");
        assert_eq!((v.inner.fma, v.inner.workgroup), (96.0, 24.0 + 24.0 / 64.0));
        assert_eq!((v.inner.loads, v.flops_per_output), (6.0 + 24.0 / 64.0, 1152.0));
        assert!(v.workgroup_memory > 0 && v.predicted.iter().all(Option::is_some));
        // Subgroups of 8 do not exist on any of the three GPUs.
        assert_eq!(find("conv2d", "subgroup l8 r16 nv2 v2").predicted, [None; 3]);
    }

    #[test]
    fn the_model_punishes_what_it_should() {
        let gpu = GPUS[0];
        let v = variants(3).unwrap().into_iter().find(|v| v.tile == "shared l64 r8 nv4 v1").unwrap();
        let at = |change: &dyn Fn(&mut VariantFacts)| {
            let mut other = v.clone();
            change(&mut other);
            predict(&gpu, &other).unwrap()
        };
        let as_is = predict(&gpu, &v).unwrap();
        assert!(at(&|v| v.inner.words *= 4.0) < as_is);
        assert!(at(&|v| v.inner.scattered = true) < as_is);
        assert!(at(&|v| v.registers = 2000) < as_is);
        assert!(at(&|v| v.workgroup_memory = 90 << 10) < as_is);
        assert!(at(&|v| v.lanes = 8) < as_is);
    }
}
