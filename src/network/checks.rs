//! What of a description can be checked area by area and connection by connection: names, numbers, kinds. Every error names
//! the area or connection, what was found and what to do.

use super::architecture::{Architecture, AreaDescription, ConnectionDescription};
use super::resolved::{From, Kind};
use super::terms::{
    IMAGE_CHANNELS, MAX_AREAS, MAX_CHANNELS, MAX_CLASSES, MAX_CONNECTIONS, MAX_IMAGE_SIZE, MAX_KERNEL, MAX_TIMESTEPS,
    Normalisation, impossible, within,
};
use crate::error::{Error, Result};

/// The name of the picture as a source.
const INPUT: &str = "input";

pub(super) fn refuse<T>(message: String) -> Result<T> {
    Err(Error::Config(message))
}

impl Architecture {
    pub(super) fn check_numbers(&self) -> Result<()> {
        within("[architecture] image_size", self.image_size, 1, MAX_IMAGE_SIZE)?;
        within("[architecture] timesteps", self.timesteps, 1, MAX_TIMESTEPS)?;
        within("[architecture] number of areas", self.areas.len(), 0, MAX_AREAS)?;
        within("[architecture] number of connections", self.connections.len(), 0, MAX_CONNECTIONS)?;
        self.classes.map_or(Ok(()), |classes| within("[architecture] classes", classes, 1, MAX_CLASSES))
    }

    pub(super) fn check_areas(&self) -> Result<()> {
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
    pub(super) fn check_connections(&self) -> Result<Vec<(From, usize)>> {
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
    pub(super) fn bottom_up<'a>(
        &'a self,
        ends: &'a [(From, usize)],
    ) -> impl Iterator<Item = (&'a ConnectionDescription, (From, usize))> {
        self.connections.iter().zip(ends.iter().copied()).filter(|(c, _)| c.kind == Kind::BottomUp)
    }
}

/// How messages call a connection.
pub(super) fn describe(connection: &ConnectionDescription) -> String {
    format!("{} (from {})", connection.label(), connection.from)
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}
