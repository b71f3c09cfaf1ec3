//! From the description of a network of one's own to the checked [`Network`]: every error names the area or connection,
//! what was found and what to do.

use super::architecture::{Activation, Architecture, AreaDescription, ConnectionDescription};
use super::resolved::{Area, Connection, From, Kind, Map, Network, Readout};
use super::state_dict::StateDict;
use super::terms::{
    IMAGE_CHANNELS, MAX_CHANNELS, MAX_CLASSES, MAX_IMAGE_SIZE, MAX_KERNEL, MAX_TIMESTEPS, Normalisation, impossible,
    within,
};
use crate::error::{Error, Result};

/// The name of the picture as a source.
const INPUT: &str = "input";

fn refuse<T>(message: String) -> Result<T> {
    Err(Error::Config(message))
}

impl Architecture {
    /// Checks everything but the number of classes where that is still the data set's to say.
    pub fn validate(&self) -> Result<()> {
        Architecture { classes: self.classes.or(Some(1)), ..self.clone() }.network().map(drop)
    }

    /// The network: areas in the order of the drive (as described, where that leaves a choice), sizes, and parameters:
    /// for each area its connections' weights and biases and then its norm's, at last the readout's.
    ///
    /// # Errors
    /// Whatever cannot be, and `classes` that are not known.
    pub fn network(&self) -> Result<Network> {
        self.check_numbers()?;
        let Some(classes) = self.classes else {
            return refuse("[architecture] has no classes: give their number, or a data set, which has its own".into());
        };
        self.check_areas()?;
        let ends = self.check_connections()?;
        let order = self.order(&ends)?;
        self.check_reached(&ends)?;
        let sides = self.sides(&ends, &order)?;
        let network = self.assemble(classes, &ends, &order, &sides)?;
        self.check_logits(&network)?;
        network.check_sizes()?;
        Ok(network)
    }

    fn check_numbers(&self) -> Result<()> {
        within("[architecture] image_size", self.image_size, 1, MAX_IMAGE_SIZE)?;
        within("[architecture] timesteps", self.timesteps, 1, MAX_TIMESTEPS)?;
        self.classes.map_or(Ok(()), |classes| within("[architecture] classes", classes, 1, MAX_CLASSES))
    }

    fn check_areas(&self) -> Result<()> {
        if self.areas.is_empty() {
            return refuse("[architecture] has no areas: describe each in an [[architecture.areas]]".into());
        }
        for (i, area) in self.areas.iter().enumerate() {
            let AreaDescription { name, channels, norm, groups, .. } = area;
            if !is_name(name) || [INPUT, "readout"].contains(&&name[..]) {
                let allowed = "letters, digits and underscores, and neither input nor readout";
                return impossible("an area's name", format!("{name:?}"), allowed);
            }
            if self.areas[..i].iter().any(|other| other.name == *name) {
                return refuse(format!("area {name}: two areas have this name; rename one of them"));
            }
            within(&format!("area {name}: channels"), *channels, 1, MAX_CHANNELS)?;
            within(&format!("area {name}: groups"), *groups, 1, MAX_CHANNELS)?;
            if *norm != Normalisation::Group && *groups != 1 {
                return refuse(format!(
                    "area {name}: groups = {groups} are for norm = \"group\" only; set that norm or leave groups out"
                ));
            }
            if !channels.is_multiple_of(*groups) {
                return refuse(format!(
                    "area {name}: groups = {groups} do not divide its {channels} channels; choose a divisor"
                ));
            }
        }
        Ok(())
    }

    /// The index of an area that a connection names.
    fn find(&self, connection: &ConnectionDescription, name: &str, end: &str) -> Result<usize> {
        self.areas.iter().position(|a| a.name == name).map_or_else(
            || {
                let areas: Vec<&str> = self.areas.iter().map(|a| &a.name[..]).collect();
                let input = if end == "from" { ", and input is the picture" } else { "" };
                refuse(format!(
                    "connection {}: {end} = {name:?} is no area; the areas are {}{input}",
                    describe(connection),
                    areas.join(", ")
                ))
            },
            Ok,
        )
    }

