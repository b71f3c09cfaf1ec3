//! From shapes of tensors, the name of a published file and the user's flags to the network of the published family that the
//! tensors belong to.
//!
//! Tensors tell widths, kernel, connections, norm, biases and classes, and with a layer norm the size of the pictures. They
//! cannot tell how recurrent drive joins bottom-up drive, over how many timesteps the network runs, the groups of a group norm
//! or, without a layer norm, the size of the pictures. What nobody says is an error, and so are two that disagree.

use super::pickle::shown;
use super::published::PublishedName;
use crate::network::{
    AREAS, IMAGE_CHANNELS, Interaction, LtPosition, NetworkConfig, Normalisation, ParameterSpec, Preset, RecurrentFrom,
};
use crate::tensors::Tensors;
use serde::Serialize;

/// What the user says of the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--interaction`
    pub interaction: Option<Interaction>,
    /// `--timesteps`
    pub timesteps: Option<usize>,
    /// `--image-size`
    pub image_size: Option<usize>,
    /// `--lt-position`
    pub lt_position: Option<LtPosition>,
    /// `--recurrent-from`; as published (V1 without recurrent drive) where absent.
    pub recurrent_from: Option<RecurrentFrom>,
    /// `--groups`
    pub groups: Option<usize>,
}

/// The network that these tensors belong to, and what the user should know, one sentence each.
///
/// # Errors
/// Tensors of no network of the family, with what was found and what would fit; what neither tensors nor name nor flags say,
/// with the flag's name; two of them that disagree, with both.
pub fn infer(
    tensors: &Tensors,
    name: Option<&PublishedName>,
    flags: &Flags,
) -> Result<(NetworkConfig, Vec<String>), String> {
    let shape = |name: &str| tensors.get(name).map(|tensor| &tensor.shape[..]);
    let has = |name: &str| tensors.get(name).is_some();
    let bottom_up = AREAS.map(|area| format!("{area}.bottom_up.weight"));
    let (stem, kernel) = match shape("retina.weight") {
        Some(&[stem, IMAGE_CHANNELS, kernel, _]) => (stem, kernel),
        _ => return Err(not_of_the_family(shapes(tensors))),
    };
    let mut area_channels = [0; AREAS.len()];
    for (channels, name) in area_channels.iter_mut().zip(&bottom_up) {
        *channels = match shape(name) {
            Some(&[out, _, _, _]) => out,
            _ => return Err(not_of_the_family(shapes(tensors))),
        };
    }
    let Some(&[classes, _]) = shape("readout.weight") else {
        return Err(not_of_the_family(shapes(tensors)));
    };

    let mut notes = Vec::new();
    let mut unknown = Vec::new();
    let of_name = |part: String| format!("the file's name ({part})");
    let flag = |name: &str, value: String| format!("--{name} {value}");

    let (norm, told_size) = match shape("v1_ln.weight") {
        None => (Normalisation::None, None),
        Some(&[_]) => (Normalisation::Group, None),
        Some(&[channels, rows, columns]) => {
            (Normalisation::Layer, Some((rows, format!("v1_ln.weight [{channels}, {rows}, {columns}]"))))
        }
        Some(other) => return Err(format!("tensor v1_ln.weight has the shape {other:?}; [C, H, W] or [C] would fit")),
    };
    if let Some(said) = name.and_then(|n| n.norm) {
        settle("the norm", [Some((norm, "the tensors".into())), Some((said, of_name("norm".into())))])?;
    }
    let readout_bias = has("readout.bias");
    if let Some(said) = name.and_then(|n| n.readout_bias) {
        let part = format!("classifier_bias_{}", u8::from(said));
        settle("the readout's bias", [Some((readout_bias, "the tensors".into())), Some((said, of_name(part)))])?;
    }

    // The number in the name is that of the published networks' size; tensors that tell the size have the last word.
    let named_size = name.map(|n| (n.image_size, of_name(format!("b{}", n.image_size))));
    let image_size = settle(
        "the size of the pictures",
        [told_size.or(named_size), flags.image_size.map(|size| (size, flag("image-size", size.to_string())))],
    )?;
    let image_size = image_size.unwrap_or_else(|| {
        unknown.push("--image-size S (side of the pictures in pixels; without a layer norm no tensor depends on it)");
        0
    });

    let timesteps = settle(
        "the number of timesteps",
        [
            name.map(|n| (n.timesteps, of_name(format!("T_{}", n.timesteps)))),
            flags.timesteps.map(|t| (t, flag("timesteps", t.to_string()))),
        ],
    )?;
    let timesteps = timesteps.unwrap_or_else(|| {
        unknown.push("--timesteps T");
        0
    });

    let lateral_maps = AREAS.iter().any(|area| has(&format!("{area}.lateral.weight")));
    let lateral = lateral_maps || has("gap.lateral.weight");
    let top_down_maps = AREAS.iter().any(|area| has(&format!("{area}.top_down.weight")));
    if timesteps == 1 && (lateral || lateral_maps || top_down_maps) {
        let by = if name.is_some() { of_name("T_1".into()) } else { flag("timesteps", "1".into()) };
        return Err(format!(
            "there are recurrent weights ({}), but {by} says one timestep, and a network of one step has none; say how many \
             steps it was trained over",
            recurrent(tensors).join(", ")
        ));
    }
    if let Some(name) = name.filter(|name| name.timesteps > 1 && name.lateral != lateral) {
        return Err(format!(
            "the file's name says l_{}, {} lateral connections, but lateral weights are {}; rename the file, or give its \
             right one",
            u8::from(name.lateral),
            if name.lateral { "with" } else { "without" },
            if lateral { "there" } else { "not there" },
        ));
    }
    let told_position = match (lateral_maps || top_down_maps, lateral) {
        (true, _) => Some((LtPosition::All, "the tensors (areas have recurrent weights)".to_string())),
        (false, true) => Some((LtPosition::Last, "the tensors (only the gap has recurrent weights)".to_string())),
        (false, false) => None,
    };
    let position = settle(
        "the position of recurrent connections",
        [
            told_position,
            name.and_then(|n| n.lt_position).map(|p| (p, of_name(format!("ltposition_{}", word(p))))),
            flags.lt_position.map(|p| (p, flag("lt-position", word(p)))),
        ],
    )?;
    let lt_position = position.unwrap_or(LtPosition::All);
    // At position "last" nothing is top-down, whatever the network's author asked for; the name keeps it.
    let topdown = match lt_position {
        LtPosition::All => top_down_maps,
        LtPosition::Last => name.is_some_and(|name| name.topdown),
    };
    if let Some(name) = name.filter(|name| name.timesteps > 1 && name.topdown != topdown) {
        return Err(format!(
            "the file's name says t_{}, {} top-down connections, but {} there; rename the file, or give its right one",
            u8::from(name.topdown),
            if name.topdown { "with" } else { "without" },
            if topdown { "v2.top_down.weight is" } else { "no tensor of one is" },
        ));
    }
    let interaction = settle(
        "the interaction",
        [
            name.and_then(|n| n.interaction).map(|i| (i, of_name(format!("ltinteract_{}", word(i))))),
            flags.interaction.map(|i| (i, flag("interaction", word(i)))),
        ],
    )?;
    let interaction = interaction.unwrap_or_else(|| {
        if lateral || top_down_maps {
            unknown.push("--interaction additive|multiplicative");
        }
        Interaction::Additive // of no consequence where nothing is recurrent
    });
    let groups = match (norm, flags.groups) {
        (Normalisation::Group, Some(groups)) => groups,
        (Normalisation::Group, None) => {
            unknown.push("--groups G (of the group norm)");
            1
        }
        (_, None) => 1,
        (_, Some(groups)) => {
            return Err(format!(
                "--groups {groups} is for a group norm (scales of one value per channel), but {}; leave the flag out",
                if norm == Normalisation::None { "there is no norm" } else { "v1_ln.weight is that of a layer norm" }
            ));
        }
    };
    if !unknown.is_empty() {
        let who = if name.is_some() { "tensors and file name" } else { "its tensors" };
        return Err(format!(
            "{who} do not say all of the network: give {}. (Published names, such as \
             b64_l_1_t_0_ltinteract_additive_T_10_ltposition_all_num_1.pth, say it themselves.)",
            unknown.join(" and ")
        ));
    }
    let config = NetworkConfig {
        image_size,
        stem_channels: stem,
        area_channels,
        kernel_size: kernel,
        lateral,
        topdown,
        interaction,
        lt_position,
        recurrent_from: flags.recurrent_from.unwrap_or(RecurrentFrom::V2),
        norm,
        groups,
        readout_bias,
        timesteps,
        classes,
    };
    config.validate().map_err(|e| format!("the tensors' network is not possible: {e}"))?;
    fits(tensors, &config.network().parameters)?;
    notes.extend(name.and_then(|name| unlike(name, &config)));
    if config.recurrent_from == RecurrentFrom::V2 && (has("v1.lateral.weight") || has("v1.top_down.weight")) {
        notes.push(
            "V1's recurrent weights are kept and not used, as in the published networks (--recurrent-from v1 uses them)".into(),
        );
    }
    Ok((config, notes))
}

