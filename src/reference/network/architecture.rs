//! A network of one's own: the description that golden files hold as JSON under `architecture`, read and checked.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::description::{Area, Connection, Kind, Map, Network, Unroll};
use super::unroll;
use crate::reference::mix::Interaction;
use crate::reference::norm::NormKind;
use crate::{Error, Result};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    image_size: usize,
    classes: usize,
    timesteps: usize,
    #[serde(default)]
    unroll: Unroll,
    #[serde(default)]
    readout_bias: bool,
    areas: Vec<WrittenArea>,
    connections: Vec<WrittenConnection>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenArea {
    name: String,
    channels: usize,
    #[serde(default)]
    norm: NormName,
    groups: Option<usize>,
    #[serde(default)]
    activation: Activation,
    #[serde(default)]
    interaction: Interaction,
    pool: Option<AreaPool>,
}

#[derive(Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum NormName {
    #[default]
    Layer,
    Group,
    None,
}

#[derive(Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Activation {
    #[default]
    Relu,
    None,
}

#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum AreaPool {
    Average,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenConnection {
    from: String,
    to: String,
    kind: Kind,
    kernel: Option<usize>,
    stride: Option<usize>,
    pool: Option<usize>,
    bias: Option<bool>,
    name: Option<String>,
}

impl WrittenConnection {
    /// `<to>.<name>`; the name is the kind where none is given.
    fn label(&self) -> String {
        let kind = match self.kind {
            Kind::BottomUp => "bottom_up",
            Kind::Lateral => "lateral",
            Kind::TopDown => "top_down",
        };
        format!("{}.{}", self.to, self.name.as_deref().unwrap_or(kind))
    }
}

