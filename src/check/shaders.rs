//! Every kernel variant that lowering can produce for an adapter, and its translation to the languages of the drivers.

use super::cases::table;
use super::ladder;
use super::probes::probes;
use crate::dynamics;
use crate::graph::compile::{Request, compile};
use crate::graph::lower::lower;
use crate::graph::passes::Passes;
use crate::kernels::choose::{product_tile, wide_streams};
use crate::kernels::conv::{Matrices, Start, met_variants, product};
use crate::kernels::{Kernel, Program, Settings, Site, TEXTS, Target};
use crate::network::{Interaction, NetworkConfig, Normalisation, Precision, Preset, Schedule};
use crate::trajectory::measured;
use crate::{Error, Result};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Every kernel variant that can run on `target`, in order of their labels: those of the presets, of networks with every kind of norm and
/// interaction, passes on and off, and of every case of the table, each tile of the convolutions among them.
///
/// # Errors
/// A variant that naga refuses.
pub fn all_kernels(target: &Target) -> Result<Vec<Arc<Kernel>>> {
    let mut all: BTreeMap<String, Arc<Kernel>> = BTreeMap::new();
    let mut take = |program: &Program| {
        all.extend(program.launches.iter().map(|l| (l.kernel.label(), l.kernel.clone())));
    };
    for preset in Preset::ALL {
        take(&network(target, &preset.network(), preset.training().batch, Passes::default())?);
    }
    for (norm, interaction) in [
        (Normalisation::Layer, Interaction::Additive),
        (Normalisation::Group, Interaction::Multiplicative),
        (Normalisation::None, Interaction::Additive),
    ] {
        let tiny = Preset::Tiny.network();
        let config = NetworkConfig { norm, interaction, topdown: true, groups: 4, ..tiny };
        for passes in [Passes::default(), Passes { fuse: false, fold: false, ..Passes::default() }] {
            take(&network(target, &config, 3, passes)?);
        }
    }
    for case in table(target) {
        take(&lower(&case.graph, target, &case.choices, Program::default(), &HashMap::new())?.program);
    }
    probes(target)?.iter().for_each(|probe| take(&probe.program));
    for shape in [ladder::CHECKED, ladder::CLIMBED] {
        for rung in ladder::rungs(target, &shape) {
            take(&rung.program(target, &shape)?.0);
        }
    }
    take(&symmetric(target)?);
    take(&bounded(target, false)?);
    take(&bounded(target, true)?);
    take(&mixed(target)?);
    let wide = wide_streams(target);
    let made = measured::variants(wide)?.into_iter().chain(dynamics::gpu::variants(wide)?).chain(met_variants(target)?);
    all.extend(made.map(|kernel| (kernel.label(), kernel)));
    let plain = |name: &str| ["trajectory_", "dynamics_"].iter().any(|prefix| name.starts_with(prefix));
    let has_variants = |name: &str| all.values().any(|kernel| kernel.name == name);
    let names: Vec<&str> =
        TEXTS.iter().map(|(name, _)| *name).filter(|name| plain(name) && !has_variants(name)).collect();
    for name in names {
        let kernel = Kernel::new(name, &Settings::new())?;
        all.insert(kernel.label(), kernel);
    }
    Ok(all.into_values().collect())
}

/// A product of which only the upper half is asked for, as second moments are.
fn symmetric(target: &Target) -> Result<Program> {
    let (mut program, features) = (Program::default(), 512);
    let [x, w, y] = ["x", "w", "y"].map(|name| program.scratch(name, "", features * features));
    let matrices =
        Matrices { columns: features, batch: 1, cin: features, cout: features, symmetric: true, panels: false };
    let tile = product_tile(target, features, features, features);
    product(&mut program, target, &tile, &matrices, (x, w, Start::default(), y), Site::of("product", ""))?;
    Ok(program)
}