/// Where a network differs from the published one whose name its file has, as a sentence.
pub(super) fn unlike(name: &PublishedName, found: &NetworkConfig) -> Option<String> {
    let preset = if name.image_size == 128 { Preset::Blt128 } else { Preset::Blt64 };
    let several = name.timesteps > 1;
    let published = NetworkConfig {
        image_size: name.image_size,
        lateral: name.lateral && several,
        topdown: name.topdown && several,
        timesteps: name.timesteps,
        interaction: name.interaction.unwrap_or(found.interaction),
        lt_position: name.lt_position.unwrap_or(found.lt_position),
        norm: name.norm.unwrap_or(Normalisation::Layer),
        readout_bias: name.readout_bias.unwrap_or(false),
        ..preset.network()
    };
    fn each(of: &NetworkConfig) -> [(&str, String); 11] {
        [
            ("image_size", word(of.image_size)),
            ("stem_channels", word(of.stem_channels)),
            ("area_channels", word(of.area_channels)),
            ("kernel_size", word(of.kernel_size)),
            ("classes", word(of.classes)),
            ("norm", word(of.norm)),
            ("readout_bias", word(of.readout_bias)),
            ("timesteps", word(of.timesteps)),
            ("lateral", word(of.lateral)),
            ("topdown", word(of.topdown)),
            ("interaction", word(of.interaction)),
        ]
    }
    let position = ("lt_position", word(found.lt_position), word(published.lt_position));
    let pairs = each(found).into_iter().zip(each(&published)).map(|((what, is), (_, named))| (what, is, named));
    let differing: Vec<String> = pairs
        .chain([position])
        .filter(|(_, is, named)| is != named)
        .map(|(what, is, named)| format!("{what} is {is}, not {named}"))
        .collect();
    (!differing.is_empty()).then(|| {
        format!(
            "the file has the name of a published network, but is another: {}; what the file holds counts",
            differing.join("; ")
        )
    })
}

