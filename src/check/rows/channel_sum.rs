//! Sums over the pixels and images of each channel.

use super::{Case, MAPS, Op, Operand, Shaped, Sizes, Target, sums, text};
use crate::ops::ChannelSum;

pub(super) struct Row;

impl super::Row for Row {
    fn names(&self) -> &'static [&'static str] {
        &["channel_sum"]
    }

    fn twin(&self, _: &Op, inputs: &[Operand], _: &[&[usize]]) -> Vec<Vec<f32>> {
        let per_channel = inputs[0].values.len() / inputs[0].shape[0];
        let one = |o: &Operand| {
            let channels = o.values.chunks(per_channel);
            channels.map(|c| c.iter().map(|&v| f64::from(v)).sum::<f64>() as f32).collect::<Vec<f32>>()
        };
        vec![sums(&inputs.iter().map(one).collect::<Vec<_>>())]
    }

    fn cases(&self, _: &Target) -> Vec<Case> {
        let mut list = Vec::new();
        for map in MAPS {
            for steps in [1, 2] {
                let (name, shaped) = (format!("channel_sum {} {steps} steps", text(&map)), vec![&map[..]; steps]);
                list.push(Case::of("channel_sum", &name, &Shaped::new(ChannelSum, &shaped), |_| {}));
            }
        }
        list
    }

    fn large(&self) -> Vec<Shaped> {
        vec![Shaped::new(ChannelSum, &[&[3, 4096, 4096, 4]])]
    }

    fn of_sizes(&self, sizes: &Sizes) -> Vec<Shaped> {
        sizes.map().map(|x| Shaped::new(ChannelSum, &[&x])).into_iter().collect()
    }
}
