//! The backward pass through time: the visits of the forward pass from the last to the first.

use std::collections::BTreeMap;

use super::description::Kind;
use super::forward::Forward;
use super::{Batch, Gradients, Named, Pass};
use crate::reference::avg_pool::avg_pool_d_input;
use crate::reference::linear::{linear_d_bias, linear_d_input, linear_d_weight};
use crate::reference::mix::{mix_d_bottom_up, mix_d_term};
use crate::reference::norm::{Norm, norm_d_bias, norm_d_input, norm_d_weight};
use crate::reference::relu::relu_d_input;
use crate::reference::softmax_ce::softmax_ce_d_logits;

impl Pass<'_> {
    /// The gradient of the loss with respect to every parameter that the loss can feel. What arrives at an activation, from
    /// all places that read it and some of them one step later, is collected in `d_r`; where nothing has arrived when its
    /// turn comes, nothing that follows from it reached the loss.
    pub(super) fn backward(&self, batch: &Batch, forward: &Forward) -> Named {
        let network = self.network;
        let mut d = Gradients::default();
        // By step and area.
        let mut d_r = BTreeMap::<(usize, usize), Vec<f32>>::new();
        let arrives = |d_r: &mut BTreeMap<_, Vec<f32>>, at: (usize, usize), gradient: Vec<f32>| {
            d_r.entry(at).and_modify(|sum| add(sum, &gradient)).or_insert(gradient);
        };
        for visit in forward.visits.iter().rev() {
            let at = (visit.t, visit.area);
            if visit.area == network.readout {
                arrives(&mut d_r, at, self.backward_answer(&mut d, batch, forward, visit.t));
            }
            let Some(d_r_here) = d_r.remove(&at) else { continue };
            let (area, step) = (&network.areas[visit.area], &forward.areas[&at]);

            let d_normed = if area.relu { relu_d_input(&step.normed, &d_r_here) } else { d_r_here };
            let d_mixed = match area.norm {
                Some(kind) => {
                    let (s, name) = (Norm { shape: area.shape(self.n), kind }, &area.norm_name);
                    d.add(&format!("{name}.weight"), norm_d_weight(&s, &step.mixed, &d_normed));
                    d.add(&format!("{name}.bias"), norm_d_bias(&s, &d_normed));
                    norm_d_input(&s, &step.mixed, self.weight(name), &d_normed)
                }
                None => d_normed,
            };
            let d_b = mix_d_bottom_up(area.interaction, step.s.as_deref(), None, &d_mixed);
            let d_s = mix_d_term(area.interaction, &step.b, &d_mixed);
            for term in &visit.terms {
                let c = &network.connections[term.connection];
                let d_term = if c.kind == Kind::BottomUp { &d_b } else { &d_s };
                match c.from {
                    None => drop(self.backward_term(&mut d, c, batch.x, d_term)),
                    Some(from) => {
                        let source = &forward.areas[&(term.t, from)].r;
                        let d_source = self.backward_term(&mut d, c, source, d_term);
                        arrives(&mut d_r, (term.t, from), d_source);
                    }
                }
            }
        }
        d.0
    }

    /// The gradient that arrives at the readout's area at step t. The loss is a sum over steps, so that each step's own
    /// loss arrives with gradient 1.
    fn backward_answer(&self, d: &mut Gradients, batch: &Batch, forward: &Forward, t: usize) -> Vec<f32> {
        let (answer, s) = (&forward.answers[&t], self.readout());
        let d_logits = softmax_ce_d_logits(&self.softmax_ce(), &answer.logits, batch.labels);
        d.add("readout.weight", linear_d_weight(&s, &answer.features, &d_logits));
        if self.network.readout_bias {
            d.add("readout.bias", linear_d_bias(&s, &d_logits));
        }
        let d_features = linear_d_input(&s, self.weight("readout"), &d_logits);
        let area = &self.network.areas[self.network.readout];
        if area.vector { d_features } else { avg_pool_d_input(area.shape(self.n), &d_features) }
    }
}

impl Gradients {
    /// A parameter that is used at several steps adds them up.
    pub(super) fn add(&mut self, parameter: &str, gradient: Vec<f32>) {
        match self.0.get_mut(parameter) {
            Some(sum) => add(sum, &gradient),
            None => drop(self.0.insert(parameter.to_owned(), gradient)),
        }
    }
}

/// `sum += values`
fn add(sum: &mut [f32], values: &[f32]) {
    for (sum, value) in sum.iter_mut().zip(values) {
        *sum += value;
    }
}
