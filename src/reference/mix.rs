//! Mixing of the bottom-up drive with whichever of the lateral and top-down terms exist (the paper's "interaction"):
//! additive `y = b + l + t`, multiplicative `y = b * (1 + l + t)`. An absent term is absent, not zero times a weight.

use super::{check_len, rounded};

/// The published networks' two interactions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interaction {
    /// `b + l + t`
    #[default]
    Additive,
    /// `b * (1 + l + t)`
    Multiplicative,
}

/// The value at `i` of a term that may be absent.
fn at(term: Option<&[f32]>, i: usize) -> f64 {
    term.map_or(0.0, |values| values[i] as f64)
}

/// y, of the same shape as the bottom-up drive `b` and as each term given.
pub fn mix(kind: Interaction, b: &[f32], l: Option<&[f32]>, t: Option<&[f32]>) -> Vec<f32> {
    for (name, term) in [("l", l), ("t", t)] {
        check_len(name, term.unwrap_or(b), b.len());
    }
    let value = |i: usize| match kind {
        Interaction::Additive => b[i] as f64 + at(l, i) + at(t, i),
        Interaction::Multiplicative => b[i] as f64 * (1.0 + at(l, i) + at(t, i)),
    };
    rounded((0..b.len()).map(value).collect())
}

/// d_b: d_y when additive, `d_y * (1 + l + t)` when multiplicative.
pub fn mix_d_bottom_up(kind: Interaction, l: Option<&[f32]>, t: Option<&[f32]>, d_y: &[f32]) -> Vec<f32> {
    for (name, term) in [("l", l), ("t", t)] {
        check_len(name, term.unwrap_or(d_y), d_y.len());
    }
    match kind {
        Interaction::Additive => d_y.to_vec(),
        Interaction::Multiplicative => {
            rounded((0..d_y.len()).map(|i| d_y[i] as f64 * (1.0 + at(l, i) + at(t, i))).collect())
        }
    }
}

/// d_l and d_t, which are equal: d_y when additive, `d_y * b` when multiplicative.
pub fn mix_d_term(kind: Interaction, b: &[f32], d_y: &[f32]) -> Vec<f32> {
    check_len("d_y", d_y, b.len());
    match kind {
        Interaction::Additive => d_y.to_vec(),
        Interaction::Multiplicative => b.iter().zip(d_y).map(|(&b, &d_y)| b * d_y).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::Interaction::{Additive, Multiplicative};
    use super::*;

    #[test]
    fn worked_by_hand() {
        let (b, l, t, d_y) = ([2.0], [3.0], [5.0], [7.0]);
        assert_eq!(mix(Additive, &b, Some(&l), Some(&t)), [10.0]);
        assert_eq!(mix(Additive, &b, None, None), [2.0]);
        assert_eq!(mix(Multiplicative, &b, Some(&l), Some(&t)), [18.0]);
        assert_eq!(mix(Multiplicative, &b, None, Some(&t)), [12.0]);
        assert_eq!(mix_d_bottom_up(Additive, Some(&l), Some(&t), &d_y), [7.0]);
        assert_eq!(mix_d_bottom_up(Multiplicative, Some(&l), None, &d_y), [28.0]);
        assert_eq!(mix_d_term(Additive, &b, &d_y), [7.0]);
        assert_eq!(mix_d_term(Multiplicative, &b, &d_y), [14.0]);
    }
}