/// The launches of a training step in mixed precision.
fn mixed(target: &Target) -> Result<Program> {
    let network = Preset::Tiny.network().network();
    let schedule = Schedule::plain(network.timesteps);
    let request = Request::training(&network, &schedule, Preset::Tiny.training().batch, target);
    Ok(compile(&Request { precision: Precision::Mixed, ..request })?.program)
}

/// The launches of a training step within less than half of its memory, whose sums go on from launch to launch; what it keeps may
/// be packed.
fn bounded(target: &Target, pack: bool) -> Result<Program> {
    let network = Preset::Tiny.network().network();
    let schedule = Schedule::plain(network.timesteps);
    let request = Request::training(&network, &schedule, 4, target);
    let memory = Some(compile(&request)?.peak_bytes() * 45 / 100);
    Ok(compile(&Request { memory, pack, ..request })?.program)
}

/// The launches of a training step.
fn network(target: &Target, config: &NetworkConfig, batch: usize, passes: Passes) -> Result<Program> {
    let (network, schedule) = (config.network(), Schedule::plain(config.timesteps));
    Ok(compile(&Request { passes, ..Request::training(&network, &schedule, batch, target) })?.program)
}

/// A shading language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// What the kernels are written in.
    Wgsl,
    /// Vulkan's: version 1.3, as Vulkan 1.1 takes it.
    Spirv,
    /// Metal's: version 2.4.
    Msl,
    /// Direct3D 12's: shader model 6.0.
    Hlsl,
}

impl Language {
    /// Extension of a file in this language.
    pub fn extension(self) -> &'static str {
        match self {
            Language::Wgsl => "wgsl",
            Language::Spirv => "spv",
            Language::Msl => "metal",
            Language::Hlsl => "hlsl",
        }
    }
}

/// The kernel in another language, with wgpu's checks of bounds and loops.
///
/// # Errors
/// When naga cannot translate it.
pub fn translate(kernel: &Kernel, language: Language) -> Result<Vec<u8>> {
    use naga::back::{hlsl, msl, spv};
    let fail = |what: String| Error::Gpu(format!("kernel {}: {what}", kernel.label()));
    let entry = || Some((naga::ShaderStage::Compute, "main".to_string()));
    let (module, info) = kernel.validated();
    let restrict = naga::proc::BoundsCheckPolicy::Restrict;
    let bounds = naga::proc::BoundsCheckPolicies { index: restrict, buffer: restrict, ..Default::default() };
    match language {
        Language::Wgsl => Ok(kernel.source.clone().into_bytes()),
        Language::Spirv => {
            let options = spv::Options { lang_version: (1, 3), bounds_check_policies: bounds, ..Default::default() };
            let (shader_stage, entry_point) = (naga::ShaderStage::Compute, "main".to_string());
            let pipeline = spv::PipelineOptions { shader_stage, entry_point };
            let words =
                spv::write_vec(module, &info, &options, Some(&pipeline)).map_err(|e| fail(format!("SPIR-V: {e}")))?;
            Ok(words.into_iter().flat_map(u32::to_le_bytes).collect())
        }
        Language::Msl => {
            let options = msl::Options { lang_version: (2, 4), bounds_check_policies: bounds, ..Default::default() };
            let pipeline = msl::PipelineOptions { entry_point: entry(), ..Default::default() };
            let (text, _) =
                msl::write_string(module, &info, &options, &pipeline).map_err(|e| fail(format!("MSL: {e}")))?;
            Ok(text.into_bytes())
        }
        Language::Hlsl => {
            let options = hlsl::Options { shader_model: hlsl::ShaderModel::V6_0, ..Default::default() };
            let pipeline = hlsl::PipelineOptions { entry_point: entry() };
            let mut text = String::new();
            let mut writer = hlsl::Writer::new(&mut text, &options, &pipeline);
            writer.write(module, &info, None).map_err(|e| fail(format!("HLSL: {e}")))?;
            Ok(text.into_bytes())
        }
    }
}
