//! The figures of the dynamics, one function each, by subject. Every one is drawn for any report that has its measure;
//! where nothing is defined it says so in place of the data. Captions say what is shown and how to read it.

mod agreement;
mod areas;
mod certainty;
mod disturbance;
mod geometry;
mod zones;

use super::dynamics::Dynamics;
use super::figures::{Figure, Pane};
use super::svg::{BLUE, GREEN, INK, Marker, ORANGE, PURPLE, SKY, VERMILLION};
use super::view::View;

/// What the figures are drawn from.
pub(super) struct Context<'a> {
    pub dynamics: &'a Dynamics,
    pub view: &'a View,
    /// A name for each class `[K]`.
    pub classes: Vec<String>,
    /// T as names of rows and columns.
    pub steps: Vec<String>,
}

/// All figures that the report has measures for.
pub(super) fn all(dynamics: &Dynamics, view: &View) -> Vec<Figure> {
    let named = view.classes.len() == dynamics.classes;
    let context = Context {
        dynamics,
        view,
        classes: match named {
            true => view.classes.clone(),
            false => (0..dynamics.classes).map(|i| format!("class {i}")).collect(),
        },
        steps: (0..dynamics.timesteps).map(|t| t.to_string()).collect(),
    };
    [
        agreement::contrasts(&context),
        certainty::margins(&context),
        certainty::certainty(&context),
        certainty::calibration(&context),
        certainty::reaction(&context),
        certainty::solution(&context),
        zones::transitions(&context),
        zones::occupancy(&context),
        zones::visits(&context),
        zones::label_zone(&context),
        geometry::path(&context),
        geometry::rdm(&context),
        geometry::class_rdm(&context),
        geometry::rdm_time(&context),
        geometry::cka(&context),
        geometry::pca(&context),
        geometry::participation(&context),
        agreement::decoders(&context),
        agreement::consistency(&context),
        areas::decoding(&context),
        areas::participation(&context),
        areas::similarity(&context),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The figures of what a protocol changes.
pub(super) fn disturbance(view: &View) -> Vec<Figure> {
    view.disturbance.as_ref().map_or_else(Vec::new, |d| disturbance::all(d, view))
}

/// Most timesteps between which a figure can be switched.
const SWITCHED: usize = 12;

impl Context<'_> {
    /// One pane a timestep, evenly chosen ones where there are many; the last is shown first.
    fn switched(&self, figure: Figure, draw: impl Fn(usize) -> Vec<(&'static str, String)>) -> Figure {
        let t = self.dynamics.timesteps;
        let count = t.min(SWITCHED);
        let steps = (0..count).map(|i| if count > 1 { i * (t - 1) / (count - 1) } else { 0 });
        let panes: Vec<Pane> = steps
            .map(|t| {
                let stem = |part: &str| match part {
                    "" => format!("{}_t{t}", figure.name),
                    part => format!("{}_{part}_t{t}", figure.name),
                };
                Pane::new(&t.to_string(), draw(t).into_iter().map(|(part, svg)| (stem(part), svg)).collect())
            })
            .collect();
        let mut figure = figure;
        if count < t {
            let text = format!(" {count} of the {t} timesteps can be chosen here; the tables have all of them.");
            figure.caption.push_str(&text);
        }
        (figure.choice, figure.shown) = ("Timestep", panes.len() - 1);
        figure.panes = panes;
        figure
    }

    /// Names of some classes.
    fn names_of(&self, classes: &[usize]) -> Vec<String> {
        classes.iter().map(|&class| self.classes[class].clone()).collect()
    }
}

/// Name, colour and mark of a set of images.
fn set_style(set: &str) -> (&'static str, &'static str, Marker) {
    match set {
        "correct" => ("right at t", BLUE, Marker::Disc),
        "incorrect" => ("wrong at t", VERMILLION, Marker::Square),
        "now" => ("correct now", GREEN, Marker::Diamond),
        "later" => ("correct later", ORANGE, Marker::Ring),
        _ => ("all images", INK, Marker::None),
    }
}

/// Colour and mark of a stability group.
fn group_style(group: &str) -> (&'static str, Marker) {
    match group {
        "stable-correct" => (BLUE, Marker::Disc),
        "stable-incorrect" => (ORANGE, Marker::Square),
        "unstable-correct" => (SKY, Marker::Diamond),
        "unstable-incorrect" => (PURPLE, Marker::Ring),
        _ => (INK, Marker::None),
    }
}

/// What the sets are, for captions.
const SETS: &str = "\u{201c}Right at t\u{201d} and \u{201c}wrong at t\u{201d} divide the images anew at every timestep by whether \
    their class is the label. \u{201c}Correct now\u{201d} and \u{201c}correct later\u{201d} are the stable-correct images that are in \
    their zone for good at t, and those that will be.";
