//! What a protocol changes, as the figures and tables read it: typed, and checked once. Names are those of
//! [`crate::dynamics::disturbance`].

use serde::Deserialize;
use serde_json::Value;

use super::dynamics::{Grid, Row};
use super::images::GROUPS;
use super::tables::{Table, float, pairs, text, whole};
use super::view::{View, demand};
use crate::{Error, Result};

/// All of it. T timesteps of the run, S steps from the last trained one on.
#[derive(Debug, Deserialize)]
pub(super) struct Disturbance {
    pub timesteps: usize,
    pub trained_timesteps: usize,
    pub samples: usize,
    pub comparison: Option<Comparison>,
    pub settling: Option<Settling>,
}

/// Lists of T or S.
#[derive(Debug, Deserialize)]
pub(super) struct Answers {
    pub changed: Vec<u64>,
    pub lost: Vec<u64>,
    pub gained: Vec<u64>,
    pub both_right: Vec<u64>,
    pub both_wrong: Vec<u64>,
    pub difference: Row,
    pub se: Row,
    pub mcnemar_p: Row,
}

#[derive(Debug, Deserialize)]
pub(super) struct Transitions {
    /// `[4][4]`
    pub groups: Vec<Vec<u64>>,
    pub stable_both: u64,
    pub earlier: u64,
    pub same: u64,
    pub later: u64,
    pub t_stable_change: Option<f64>,
}

/// Lists of T.
#[derive(Debug, Deserialize)]
pub(super) struct Distances {
    pub mean: Row,
    pub relative: Row,
    pub cosine: Row,
    pub norm_disturbed: Row,
    pub norm_undisturbed: Row,
}

#[derive(Debug, Deserialize)]
pub(super) struct Comparison {
    pub accuracy: Row,
    pub accuracy_undisturbed: Row,
    pub answers: Answers,
    pub transitions: Transitions,
    pub distance: Distances,
    /// `[T][T]`, disturbed and undisturbed.
    pub rdm_spearman: Option<Grid>,
    pub cka: Option<Grid>,
    pub changed_images: Vec<usize>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Settling {
    pub steps: Vec<usize>,
    pub accuracy: Row,
    pub answers: Answers,
    pub transitions: Transitions,
    pub kept: u64,
    pub still_changing: u64,
}

/// The images whose class a protocol changes at any timestep, and the classes of all images \[T\]\[N\] in both runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changed {
    /// The images, by their index in the split.
    pub images: Vec<usize>,
    /// \[N\]
    pub labels: Vec<usize>,
    /// \[T\]\[N\] Under the protocol.
    pub disturbed: Vec<Vec<usize>>,
    /// \[T\]\[N\] Without it.
    pub undisturbed: Vec<Vec<usize>>,
}

fn length(key: &str, found: usize, expected: usize) -> Result<()> {
    demand(found == expected, &format!("disturbance: {key}"), &format!("{expected} entries"), found)
}

fn square(key: &str, lengths: &[usize], side: usize) -> Result<()> {
    length(key, lengths.len(), side)?;
    lengths.iter().try_for_each(|&found| length(key, found, side))
}

impl Answers {
    fn check(&self, steps: usize) -> Result<()> {
        let counts = [&self.changed, &self.lost, &self.gained, &self.both_right, &self.both_wrong];
        counts.iter().try_for_each(|row| length("answers", row.len(), steps))?;
        [&self.difference, &self.se, &self.mcnemar_p].iter().try_for_each(|row| length("answers", row.len(), steps))
    }

    /// A row each of a table: the cells before it are `begin`.
    fn rows(&self, table: &mut Table, begin: impl Fn(usize) -> Vec<String>) {
        for i in 0..self.changed.len() {
            let counts = [&self.changed, &self.lost, &self.gained, &self.both_right, &self.both_wrong];
            let numbers = [&self.difference, &self.se, &self.mcnemar_p];
            let mut cells = begin(i);
            cells.extend(counts.map(|row| whole(row[i])));
            cells.extend(numbers.map(|row| float(row[i])));
            table.rows.push(cells);
        }
    }
}

/// The columns of [`Answers`].
const ANSWERS: [&str; 8] = [
    "changed_images",
    "lost_images",
    "gained_images",
    "right_in_both_images",
    "wrong_in_both_images",
    "difference_fraction",
    "standard_error",
    "mcnemar_p",
];

impl Transitions {
    fn check(&self) -> Result<()> {
        square("transitions.groups", &self.groups.iter().map(Vec::len).collect::<Vec<_>>(), 4)
    }

    fn rows(&self, table: &mut Table, comparison: &str) {
        for (before, row) in GROUPS.into_iter().zip(&self.groups) {
            for (now, &n) in GROUPS.into_iter().zip(row) {
                table.row([text(comparison), text(before), text(now), whole(n)]);
            }
        }
    }
}

