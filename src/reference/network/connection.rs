//! A connection's map from its source to its term, and the gradients of both source and parameters.

use super::description::{Connection, Map};
use super::{Gradients, Pass};
use crate::reference::ImageShape;
use crate::reference::avg_pool::*;
use crate::reference::conv_transpose2d::*;
use crate::reference::conv2d::*;
use crate::reference::linear::*;
use crate::reference::max_pool::*;

impl Pass<'_> {
    /// The term, from the activation of the connection's source.
    pub(super) fn term(&self, c: &Connection, source: &[f32]) -> Vec<f32> {
        let (from, name) = (self.network.source_shape(c, self.n), &c.parameters);
        match c.map {
            Map::Convolution { pooled: true, kernel, stride } => {
                let s = self.convolution(c, max_pool_output(from), kernel, stride);
                conv2d(&s, &max_pool(from, source), self.weight(name), self.bias(name))
            }
            Map::Convolution { pooled: false, kernel, stride } => {
                conv2d(&self.convolution(c, from, kernel, stride), source, self.weight(name), self.bias(name))
            }
            Map::Transposed { kernel, stride } => {
                let s = self.transposed(c, kernel, stride);
                conv_transpose2d(&s, source, self.weight(name), self.bias(name))
            }
            Map::Linear => linear(&self.linear(c), source, self.weight(name), self.bias(name)),
            Map::Average => avg_pool(from, source),
        }
    }

    /// Adds the gradients of the connection's parameters, and gives that of its source, from that of its term.
    pub(super) fn backward_term(&self, d: &mut Gradients, c: &Connection, source: &[f32], d_term: &[f32]) -> Vec<f32> {
        let (from, name) = (self.network.source_shape(c, self.n), &c.parameters);
        let (d_source, d_weight, d_bias) = match c.map {
            Map::Convolution { pooled, kernel, stride } => {
                let at = if pooled { max_pool_output(from) } else { from };
                let s = self.convolution(c, at, kernel, stride);
                let below = if pooled { max_pool(from, source) } else { source.to_vec() };
                let d_below = conv2d_d_input(&s, self.weight(name), d_term);
                let d_source = if pooled { max_pool_d_input(from, source, &d_below) } else { d_below };
                (d_source, conv2d_d_weight(&s, &below, d_term), conv2d_d_bias(&s, d_term))
            }
            Map::Transposed { kernel, stride } => {
                let s = self.transposed(c, kernel, stride);
                let d_source = conv_transpose2d_d_input(&s, self.weight(name), d_term);
                (d_source, conv_transpose2d_d_weight(&s, source, d_term), conv_transpose2d_d_bias(&s, d_term))
            }
            Map::Linear => {
                let s = self.linear(c);
                let d_source = linear_d_input(&s, self.weight(name), d_term);
                (d_source, linear_d_weight(&s, source, d_term), linear_d_bias(&s, d_term))
            }
            Map::Average => return avg_pool_d_input(from, d_term),
        };
        d.add(&format!("{name}.weight"), d_weight);
        if c.bias {
            d.add(&format!("{name}.bias"), d_bias);
        }
        d_source
    }

    /// The convolution of a connection, on maps of shape `x`.
    fn convolution(&self, c: &Connection, x: ImageShape, k: usize, stride: usize) -> Conv2d {
        Conv2d { n: self.n, c_in: x.c, c_out: self.network.areas[c.to].channels, h: x.h, w: x.w, k, stride }
    }

    fn transposed(&self, c: &Connection, k: usize, stride: usize) -> ConvTranspose2d {
        let x = self.network.source_shape(c, self.n);
        ConvTranspose2d { n: self.n, c_in: x.c, c_out: self.network.areas[c.to].channels, h: x.h, w: x.w, k, stride }
    }

    fn linear(&self, c: &Connection) -> Linear {
        let (inputs, outputs) = (self.network.source_shape(c, self.n).c, self.network.areas[c.to].channels);
        Linear { n: self.n, inputs, outputs }
    }
}
