//! From the description of a network of one's own to the checked [`Network`]: the order of its areas, sizes, parameters,
//! and the errors of the whole.

use super::architecture::{Activation, Architecture, AreaDescription, ConnectionDescription};
use super::checks::{describe, refuse};
use super::resolved::{Area, Connection, From, Kind, Map, Network, Readout};
use super::state_dict::StateDict;
use super::terms::{IMAGE_CHANNELS, Normalisation};
use crate::error::Result;

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