    /// Checks each connection for itself; returns where they start and end.
    fn check_connections(&self) -> Result<Vec<(From, usize)>> {
        let mut ends = Vec::with_capacity(self.connections.len());
        for (i, connection) in self.connections.iter().enumerate() {
            let ConnectionDescription { from, to, kind, stride, pool, .. } = connection;
            let (label, what) = (connection.label(), describe(connection));
            if !is_name(connection.name()) || connection.name() == "norm" {
                return refuse(format!(
                    "connection {what}: name = {:?} is not possible: it must be letters, digits and underscores, and not norm",
                    connection.name()
                ));
            }
            if to == INPUT {
                return refuse(format!("connection {what}: nothing can end at input, the picture; name an area in to"));
            }
            let end = self.find(connection, to, "to")?;
            let start = if from == INPUT { From::Input } else { From::Area(self.find(connection, from, "from")?) };
            if let Some(other) = self.connections[..i].iter().find(|other| other.label() == label) {
                return refuse(format!(
                    "connection {what}: the one from {} is called {label} too; give one of them another name",
                    other.from
                ));
            }
            match kind {
                Kind::BottomUp => {}
                _ if from == INPUT => {
                    return refuse(format!(
                        "connection {what}: from input only a bottom_up connection can come, set that kind"
                    ));
                }
                Kind::Lateral if from != to => {
                    return refuse(format!(
                        "connection {what}: a lateral connection ends where it starts, but it goes from {from} to {to}; \
                         set kind to bottom_up or top_down"
                    ));
                }
                _ => {}
            }
            if *kind != Kind::Lateral && from == to {
                return refuse(format!(
                    "connection {what}: it goes from {from} to itself, which only a lateral connection can; set that kind"
                ));
            }
            if *kind == Kind::Lateral && *stride != 1 {
                return refuse(format!(
                    "connection {what}: stride = {stride}, but a lateral connection keeps the size; leave stride out"
                ));
            }
            if *kind != Kind::BottomUp && *pool != 1 {
                return refuse(format!(
                    "connection {what}: pool = {pool}, but only a bottom_up connection pools its source; leave pool out"
                ));
            }
            if ![1, 2, 4].contains(stride) {
                return impossible(&format!("connection {what}: stride"), stride, "1, 2 or 4");
            }
            if ![1, 2].contains(pool) {
                return impossible(&format!("connection {what}: pool"), pool, "1 or 2");
            }
            if let Some(kernel) = connection.kernel.filter(|k| k.is_multiple_of(2) || *k > MAX_KERNEL) {
                let allowed = format!("an odd number from 1 to {MAX_KERNEL}");
                return impossible(&format!("connection {what}: kernel"), kernel, &allowed);
            }
            self.check_vectors(connection, start, end)?;
            ends.push((start, end));
        }
        self.check_averages(&ends)?;
        Ok(ends)
    }

