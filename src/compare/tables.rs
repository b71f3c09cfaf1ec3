//! Every number of a comparison as tidy tables, as those of a report are.

use super::Comparison;
use crate::report::tables::{Table, float, text, whole};

/// All tables.
pub(super) fn all(comparison: &Comparison) -> Vec<Table> {
    let mut contrasts = Table::new(
        "contrasts",
        &[
            "network",
            "contrast",
            "first_mean",
            "second_mean",
            "difference",
            "low",
            "high",
            "runs",
            "defined_runs",
            "images_in_smallest_group",
            "se_images",
            "se_seeds",
            "degrees_of_freedom",
            "p",
            "p_holm",
            "published_first",
            "published_second",
            "verdict",
            "why",
        ],
    );
    let mut of_runs = Table::new("contrast_runs", &["network", "contrast", "run", "difference", "low", "high"]);
    for c in &comparison.contrasts {
        contrasts.row([
            c.network.clone(),
            c.contrast.clone(),
            float(c.first),
            float(c.second),
            float(c.difference),
            float(c.low),
            float(c.high),
            whole(c.seeds),
            whole(c.defined),
            whole(c.images),
            float(c.se_images),
            float(c.se_seeds),
            float(c.df),
            float(c.p),
            float(c.p_holm),
            float(c.published.map(|pair| pair[0])),
            float(c.published.map(|pair| pair[1])),
            text(c.verdict.words()),
            c.why.clone().unwrap_or_default(),
        ]);
        for run in &c.runs {
            let [difference, low, high] = [run.difference, run.low, run.high].map(float);
            of_runs.row([c.network.clone(), c.contrast.clone(), run.run.clone(), difference, low, high]);
        }
    }

    let head = ["run", "network", "seed", "dataset", "checkpoint", "step", "parameters", "timesteps", "report"];
    let mut runs = Table::new("runs", &head);
    let mut accuracy = Table::new("accuracy", &["network", "run", "state", "timestep", "accuracy_fraction"]);
    for run in &comparison.runs {
        let known = |text: &Option<String>| text.clone().unwrap_or_default();
        let number = |n: Option<u64>| n.map_or(String::new(), whole);
        runs.row([
            run.run.clone(),
            run.network.clone(),
            number(run.seed),
            known(&run.dataset),
            known(&run.checkpoint),
            number(run.step),
            number(run.parameters),
            whole(run.timesteps),
            run.report.clone(),
        ]);
        for (state, values) in [("trained", Some(&run.accuracy)), ("untrained", run.accuracy_init.as_ref())] {
            for (t, &value) in values.into_iter().flatten().enumerate() {
                accuracy.row([run.network.clone(), run.run.clone(), text(state), whole(t), float(Some(value))]);
            }
        }
    }

    let head = ["network", "first_run", "second_run", "timestep", "rdm_spearman", "rdm_pearson", "error_consistency"];
    let mut consistency = Table::new("consistency", &head);
    for of in &comparison.consistency.networks {
        for pair in &of.pairs {
            let [first, second] = &pair.runs;
            for t in 0..pair.error_consistency.len() {
                let numbers = [pair.spearman[t], pair.pearson[t], pair.error_consistency[t]].map(float);
                let [spearman, pearson, errors] = numbers;
                consistency.row([
                    of.network.clone(),
                    first.clone(),
                    second.clone(),
                    whole(t),
                    spearman,
                    pearson,
                    errors,
                ]);
            }
        }
    }
    let last = &comparison.consistency.last;
    let head = ["first_run", "second_run", "rdm_spearman", "rdm_pearson", "error_consistency"];
    let mut at_end = Table::new("consistency_last", &head);
    for (i, first) in last.runs.iter().enumerate() {
        for (j, second) in last.runs.iter().enumerate() {
            let numbers = [last.spearman[i][j], last.pearson[i][j], last.error_consistency[i][j]].map(float);
            let [spearman, pearson, errors] = numbers;
            at_end.row([first.clone(), second.clone(), spearman, pearson, errors]);
        }
    }
    vec![contrasts, of_runs, runs, accuracy, consistency, at_end]
}
