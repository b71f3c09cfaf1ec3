//! Winograd's minimal filtering: M x M outputs of a K x K convolution from N x N inputs, N = M + K - 1, by N x N products per
//! pair of channels instead of M x M x K x K (Lavin and Gray, arXiv 1509.09308).
//!
//! ```text
//! y  = A^T [(G w G^T) . (B^T d B)] A      forward, and the gradient with respect to the input
//! dw = G^T [(A dy A^T) . (B^T d B)] G     gradient with respect to the weight: the adjoint
//! ```
//!
//! Summed over channels (or tiles and images, for dw), each of the N x N elementwise products is a product of matrices.

/// Interpolation points beside infinity, as many as are needed from the front. With 1/2 and -2 as the last two, F(4 x 4, 3 x 3)
/// has half the error that the usual 2 and -2 give (Barabasz et al., arXiv 1803.10986).
pub(super) const POINTS: [f64; 5] = [0.0, 1.0, -1.0, 0.5, -2.0];

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
