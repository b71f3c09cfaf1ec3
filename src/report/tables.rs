//! Every number of a report as tidy tables: one row an observation, one header row, units in the names of columns, an
//! empty cell where a number is undefined. Each is a CSV file that `pandas.read_csv` reads as it is.

use super::dynamics::{Accuracy, Dynamics, Grid, square};
use super::view::View;
use super::{Report, images};
use crate::{Error, Result};

/// A table.
pub(crate) struct Table {
    /// Name of its file without extension.
    pub name: String,
    pub head: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(name: &str, head: &[&str]) -> Table {
        Table { name: name.into(), head: head.iter().map(|h| h.to_string()).collect(), rows: Vec::new() }
    }

    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }

    /// The file.
    pub fn csv(&self) -> Result<Vec<u8>> {
        let refuse = |e: String| Error::Data(format!("{}.csv: {e}", self.name));
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(&self.head).map_err(|e| refuse(e.to_string()))?;
        for row in &self.rows {
            writer.write_record(row).map_err(|e| refuse(e.to_string()))?;
        }
        writer.into_inner().map_err(|e| refuse(e.to_string()))
    }
}

/// A number with as many digits as it takes to read it back; empty if it is undefined.
pub(crate) fn float(v: Option<f64>) -> String {
    v.filter(|v| v.is_finite()).map_or(String::new(), |v| format!("{v}"))
}

/// A count or index.
pub(crate) fn whole(n: impl TryInto<u64>) -> String {
    n.try_into().map_or(String::new(), |n| n.to_string())
}

pub(crate) fn text(text: &str) -> String {
    text.into()
}

/// All tables of a report, in a fixed order.
pub(super) fn all(report: &Report, view: &View, dynamics: Option<&Dynamics>) -> Vec<Table> {
    let mut tables = published(report, view, dynamics);
    if let Some(d) = dynamics {
        certainty(d, &mut tables);
        zones(d, view, &mut tables);
        geometry(d, view, &mut tables);
        agreement(d, &mut tables);
    }
    tables.push(images::table(report, view, dynamics));
    tables
}

/// The published statistics, the readout and the training.
fn published(report: &Report, view: &View, dynamics: Option<&Dynamics>) -> Vec<Table> {
    let mut classes = Table::new("classes", &["class", "name"]);
    for (i, name) in view.classes.iter().enumerate() {
        classes.row([whole(i), text(name)]);
    }
    let errors = dynamics.and_then(|d| d.accuracy.as_ref());
    let mut accuracy = Table::new(
        "accuracy",
        &[
            "network",
            "timestep",
            "accuracy_fraction",
            "standard_error",
            "bootstrap_error",
            "bootstrap_low",
            "bootstrap_high",
        ],
    );
    for (t, a) in view.accuracy.iter().enumerate() {
        let of = |pick: fn(&Accuracy, usize) -> Option<f64>| float(errors.and_then(|errors| pick(errors, t)));
        let (se, boot_se) = (of(|e, t| e.se[t]), of(|e, t| e.boot_se[t]));
        let (low, high) = (of(|e, t| e.boot_ci[t][0]), of(|e, t| e.boot_ci[t][1]));
        accuracy.row([text("trained"), whole(t), float(*a), se, boot_se, low, high]);
    }
    for (t, a) in view.accuracy_init.iter().flatten().enumerate() {
        let none = String::new;
        accuracy.row([text("untrained"), whole(t), float(*a), none(), none(), none(), none()]);
    }
    let mut groups = Table::new("groups", &["group", "images"]);
    let c = &view.counts;
    for (group, n) in [
        ("stable-correct", c.stable_correct),
        ("stable-incorrect", c.stable_incorrect),
        ("unstable-correct", c.unstable_correct),
        ("unstable-incorrect", c.unstable_incorrect),
    ] {
        groups.row([text(group), whole(n)]);
    }
    let mut stable = Table::new("t_stable", &["t_stable_timestep", "stable_correct_images"]);
    for (t, &n) in view.t_stable_histogram.iter().enumerate() {
        stable.row([whole(t), whole(n)]);
    }
    let mut change = Table::new("change", &["network", "t_stable_timestep", "step_from_timestep", "change_l2_norm"]);
    let networks = [("trained", Some(&view.change_by_t_stable)), ("untrained", view.change_by_t_stable_init.as_ref())];
    for (network, rows) in networks {
        for (g, row) in rows.into_iter().flatten().enumerate() {
            for (t, v) in row.iter().enumerate() {
                change.row([text(network), whole(g), whole(t), float(*v)]);
            }
        }
    }
    let mut contrasts = Table::new("published_contrasts", &["contrast", "timestep", "first_group", "second_group"]);
    for (contrast, rows) in [
        ("norm", &view.norm_now_later),
        ("cos_current", &view.cos_current_now_later),
        ("cos_final", &view.cos_final_own_other),
    ] {
        for (t, pair) in rows.iter().enumerate() {
            contrasts.row([text(contrast), whole(t), float(pair[0]), float(pair[1])]);
        }
    }
    let mut distance = Table::new("readout_distance", &["class_a", "class_b", "distance"]);
    for (i, row) in view.readout_distance.iter().enumerate() {
        for (j, v) in row.iter().enumerate().skip(i + 1) {
            distance.row([whole(i), whole(j), float(*v)]);
        }
    }
    let mut tree = Table::new("readout_tree", &["cluster_a", "cluster_b", "ward_distance", "classes"]);
    for &[a, b, height, size] in &view.readout_linkage {
        tree.row([whole(a as u64), whole(b as u64), float(Some(height)), whole(size as u64)]);
    }
    let mut order = Table::new("readout_order", &["position", "class", "name"]);
    for (i, &class) in view.readout_leaves.iter().enumerate() {
        order.row([whole(i), whole(class), view.classes.get(class).cloned().unwrap_or_default()]);
    }
    let mut training =
        Table::new("training", &["epoch", "timestep", "loss_nats", "accuracy_fraction", "training_loss_nats"]);
    for epoch in report.training.iter().flat_map(|t| &t.epochs) {
        for t in 0..epoch.loss.len().max(epoch.accuracy.len()) {
            let at = |values: &[Option<f64>]| float(values.get(t).copied().flatten());
            training.row([whole(epoch.epoch), whole(t), at(&epoch.loss), at(&epoch.accuracy), float(epoch.train_loss)]);
        }
    }
    vec![classes, accuracy, groups, stable, change, contrasts, distance, tree, order, training]
}

