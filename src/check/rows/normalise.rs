//! Bytes of pictures to maps.

use super::{Case, Op, Operand, Shaped, Sizes, Target, last};
use crate::ops::Normalise;
use crate::reference::normalise::normalise;

pub(super) struct Row;

fn shaped(side: usize, images: usize) -> Shaped {
    let op = Normalise { side, images };
    Shaped::new(op, &[&[op.words()], &[3, 256]])
}

/// The table that makes of bytes what the published data set class does.
fn table() -> Vec<f32> {
    let pictures: Vec<u8> = (0..=255).flat_map(|byte| [byte; 3]).collect();
    normalise(&pictures, 16, [121.0, 117.5, 104.25], [60.0, 59.5, 61.25])
}

impl super::Row for Row {
    fn names(&self) -> &'static [&'static str] {
        &["normalise"]
    }

    /// Each byte occurs; the table stays as it is.
    fn prepare(&self, _: &Op, _: &[&[usize]], values: &mut [Vec<f32>]) {
        let word = |i: usize| f32::from_bits((i as u32).wrapping_mul(0x9e37_79b9));
        values[0].iter_mut().enumerate().for_each(|(i, v)| *v = word(i));
    }

    fn twin(&self, op: &Op, inputs: &[Operand], shapes: &[&[usize]]) -> Vec<Vec<f32>> {
        let Op::Normalise(Normalise { side, images }) = *op else { unreachable!("not of this row") };
        let (bytes, table) = (inputs[0].values.iter().flat_map(|w| w.to_bits().to_le_bytes()), inputs[1].values);
        let bytes: Vec<u8> = bytes.take(3 * side * side * images).collect();
        let value = |(i, &byte): (usize, &u8)| table[i % 3 * 256 + usize::from(byte)];
        let pixels: Vec<f32> = bytes.iter().enumerate().map(value).collect(); // [images, pixels, 3]
        let planes = pixels.chunks(3 * side * side);
        let planes: Vec<f32> = planes.flat_map(|p| (0..3).flat_map(|c| p[c..].iter().step_by(3).copied())).collect();
        vec![last(&planes, shapes[0])]
    }

    /// The host's bits.
    fn allowed(&self, _: &Op, _: &[Operand], _: usize, expected: &[f32]) -> Vec<f64> {
        vec![0.0; expected.len()]
    }

    fn cases(&self, _: &Target) -> Vec<Case> {
        let one = |(side, images)| {
            let name = format!("normalise {images}x3x{side}x{side}");
            Case::of("normalise", &name, &shaped(side, images), |values| values[1] = table())
        };
        [(2, 3), (1, 1), (16, 1), (5, 7), (7, 33), (8, 65)].map(one).to_vec()
    }

    fn large(&self) -> Vec<Shaped> {
        vec![shaped(1024, 64), shaped(2, 4_000_001)]
    }

    fn of_sizes(&self, sizes: &Sizes) -> Vec<Shaped> {
        match *sizes {
            Sizes::Map { n, c: 3, h, w } if h == w => vec![shaped(h, n)],
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_gives_what_the_reference_computes() {
        let (side, images) = (5, 7);
        let shaped = shaped(side, images);
        let mut values = shaped.values(|_, count| vec![0.0; count]);
        values[1] = table();
        let bytes: Vec<u8> = values[0].iter().flat_map(|w| w.to_bits().to_le_bytes()).collect();
        let bytes = &bytes[..3 * side * side * images];
        let expected = normalise(bytes, side, [121.0, 117.5, 104.25], [60.0, 59.5, 61.25]);
        assert_eq!(shaped.twin(&values), [super::super::image_last(&expected, images)]);
    }
}
