//! Winograd's minimal filtering: M x M outputs of a K x K convolution from N x N inputs, N = M + K - 1, by N x N products per
//! pair of channels instead of M x M x K x K (Lavin and Gray, arXiv 1509.09308).
//!
//! ```text
//! y  = A^T [(G w G^T) . (B^T d B)] A      forward, and the gradient with respect to the input
//! dw = G^T [(A dy A^T) . (B^T d B)] G     gradient with respect to the weight: the adjoint
//! ```
//!
//! Summed over channels (or tiles and images, for dw), each of the N x N elementwise products is a product of matrices.

use super::conv::{ConvShape, Start, Tile};
use super::{Kernel, Param, Program, Settings, Site, Target, View};
use crate::Result;

/// Interpolation points beside infinity, as many as are needed from the front. With 1/2 and -2 as the last two, F(4 x 4, 3 x 3)
/// has half the error that the usual 2 and -2 give (Barabasz et al., arXiv 1803.10986).
const POINTS: [f64; 5] = [0.0, 1.0, -1.0, 0.5, -2.0];

/// A matrix of F(m x m, k x k): `BT` (N x N), `G` (N x k), `AT` (m x N), `GT` and `A` their transposes. Panics on another
/// name.
///
/// With the points a_j, M_j(x) the product of (x - a_i) over i other than j, and N_j = M_j(a_j): G has rows a_j^l / N_j, A has
/// rows a_j^i, B^T has the coefficients of M_j as rows; the last row of each is that of the point at infinity.
pub(super) fn matrix(name: &str, m: usize, k: usize) -> Vec<Vec<f64>> {
    let n = m + k - 1;
    let points = &POINTS[..n - 1];
    let others = |j: usize| points.iter().enumerate().filter(move |(i, _)| *i != j).map(|(_, &a)| a);
    let powers = |width: usize, scaled: bool| -> Vec<Vec<f64>> {
        let row = |(j, &a): (usize, &f64)| {
            let scale: f64 = if scaled { others(j).map(|b| a - b).product() } else { 1.0 };
            (0..width).map(|l| a.powi(l as i32) / scale).collect()
        };
        let infinity = (0..width).map(|l| if l + 1 == width { 1.0 } else { 0.0 }).collect();
        points.iter().enumerate().map(row).chain([infinity]).collect()
    };
    match name {
        "G" => powers(k, true),
        "A" => powers(m, false),
        "GT" => transposed(&powers(k, true)),
        "AT" => transposed(&powers(m, false)),
        "BT" => (0..n).map(|j| polynomial(if j < n - 1 { others(j).collect() } else { points.to_vec() }, n)).collect(),
        _ => panic!("template: no matrix `{name}`"),
    }
}

fn transposed(matrix: &[Vec<f64>]) -> Vec<Vec<f64>> {
    (0..matrix[0].len()).map(|c| matrix.iter().map(|row| row[c]).collect()).collect()
}

/// The coefficients of the product of (x - root), from the constant on, `width` of them.
fn polynomial(roots: Vec<f64>, width: usize) -> Vec<f64> {
    let mut coefficients = vec![0.0; width];
    coefficients[0] = 1.0;
    for root in roots {
        for i in (0..width).rev() {
            let below = if i > 0 { coefficients[i - 1] } else { 0.0 };
            coefficients[i] = below - root * coefficients[i];
        }
    }
    coefficients
}

/// A convolution cut into tiles of outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Winograd {
    /// Rows and columns of outputs of a tile.
    pub m: usize,
    /// Kernel size.
    pub k: usize,
    /// Tiles in a column of the map.
    pub tiles_y: usize,
    /// Tiles in a row of the map.
    pub tiles_x: usize,
    /// Images.
    pub n: usize,
    /// Rows of the map.
    pub h: usize,
    /// Columns of the map.
    pub w: usize,
}

impl Winograd {
    /// The cut into tiles of m x m, if there is one: stride 1, and no more points than are well conditioned.
    pub fn new(m: usize, shape: &ConvShape) -> Option<Winograd> {
        let fits = m > 1 && shape.k > 1 && shape.stride == 1 && m + shape.k <= POINTS.len() + 2;
        let (tiles_y, tiles_x) = (shape.out_h.div_ceil(m.max(1)), shape.out_w.div_ceil(m.max(1)));
        fits.then_some(Winograd { m, k: shape.k, tiles_y, tiles_x, n: shape.n, h: shape.out_h, w: shape.out_w })
    }

    /// Transformed positions of a tile.
    pub fn positions(&self) -> usize {
        (self.m + self.k - 1).pow(2)
    }

    /// Tiles of all images.
    pub fn tiles(&self) -> usize {
        self.tiles_y * self.tiles_x * self.n
    }

    /// Images per lane of the transforms: with 4, CPU drivers take twice as long to compile and save a few per cent.
    fn vector(&self) -> usize {
        if self.n.is_multiple_of(2) { 2 } else { 1 }
    }

    pub(super) fn settings(&self) -> Settings {
        let n = self.m + self.k - 1;
        Settings::new().set("L", LANES as u32).set("M", self.m as u32).set("N", n as u32).set("K", self.k as u32)
    }

    /// Words of a transformed map.
    pub fn words(&self, channels: usize) -> usize {
        channels * self.positions() * self.tiles()
    }

    /// The cut that a variant asks for, if there is one and bindings can cover the transformed maps and weights.
    pub fn of(tile: &Tile, shape: &ConvShape, target: &Target) -> Option<Winograd> {
        let cut = Winograd::new(tile.winograd, shape)?;
        let (cin, cout) = (shape.cin.next_multiple_of(64), shape.cout.next_multiple_of(64)); // panels are filled up
        let most = cut.words(cin).max(cut.words(cout)).max(cut.positions() * cin * cout) + MARGIN;
        (4 * most as u64 <= target.max_binding).then_some(cut)
    }
}