fn certainty(d: &Dynamics, tables: &mut Vec<Table>) {
    let mut margins = Table::new(
        "margins",
        &["set", "timestep", "margin_distance", "label_margin_distance", "relative_margin", "negative_images"],
    );
    let at = |row: Option<&Vec<Option<f64>>>, t: usize| float(row.and_then(|row| row[t]));
    for (s, set) in ["all", "correct", "incorrect", "now", "later"].into_iter().enumerate() {
        for t in 0..d.timesteps {
            let [margin, label, relative] =
                [d.margin.as_ref().map(|m| &m.sets), d.label_margin.as_ref(), d.relative_margin.as_ref()]
                    .map(|sets| at(sets.map(|sets| sets.named()[s].1), t));
            let negative = d.margin.as_ref().filter(|_| set == "all").map_or(String::new(), |m| whole(m.negative[t]));
            margins.row([text(set), whole(t), margin, label, relative, negative]);
        }
    }
    let mut certainty = Table::new("certainty", &["set", "timestep", "entropy_nats", "confidence_fraction"]);
    for (s, set) in ["all", "correct", "incorrect"].into_iter().enumerate() {
        for t in 0..d.timesteps {
            let [entropy, confidence] = [&d.entropy, &d.confidence].map(|c| at(c.as_ref().map(|c| c.named()[s].1), t));
            certainty.row([text(set), whole(t), entropy, confidence]);
        }
    }
    tables.extend([margins, certainty]);
    if let Some(c) = &d.calibration {
        let mut bins = Table::new(
            "calibration",
            &["timestep", "bin_low", "bin_high", "images", "confidence_fraction", "accuracy_fraction"],
        );
        for (t, counts) in c.count.iter().enumerate() {
            let edge = |m: usize| float(Some(m as f64 / counts.len() as f64));
            for (m, &n) in counts.iter().enumerate() {
                let values = [c.confidence[t][m], c.accuracy[t][m]].map(float);
                let [confidence, accuracy] = values;
                bins.row([whole(t), edge(m), edge(m + 1), whole(n), confidence, accuracy]);
            }
        }
        let mut error = Table::new("calibration_error", &["timestep", "expected_calibration_error_fraction"]);
        for (t, v) in c.ece.iter().enumerate() {
            error.row([whole(t), float(*v)]);
        }
        tables.extend([bins, error]);
    }
    if let Some(r) = &d.reaction {
        let threshold = |i: usize| float(d.parameters.as_ref().map(|p| p.thresholds[i]));
        let mut reaction = Table::new(
            "reaction",
            &[
                "threshold_nats",
                "mean_timesteps",
                "accuracy_fraction",
                "reached_images",
                "mean_right_timesteps",
                "mean_wrong_timesteps",
            ],
        );
        let mut histogram = Table::new("reaction_histogram", &["threshold_nats", "timestep", "images"]);
        for i in 0..r.mean.len() {
            let [mean, accuracy, right, wrong] =
                [r.mean[i], r.accuracy[i], r.mean_correct[i], r.mean_incorrect[i]].map(float);
            reaction.row([threshold(i), mean, accuracy, whole(r.reached[i]), right, wrong]);
            for (t, &n) in r.histogram[i].iter().enumerate() {
                histogram.row([threshold(i), whole(t), whole(n)]);
            }
        }
        tables.extend([reaction, histogram]);
    }
    if let Some(s) = &d.solution {
        // The row without a timestep holds the images that are not solved.
        let mut solution = Table::new("solution", &["timestep", "images"]);
        for (t, &n) in s.histogram.iter().enumerate() {
            solution.row([whole(t), whole(n)]);
        }
        solution.row([String::new(), whole(s.unsolved)]);
        tables.push(solution);
    }
}

