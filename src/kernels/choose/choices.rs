//! Choices: what is forced, else what was tuned, else the table.

use super::key::{ConvOp, Key, Variant};
use super::table::{norm_whole, tile, weight_tile, wide_streams, winograd};
use crate::kernels::Target;
use crate::kernels::conv::{Parts, Tile};
use std::collections::BTreeMap;

/// Which variant serves which shape: what is forced, else what was tuned, else the table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Choices {
    /// Forced for all shapes of its kernels, by a test or a benchmark.
    pub forced: Option<Variant>,
    /// Tuned, by shape.
    pub tuned: BTreeMap<Key, Variant>,
    /// Whether operations that have no variants of their own (elementwise ones, pools) load words of 64 bits: forced by a
    /// check; else as the table says.
    pub wide: Option<bool>,
    /// Whether norms go in one launch where a CPU driver runs: forced by a check; else as the table says. Their bits are the
    /// same.
    pub norm_whole: Option<bool>,
}

impl Choices {
    /// The table alone.
    pub const TABLE: &'static Choices = &Choices { forced: None, tuned: BTreeMap::new(), wide: None, norm_whole: None };

    /// One variant for all shapes of its kernels, the table for the others.
    pub fn force(variant: Variant) -> Choices {
        Choices { forced: Some(variant), ..Choices::default() }
    }

    /// Whether operations without variants of their own load words of 64 bits.
    pub fn wide(&self, target: &Target) -> bool {
        self.wide.unwrap_or_else(|| wide_streams(target))
    }

    /// Whether a norm of a map of so many `elements` goes in one launch, whose lanes share `vectors` of images of its groups.
    pub fn norm_whole(&self, target: &Target, vectors: usize, elements: usize) -> bool {
        self.norm_whole.unwrap_or_else(|| norm_whole(target, vectors, elements))
    }

    /// The variant for a shape.
    pub fn variant(&self, target: &Target, key: &Key) -> Variant {
        let forced = self.forced.filter(|variant| variant.serves(key.op));
        let chosen = forced.or_else(|| self.tuned.get(key).copied().filter(|variant| variant.serves(key.op)));
        let transformed = |tile: &Tile| Parts::of(tile, &key.shape, key.steps, target).is_some();
        let chosen = chosen.filter(|variant| match variant {
            Variant::Conv(tile) => key.op != ConvOp::Conv2dDWeight || transformed(tile),
            Variant::Weight(_) => true,
        });
        chosen.unwrap_or_else(|| match key.op {
            ConvOp::Conv2dDWeight => {
                let tile = winograd(target, &key.shape, Some(key.shape.cin)).filter(transformed);
                tile.map(Variant::Conv).unwrap_or_else(|| Variant::Weight(weight_tile(target, &key.shape, key.steps)))
            }
            ConvOp::Conv2d => {
                Variant::Conv(winograd(target, &key.shape, None).unwrap_or_else(|| tile(target, key.op, &key.shape)))
            }
            ConvOp::ConvTranspose2d => Variant::Conv(tile(target, key.op, &key.shape)),
        })
    }
}

/// A shape that a program computes: the variant that it was given, and in how many launches.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Use {
    /// What serves the shape.
    pub variant: Variant,
    /// Launches of one run.
    pub launches: usize,
}

/// All shapes that a program computes.
pub type Uses = BTreeMap<Key, Use>;
