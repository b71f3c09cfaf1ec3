//! What is known of each single image: one row of `tables/images.csv` each, and nothing on the page.

use serde::Deserialize;

use super::Report;
use super::dynamics::Dynamics;
use super::tables::{Table, float, whole};
use super::view::{View, demand};
use crate::Result;

/// Values of single images. T timesteps, N images; what was not kept is empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Images {
    /// What each image is called in the data set \[N\], else its index is its name.
    pub ids: Vec<String>,
    /// Class by the data set \[N\].
    pub labels: Vec<usize>,
    /// Class at each timestep \[T\]\[N\].
    pub classes: Vec<Vec<usize>>,
    /// Distance to the nearest boundary of the current zone \[T\]\[N\] (NaN: undefined).
    pub margin: Vec<Vec<f64>>,
    /// Signed distance to the nearest boundary of the label's zone \[T\]\[N\].
    pub label_margin: Vec<Vec<f64>>,
    /// Entropy of the answer, nats \[T\]\[N\].
    pub entropy: Vec<Vec<f64>>,
    /// Probability of the chosen class \[T\]\[N\].
    pub confidence: Vec<Vec<f64>>,
}

impl Images {
    /// Refuses lists that are neither empty nor of the right lengths.
    pub(super) fn check(&self, timesteps: usize, samples: usize) -> Result<()> {
        let place = |key: &str| format!("images: {key}");
        for (key, found) in [("ids", self.ids.len()), ("labels", self.labels.len())] {
            demand(found == 0 || found == samples, &place(key), &format!("{samples} entries, or none"), found)?;
        }
        let classes: Vec<usize> = self.classes.iter().map(Vec::len).collect();
        let lengths = |rows: &Vec<Vec<f64>>| rows.iter().map(Vec::len).collect::<Vec<_>>();
        for (key, rows) in [
            ("classes", classes),
            ("margin", lengths(&self.margin)),
            ("label_margin", lengths(&self.label_margin)),
            ("entropy", lengths(&self.entropy)),
            ("confidence", lengths(&self.confidence)),
        ] {
            let fits = rows.is_empty() || rows.len() == timesteps;
            demand(fits, &place(key), &format!("{timesteps} rows (timesteps), or none"), rows.len())?;
            let odd = rows.iter().find(|found| **found != samples);
            demand(odd.is_none(), &place(key), &format!("{samples} columns (images)"), odd.unwrap_or(&0))?;
        }
        Ok(())
    }
}

/// What the statistics hold of single images.
#[derive(Deserialize)]
struct OfStatistics {
    #[serde(default)]
    group: Vec<i64>,
    #[serde(default)]
    t_stable: Vec<i64>,
}

/// A column: its name, and its cell of an image.
type Column<'a> = (String, Box<dyn Fn(usize) -> String + 'a>);

/// Names of the groups, in the order of their numbers.
pub(super) const GROUPS: [&str; 4] = ["stable-correct", "stable-incorrect", "unstable-correct", "unstable-incorrect"];

/// A timestep; -1 stands for "never", an empty cell.
fn or_never(v: i64) -> String {
    if v < 0 { String::new() } else { v.to_string() }
}

/// One row an image, one column a value and timestep.
pub(super) fn table(report: &Report, view: &View, dynamics: Option<&Dynamics>) -> Table {
    let empty = Images::default();
    let images = report.images.as_ref().unwrap_or(&empty);
    let known =
        OfStatistics::deserialize(&report.statistics).unwrap_or(OfStatistics { group: vec![], t_stable: vec![] });
    let n = view.samples as usize;
    let mut table = Table::new("images", &[]);
    let mut columns: Vec<Column> = vec![
        ("image".into(), Box::new(|i| i.to_string())),
        ("id".into(), Box::new(|i| images.ids.get(i).cloned().unwrap_or_else(|| i.to_string()))),
    ];
    if !images.labels.is_empty() {
        columns.push(("label".into(), Box::new(|i| images.labels[i].to_string())));
        let name = |i: usize| view.classes.get(images.labels[i]).cloned().unwrap_or_default();
        columns.push(("label_name".into(), Box::new(name)));
    }
    if known.group.len() == n {
        let group = |i: usize| {
            usize::try_from(known.group[i]).ok().and_then(|g| GROUPS.get(g)).map_or(String::new(), |g| g.to_string())
        };
        columns.push(("group".into(), Box::new(group)));
    }
    if known.t_stable.len() == n {
        columns.push(("t_stable_timestep".into(), Box::new(|i| or_never(known.t_stable[i]))));
    }
    if let Some(reaction) = dynamics.and_then(|d| d.reaction.as_ref()).filter(|r| r.image.len() == n) {
        columns.push(("reaction_time_timestep".into(), Box::new(|i| whole(reaction.image[i]))));
    }
    if let Some(solution) = dynamics.and_then(|d| d.solution.as_ref()).filter(|s| s.image.len() == n) {
        columns.push(("solution_time_timestep".into(), Box::new(|i| or_never(solution.image[i]))));
    }
    for (t, row) in images.classes.iter().enumerate() {
        columns.push((format!("class_t{t}"), Box::new(move |i| row[i].to_string())));
    }
    for (name, rows) in [
        ("margin", &images.margin),
        ("label_margin", &images.label_margin),
        ("entropy_nats", &images.entropy),
        ("confidence", &images.confidence),
    ] {
        for (t, row) in rows.iter().enumerate() {
            columns.push((format!("{name}_t{t}"), Box::new(move |i| float(Some(row[i])))));
        }
    }
    table.head = columns.iter().map(|(name, _)| name.clone()).collect();
    for i in 0..n {
        table.rows.push(columns.iter().map(|(_, cell)| cell(i)).collect());
    }
    table
}