fn zones(d: &Dynamics, view: &View, tables: &mut Vec<Table>) {
    if let Some(v) = &d.visits {
        let name = |class: usize| view.classes.get(class).cloned().unwrap_or_default();
        let mut transitions =
            Table::new("transitions", &["from_class", "to_class", "from_name", "to_name", "count_steps"]);
        for (i, row) in v.transitions.iter().enumerate() {
            for (j, &n) in row.iter().enumerate() {
                transitions.row([whole(i), whole(j), name(i), name(j), whole(n)]);
            }
        }
        let mut occupancy = Table::new("occupancy", &["timestep", "class", "name", "images"]);
        for (t, row) in v.occupancy.iter().enumerate() {
            for (k, &n) in row.iter().enumerate() {
                occupancy.row([whole(t), whole(k), name(k), whole(n)]);
            }
        }
        // Runs are stays in a zone; the others are images.
        let mut visits = Table::new("visits", &["quantity", "value", "count"]);
        for (quantity, counts, first) in [
            ("switches_of_an_image", &v.switches, 0),
            ("zones_of_an_image", &v.zones, 1),
            ("length_of_a_stay_timesteps", &v.dwell.histogram, 1),
        ] {
            for (i, &n) in counts.iter().enumerate() {
                visits.row([text(quantity), whole(first + i), whole(n)]);
            }
        }
        let mut dwell = Table::new("dwell", &["stays", "mean_timesteps"]);
        for (stays, mean) in [
            ("all", v.dwell.mean),
            ("complete", v.dwell.mean_complete),
            ("in_the_labels_zone", v.dwell.mean_label),
            ("in_other_zones", v.dwell.mean_other),
        ] {
            dwell.row([text(stays), float(mean)]);
        }
        let z = &v.label_zone;
        let mut label = Table::new("label_zone", &["event", "images"]);
        for (event, n) in [
            ("started", z.started),
            ("visited", z.visited),
            ("left_ever", z.left_ever),
            ("regained", z.regained),
            ("lost", z.lost),
        ] {
            label.row([text(event), whole(n)]);
        }
        let mut steps = Table::new("label_zone_steps", &["step_from_timestep", "entered_images", "left_images"]);
        for (t, (&entered, &left)) in z.entered.iter().zip(&z.left).enumerate() {
            steps.row([whole(t), whole(entered), whole(left)]);
        }
        tables.extend([transitions, occupancy, visits, dwell, label, steps]);
    }
    if let Some(p) = &d.path {
        let mut path = Table::new(
            "path",
            &["group", "images", "length_l2_norm", "displacement_l2_norm", "straightness", "turning_degrees"],
        );
        let mut steps = Table::new("path_steps", &["group", "quantity", "timestep", "value"]);
        for (group, p) in p.named() {
            let [length, displacement, straightness, turning] =
                [p.length, p.displacement, p.straightness, p.turning].map(float);
            path.row([text(group), whole(p.n), length, displacement, straightness, turning]);
            for (quantity, values, first) in [
                ("speed_l2_norm", &p.speed, 0),
                ("distance_to_final_l2_norm", &p.to_final, 0),
                ("turning_degrees", &p.turning_t, 1),
            ] {
                for (i, v) in values.iter().enumerate() {
                    steps.row([text(group), text(quantity), whole(first + i), float(*v)]);
                }
            }
        }
        tables.extend([path, steps]);
    }
}

