//! Centred kernel alignment: how similar the geometry of all images is between timesteps, and with the untrained network
//! (Kornblith et al. 2019; Nguyen et al. 2021).
//!
//! With K = X_t X_t' and L = X_u X_u' of representations whose columns are centred, CKA = HSIC(K, L) / sqrt(HSIC(K, K)
//! HSIC(L, L)). `biased`: HSIC = tr KL = |Mc_tu|^2 with Mc_tu = X_t' X_u (Gretton et al. 2005). `debiased` (Song et al. 2012):
//! (tr K~L~ + 1'K~1 1'L~1 / ((n-1)(n-2)) - 2/(n-2) 1'K~L~1) / (n(n-3)), ~ = zero diagonal. As 1'K1 = 0, this is
//!
//! n(n-3) HSIC = |Mc_tu|^2 - n/(n-2) q_tu + p_t p_u / ((n-1)(n-2)), p_t = tr Mc_tt, q_tu = sum_i |x_ti|^2 |x_ui|^2,
//!
//! so that no N x N matrix is needed. Biased CKA rises towards 1 as N falls to D: show the debiased one.
//! None where no feature varies over images; debiased, for n < 4 and where n(n-3) HSIC(K, K) <= 1e-9 tr KK.

use super::moments::{Cross, Marginals, Moments};
use serde::Serialize;

/// \[T\]\[T\] each; `_init`: the second axis is the untrained network's time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cka {
    /// From the biased estimate of HSIC.
    pub biased: Vec<Vec<Option<f64>>>,
    /// From the unbiased estimate.
    pub debiased: Vec<Vec<Option<f64>>>,
    /// Biased, with the untrained network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub biased_init: Option<Vec<Vec<Option<f64>>>>,
    /// Debiased, with the untrained network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub debiased_init: Option<Vec<Vec<Option<f64>>>>,
}

/// Of unbiased HSIC(K, K), as a share of tr KK: what is no larger is rounding.
const NEGLIGIBLE: f64 = 1e-9;

/// CKA from moments.
pub fn of(moments: &Moments) -> Cka {
    let (trained, images) = (&moments.trained, moments.images as f64);
    let init = moments.untrained.as_ref().map(|(untrained, cross)| between(trained, untrained, cross, images));
    let (biased_init, debiased_init) = init.unzip();
    let (biased, debiased) = between(trained, trained, &moments.within, images);
    Cka { biased, debiased, biased_init, debiased_init }
}

/// n(n-3) HSIC.
fn unbiased(squared: f64, fourth: f64, [p, q]: [f64; 2], n: f64) -> f64 {
    squared - n / (n - 2.0) * fourth + p * q / ((n - 1.0) * (n - 2.0))
}

type Table = Vec<Vec<Option<f64>>>;

fn between(a: &Marginals, b: &Marginals, cross: &Cross, n: f64) -> (Table, Table) {
    // HSIC of a timestep with itself, twice: biased, and unbiased if it is more than rounding.
    let own = |of: &Marginals, t: usize| {
        let debiased = unbiased(of.squared[t], of.fourth[t], [of.trace[t]; 2], n);
        let counts = n >= 4.0 && debiased > NEGLIGIBLE * of.squared[t];
        (of.varies[t].then_some(of.squared[t]), (of.varies[t] && counts).then_some(debiased))
    };
    let own_of = |of: &Marginals| -> (Vec<_>, Vec<_>) { (0..of.varies.len()).map(|t| own(of, t)).unzip() };
    let ((biased_a, debiased_a), (biased_b, debiased_b)) = (own_of(a), own_of(b));
    let table = |own_a: &[Option<f64>], own_b: &[Option<f64>], hsic: &dyn Fn(usize, usize) -> f64| -> Table {
        let one = |t: usize, u: usize| Some(hsic(t, u) / (own_a[t]?.sqrt() * own_b[u]?.sqrt()));
        (0..own_a.len()).map(|t| (0..own_b.len()).map(|u| one(t, u)).collect()).collect()
    };
    let debiased = |t: usize, u: usize| unbiased(cross.squared[t][u], cross.fourth[t][u], [a.trace[t], b.trace[u]], n);
    (table(&biased_a, &biased_b, &|t, u| cross.squared[t][u]), table(&debiased_a, &debiased_b, &debiased))
}
