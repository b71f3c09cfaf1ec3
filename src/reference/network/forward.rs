//! The forward pass: visit after visit, and the readout wherever its area exists.

use std::collections::BTreeMap;

use super::description::Kind;
use super::protocol::{Protocol, Show};
use super::unroll::{Term, Visit, unroll};
use super::{Batch, Pass};
use crate::reference::avg_pool::avg_pool;
use crate::reference::linear::{Linear, linear};
use crate::reference::mix::mix;
use crate::reference::norm::{Norm, norm};
use crate::reference::relu::relu;
use crate::reference::rounded;
use crate::reference::softmax_ce::{SoftmaxCe, softmax_ce};

/// What the forward pass keeps of one area at one step. Maps `[n,c,h,w]`, vectors `[n,c]`.
pub(super) struct AreaStep {
    /// The bottom-up drive: the sum of the bottom-up terms.
    pub b: Vec<f32>,
    /// The sum of lateral and top-down terms, if there is one.
    pub s: Option<Vec<f32>>,
    /// Both, mixed, before the norm.
    pub mixed: Vec<f32>,
    /// After the norm, before the activation.
    pub normed: Vec<f32>,
    /// The area's activation.
    pub r: Vec<f32>,
}

/// What the readout says at one step.
pub(super) struct Answer {
    /// What it sees `[n,c]`: the activation of its area, or the average of that over pixels.
    pub features: Vec<f32>,
    pub logits: Vec<f32>,
    pub logprob: Vec<f32>,
    /// Mean over the batch.
    pub loss: f32,
}

/// The whole forward pass.
pub(super) struct Forward {
    pub visits: Vec<Visit>,
    /// By step and area.
    pub areas: BTreeMap<(usize, usize), AreaStep>,
    /// By step.
    pub answers: BTreeMap<usize, Answer>,
}

impl Forward {
    /// The loss: the sum over the steps.
    pub fn loss(&self) -> f32 {
        self.answers.values().map(|answer| answer.loss as f64).sum::<f64>() as f32
    }
}

/// The sum of some terms of equal length, rounded once; `None` of no terms.
fn sum(terms: &[Vec<f32>]) -> Option<Vec<f32>> {
    let len = terms.first()?.len();
    Some(rounded((0..len).map(|i| terms.iter().map(|term| term[i] as f64).sum()).collect()))
}

impl Pass<'_> {
    pub(super) fn forward(&self, batch: &Batch, protocol: &Protocol) -> Forward {
        let timesteps = protocol.timesteps.unwrap_or(self.network.timesteps);
        let pictures: Vec<Vec<f32>> = (0..timesteps).map(|t| shown(batch, protocol.show(t))).collect();
        let visits = unroll(self.network, timesteps);
        let (mut areas, mut answers) = (BTreeMap::<_, AreaStep>::new(), BTreeMap::new());
        for visit in &visits {
            let (mut bottom_up, mut recurrent) = (Vec::new(), Vec::new());
            for &Term { connection, t } in &visit.terms {
                let c = &self.network.connections[connection];
                let source = c.from.map_or(&pictures[t], |from| &areas[&(t, from)].r);
                let mut term = self.term(c, source);
                let gain = protocol.gain(c, visit.t);
                term.iter_mut().for_each(|value| *value = (*value as f64 * gain) as f32);
                if c.kind == Kind::BottomUp { bottom_up.push(term) } else { recurrent.push(term) }
            }
            let area = self.area(visit.area, &bottom_up, &recurrent);
            if visit.area == self.network.readout {
                answers.insert(visit.t, self.answer(&area.r, batch.labels));
            }
            areas.insert((visit.t, visit.area), area);
        }
        Forward { visits, areas, answers }
    }

    fn area(&self, area: usize, bottom_up: &[Vec<f32>], recurrent: &[Vec<f32>]) -> AreaStep {
        let b = sum(bottom_up).expect("an area exists when something drives it");
        let s = sum(recurrent);
        let area = &self.network.areas[area];
        let mixed = mix(area.interaction, &b, s.as_deref(), None);
        let normed = match (area.norm, self.bias(&area.norm_name)) {
            (Some(kind), Some(bias)) => {
                norm(&Norm { shape: area.shape(self.n), kind }, &mixed, self.weight(&area.norm_name), bias)
            }
            _ => mixed.clone(),
        };
        let r = if area.relu { relu(&normed) } else { normed.clone() };
        AreaStep { b, s, mixed, normed, r }
    }

    fn answer(&self, r: &[f32], labels: &[usize]) -> Answer {
        let area = &self.network.areas[self.network.readout];
        let features = if area.vector { r.to_vec() } else { avg_pool(area.shape(self.n), r) };
        let logits = linear(&self.readout(), &features, self.weight("readout"), self.bias("readout"));
        let (logprob, loss) = softmax_ce(&self.softmax_ce(), &logits, labels);
        Answer { features, logits, logprob, loss }
    }

    pub(super) fn readout(&self) -> Linear {
        let inputs = self.network.areas[self.network.readout].channels;
        Linear { n: self.n, inputs, outputs: self.network.classes }
    }

    pub(super) fn softmax_ce(&self) -> SoftmaxCe {
        SoftmaxCe { n: self.n, classes: self.network.classes }
    }
}

/// The network's input while `show` is shown: the batch, what follows each of its pictures, or the mean colour.
fn shown(batch: &Batch, show: Show) -> Vec<f32> {
    match show {
        Show::Picture => batch.x.to_vec(),
        Show::Blank => vec![0.0; batch.x.len()],
        Show::Next => {
            let one = batch.x.len() / batch.labels.len();
            [&batch.x[one..], &batch.x[..one]].concat()
        }
    }
}