    /// A vector has one average into it and at most lateral connections; nothing else starts or ends there.
    fn check_vectors(&self, connection: &ConnectionDescription, from: From, to: usize) -> Result<()> {
        let (target, what) = (&self.areas[to], describe(connection));
        if let From::Area(source) = from
            && source != to
            && self.areas[source].pool.is_some()
        {
            return refuse(format!(
                "connection {what}: {} is a vector (pool = \"average\"), from which only its lateral connection can start; \
                 start it at the map below",
                connection.from
            ));
        }
        if target.pool.is_none() {
            return Ok(());
        }
        match connection.kind {
            Kind::TopDown => refuse(format!(
                "connection {what}: {} is a vector (pool = \"average\"), where no top_down connection can end; take it out",
                target.name
            )),
            Kind::Lateral if connection.kernel.is_some_and(|k| k != 1) => refuse(format!(
                "connection {what}: kernel = {}, but a vector's lateral connection is a linear layer; leave kernel out",
                connection.kernel.unwrap_or_default()
            )),
            Kind::Lateral => Ok(()),
            Kind::BottomUp => {
                let keys = [
                    ("kernel", connection.kernel.is_some()),
                    ("stride", connection.stride != 1),
                    ("pool", connection.pool != 1),
                    ("bias", connection.bias == Some(true)),
                ];
                if let Some((key, _)) = keys.into_iter().find(|(_, given)| *given) {
                    return refuse(format!(
                        "connection {what}: it averages its source, as {} has pool = \"average\", and has no {key}; \
                         leave {key} out",
                        target.name
                    ));
                }
                let (source, channels) = match from {
                    From::Input => (INPUT, IMAGE_CHANNELS),
                    From::Area(a) => (&self.areas[a].name[..], self.areas[a].channels),
                };
                if channels != target.channels {
                    return refuse(format!(
                        "connection {what}: {} has {} channels, but it is the average of {source}, which has {channels}; \
                         give both as many",
                        target.name, target.channels
                    ));
                }
                Ok(())
            }
        }
    }

    fn check_averages(&self, ends: &[(From, usize)]) -> Result<()> {
        for (a, area) in self.areas.iter().enumerate().filter(|(_, area)| area.pool.is_some()) {
            let into: Vec<&str> =
                self.bottom_up(ends).filter(|(_, (_, to))| *to == a).map(|(c, _)| &c.from[..]).collect();
            if into.len() > 1 {
                return refuse(format!(
                    "area {}: a vector (pool = \"average\") has one bottom_up connection, but {} end here, from {}; keep one",
                    area.name,
                    into.len(),
                    into.join(", ")
                ));
            }
        }
        Ok(())
    }

