//! Every kernel variant that the project can launch on an adapter, and their translation to other shading languages.

use crate::graph::compile::{Request, compile};
use crate::graph::passes::Passes;
use crate::kernels::choose::{Choice, tiles, weight_tiles};
use crate::kernels::{Kernel, Target, capabilities};
use crate::network::{Interaction, NetworkConfig, Norm, Preset};
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A shading language that naga writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// As written, expanded.
    Wgsl,
    /// Vulkan.
    Spirv,
    /// Metal.
    Msl,
    /// DX12.
    Hlsl,
}

impl Language {
    /// The ending of files in it.
    pub fn extension(self) -> &'static str {
        match self {
            Language::Wgsl => "wgsl",
            Language::Spirv => "spv",
            Language::Msl => "metal",
            Language::Hlsl => "hlsl",
        }
    }
}

/// Every kernel variant that networks of any configuration, with any tile of [`tiles`] and [`weight_tiles`], and the
/// trajectory statistics launch on `target`: collected by compiling networks that together use every operation and flag.
///
/// # Errors
/// A variant that naga refuses.
pub fn all_kernels(target: &Target) -> Result<Vec<Arc<Kernel>>> {
    let mut found: BTreeMap<String, Arc<Kernel>> = BTreeMap::new();
    let mut collect =
        |config: &NetworkConfig, batch: usize, train: bool, passes: Passes, choice: Choice| -> Result<()> {
            let request = Request { config, batch, target, passes, choice, train, inspect: false, trajectory: false };
            for launch in compile(&request)?.lowered.program.launches {
                found.entry(launch.kernel.label()).or_insert(launch.kernel);
            }
            Ok(())
        };
    // What the presets run with the table's choices.
    for preset in Preset::ALL {
        for train in [true, false] {
            collect(&preset.network(), 4, train, Passes::default(), Choice::default())?;
        }
    }
    // Every operation and flag, with every tile.
    let small = NetworkConfig {
        image_size: 16,
        stem_channels: 4,
        area_channels: [4, 8, 16, 32],
        lateral: true,
        topdown: true,
        timesteps: 3,
        classes: 5,
        ..Preset::Tiny.network()
    };
    let configs = [
        small.clone(),
        NetworkConfig { interaction: Interaction::Multiplicative, norm: Norm::Group, groups: 2, ..small.clone() },
        NetworkConfig { norm: Norm::None, ..small.clone() },
    ];
    let without: Vec<Passes> = std::iter::once(Ok(Passes::default()))
        .chain(Passes::NAMES.map(|n| Passes::without(&[n])))
        .collect::<Result<_>>()?;
    for config in &configs {
        for passes in &without {
            collect(config, 3, true, *passes, Choice::default())?;
        }
    }
    for tile in tiles(target, false) {
        let choice = Choice { tile: Some(tile), weight: None };
        for config in &configs {
            // Workgroup memory serves conv2d alone; the transposed convolution ignores it.
            collect(config, 3, true, Passes::default(), choice)?;
        }
    }
    for tile in weight_tiles(target, 3) {
        collect(&small, 3, true, Passes::default(), Choice { tile: None, weight: Some(tile) })?;
    }
    Ok(found.into_values().collect())
}

/// Translates a kernel.
///
/// # Errors
/// When the back end refuses it.
pub fn translate(kernel: &Kernel, to: Language) -> Result<Vec<u8>> {
    let fail = |what: String| Error::Gpu(format!("{} to {}: {what}", kernel.label(), to.extension()));
    if to == Language::Wgsl {
        return Ok(kernel.source.clone().into_bytes());
    }
    let module = naga::front::wgsl::parse_str(&kernel.source).map_err(|e| fail(e.to_string()))?;
    let mut validator = naga::valid::Validator::new(naga::valid::ValidationFlags::all(), capabilities());
    validator
        .subgroup_stages(naga::valid::ShaderStages::COMPUTE)
        .subgroup_operations(naga::valid::SubgroupOperationSet::all());
    let info = validator.validate(&module).map_err(|e| fail(e.to_string()))?;
    match to {
        Language::Wgsl => unreachable!("above"),
        Language::Spirv => {
            let options = naga::back::spv::Options { lang_version: (1, 3), ..Default::default() };
            let words = naga::back::spv::write_vec(&module, &info, &options, None).map_err(|e| fail(e.to_string()))?;
            Ok(words.iter().flat_map(|w| w.to_le_bytes()).collect())
        }
        Language::Msl => {
            let options =
                naga::back::msl::Options { lang_version: (2, 4), fake_missing_bindings: true, ..Default::default() };
            let (text, _) = naga::back::msl::write_string(&module, &info, &options, &Default::default())
                .map_err(|e| fail(e.to_string()))?;
            Ok(text.into_bytes())
        }
        Language::Hlsl => {
            let options = naga::back::hlsl::Options {
                shader_model: naga::back::hlsl::ShaderModel::V6_0,
                fake_missing_bindings: true,
                ..Default::default()
            };
            let mut text = String::new();
            naga::back::hlsl::Writer::new(&mut text, &options, &Default::default())
                .write(&module, &info, None)
                .map_err(|e| fail(e.to_string()))?;
            Ok(text.into_bytes())
        }
    }
}