/// Whether the tensors are those of a network, by names and shapes; the error lists what is missing, left over and different.
pub(super) fn fits(tensors: &Tensors, specs: &[ParameterSpec]) -> Result<(), String> {
    let missing: Vec<String> = specs
        .iter()
        .filter(|spec| tensors.get(&spec.name).is_none())
        .map(|spec| format!("{} {:?}", spec.name, spec.shape))
        .collect();
    let left: Vec<String> = tensors
        .iter()
        .filter(|(name, _)| specs.iter().all(|spec| spec.name != **name))
        .map(|(name, tensor)| format!("{} {:?}", shown(name), tensor.shape))
        .collect();
    let different: Vec<String> = specs
        .iter()
        .filter_map(|spec| Some((spec, &tensors.get(&spec.name)?.shape)))
        .filter(|(spec, shape)| spec.shape != **shape)
        .map(|(spec, shape)| format!("{} {shape:?} in place of {:?}", spec.name, spec.shape))
        .collect();
    let lacks = !missing.is_empty();
    let mut faults = Vec::new();
    for (what, names) in [("missing", missing), ("left over", left), ("of another shape", different)] {
        if !names.is_empty() {
            faults.push(format!("{what}: {}", list(names)));
        }
    }
    if faults.is_empty() {
        return Ok(());
    }
    let whole = if lacks { WHOLE } else { "" };
    Err(format!("its tensors are not those of one network of the family: {}{whole}", faults.join("; ")))
}