    /// The bottom-up connections with their ends.
    fn bottom_up<'a>(
        &'a self,
        ends: &'a [(From, usize)],
    ) -> impl Iterator<Item = (&'a ConnectionDescription, (From, usize))> {
        self.connections.iter().zip(ends.iter().copied()).filter(|(c, _)| c.kind == Kind::BottomUp)
    }

    /// The areas in an order in which no bottom-up connection runs backwards: always the first described of those whose
    /// sources are all there.
    fn order(&self, ends: &[(From, usize)]) -> Result<Vec<usize>> {
        let mut order: Vec<usize> = Vec::with_capacity(self.areas.len());
        // A bottom-up source of `area` that has no place yet.
        let missing = |area: usize, order: &[usize]| {
            self.bottom_up(ends).find_map(|(_, ends)| match ends {
                (From::Area(from), to) if to == area && !order.contains(&from) => Some(from),
                _ => None,
            })
        };
        while order.len() < self.areas.len() {
            let left: Vec<usize> = (0..self.areas.len()).filter(|a| !order.contains(a)).collect();
            if let Some(&next) = left.iter().find(|&&a| missing(a, &order).is_none()) {
                order.push(next);
                continue;
            }
            // Each one left has a source that is left: going back from any of them leads into a cycle.
            let mut path = vec![left[0]];
            let cycle = loop {
                let source = missing(path[path.len() - 1], &order).expect("else it had a place");
                path.push(source);
                if let Some(first) = path.iter().position(|&a| a == source).filter(|&i| i + 1 < path.len()) {
                    break &path[first..];
                }
            };
            let names: Vec<&str> = cycle.iter().rev().map(|&a| &self.areas[a].name[..]).collect();
            return refuse(format!(
                "the bottom_up connections run in a cycle: {}; make the one that leads back a top_down connection",
                names.join(" -> ")
            ));
        }
        Ok(order)
    }

    fn check_reached(&self, ends: &[(From, usize)]) -> Result<()> {
        let mut reached = vec![false; self.areas.len()];
        loop {
            let next = self.bottom_up(ends).find_map(|(_, (from, to))| {
                let there = match from {
                    From::Input => true,
                    From::Area(from) => reached[from],
                };
                (there && !reached[to]).then_some(to)
            });
            let Some(next) = next else { break };
            reached[next] = true;
        }
        // Of several, one with a bottom-up connection is only further along: the first without one is where to begin.
        let unreached = |a: &usize| !reached[*a];
        let lacks = |a: &usize| !self.bottom_up(ends).any(|(_, (_, to))| to == *a);
        let all = 0..self.areas.len();
        let Some(area) = all.clone().find(|a| unreached(a) && lacks(a)).or_else(|| all.clone().find(unreached)) else {
            return Ok(());
        };
        refuse(format!(
            "area {}: no path of bottom_up connections from input leads to it; connect it, or take it out",
            self.areas[area].name
        ))
    }

    /// The side of each area's map; checks that what meets in one area has one size.
    fn sides(&self, ends: &[(From, usize)], order: &[usize]) -> Result<Vec<usize>> {
        let mut sides = vec![0; self.areas.len()];
        let side_of = |sides: &[usize], from: From| match from {
            From::Input => self.image_size,
            From::Area(a) => sides[a],
        };
        for &area in order {
            if self.areas[area].pool.is_some() {
                sides[area] = 1;
                continue;
            }
            let mut first: Option<&ConnectionDescription> = None;
            for (connection, (from, _)) in self.bottom_up(ends).filter(|(_, (_, to))| *to == area) {
                let side = arrives(connection, side_of(&sides, from))?;
                if let Some(first) = first.filter(|_| side != sides[area]) {
                    return refuse(format!(
                        "area {}: {} brings {}, but {} brings {}; make them equal by stride or pool",
                        self.areas[area].name,
                        describe(first),
                        square(sides[area]),
                        describe(connection),
                        square(side)
                    ));
                }
                (first, sides[area]) = (Some(connection), side);
            }
        }
        for (connection, &(from, to)) in self.connections.iter().zip(ends).filter(|(c, _)| c.kind == Kind::TopDown) {
            let (below, above) = (sides[to], side_of(&sides, from));
            if above * connection.stride != below {
                return refuse(format!(
                    "connection {}: stride {} turns {} into {}, but {} is {}; {}",
                    describe(connection),
                    connection.stride,
                    square(above),
                    square(above * connection.stride),
                    connection.to,
                    square(below),
                    match below.is_multiple_of(above).then(|| below / above) {
                        Some(stride @ (1 | 2 | 4)) => format!("set stride = {stride}"),
                        _ => "no stride fits, take it out".into(),
                    }
                ));
            }
        }
        Ok(sides)
    }

    fn assemble(&self, classes: usize, ends: &[(From, usize)], order: &[usize], sides: &[usize]) -> Result<Network> {
        let mut dict = StateDict::default();
        let mut place = vec![0; order.len()];
        order.iter().enumerate().for_each(|(i, &a)| place[a] = i);
        let mut maps: Vec<Option<Map>> = vec![None; ends.len()];
        let mut areas = Vec::with_capacity(order.len());
        for &a in order {
            let area = &self.areas[a];
            for (i, connection) in self.connections.iter().enumerate().filter(|(i, _)| ends[*i].1 == a) {
                maps[i] = Some(self.map(connection, ends[i].0, area, &mut dict));
            }
            let vector = area.pool.is_some();
            let shape = [area.channels, sides[a], sides[a]];
            let shape = if vector { &shape[..1] } else { &shape };
            let norm = dict.norm(&format!("{}.norm", area.name), area.norm, area.groups, shape);
            areas.push(Area {
                name: area.name.clone(),
                channels: area.channels,
                side: sides[a],
                vector,
                norm,
                relu: area.activation == Activation::Relu,
                interaction: area.interaction,
            });
        }
        let connections =
            self.connections.iter().zip(ends).zip(maps).map(|((connection, &(from, to)), map)| Connection {
                label: connection.label(),
                kind: connection.kind,
                from: match from {
                    From::Input => From::Input,
                    From::Area(a) => From::Area(place[a]),
                },
                to: place[to],
                map: map.expect("every connection ends at an area"),
            });
        let connections = connections.collect();
        let read = self.read_area(ends)?;
        let shape = [classes, self.areas[read].channels];
        let (weight, bias) = dict.convolution("readout", &shape, self.readout_bias);
        Ok(Network {
            image_size: self.image_size,
            classes,
            timesteps: self.timesteps,
            unroll: self.unroll,
            areas,
            connections,
            readout: Readout { area: place[read], weight, bias },
            parameters: dict.0,
        })
    }

    /// What a connection computes; its parameters join `dict`.
    fn map(&self, connection: &ConnectionDescription, from: From, to: &AreaDescription, dict: &mut StateDict) -> Map {
        let vector = to.pool.is_some();
        if vector && connection.kind == Kind::BottomUp {
            return Map::Average;
        }
        let channels = match from {
            From::Input => IMAGE_CHANNELS,
            From::Area(a) => self.areas[a].channels,
        };
        let label = connection.label();
        let bias = connection.bias.unwrap_or(to.norm == Normalisation::None || from == From::Input);
        let kernel = if vector { 1 } else { connection.kernel.unwrap_or(3) };
        let (stride, pool) = (connection.stride, connection.pool);
        if connection.kind == Kind::TopDown && stride > 1 {
            let (weight, bias) = dict.transposed(&label, &[channels, to.channels, kernel, kernel], bias);
            return Map::Transposed { kernel, stride, weight, bias };
        }
        let shape = [to.channels, channels, kernel, kernel];
        let (weight, bias) = dict.convolution(&label, if vector { &shape[..2] } else { &shape }, bias);
        Map::Convolution { pool, kernel, stride, weight, bias }
    }

    /// The area that the readout sees.
    fn read_area(&self, ends: &[(From, usize)]) -> Result<usize> {
        if let Some(gap) = self.areas.iter().position(|a| a.name == "gap") {
            return Ok(gap);
        }
        let leaves = |a: &usize| !self.bottom_up(ends).any(|(_, (from, _))| from == From::Area(*a));
        let last: Vec<usize> = (0..self.areas.len()).filter(leaves).collect();
        if let [one] = last[..] {
            return Ok(one);
        }
        let names: Vec<&str> = last.iter().map(|&a| &self.areas[a].name[..]).collect();
        refuse(format!(
            "the readout could see any of {}, as no bottom_up connection leaves them: call the one that it shall see gap",
            names.join(", ")
        ))
    }

    fn check_logits(&self, network: &Network) -> Result<()> {
        let first = network.first_steps()[network.readout.area];
        if first < self.timesteps {
            return Ok(());
        }
        refuse(format!(
            "[architecture] timesteps = {}: with unroll = \"biological\" the readout's area {} exists only from step {first} on \
             (the first is 0), so that nothing would be read out; set timesteps to {} or more",
            self.timesteps,
            network.areas[network.readout.area].name,
            first + 1
        ))
    }
}

/// The side of a bottom-up connection's map, of a source of `side`.
fn arrives(connection: &ConnectionDescription, side: usize) -> Result<usize> {
    let (stride, pool, what) = (connection.stride, connection.pool, describe(connection));
    if !side.is_multiple_of(pool) {
        return refuse(format!(
            "connection {what}: pool = {pool} does not divide {}, the size of {}; change image_size, or pool elsewhere",
            square(side),
            connection.from
        ));
    }
    let pooled = side / pool;
    if !pooled.is_multiple_of(stride) {
        let after = if pool == 1 { "" } else { " before the pooling" };
        return refuse(format!(
            "connection {what}: stride = {stride} does not divide {} ({} is {}{after}); change stride or image_size",
            square(pooled),
            connection.from,
            square(side)
        ));
    }
    Ok(pooled / stride)
}

fn square(side: usize) -> String {
    format!("{side} x {side}")
}

/// How messages call a connection.
fn describe(connection: &ConnectionDescription) -> String {
    format!("{} (from {})", connection.label(), connection.from)
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}