/// Words behind packed operands: whole subgroups may load past the end.
pub(super) const MARGIN: usize = 64;
/// Invocations of a workgroup.
pub(super) const LANES: usize = 64;

/// Launches a kernel over (channel, tile) of `steps` maps, a vector of images at a time.
fn each_tile(
    p: &mut Program,
    name: &'static str,
    panels: bool,
    cut: &Winograd,
    (channels, steps): (usize, usize),
    operands: &[(&'static str, View)],
    more: &[(&'static str, Param)],
    site: Site,
) -> Result<()> {
    let vec = cut.vector();
    let count = channels * cut.tiles() / vec;
    let unroll = count.div_ceil(LANES * 65_535);
    let settings = cut.settings().set("UNROLL", unroll as u32).images(vec);
    let settings = if panels { settings.set("VEC", vec as u32).flag("PANELS", true) } else { settings };
    let kernel = Kernel::new(name, &settings)?;
    let mut params: Vec<(&str, Param)> = vec![
        ("n", (cut.n / vec).into()),
        ("h", cut.h.into()),
        ("w", cut.w.into()),
        ("tiles_y", cut.tiles_y.into()),
        ("tiles_x", cut.tiles_x.into()),
        ("channels", channels.into()),
        ("count", count.into()),
    ];
    params.extend(more);
    let grid = [count.div_ceil(LANES * unroll), steps, 1];
    p.launch(&kernel, operands, &params, grid, site);
    Ok(())
}

/// B^T x B of all tiles: [positions, channels, tiles].
pub(super) fn input(p: &mut Program, cut: &Winograd, (x, channels): (View, usize), site: Site) -> Result<View> {
    let v = p.scratch("transformed", site.area, cut.words(channels));
    each_tile(p, "winograd_input", false, cut, (channels, 1), &[("x", x), ("v", v)], &[], site)?;
    Ok(v)
}

/// y = start + A^T m A, where m are the products [positions, channels, tiles].
pub(super) fn output(
    p: &mut Program,
    cut: &Winograd,
    channels: usize,
    (m, start, y): (View, Start, View),
    site: Site,
) -> Result<()> {
    let operands = [vec![("m", m), ("y", y)], start.operands(m).to_vec()].concat();
    each_tile(p, "winograd_output", false, cut, (channels, 1), &operands, &start.params(), site)
}

/// The operands of the weight gradient: B^T x B (`winograd_input`) or A dy A^T (`winograd_d_output`) of all tiles of `steps`
/// maps, `step` words apart, as [positions, channels / width, steps, tiles, width].
pub(super) fn panels(
    p: &mut Program,
    cut: &Winograd,
    (name, [read, written]): (&'static str, [&'static str; 2]),
    (map, channels, step, steps): (View, usize, usize, usize),
    width: usize,
    site: Site,
) -> Result<View> {
    let result = p.scratch("panels", site.area, steps * cut.words(channels.next_multiple_of(width)) + MARGIN);
    let more = [("steps", steps.into()), ("step", (step / cut.vector()).into()), ("width", width.into())];
    each_tile(p, name, true, cut, (channels, steps), &[(read, map), (written, result)], &more, site)?;
    Ok(result)
}

/// dw = G^T u G, where u is the sum of `parts` gradients [positions, pairs], `part_step` words apart.
pub(super) fn d_weight(
    p: &mut Program,
    cut: &Winograd,
    pairs: usize,
    (partial, parts, part_step, dw): (View, usize, usize, View),
    site: Site,
) -> Result<()> {
    let kernel = Kernel::new("winograd_d_weight", &cut.settings())?;
    let params: &[(&str, Param)] = &[("count", pairs.into()), ("parts", parts.into()), ("part_step", part_step.into())];
    let operands = [("partial", partial), ("dw", dw)];
    let label = format!("{} sum", site.label);
    p.launch(&kernel, &operands, params, [pairs.div_ceil(LANES), 1, 1], Site { label: &label, ..site });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(matrix: &[Vec<f64>], x: &[f64]) -> Vec<f64> {
        matrix.iter().map(|row| row.iter().zip(x).map(|(a, b)| a * b).sum()).collect()
    }

    #[test]
    fn one_dimension_is_the_convolution() {
        for (m, k) in [(2, 3), (4, 3), (2, 5), (3, 3), (2, 2)] {
            let d: Vec<f64> = (0..m + k - 1).map(|i| (1.7 * i as f64).sin()).collect();
            let w: Vec<f64> = (0..k).map(|i| (0.6 * i as f64).cos()).collect();
            let products: Vec<f64> =
                apply(&matrix("G", m, k), &w).iter().zip(apply(&matrix("BT", m, k), &d)).map(|(a, b)| a * b).collect();
            let y = apply(&matrix("AT", m, k), &products);
            for i in 0..m {
                let exact: f64 = (0..k).map(|l| w[l] * d[i + l]).sum();
                assert!((y[i] - exact).abs() < 1e-12, "F({m}, {k}): {} for {exact}", y[i]);
            }
        }
    }

    #[test]
    fn published_matrices() {
        // Lavin and Gray, equation 6, up to the signs of rows, which G and B^T share.
        assert_eq!(matrix("AT", 2, 3), [[1.0, 1.0, 1.0, 0.0], [0.0, 1.0, -1.0, 1.0]]);
        assert_eq!(matrix("G", 2, 3), [[-1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]]);
        let inputs = [[-1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 1.0, 0.0], [0.0, -1.0, 1.0, 0.0], [0.0, -1.0, 0.0, 1.0]];
        assert_eq!(matrix("BT", 2, 3), inputs);
    }
}