/// Adds a row for each pair of timesteps; the cells before them are `begin`.
fn pairs<const N: usize>(table: &mut Table, begin: [&str; N], grid: &Grid) {
    for (t, row) in grid.iter().enumerate() {
        for (u, v) in row.iter().enumerate() {
            let mut cells: Vec<String> = begin.iter().map(|cell| cell.to_string()).collect();
            cells.extend([whole(t), whole(u), float(*v)]);
            table.rows.push(cells);
        }
    }
}

/// Which network the second timestep of a comparison belongs to.
const SECOND: [&str; 2] = ["trained", "untrained"];

fn geometry(d: &Dynamics, view: &View, tables: &mut Vec<Table>) {
    let name = |class: usize| view.classes.get(class).cloned().unwrap_or_default();
    let mut members = Table::new("rdm_images", &["position", "image"]);
    if let Some(rdm) = &d.rdm {
        let count = super::dynamics::members_of(rdm.euclidean.first().map_or(0, Vec::len));
        for (i, image) in d.rdm_images(count).into_iter().enumerate() {
            members.row([whole(i), whole(image)]);
        }
        tables.push(members);
    }
    if let Some(rdm) = &d.class_rdm {
        let count = super::dynamics::members_of(rdm.euclidean.first().map_or(0, Vec::len));
        let shown = d.shown_classes(count);
        let mut order = Table::new("class_rdm_classes", &["position", "class", "name"]);
        for (i, &class) in shown.iter().enumerate() {
            order.row([whole(i), whole(class), name(class)]);
        }
        let mut table = Table::new("class_rdm", &["metric", "timestep", "class_a", "class_b", "dissimilarity"]);
        for (metric, grid) in rdm.named() {
            for (t, condensed) in grid.iter().enumerate() {
                let matrix = square(condensed);
                for i in 0..shown.len() {
                    for j in i + 1..shown.len() {
                        let value = float(matrix[i][j]);
                        table.row([text(metric), whole(t), whole(shown[i]), whole(shown[j]), value]);
                    }
                }
            }
        }
        tables.extend([order, table]);
    }
    if let Some(within) = &d.rdm_time {
        let head = ["metric", "similarity", "second_network", "timestep", "second_timestep", "value"];
        let mut table = Table::new("rdm_similarity", &head);
        for (network, metrics) in SECOND.into_iter().zip([Some(within), d.rdm_init.as_ref()]) {
            for (metric, similarities) in metrics.into_iter().flat_map(|m| m.named()) {
                for (similarity, grid) in similarities.named() {
                    pairs(&mut table, [metric, similarity, network], grid);
                }
            }
        }
        tables.push(table);
    }
    if let Some(c) = &d.cka {
        let mut table = Table::new("cka", &["estimate", "second_network", "timestep", "second_timestep", "cka"]);
        for (estimate, network, grid) in [
            ("debiased", SECOND[0], Some(&c.debiased)),
            ("biased", SECOND[0], Some(&c.biased)),
            ("debiased", SECOND[1], c.debiased_init.as_ref()),
            ("biased", SECOND[1], c.biased_init.as_ref()),
        ] {
            grid.into_iter().for_each(|grid| pairs(&mut table, [estimate, network], grid));
        }
        tables.push(table);
    }
    if let Some(p) = &d.pca {
        let mut means = Table::new("pca_class_means", &["class", "name", "timestep", "component", "projection"]);
        for (class, steps) in d.shown_classes(p.class_mean.len()).into_iter().zip(&p.class_mean) {
            for (t, row) in steps.iter().enumerate() {
                for (c, v) in row.iter().enumerate() {
                    means.row([whole(class), name(class), whole(t), whole(c + 1), float(*v)]);
                }
            }
        }
        let mut variance = Table::new("pca_variance", &["component", "eigenvalue", "explained_fraction"]);
        for (i, (eigenvalue, explained)) in p.eigenvalues.iter().zip(&p.explained).enumerate() {
            variance.row([whole(i + 1), float(*eigenvalue), float(*explained)]);
        }
        let mut components = Table::new("pca_components", &["component", "feature", "loading"]);
        for (c, row) in p.components.iter().enumerate() {
            for (f, v) in row.iter().flatten().enumerate() {
                components.row([whole(c + 1), whole(f), float(*v)]);
            }
        }
        // The row without a timestep is for all timesteps together.
        let mut participation = Table::new("participation", &["timestep", "participation_dimensions"]);
        for (t, v) in p.participation_t.iter().enumerate() {
            participation.row([whole(t), float(*v)]);
        }
        participation.row([String::new(), float(p.participation)]);
        tables.extend([means, variance, components, participation]);
    }
}