/// Reads and checks a description.
///
/// # Errors
/// Names the key, area or connection that is wrong.
pub fn network(json: &serde_json::Value) -> Result<Network> {
    let written = Written::deserialize(json).map_err(|e| Error::Config(format!("architecture: {e}")))?;
    let network = check_names(&written).and_then(|()| build(&written));
    network.map_err(|wrong| Error::Config(format!("architecture: {wrong}")))
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Names are well formed, unique, and of something that exists.
fn check_names(written: &Written) -> Result<(), String> {
    let mut areas = BTreeSet::new();
    for area in &written.areas {
        let name = &area.name;
        if !is_name(name) || name == "input" || name == "readout" {
            return Err(format!(
                "area `{name}`: a name has letters, digits and underscores and is not `input` or `readout`"
            ));
        }
        if !areas.insert(name) {
            return Err(format!("there are two areas `{name}`"));
        }
    }
    let mut labels = BTreeSet::new();
    for connection in &written.connections {
        let label = connection.label();
        if connection.name.as_ref().is_some_and(|name| !is_name(name) || name == "norm") {
            return Err(format!("connection `{label}`: a name has letters, digits and underscores and is not `norm`"));
        }
        if connection.from != "input" && !areas.contains(&connection.from) {
            return Err(format!("connection `{label}`: there is no area `{}`", connection.from));
        }
        if !areas.contains(&connection.to) {
            return Err(format!("connection `{label}`: there is no area `{}`", connection.to));
        }
        if !labels.insert(label.clone()) {
            return Err(format!("two connections are called `{label}`; give one another `name`"));
        }
    }
    Ok(())
}

fn build(written: &Written) -> Result<Network, String> {
    for (key, value) in
        [("image_size", written.image_size), ("classes", written.classes), ("timesteps", written.timesteps)]
    {
        if value == 0 {
            return Err(format!("`{key}` must be at least 1"));
        }
    }
    let mut areas: Vec<Area> = Vec::new();
    while areas.len() < written.areas.len() {
        areas.push(next_area(written, &areas)?);
    }
    let place = |name: &str| areas.iter().position(|area| area.name == name);
    let mut connections = Vec::new();
    for w in &written.connections {
        let to = place(&w.to).expect("names are checked");
        let from = place(&w.from);
        let map = check_connection(w, from.map(|from| &areas[from]), &areas[to])?;
        let bias = w.bias.unwrap_or(areas[to].norm.is_none() || from.is_none()) && map != Map::Average;
        connections.push(Connection { parameters: w.label(), label: w.label(), kind: w.kind, from, to, map, bias });
    }
    let network = Network {
        image_size: written.image_size,
        classes: written.classes,
        timesteps: written.timesteps,
        unroll: written.unroll,
        readout: readout(&areas, &connections)?,
        readout_bias: written.readout_bias,
        areas,
        connections,
        idle: BTreeMap::new(),
    };
    unroll::check_readout(&network, network.timesteps)?;
    Ok(network)
}

/// An area that is not among `known` while all that its bottom-up connections come from is; its size follows from them.
fn next_area(written: &Written, known: &[Area]) -> Result<Area, String> {
    let find = |name: &str| known.iter().find(|area| area.name == name);
    let into = |area: &WrittenArea| {
        let name = area.name.clone();
        written.connections.iter().filter(move |c| c.kind == Kind::BottomUp && c.to == name && c.from != name)
    };
    let rest = written.areas.iter().filter(|area| find(&area.name).is_none());
    let ready = rest
        .clone()
        .find(|area| into(area).next().is_some() && into(area).all(|c| c.from == "input" || find(&c.from).is_some()));
    let Some(area) = ready else {
        let names: Vec<&str> = rest.clone().map(|area| area.name.as_str()).collect();
        return Err(match rest.clone().find(|area| into(area).next().is_none()) {
            Some(area) => format!("no bottom-up connection leads to area `{}`", area.name),
            None => format!("bottom-up connections run in a circle, or from one, through {}", names.join(", ")),
        });
    };
    let vector = area.pool.is_some();
    if area.channels == 0 {
        return Err(format!("area `{}`: `channels` must be at least 1", area.name));
    }
    let mut size = None;
    for c in into(area) {
        let from = find(&c.from).map_or(written.image_size, |from| from.size);
        let by = if vector { from } else { c.pool.unwrap_or(1) * c.stride.unwrap_or(1) };
        if by == 0 || from % by != 0 {
            return Err(format!("connection `{}`: {from} rows do not divide by {by}", c.label()));
        }
        if size.is_some_and(|size| size != from / by) {
            return Err(format!("area `{}`: maps of {} and of {} rows meet", area.name, size.unwrap_or(0), from / by));
        }
        size = Some(from / by);
    }
    let norm = match (area.norm, area.groups) {
        (NormName::None, _) => None,
        (NormName::Layer, _) => Some(NormKind::Layer),
        (NormName::Group, groups) => Some(NormKind::Group { groups: groups.unwrap_or(1) }),
    };
    if let Some(NormKind::Group { groups }) = norm
        && (groups == 0 || area.channels % groups != 0)
    {
        return Err(format!("area `{}`: {} channels do not divide into {groups} groups", area.name, area.channels));
    }
    Ok(Area {
        name: area.name.clone(),
        channels: area.channels,
        size: size.expect("a bottom-up connection leads to it"),
        vector,
        norm,
        norm_name: format!("{}.norm", area.name),
        relu: area.activation == Activation::Relu,
        interaction: area.interaction,
    })
}

/// What a connection computes, if it fits its ends. `from` is `None` for the picture.
fn check_connection(w: &WrittenConnection, from: Option<&Area>, to: &Area) -> Result<Map, String> {
    let wrong = |what: String| Err(format!("connection `{}`: {what}", w.label()));
    let (stride, pool) = (w.stride.unwrap_or(1), w.pool.unwrap_or(1));
    let to_itself = from.is_some_and(|from| from.name == to.name);
    if from.is_none() && w.kind != Kind::BottomUp {
        return wrong("only bottom-up connections start at `input`".into());
    }
    if to_itself != (w.kind == Kind::Lateral) {
        return wrong(format!("a lateral connection, and no other, leads from an area to itself; from `{}`", w.from));
    }
    if w.kind == Kind::BottomUp && to.vector {
        let channels = from.map_or(3, |from| from.channels);
        return if w.kernel.is_some() || w.stride.is_some() || w.pool.is_some() || w.bias.is_some() {
            wrong("an average has no kernel, stride, pool or bias".into())
        } else if from.is_some_and(|from| from.vector) {
            wrong(format!("`{}` is a vector: no bottom-up connection starts there", w.from))
        } else if channels != to.channels {
            wrong(format!("the average of {channels} channels has as many, not {}", to.channels))
        } else {
            Ok(Map::Average)
        };
    }
    if w.kind == Kind::Lateral && to.vector {
        return if w.kernel.unwrap_or(1) != 1 || stride != 1 || pool != 1 {
            wrong("a vector's lateral connection is a linear layer: kernel, stride and pool are 1".into())
        } else {
            Ok(Map::Linear)
        };
    }
    if to.vector || from.is_some_and(|from| from.vector) {
        return wrong("a vector has an average and perhaps a lateral connection, and no other".into());
    }
    let kernel = w.kernel.unwrap_or(3);
    if kernel.is_multiple_of(2) {
        return wrong(format!("`kernel` must be odd, found {kernel}"));
    }
    if !matches!(stride, 1 | 2 | 4) || !matches!(pool, 1 | 2) {
        return wrong(format!("`stride` is 1, 2 or 4 and `pool` 1 or 2, found {stride} and {pool}"));
    }
    match w.kind {
        Kind::BottomUp => Ok(Map::Convolution { pooled: pool == 2, kernel, stride }),
        Kind::Lateral if (stride, pool) != (1, 1) => wrong("a lateral connection has no stride or pool".into()),
        Kind::TopDown if pool != 1 => wrong("a top-down connection has no pool".into()),
        Kind::TopDown if from.is_some_and(|from| from.size * stride != to.size) => {
            let rows = from.map_or(0, |from| from.size * stride);
            wrong(format!("maps of {rows} rows arrive at maps of {}", to.size))
        }
        Kind::TopDown if stride > 1 => Ok(Map::Transposed { kernel, stride }),
        Kind::Lateral | Kind::TopDown => Ok(Map::Convolution { pooled: false, kernel, stride: 1 }),
    }
}

/// The area called `gap`, or else the one that no bottom-up connection leaves. Vectors have one connection into them.
fn readout(areas: &[Area], connections: &[Connection]) -> Result<usize, String> {
    for (number, area) in areas.iter().enumerate().filter(|(_, area)| area.vector) {
        let averages = connections.iter().filter(|c| c.to == number && c.kind == Kind::BottomUp).count();
        if averages != 1 {
            return Err(format!("area `{}` averages one source, found {averages}", area.name));
        }
    }
    if let Some(gap) = areas.iter().position(|area| area.name == "gap") {
        return Ok(gap);
    }
    let leaves = |area: usize| connections.iter().any(|c| c.kind == Kind::BottomUp && c.from == Some(area));
    let last: Vec<usize> = (0..areas.len()).filter(|&area| !leaves(area)).collect();
    match last[..] {
        [area] => Ok(area),
        _ => {
            let names: Vec<&str> = last.iter().map(|&area| areas[area].name.as_str()).collect();
            Err(format!("which area is read out? None is called `gap`, and nothing leaves {}", names.join(", ")))
        }
    }
}
