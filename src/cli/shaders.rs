//! `recurve shaders`.

use super::Adapter;
use anyhow::Context;
use comfy_table::{Table, presets::UTF8_HORIZONTAL_ONLY};
use recurve::check::shaders::{Language, all_kernels, translate};
use recurve::files::write_atomically;
use recurve::kernels::{Access, Kernel, Target};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

/// Arguments of `recurve shaders`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Write one file per kernel variant into this folder.
    #[arg(long, value_name = "DIR")]
    dump: Option<PathBuf>,
    /// The language of the files.
    #[arg(long, value_enum, default_value = "wgsl", requires = "dump")]
    to: To,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum To {
    Wgsl,
    Spirv,
    Msl,
    Hlsl,
}

/// Runs `recurve shaders`.
pub async fn run(arguments: &Arguments, adapter: &Adapter) -> anyhow::Result<ExitCode> {
    let target = adapter.target(Target { subgroup: 8, ..Target::minimum() }).await?;
    let kernels = all_kernels(&target)?;
    let language = match arguments.to {
        To::Wgsl => Language::Wgsl,
        To::Spirv => Language::Spirv,
        To::Msl => Language::Msl,
        To::Hlsl => Language::Hlsl,
    };
    if let Some(folder) = &arguments.dump {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        // Whole numbers of 64 bits are naga's own: what other compilers of WGSL shall read has none.
        let written = |kernel: &&Arc<Kernel>| language != Language::Wgsl || !kernel.int64;
        let written: Vec<&Arc<Kernel>> = kernels.iter().filter(written).collect();
        for kernel in &written {
            let path = folder.join(format!("{}.{}", kernel.label().replace('/', "-"), language.extension()));
            write_atomically(&path, &translate(kernel, language)?).with_context(|| path.display().to_string())?;
        }
        println!("{} files in {}", written.len(), folder.display());
        let left = kernels.len() - written.len();
        if left > 0 {
            println!("{left} variants with whole numbers of 64 bits, which are not standard WGSL, were left out");
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY);
    table.set_header(["kernel", "variant", "invocations", "buffers", "workgroup memory", "subgroups", "64 bits"]);
    for kernel in &kernels {
        let buffers = kernel.bindings.iter().filter(|b| b.access != Access::Uniform).count();
        table.add_row([
            kernel.name.to_string(),
            kernel.variant.clone(),
            kernel.workgroup.iter().product::<u32>().to_string(),
            buffers.to_string(),
            kernel.workgroup_memory.to_string(),
            if kernel.subgroups { "yes" } else { "no" }.to_string(),
            if kernel.int64 { "yes" } else { "no" }.to_string(),
        ]);
    }
    println!("{table}");
    println!("{} kernel variants for {}", kernels.len(), target.name);
    Ok(ExitCode::SUCCESS)
}