fn agreement(d: &Dynamics, tables: &mut Vec<Table>) {
    if let Some(decoders) = &d.decoder {
        let mut table = Table::new(
            "decoders",
            &[
                "decoder",
                "fitted_timestep",
                "tested_timestep",
                "right_images",
                "tested_images",
                "near_ties_images",
                "mean_score",
            ],
        );
        let mut weights = Table::new("decoder_weights", &["timestep", "weight_frobenius_norm"]);
        for (name, decoder) in [("ridge", &decoders.ridge), ("class_mean", &decoders.class_mean)] {
            for (t, row) in decoder.correct.iter().enumerate() {
                for (u, &n) in row.iter().enumerate() {
                    let (near, score) = (whole(decoder.near_ties[t][u]), float(decoder.score[t][u]));
                    table.row([text(name), whole(t), whole(u), whole(n), whole(decoders.n_test), near, score]);
                }
            }
            for (t, v) in decoder.weight_norm.iter().flatten().enumerate() {
                weights.row([whole(t), float(*v)]);
            }
        }
        tables.extend([table, weights]);
    }
    if let Some(c) = &d.consistency {
        let head = ["second_network", "timestep", "second_timestep", "same_class_images", "kappa", "error_consistency"];
        let mut table = Table::new("consistency", &head);
        let init = c.same_class_init.as_ref().zip(c.kappa_init.as_ref()).zip(c.error_consistency_init.as_ref());
        let both = [Some((&c.same_class, &c.kappa, &c.error_consistency)), init.map(|((a, b), c)| (a, b, c))];
        for (network, parts) in SECOND.into_iter().zip(both) {
            let Some((same, kappa, errors)) = parts else { continue };
            for (t, row) in same.iter().enumerate() {
                for (u, &n) in row.iter().enumerate() {
                    let [kappa, errors] = [kappa[t][u], errors[t][u]].map(float);
                    table.row([text(network), whole(t), whole(u), whole(n), kappa, errors]);
                }
            }
        }
        tables.push(table);
    }
    if let Some(contrasts) = &d.contrasts {
        let mut table = Table::new(
            "contrasts",
            &[
                "contrast",
                "timestep",
                "first_n",
                "second_n",
                "first_mean",
                "second_mean",
                "difference",
                "standard_error",
                "degrees_of_freedom",
                "hedges_g",
                "paired_n",
                "paired_difference",
                "paired_error",
                "paired_dz",
                "bootstrap_defined",
                "bootstrap_error",
                "bootstrap_low",
                "bootstrap_high",
            ],
        );
        let mut windows = Table::new(
            "contrast_windows",
            &[
                "contrast",
                "timesteps",
                "difference",
                "standard_error",
                "bootstrap_error",
                "bootstrap_low",
                "bootstrap_high",
            ],
        );
        let mut replicates = Table::new("contrast_replicates", &["contrast", "replicate", "difference"]);
        for (name, c) in contrasts.named() {
            let at = |row: &Option<Vec<Option<f64>>>, t: usize| float(row.as_ref().and_then(|row| row[t]));
            for t in 0..d.timesteps {
                table.row([
                    text(name),
                    whole(t),
                    whole(c.n[t][0]),
                    whole(c.n[t][1]),
                    float(c.mean[t][0]),
                    float(c.mean[t][1]),
                    float(c.diff[t]),
                    float(c.se[t]),
                    at(&c.df, t),
                    at(&c.g, t),
                    c.image_n.as_ref().map_or(String::new(), |n| whole(n[t])),
                    at(&c.image_diff, t),
                    at(&c.image_se, t),
                    at(&c.dz, t),
                    whole(c.boot_defined[t]),
                    float(c.boot_se[t]),
                    float(c.boot_ci[t][0]),
                    float(c.boot_ci[t][1]),
                ]);
            }
            let w = &c.window;
            let steps: Vec<String> = w.steps.iter().map(usize::to_string).collect();
            let [diff, se, boot_se, low, high] = [w.diff, w.se, w.boot_se, w.boot_ci[0], w.boot_ci[1]].map(float);
            windows.row([text(name), steps.join(" "), diff, se, boot_se, low, high]);
            for (r, v) in w.replicates.iter().enumerate() {
                replicates.row([text(name), whole(r), float(*v)]);
            }
        }
        tables.extend([table, windows, replicates]);
    }
}
