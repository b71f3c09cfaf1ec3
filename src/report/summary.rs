//! What was found, in plain sentences at the top of the page. Each says only what its numbers say, and is left out where
//! they are undefined.

use super::claims::{percent, significant};
use super::dynamics::{Dynamics, Row};
use super::html::thousands;
use super::view::View;

/// First and last value of a row, if both are defined.
fn ends(row: &Row) -> Option<(f64, f64)> {
    row.first().copied().flatten().zip(row.last().copied().flatten()).filter(|_| row.len() > 1)
}

/// "rises from a to b", as the numbers say.
fn moves(from: f64, to: f64, word: impl Fn(Option<f64>) -> String) -> String {
    let verb = if to > from {
        "rises"
    } else if to < from {
        "falls"
    } else {
        "stays the same"
    };
    format!("{verb} from {} at the first timestep to {} at the last", word(Some(from)), word(Some(to)))
}

/// The sentences.
pub(super) fn findings(view: &View, dynamics: Option<&Dynamics>) -> Vec<String> {
    let mut out = Vec::new();
    if let Some((first, last)) = ends(&view.accuracy) {
        out.push(format!("Accuracy {}.", moves(first, last, percent)));
    }
    let c = &view.counts;
    let total = c.stable_correct + c.stable_incorrect + c.unstable_correct + c.unstable_incorrect;
    if total > 0 {
        let share = |n: u64| percent(Some(n as f64 / total as f64));
        out.push(format!(
            "{} of the images settle in the zone of their label for good and {} in another zone; the others come and go.",
            share(c.stable_correct),
            share(c.stable_incorrect)
        ));
    }
    if let Some(c) = view.disturbance.as_ref().and_then(|d| d.comparison.as_ref()) {
        let last = view.timesteps - 1;
        out.push(format!(
            "At the last timestep accuracy is {} undisturbed and {} under the protocol: {} images are lost and {} gained.",
            percent(c.accuracy_undisturbed[last]),
            percent(c.accuracy[last]),
            thousands(c.answers.lost[last]),
            thousands(c.answers.gained[last])
        ));
    }
    if let Some(s) = view.disturbance.as_ref().and_then(|d| d.settling.as_ref()) {
        out.push(format!(
            "{} of the images keep the class of the last trained timestep to the end of the run.",
            percent(Some(s.kept as f64 / view.samples as f64))
        ));
    }
    let Some(d) = dynamics else { return out };
    if let Some((first, last)) = d.label_margin.as_ref().and_then(|sets| ends(&sets.all)) {
        out.push(format!(
            "The average image\u{2019}s distance to the boundary of its label\u{2019}s zone {} (negative is outside).",
            moves(first, last, significant)
        ));
    }
    if let Some((first, last)) = d.entropy.as_ref().and_then(|sets| ends(&sets.all)) {
        out.push(format!("The entropy of the answers, in nats, {}.", moves(first, last, significant)));
    }
    if let (Some(v), true) = (&d.visits, d.timesteps > 1) {
        let moved: u64 = v.switches.iter().skip(1).sum();
        let lost = v.label_zone.lost;
        out.push(format!(
            "{} of {} images change their zone at least once; {} visit the zone of their label and are outside at the end.",
            thousands(moved),
            thousands(d.samples as u64),
            thousands(lost)
        ));
    }
    if let Some(Some(straight)) = d.path.as_ref().map(|p| p.all.straightness) {
        out.push(format!(
            "Trajectories have a mean straightness of {} (1 is a straight line).",
            significant(Some(straight))
        ));
    }
    if let Some((first, last)) = d.pca.as_ref().and_then(|p| ends(&p.participation_t)) {
        out.push(format!(
            "The number of dimensions that the representations fill {}.",
            moves(first, last, significant)
        ));
    }
    let corner =
        |grid: &Vec<Row>| grid.first().and_then(|row| row.last().copied().flatten()).filter(|_| grid.len() > 1);
    if let Some(cka) = d.cka.as_ref().and_then(|c| corner(&c.debiased)) {
        out.push(format!(
            "The geometry at the first and at the last timestep have a CKA of {} (1 is the same).",
            significant(Some(cka))
        ));
    }
    out
}
