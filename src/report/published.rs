//! The figures of Thorat, Doerig & Kietzmann 2023 (arXiv 2308.12435): 100 classes of MiniEcoset, split `testplus`
//! (25,000 images), ten timesteps, and which of their four networks a configuration corresponds to.

use serde_json::Value;

/// The three contrasts of one published network, each (first group, second group).
pub(crate) struct Network {
    pub name: &'static str,
    /// L2 norm: in the correct readout zone / not yet.
    pub norm: [f64; 2],
    /// Cosine to the readout vector of the current class: in the correct zone / not yet.
    pub cos_current: [f64; 2],
    /// Of those not yet in it: cosine to the readout vector of the own final class / of others' final classes.
    pub cos_final: [f64; 2],
}

/// One of the three contrasts: of which groups, under which names. The claim is that the first group's mean is higher.
pub(crate) struct Kind {
    /// Its name in JSON and tables.
    pub key: &'static str,
    pub title: &'static str,
    /// The claim in words.
    pub finding: &'static str,
    /// The two groups, in the order of the values.
    pub groups: [&'static str; 2],
    /// The published values of a network.
    pub of: fn(&Network) -> [f64; 2],
    /// Decimals of its means.
    pub decimals: usize,
}

/// The three contrasts in the order of the paper.
pub(crate) const CONTRASTS: [Kind; 3] = [
    Kind {
        key: "norm",
        title: "L2 norm of the representation",
        finding: "Representations in the correct readout zone have a higher L2 norm than those not yet there",
        groups: ["in the correct zone", "not yet"],
        of: |network| network.norm,
        decimals: 2,
    },
    Kind {
        key: "cos_current",
        title: "Cosine to the current readout vector",
        finding: "Representations in the correct zone are closer to their current readout vector than those not yet there",
        groups: ["in the correct zone", "not yet"],
        of: |network| network.cos_current,
        decimals: 3,
    },
    Kind {
        key: "cos_final",
        title: "Cosine to final classes",
        finding: "Representations not yet in the correct zone point more to their own final class than to others\u{2019}",
        groups: ["own final class", "others\u{2019} final classes"],
        of: |network| network.cos_final,
        decimals: 3,
    },
];

/// The four published networks; the first is the one that all further figures below belong to.
pub(crate) const NETWORKS: [Network; 4] = [
    Network { name: "L additive", norm: [8.04, 7.45], cos_current: [0.202, 0.121], cos_final: [0.100, -0.024] },
    Network { name: "T additive", norm: [22.99, 22.43], cos_current: [0.062, 0.014], cos_final: [0.003, -0.074] },
    Network { name: "L multiplicative", norm: [24.15, 23.58], cos_current: [0.136, 0.071], cos_final: [0.052, -0.032] },
    Network { name: "T multiplicative", norm: [22.43, 21.83], cos_current: [0.088, 0.033], cos_final: [0.017, -0.066] },
];

/// Best accuracy of L additive (fraction) and the timestep it is reached at.
pub(crate) const BEST_ACCURACY: (f64, usize) = (0.53344, 6);

/// Share of the 25,000 images: stable-correct, stable-incorrect, unstable-correct, unstable-incorrect (L additive).
pub(crate) const GROUPS: [f64; 4] = [0.497, 0.394, 0.052, 0.057];

/// Stable-correct images by t_stable (L additive).
pub(crate) const HISTOGRAM: [u64; 10] = [9609, 917, 627, 411, 285, 219, 159, 103, 88, 0];

/// The published network to compare with.
pub(crate) struct Comparison {
    pub index: usize,
    /// Why it is not the same network, if it is not.
    pub caveat: Option<String>,
}

impl Comparison {
    /// Whether the network analysed is of the kind of published network `index`.
    pub fn is(&self, index: usize) -> bool {
        self.caveat.is_none() && self.index == index
    }

    /// The network compared with.
    pub fn network(&self) -> &'static Network {
        &NETWORKS[self.index]
    }
}

/// Finds the published network with the connections and the interaction of a `[network]` table; L additive, with
/// the reason, where there is none, and for an `[architecture]`.
pub(crate) fn comparison(network: &Value) -> Comparison {
    let flag = |key: &str| network.get(key).and_then(Value::as_bool);
    let text = |key: &str| network.get(key).and_then(Value::as_str);
    let fallback = |why: &str| Comparison {
        index: 0,
        caveat: Some(format!("{why}; none of the four published networks is like that, so L additive is shown.")),
    };
    if network.get("connections").is_some() {
        return fallback("This network has areas and connections of its own");
    }
    let (Some(lateral), Some(topdown)) = (flag("lateral"), flag("topdown")) else {
        return fallback("The configuration does not say which recurrent connections the network has");
    };
    if network.get("timesteps").and_then(Value::as_u64) == Some(1) {
        return fallback("With one timestep this network is feed-forward");
    }
    if text("lt_position") == Some("last") {
        return fallback("This network is recurrent in its last layer only");
    }
    let row = match (lateral, topdown) {
        (true, false) => 0,
        (false, true) => 1,
        (true, true) => return fallback("This network has lateral and top-down connections together"),
        (false, false) => return fallback("This network has neither lateral nor top-down connections"),
    };
    match text("interaction") {
        None | Some("additive") => Comparison { index: row, caveat: None },
        Some("multiplicative") => Comparison { index: row + 2, caveat: None },
        Some(_) => fallback("The network's interaction is neither additive nor multiplicative"),
    }
}
