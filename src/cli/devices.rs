//! `recurve devices`.

use super::Adapter;
use recurve::gpu::{adapters, driver, target};
use serde_json::{Value, json};
use std::process::ExitCode;

/// Arguments of `recurve devices`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Print one JSON list and nothing else.
    #[arg(long)]
    json: bool,
}

/// Drivers on which results were seen to be wrong, by a piece of their description.
const KNOWN_BAD: [(&str, &str); 1] = [(
    "Mesa 22.3.6",
    "gave another engine a wrong training loss; run `recurve check` before you trust it, or use Mesa 25",
)];

/// Runs `recurve devices`.
pub async fn run(arguments: &Arguments, adapter: &Adapter) -> anyhow::Result<ExitCode> {
    let found = adapters().await?;
    if found.is_empty() || adapter.selector.is_some() {
        adapter.open(false).await?; // says what is wrong, for people
    }
    let mut list: Vec<Value> = Vec::new();
    for (i, a) in found.iter().enumerate() {
        let (info, limits, features) = (a.get_info(), adapter.smaller.limits(a), adapter.smaller.features(a));
        let names: Vec<String> = features.iter_names().map(|(name, _)| name.to_string()).collect();
        list.push(json!({
            "name": info.name,
            "driver": driver(&info),
            "backend": format!("{:?}", info.backend),
            "kind": format!("{:?}", info.device_type),
            "subgroup_min": info.subgroup_min_size,
            "subgroup_max": info.subgroup_max_size,
            "features": names,
            "limits": {
                "max_storage_buffer_binding_size": limits.max_storage_buffer_binding_size,
                "max_buffer_size": limits.max_buffer_size,
                "max_compute_workgroup_storage_size": limits.max_compute_workgroup_storage_size,
                "max_compute_invocations_per_workgroup": limits.max_compute_invocations_per_workgroup,
                "max_compute_workgroups_per_dimension": limits.max_compute_workgroups_per_dimension,
                "max_storage_buffers_per_shader_stage": limits.max_storage_buffers_per_shader_stage,
            },
        }));
        if arguments.json {
            continue;
        }
        let mib = |bytes: u64| bytes / (1 << 20);
        let has = |name: &str| if names.iter().any(|n| n == name) { "yes" } else { "no " };
        println!("{i}: {}", info.name);
        println!("   driver           {} ({:?}, {:?})", driver(&info), info.backend, info.device_type);
        println!(
            "   subgroups        {}  sizes {} to {}: {}",
            has("SUBGROUP"),
            info.subgroup_min_size,
            info.subgroup_max_size,
            match target(a, adapter.smaller).subgroup {
                0 => "not fixed, so weights come from workgroup memory or uniform loads",
                _ => "fixed, so weights may be broadcast from lane to lane",
            }
        );
        println!("   timestamps       {}  times on the device itself", has("TIMESTAMP_QUERY"));
        println!("   f16 in shaders   {}  not used yet", has("SHADER_F16"));
        println!("   64-bit integers  {}  CPU drivers load vectors as such words", has("SHADER_INT64"));
        println!(
            "   one binding      {} MiB: the largest tensor; one buffer {} MiB",
            mib(limits.max_storage_buffer_binding_size),
            mib(limits.max_buffer_size)
        );
        println!(
            "   workgroups       {} invocations, {} KiB shared memory, {} groups in one dimension",
            limits.max_compute_invocations_per_workgroup,
            limits.max_compute_workgroup_storage_size / 1024,
            limits.max_compute_workgroups_per_dimension
        );
        for (piece, why) in KNOWN_BAD.iter().filter(|(piece, _)| driver(&info).contains(piece)) {
            println!("   warning          {piece} {why}");
        }
    }
    if arguments.json {
        println!("{}", Value::from(list));
    }
    Ok(ExitCode::SUCCESS)
}