/// Two or more who speak of one thing must agree: the value of the first who says one.
fn settle<T: PartialEq + Copy + Serialize, const N: usize>(
    what: &str,
    said: [Option<(T, String)>; N],
) -> Result<Option<T>, String> {
    let mut said = said.into_iter().flatten();
    let Some((value, by)) = said.next() else { return Ok(None) };
    match said.find(|(other, _)| *other != value) {
        Some((other, by_other)) => Err(format!(
            "{what}: {by} says {}, but {by_other} says {}; they cannot both be right",
            word(value),
            word(other)
        )),
        None => Ok(Some(value)),
    }
}

/// A value as configuration files write it.
pub(super) fn word<T: Serialize>(value: T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(other) => other.to_string(),
        Err(e) => e.to_string(),
    }
}

/// Names of recurrent weights that are there.
fn recurrent(tensors: &Tensors) -> Vec<String> {
    let of = |name: &str| name.contains(".lateral.") || name.contains(".top_down.");
    tensors.iter().map(|(name, _)| name).filter(|name| of(name)).take(3).map(|name| shown(name)).collect()
}

/// Names and shapes.
fn shapes(tensors: &Tensors) -> impl Iterator<Item = (&str, &[usize])> {
    tensors.iter().map(|(name, tensor)| (&name[..], &tensor.shape[..]))
}

/// How a state dict is saved that lacks nothing.
const WHOLE: &str = ". The whole state dict is needed; in PyTorch: torch.save(network.state_dict(), FILE)";

/// The error for tensors, by names and shapes, that are none of ours.
pub(super) fn not_of_the_family<'a>(tensors: impl Iterator<Item = (&'a str, &'a [usize])>) -> String {
    let (names, found): (Vec<&str>, Vec<String>) =
        tensors.map(|(name, shape)| (name, format!("{} {shape:?}", shown(name)))).unzip();
    let begin = |start: &str| names.iter().any(|name| name.starts_with(start));
    let hint = if begin("param/") {
        " It looks like a checkpoint of recurve or a golden file: a run is used by its folder, not imported."
    } else if begin("state.") {
        " It looks like the state of an optimizer: the weights are in another file, or under another key of the script."
    } else {
        ""
    };
    let areas = AREAS.map(|area| format!("{area}.bottom_up.weight"));
    let needed = ["retina.weight"].into_iter().chain(areas.iter().map(String::as_str)).chain(["readout.weight"]);
    let (there, lacks): (Vec<&str>, Vec<&str>) = needed.partition(|name| names.contains(name));
    if !there.is_empty() && !lacks.is_empty() {
        return format!(
            "its tensors are not those of one network of the family: missing: {}; found {} tensors ({}){WHOLE}",
            lacks.join(", "),
            names.len(),
            list(found)
        );
    }
    format!(
        "it is not the state dict of a BLT network: it holds {}. What would fit: retina.weight [S, 3, k, k], {}, \
         readout.weight [K, C] and, as the network has them, lateral, top_down, *_ln and gap.lateral.{hint}",
        if found.is_empty() { "no tensor".into() } else { format!("{} tensors ({})", names.len(), list(found)) },
        AREAS.map(|area| format!("{area}.bottom_up.weight [C, B, k, k]")).join(", "),
    )
}

/// The first of many, and how many more there are.
fn list(names: Vec<String>) -> String {
    const SHOWN: usize = 6;
    let more = names.len().saturating_sub(SHOWN);
    let first = names[..names.len().min(SHOWN)].join(", ");
    if more == 0 { first } else { format!("{first} and {more} more") }
}