impl Disturbance {
    /// Reads and checks it against the statistics' timesteps and samples.
    pub fn read(value: &Value, timesteps: usize, samples: usize) -> Result<Disturbance> {
        let found: Disturbance = serde_path_to_error::deserialize(value)
            .map_err(|e| Error::Data(format!("disturbance: {}: {}", e.path(), e.inner())))?;
        let as_there = |key: &str, here: usize, there: usize| {
            demand(here == there, &format!("disturbance: {key}"), &format!("{there}, as in the statistics"), here)
        };
        as_there("timesteps", found.timesteps, timesteps)?;
        as_there("samples", found.samples, samples)?;
        if let Some(c) = &found.comparison {
            let d = &c.distance;
            for (key, row) in [
                ("accuracy", &c.accuracy),
                ("accuracy_undisturbed", &c.accuracy_undisturbed),
                ("distance.mean", &d.mean),
                ("distance.relative", &d.relative),
                ("distance.cosine", &d.cosine),
                ("distance.norm_disturbed", &d.norm_disturbed),
                ("distance.norm_undisturbed", &d.norm_undisturbed),
            ] {
                length(key, row.len(), timesteps)?;
            }
            c.answers.check(timesteps)?;
            c.transitions.check()?;
            for (key, grid) in [("rdm_spearman", &c.rdm_spearman), ("cka", &c.cka)] {
                let lengths = grid.iter().map(|grid| grid.iter().map(Vec::len).collect::<Vec<_>>());
                lengths.into_iter().try_for_each(|lengths| square(key, &lengths, timesteps))?;
            }
            let beyond = c.changed_images.iter().find(|&&image| image >= samples);
            demand(beyond.is_none(), "disturbance: changed_images", &format!("below {samples}"), beyond.unwrap_or(&0))?;
        }
        if let Some(s) = &found.settling {
            let steps = s.steps.len();
            length("settling.accuracy", s.accuracy.len(), steps)?;
            let fits = s.steps.first().is_some_and(|t| t + 1 == found.trained_timesteps)
                && s.steps.last().is_some_and(|t| t + 1 == timesteps);
            let from = "the steps from the last trained one to the end";
            demand(fits, "disturbance: settling.steps", from, format!("{:?}", s.steps))?;
            s.answers.check(steps)?;
            s.transitions.check()?;
        }
        Ok(found)
    }

    /// Its tables.
    pub fn tables(&self) -> Vec<Table> {
        let mut tables = Vec::new();
        let mut groups = Table::new("disturbance_groups", &["comparison", "group_before", "group_now", "images"]);
        let mut stability = Table::new(
            "disturbance_t_stable",
            &[
                "comparison",
                "stable_in_both_images",
                "earlier_images",
                "same_images",
                "later_images",
                "mean_change_timesteps",
            ],
        );
        let both = [
            ("disturbed against undisturbed", self.comparison.as_ref().map(|c| &c.transitions)),
            ("all timesteps against the trained ones", self.settling.as_ref().map(|s| &s.transitions)),
        ];
        for (comparison, t) in both {
            let Some(t) = t else { continue };
            t.rows(&mut groups, comparison);
            let counts = [t.stable_both, t.earlier, t.same, t.later].map(whole);
            let [stable, earlier, same, later] = counts;
            stability.row([text(comparison), stable, earlier, same, later, float(t.t_stable_change)]);
        }
        if let Some(c) = &self.comparison {
            let head = [&["timestep", "accuracy_disturbed_fraction", "accuracy_undisturbed_fraction"], &ANSWERS[..]];
            let mut table = Table::new("disturbance", &head.concat());
            c.answers.rows(&mut table, |t| vec![whole(t), float(c.accuracy[t]), float(c.accuracy_undisturbed[t])]);
            let mut distance = Table::new(
                "disturbance_distance",
                &[
                    "timestep",
                    "distance_l2_norm",
                    "relative_distance",
                    "cosine",
                    "norm_disturbed_l2_norm",
                    "norm_undisturbed_l2_norm",
                ],
            );
            let d = &c.distance;
            for t in 0..self.timesteps {
                let numbers = [&d.mean, &d.relative, &d.cosine, &d.norm_disturbed, &d.norm_undisturbed];
                let [mean, relative, cosine, of_disturbed, of_undisturbed] = numbers.map(|row| float(row[t]));
                distance.row([whole(t), mean, relative, cosine, of_disturbed, of_undisturbed]);
            }
            let mut geometry = Table::new(
                "disturbance_geometry",
                &["similarity", "timestep_disturbed", "timestep_undisturbed", "value"],
            );
            for (name, grid) in [("rdm_spearman", &c.rdm_spearman), ("cka_debiased", &c.cka)] {
                grid.iter().for_each(|grid| pairs(&mut geometry, [name], grid));
            }
            tables.extend([table, distance, geometry]);
        }
        if let Some(s) = &self.settling {
            let mut table = Table::new("settling", &[&["timestep", "accuracy_fraction"], &ANSWERS[..]].concat());
            s.answers.rows(&mut table, |i| vec![whole(s.steps[i]), float(s.accuracy[i])]);
            tables.push(table);
        }
        tables.extend([groups, stability]);
        tables
    }
}

impl Changed {
    /// Refuses lists that do not fit the statistics.
    pub(super) fn check(&self, timesteps: usize, samples: usize) -> Result<()> {
        length("labels of changed images", self.labels.len(), samples)?;
        for rows in [&self.disturbed, &self.undisturbed] {
            length("classes of changed images", rows.len(), timesteps)?;
            rows.iter().try_for_each(|row| length("classes of changed images", row.len(), samples))?;
        }
        let beyond = self.images.iter().find(|&&image| image >= samples);
        demand(beyond.is_none(), "disturbance: changed images", &format!("below {samples}"), beyond.unwrap_or(&0))
    }

    /// A row for each image that changes its class: label, and the class at each timestep without and under the protocol.
    pub(super) fn table(&self, view: &View) -> Table {
        let mut table = Table::new("changed_images", &["image", "label", "label_name"]);
        for run in ["undisturbed", "disturbed"] {
            table.head.extend((0..self.disturbed.len()).map(|t| format!("class_{run}_t{t}")));
        }
        for &image in &self.images {
            let label = self.labels[image];
            let name = view.classes.get(label).cloned().unwrap_or_default();
            let mut cells = vec![whole(image), whole(label), name];
            cells.extend(self.undisturbed.iter().chain(&self.disturbed).map(|row| whole(row[image])));
            table.rows.push(cells);
        }
        table
    }
}
