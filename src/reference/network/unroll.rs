//! The network unrolled: which areas exist at which step, what they are made of, and what of it the loss can feel.
//!
//! An area exists from the first step at which one of its bottom-up connections has something to carry. From then on a
//! term takes part as soon as its own source exists; before, it is absent, its bias too.

use std::collections::BTreeSet;

use super::description::{Kind, Network, Unroll};

/// One area at one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visit {
    /// The step.
    pub t: usize,
    /// The area.
    pub area: usize,
    /// What it is made of.
    pub terms: Vec<Term>,
}

/// One connection at one step of its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    /// Number of the connection.
    pub connection: usize,
    /// The step of its source that it carries.
    pub t: usize,
}

/// Everything that exists within `timesteps`, each visit after those that it takes from.
pub fn unroll(network: &Network, timesteps: usize) -> Vec<Visit> {
    let mut visits: Vec<Visit> = Vec::new();
    for t in 0..timesteps {
        for area in 0..network.areas.len() {
            let mut terms = Vec::new();
            let mut awake = false;
            for (connection, c) in network.into_area(area) {
                let same_step = c.kind == Kind::BottomUp && network.unroll == Unroll::Engineering;
                let source = match c.from {
                    None => Some(t),
                    Some(_) if same_step => Some(t),
                    Some(_) => t.checked_sub(1),
                };
                let exists = |t: &usize| {
                    c.from.is_none_or(|from| visits.iter().any(|visit| (visit.t, visit.area) == (*t, from)))
                };
                if let Some(t) = source.filter(exists) {
                    awake |= c.kind == Kind::BottomUp;
                    terms.push(Term { connection, t });
                }
            }
            if awake {
                visits.push(Visit { t, area, terms });
            }
        }
    }
    visits
}

/// An error where the readout's area does not exist within `timesteps`: there would be no loss.
pub(super) fn check_readout(network: &Network, timesteps: usize) -> Result<(), String> {
    if unroll(network, timesteps).iter().any(|visit| visit.area == network.readout) {
        return Ok(());
    }
    let name = &network.areas[network.readout].name;
    Err(format!(
        "within `timesteps` = {timesteps} nothing reaches `{name}`, where the classes are read: there is no loss"
    ))
}

/// Parameters that cannot change the loss within the network's own steps: they have no gradient and never change.
pub fn unused_parameters(network: &Network) -> BTreeSet<String> {
    let mut unused: BTreeSet<String> = network.parameters().into_keys().collect();
    let mut uses = |name: &str| {
        unused.remove(&format!("{name}.weight"));
        unused.remove(&format!("{name}.bias"));
    };
    uses("readout");
    let mut felt = BTreeSet::new();
    for visit in unroll(network, network.timesteps).iter().rev() {
        if visit.area != network.readout && !felt.contains(&(visit.t, visit.area)) {
            continue;
        }
        uses(&network.areas[visit.area].norm_name);
        for term in &visit.terms {
            let connection = &network.connections[term.connection];
            uses(&connection.parameters);
            felt.extend(connection.from.map(|from| (term.t, from)));
        }
    }
    unused
}
