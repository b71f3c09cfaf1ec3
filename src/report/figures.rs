//! The figures, one function each, in the order of the page. Every one is drawn for any input: where nothing is
//! defined it says so in place of the data.

use std::fmt::Write;

use super::claims::{self, Contrast, percent};
use super::dynamics::Dynamics;
use super::measures;
use super::plots::shorten;
use super::published;
use super::svg::{
    Anchor, Axes, BLUE, DIAGONAL, GREEN, GREY, INK, Marker, ORANGE, PANEL, PAPER, PURPLE, SKY, Svg, Text, VERMILLION,
    diverging, number, ordered, px, range, text_width, ticks, whole_ticks,
};
use super::view::{Pair, View};
use super::{Report, Training};

/// The chapters of the page, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Chapter {
    Accuracy,
    Disturbance,
    Contrasts,
    Certainty,
    Zones,
    Paths,
    Geometry,
    Agreement,
    Areas,
    Readout,
    Training,
    /// Of a comparison of runs, which has no chapters.
    Runs,
}

impl Chapter {
    /// Title of the chapter, and its anchor.
    pub fn title(self) -> (&'static str, &'static str) {
        match self {
            Chapter::Accuracy => ("Accuracy and stability", "chapter-accuracy"),
            Chapter::Disturbance => ("What the protocol changes", "chapter-disturbance"),
            Chapter::Contrasts => ("The published contrasts", "chapter-contrasts"),
            Chapter::Certainty => ("How sure, and how fast", "chapter-certainty"),
            Chapter::Zones => ("Travels through readout zones", "chapter-zones"),
            Chapter::Paths => ("The path of the representation", "chapter-paths"),
            Chapter::Geometry => ("Geometry of the representations", "chapter-geometry"),
            Chapter::Agreement => ("What timesteps share", "chapter-agreement"),
            Chapter::Areas => ("The areas below the readout", "chapter-areas"),
            Chapter::Readout => ("The readout", "chapter-readout"),
            Chapter::Training => ("Training", "chapter-training"),
            Chapter::Runs => ("Runs side by side", "chapter-runs"),
        }
    }
}

/// A figure: drawings with what is said of them.
pub(crate) struct Figure {
    /// Anchor, and beginning of the names of its files.
    pub name: &'static str,
    pub chapter: Chapter,
    pub title: String,
    /// What it shows and how to read it, in whole sentences.
    pub caption: String,
    /// What the panes differ in, if the reader can choose among them.
    pub choice: &'static str,
    pub panes: Vec<Pane>,
    /// The pane that is shown first.
    pub shown: usize,
    /// Numbers shown below it.
    pub table: Option<Table>,
    /// Where its numbers are, in the folder of the report.
    pub files: Vec<String>,
}

/// Drawings that are seen together.
pub(crate) struct Pane {
    pub label: String,
    pub drawings: Vec<Drawing>,
}

/// One SVG document.
pub(crate) struct Drawing {
    /// Name of its file without extension.
    pub stem: String,
    pub svg: String,
}

/// A figure's numbers.
#[derive(Default)]
pub(crate) struct Table {
    pub caption: String,
    pub head: Vec<String>,
    pub rows: Vec<(String, Vec<String>)>,
}

impl Pane {
    pub fn new(label: &str, drawings: Vec<(String, String)>) -> Pane {
        let drawings = drawings.into_iter().map(|(stem, svg)| Drawing { stem, svg });
        Pane { label: label.into(), drawings: drawings.collect() }
    }
}

impl Figure {
    /// A figure of drawings that are all seen; each has the figure's name with an ending of its own.
    pub fn new(
        name: &'static str,
        chapter: Chapter,
        title: &str,
        caption: String,
        drawings: Vec<(&'static str, String)>,
    ) -> Figure {
        let stem = |part: &str| if part.is_empty() { name.to_string() } else { format!("{name}_{part}") };
        let drawings = drawings.into_iter().map(|(part, svg)| (stem(part), svg)).collect();
        Figure {
            name,
            chapter,
            title: title.into(),
            caption,
            choice: "",
            panes: vec![Pane::new("", drawings)],
            shown: 0,
            table: None,
            files: Vec::new(),
        }
    }

    /// With numbers on the page.
    pub fn table(mut self, table: Table) -> Figure {
        self.table = Some(table);
        self
    }

    /// With the names of its CSV tables.
    pub fn tables(mut self, names: &[&str]) -> Figure {
        self.files.extend(names.iter().map(|name| format!("tables/{name}.csv")));
        self
    }

    /// With the name of other files that hold its numbers.
    pub fn files(mut self, name: &str) -> Figure {
        self.files.push(name.into());
        self
    }

    /// All drawings, whether shown first or not.
    pub fn drawings(&self) -> impl Iterator<Item = &Drawing> {
        self.panes.iter().flat_map(|pane| &pane.drawings)
    }
}

/// Names of the published figures.
pub(super) const ACCURACY: &str = "accuracy";
pub(super) const GROUPS: &str = "stability";
pub(super) const CHANGE: &str = "change";
pub(super) const CONTRASTS: [&str; 3] = ["norm", "cosine_current", "cosine_final"];
pub(super) const READOUT: &str = "readout";
pub(super) const TRAINING: &str = "training";

/// All figures that the report has data for, in the order of the page.
pub(super) fn all(report: &Report, view: &View, dynamics: Option<&Dynamics>) -> Vec<Figure> {
    let one = |name, chapter, title: &str, caption: &str, tables: &[&str], svg| {
        Figure::new(name, chapter, title, caption.into(), vec![("", svg)]).tables(tables)
    };
    let mut figures = vec![
        one(
            ACCURACY,
            Chapter::Accuracy,
            "Accuracy at each timestep",
            "The share of images whose class is the label, at each timestep. If recurrence helps, the line rises after t = 0. Bars \
             are 95 % confidence intervals over images; the dashed line is what guessing would give.",
            &["accuracy"],
            accuracy(view),
        ),
        one(
            GROUPS,
            Chapter::Accuracy,
            "Stability groups and t_stable",
            "Left: how many images settle in one zone for good (stable) or come and go (unstable), and whether the label is involved \
             (correct), beside the published shares. Right: the timestep from which the stable-correct images stay in the zone of \
             their label.",
            &["groups", "t_stable"],
            groups(view),
        ),
        one(
            CHANGE,
            Chapter::Contrasts,
            "Change of the representation per step",
            "How far the representation r moves in each step. A line is the mean over the stable-correct images that share a \
             t_stable, the first timestep from which the readout says their label and keeps to it; its ring is the step that brings \
             them there (those with t_stable 0 are there at once: no ring). Lines that fall towards 0 after their ring mean that \
             images stop moving once they are right; lines that stay high, that they go on. On the right the same images, with the \
             same rings, in the untrained network, for comparison.",
            &["change"],
            change(view),
        ),
    ];
    let captions = [
        "The length of the representation, for images that are in their correct zone for good at t and for those that will be. A \
         line that is higher means stronger activity.",
        "How closely the representation points along the readout vector of the class it is in, for the same two groups. Higher \
         means a more typical member of the class.",
        "Images not yet in their correct zone: how closely the representation points to the readout vector of its own final class, \
         against those of the final classes of other images that are in the same zone. A gap means that the way out is already \
         known.",
    ];
    for ((name, contrast), caption) in CONTRASTS.into_iter().zip(claims::contrasts(view)).zip(captions) {
        let caption = format!("{caption} Shaded: the timesteps that are averaged.");
        let svg = contrast_over_time(view, &contrast);
        figures.push(one(name, Chapter::Contrasts, contrast.title, &caption, &["published_contrasts"], svg));
    }
    if view.class_count() > 0 && !view.readout_leaves.is_empty() {
        let names = if view.class_count() > NAMED_CLASSES {
            " There are too many classes to name them here; tables/readout_order.csv lists them from top to bottom."
        } else {
            ""
        };
        let caption = format!(
            "The cosine between the readout vectors of every two classes, in the order of a tree that joins the most similar \
             first (Ward\u{2019}s method); the further left two branches meet, the more different they are. Red blocks along \
             the diagonal are groups of classes whose zones lie side by side.{names}"
        );
        figures.push(one(
            READOUT,
            Chapter::Readout,
            "Similarity of the readout vectors",
            &caption,
            &["readout_distance", "readout_tree", "readout_order"],
            readout(view),
        ));
    }
    if let Some(training) = report.training.as_ref().filter(|t| !t.epochs.is_empty()) {
        figures.push(one(
            TRAINING,
            Chapter::Training,
            "Loss and accuracy during training",
            "Loss and accuracy on the validation split after each epoch, one line a timestep, light lines late timesteps. Lines \
             that still fall at the end say that training was not finished.",
            &["training"],
            training_curves(training),
        ));
    }
    figures.extend(measures::disturbance(view));
    figures.extend(dynamics.into_iter().flat_map(|dynamics| measures::all(dynamics, view)));
    // Within a chapter the published figures come first.
    figures.sort_by_key(|figure| figure.chapter);
    figures
}

/// Most classes that the readout figure names.
const NAMED_CLASSES: usize = 100;

const TIMESTEP: &str = "timestep t";
const PANEL_TITLE: Text = Text::new(15.0, Anchor::Start).bold();

/// One labelled line of a figure.
struct Line<'a> {
    label: &'a str,
    detail: String,
    values: &'a [Option<f64>],
    color: &'static str,
    marker: Marker,
    dash: Option<&'static str>,
}

/// Writes each line's name at the right, level with its last value, moved apart where they collide.
fn end_labels(svg: &mut Svg, axes: &Axes, lines: &[Line]) {
    const GAP: f64 = 40.0;
    let mut labels: Vec<(f64, &Line)> = Vec::new();
    for line in lines {
        if let Some(last) = line.values.iter().rev().flatten().find(|v| v.is_finite()) {
            labels.push((axes.at(0.0, *last).1, line));
        }
    }
    labels.sort_by(|a, b| a.0.total_cmp(&b.0));
    for i in 1..labels.len() {
        labels[i].0 = labels[i].0.max(labels[i - 1].0 + GAP);
    }
    let mut lowest = axes.bottom() - 20.0;
    for label in labels.iter_mut().rev() {
        label.0 = label.0.min(lowest);
        lowest = label.0 - GAP;
    }
    let x = axes.right() + 14.0;
    for (y, line) in labels {
        svg.line((x, y), (x + 22.0, y), line.color, 2.2, line.dash);
        svg.marker((x + 11.0, y), line.marker, line.color);
        svg.label((x + 30.0, y + 4.5), line.label, Text::new(13.5, Anchor::Start).bold());
        svg.label((x + 30.0, y + 21.0), &line.detail, Text::new(12.0, Anchor::Start).color(GREY));
    }
}

/// The horizontal range for values at 0..count.
fn positions(count: usize) -> (f64, f64) {
    (-0.35, count as f64 - 0.65)
}

fn nothing(svg: &mut Svg, axes: &Axes, why: &str) {
    let (x, y) = axes.centre();
    svg.label((x, y), why, Text::new(14.0, Anchor::Middle).color(GREY));
}

/// Accuracy per timestep, trained and untrained, with 95 % Wilson intervals and chance.
fn accuracy(view: &View) -> String {
    let mut svg = Svg::new(670.0, 400.0, "Accuracy at each timestep, trained and untrained network");
    let chance = (view.class_count() > 0).then(|| 1.0 / view.class_count() as f64);
    let bounds: Vec<_> = view.accuracy.iter().map(|a| a.map(|a| wilson(a, view.samples))).collect();
    let shown = view.accuracy.iter().chain(view.accuracy_init.iter().flatten()).copied();
    let top = shown.chain([chance]).chain(bounds.iter().map(|b| b.map(|b| b.1)));
    let top = range(top).map_or(1.0, |r| (r.1 * 1.02).clamp(0.01, 1.0));
    let axes = Axes { left: 78.0, top: 24.0, width: 425.0, height: 310.0, x: positions(view.timesteps), y: (0.0, top) };
    let y = ticks(axes.y, 5.0, 100.0, "");
    axes.draw(&mut svg, &whole_ticks(0, view.timesteps - 1), &y, TIMESTEP, "images classified correctly (%)");
    for (t, bound) in bounds.iter().enumerate() {
        if let Some((low, high)) = bound {
            svg.line(axes.at(t as f64, *low), axes.at(t as f64, *high), BLUE, 1.4, None);
        }
    }
    let flat = vec![chance; view.timesteps];
    let mut lines = vec![Line {
        label: "trained",
        detail: "bars: 95 % CI".into(),
        values: &view.accuracy,
        color: BLUE,
        marker: Marker::Disc,
        dash: None,
    }];
    if let Some(init) = &view.accuracy_init {
        lines.push(Line {
            label: "untrained",
            detail: "same images".into(),
            values: init,
            color: GREY,
            marker: Marker::Ring,
            dash: None,
        });
    }
    if chance.is_some() {
        // Chance has no marks: it is not a measurement.
        let (from, to) = (axes.at(axes.x.0, flat[0].unwrap_or(0.0)), axes.at(axes.x.1, flat[0].unwrap_or(0.0)));
        svg.line(from, to, VERMILLION, 1.6, Some("6 4"));
        lines.push(Line {
            label: "chance",
            detail: format!("1 of {} classes", view.class_count()),
            values: &flat,
            color: VERMILLION,
            marker: Marker::None,
            dash: Some("6 4"),
        });
    }
    if view.accuracy.iter().all(Option::is_none) {
        nothing(&mut svg, &axes, "undefined: no images");
    }
    for line in lines.iter().filter(|l| l.marker != Marker::None) {
        axes.series(&mut svg, line.values, line.color, line.marker, line.dash);
    }
    end_labels(&mut svg, &axes, &lines);
    svg.finish()
}

/// Wilson's 95 % interval of a fraction of n.
fn wilson(p: f64, n: u64) -> (f64, f64) {
    let (n, z) = (n.max(1) as f64, 1.959_963_985);
    let centre = (p + z * z / (2.0 * n)) / (1.0 + z * z / n);
    let half = z / (1.0 + z * z / n) * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).max(0.0).sqrt();
    ((centre - half).max(0.0), (centre + half).min(1.0))
}

/// The four stability groups beside the published shares, and t_stable of the stable-correct images.
fn groups(view: &View) -> String {
    let mut svg =
        Svg::new(1060.0, 400.0, "Stability groups, and timestep from which stable-correct images stay correct");
    let counts = &view.counts;
    let rows = [
        ("stable-correct", counts.stable_correct, BLUE),
        ("stable-incorrect", counts.stable_incorrect, ORANGE),
        ("unstable-correct", counts.unstable_correct, SKY),
        ("unstable-incorrect", counts.unstable_incorrect, PURPLE),
    ];
    let total: u64 = rows.iter().map(|r| r.1).sum();
    let share = |n: u64| if total > 0 { n as f64 / total as f64 } else { 0.0 };
    let top = rows.iter().map(|r| share(r.1)).chain(published::GROUPS).fold(0.1, f64::max);
    svg.text((16.0, 24.0), "Stability groups", PANEL_TITLE);
    let axes = Axes { left: 140.0, top: 44.0, width: 270.0, height: 260.0, x: (0.0, top), y: (0.0, 4.0) };
    axes.draw(&mut svg, &ticks(axes.x, 5.0, 100.0, ""), &[], "share of images (%)", "");
    for (i, (name, n, color)) in rows.into_iter().enumerate() {
        let y = axes.top + 65.0 * i as f64 + 8.0;
        svg.text((axes.left - 10.0, y + 27.0), name, Text::new(13.5, Anchor::End));
        let bar = axes.at(share(n), 0.0).0 - axes.left;
        svg.rect((axes.left, y), (bar, 26.0), color, "none");
        svg.text(
            (axes.left + bar + 6.0, y + 18.0),
            &format!("{n} ({})", here_share(total, n)),
            Text::new(13.0, Anchor::Start),
        );
        let bar = axes.at(published::GROUPS[i], 0.0).0 - axes.left;
        svg.rect((axes.left, y + 30.0), (bar, 14.0), PAPER, GREY);
        let text = percent(Some(published::GROUPS[i]));
        svg.text((axes.left + bar + 6.0, y + 42.0), &text, Text::new(12.0, Anchor::Start).color(GREY));
    }
    let y = 384.0;
    svg.rect((140.0, y - 10.0), (16.0, 10.0), BLUE, "none");
    svg.text((162.0, y), "here", Text::new(12.5, Anchor::Start));
    svg.rect((208.0, y - 10.0), (16.0, 10.0), PAPER, GREY);
    svg.text((230.0, y), "published, L additive", Text::new(12.5, Anchor::Start));

    svg.label((580.0, 24.0), "Stable-correct images by t_stable", PANEL_TITLE);
    let histogram = &view.t_stable_histogram;
    let most = histogram.iter().copied().max().unwrap_or(0);
    let axes = Axes {
        left: 650.0,
        top: 44.0,
        width: 390.0,
        height: 260.0,
        x: (-0.6, view.timesteps as f64 - 0.4),
        y: (0.0, most.max(1) as f64 * 1.1),
    };
    let mut y = ticks(axes.y, 5.0, 1.0, "");
    y.retain(|(v, _)| v.fract() == 0.0);
    for (v, text) in &mut y {
        *text = number(*v, 0);
    }
    axes.draw(&mut svg, &whole_ticks(0, view.timesteps - 1), &y, "t_stable (timestep)", "images");
    let pitch = axes.width / (view.timesteps as f64 + 0.2);
    for (t, &n) in histogram.iter().enumerate() {
        let (x, y) = axes.at(t as f64, n as f64);
        let wide = (pitch * 0.72).min(80.0);
        svg.rect((x - wide / 2.0, y), (wide, axes.bottom() - y), BLUE, "none");
        if most > 0 && pitch >= 9.0 * most.to_string().len() as f64 {
            svg.text((x, y - 5.0), &n.to_string(), Text::new(12.5, Anchor::Middle));
        }
    }
    if most == 0 {
        nothing(&mut svg, &axes, "no stable-correct images");
    }
    svg.finish()
}

fn here_share(total: u64, n: u64) -> String {
    percent((total > 0).then(|| n as f64 / total as f64))
}

/// Change of representation per step, one line per t_stable; trained and untrained on one scale.
fn change(view: &View) -> String {
    let mut svg = Svg::new(1060.0, 420.0, "Change of the representation per step, one line per t_stable");
    let panels: Vec<(&str, &Vec<Vec<Option<f64>>>)> = [
        ("trained network", Some(&view.change_by_t_stable)),
        ("untrained network, same images and groups", view.change_by_t_stable_init.as_ref()),
    ]
    .into_iter()
    .filter_map(|(title, rows)| rows.map(|r| (title, r)))
    .collect();
    let values = panels.iter().flat_map(|(_, rows)| rows.iter().flatten().copied());
    let y = range(values).map_or((0.0, 1.0), |(_, high)| (0.0, high.max(1e-9)));
    let steps = view.timesteps - 1;
    let shown: Vec<usize> = (0..steps).filter(|&g| view.t_stable_histogram[g] > 0).collect();
    for (p, (title, rows)) in panels.iter().enumerate() {
        let axes = Axes {
            left: 84.0 + 420.0 * p as f64,
            top: 44.0,
            width: 370.0,
            height: 300.0,
            x: positions(steps.max(1)),
            y,
        };
        svg.text((axes.left, 24.0), title, PANEL_TITLE);
        let x: Vec<_> = if steps > 0 { whole_ticks(0, steps - 1) } else { vec![] };
        let y_label = if p == 0 { "L2 norm of r(t+1) \u{2212} r(t)" } else { "" };
        let y_ticks = if shown.is_empty() { vec![] } else { ticks(y, 5.0, 1.0, "") };
        axes.draw(&mut svg, &x, &y_ticks, "timestep t, before the step to t + 1", y_label);
        for &g in &shown {
            let (color, dash) = ordered(g, steps);
            axes.series(&mut svg, &rows[g], &color, if steps > 1 { Marker::None } else { Marker::Disc }, dash);
        }
        for &g in shown.iter().filter(|g| **g > 0) {
            // The step that brings the class of the rest of the trajectory.
            if let Some(v) = rows[g][g - 1] {
                svg.marker(axes.at(g as f64 - 1.0, v), Marker::Ring, &ordered(g, steps).0);
            }
        }
        if shown.is_empty() {
            nothing(&mut svg, &axes, "undefined: no stable-correct images");
        }
    }
    if panels.len() == 1 {
        svg.text((504.0, 190.0), "no untrained network was given", Text::new(14.0, Anchor::Start).color(GREY));
    }
    let x = 892.0;
    if !shown.is_empty() {
        svg.label((x, 60.0), "t_stable", Text::new(13.5, Anchor::Start).bold());
        svg.text((x + 64.0, 60.0), "images", Text::new(13.5, Anchor::Start).bold());
    }
    // At most twelve keys: a longer list shows every second, third, ... of its ordered colours.
    let every = shown.len().div_ceil(12).max(1);
    let keys: Vec<usize> = shown.iter().copied().step_by(every).collect();
    for (i, &g) in keys.iter().enumerate() {
        let y = 82.0 + 20.0 * i as f64;
        let (color, dash) = ordered(g, steps);
        svg.line((x, y - 4.5), (x + 24.0, y - 4.5), &color, 3.0, dash);
        svg.text((x + 32.0, y), &g.to_string(), Text::new(13.0, Anchor::Start));
        svg.text((x + 64.0, y), &view.t_stable_histogram[g].to_string(), Text::new(13.0, Anchor::Start).color(GREY));
    }
    if keys.iter().any(|g| *g > 0) {
        let y = 82.0 + 20.0 * keys.len() as f64 + 8.0;
        svg.marker((x + 5.0, y - 4.0), Marker::Ring, GREY);
        svg.text((x + 18.0, y), "the step into the", Text::new(12.0, Anchor::Start).color(GREY));
        svg.text((x + 18.0, y + 15.0), "final readout zone", Text::new(12.0, Anchor::Start).color(GREY));
    }
    svg.finish()
}

/// Two groups of representations over time, with the window of the published means shaded.
fn contrast_over_time(view: &View, contrast: &Contrast) -> String {
    let mut svg = Svg::new(670.0, 400.0, &format!("{} over time", contrast.title));
    let final_classes = contrast.title.contains("final");
    let column = |c: usize| contrast.by_timestep.iter().map(|pair: &Pair| pair[c]).collect::<Vec<_>>();
    let (first, second) = (column(0), column(1));
    let defined = range(first.iter().chain(&second).copied());
    let axes = Axes {
        left: 78.0,
        top: 34.0,
        width: 376.0,
        height: 300.0,
        x: positions(view.timesteps),
        y: defined.unwrap_or((0.0, 1.0)),
    };
    if let Some(window) = view.timesteps_analyse {
        let right = axes.at(window as f64 - 0.5, 0.0).0.min(axes.right());
        svg.rect((axes.left, axes.top), (right - axes.left, axes.height), PANEL, "none");
        let text = format!("averaged: t < {window}");
        svg.text((axes.left + 2.0, axes.top - 9.0), &text, Text::new(12.0, Anchor::Start).color(GREY));
    }
    let y_label = if contrast.title.starts_with("L2") { "L2 norm of r(t)" } else { "cosine" };
    let y = if defined.is_some() { ticks(axes.y, 5.0, 1.0, "") } else { vec![] };
    axes.draw(&mut svg, &whole_ticks(0, view.timesteps - 1), &y, TIMESTEP, y_label);
    if axes.y.0 < 0.0 && axes.y.1 > 0.0 {
        svg.line(axes.at(axes.x.0, 0.0), axes.at(axes.x.1, 0.0), GREY, 1.2, None);
    }
    let details =
        if final_classes { ["t_stable > t", "same class now"] } else { ["t_stable \u{2264} t", "t_stable > t"] };
    let names = if final_classes {
        ["own final class", "others\u{2019} final classes"]
    } else {
        ["correct now", "correct later"]
    };
    let lines = [
        (names[0], details[0], &first, if final_classes { GREEN } else { BLUE }, Marker::Disc),
        (names[1], details[1], &second, VERMILLION, Marker::Square),
    ]
    .map(|(label, detail, values, color, marker)| Line {
        label,
        detail: detail.into(),
        values,
        color,
        marker,
        dash: None,
    });
    for line in &lines {
        axes.series(&mut svg, line.values, line.color, line.marker, line.dash);
    }
    end_labels(&mut svg, &axes, &lines);
    if defined.is_none() {
        let why = if view.timesteps < 2 { "undefined: a single timestep" } else { "undefined at every timestep" };
        nothing(&mut svg, &axes, why);
    }
    svg.finish()
}

/// Cosines between readout vectors in leaf order, with Ward's tree on its left.
fn readout(view: &View) -> String {
    let k = view.readout_leaves.len();
    let named = k <= NAMED_CLASSES;
    let cell = (520.0 / k as f64).clamp(if named { 9.0 } else { 1.0 }, 46.0);
    let font = (cell * 0.9).clamp(7.5, 13.0);
    let (tree, side) = (190.0, cell * k as f64);
    let names: Vec<String> = view.readout_leaves.iter().map(|&c| shorten(&view.classes[c], 18)).collect();
    let longest = if named { names.iter().map(|n| text_width(n, font)).fold(0.0, f64::max) } else { 0.0 };
    let column_names = k <= 40;
    let (left, top) = (tree + 30.0, 26.0);
    let below = if column_names { longest + 14.0 } else { 16.0 };
    let height = (top + side + below + 8.0).max(top + side + 48.0).max(230.0);
    let mut svg = Svg::new(
        left + side + longest + 130.0,
        height,
        "Cosine between readout vectors, in the leaf order of Ward's tree",
    );

    let strongest = (0..k).flat_map(|i| (0..k).filter(move |&j| j != i).map(move |j| (i, j)));
    let strongest = strongest.filter_map(|(i, j)| view.similarity(i, j)).fold(0.0, |m: f64, v| m.max(v.abs()));
    let limit = if strongest > 0.0 { (strongest * 20.0).ceil() / 20.0 } else { 1.0 };
    // One path a colour, runs of equal cells joined: a hundred classes stay small.
    let mut paths = std::collections::BTreeMap::<String, String>::new();
    for (row, &i) in view.readout_leaves.iter().enumerate() {
        let colors: Vec<String> = view.readout_leaves.iter().map(|&j| cell_color(view, i, j, limit)).collect();
        let mut start = 0;
        for end in 1..=k {
            if end == k || colors[end] != colors[start] {
                let n = end - start;
                let _ = write!(paths.entry(colors[start].clone()).or_default(), "M{start} {row}h{n}v1h-{n}z");
                start = end;
            }
        }
    }
    for (color, d) in paths {
        let place = format!("transform=\"translate({} {}) scale({})\"", px(left), px(top), px(cell));
        svg.path(&d, &format!("fill=\"{color}\" shape-rendering=\"crispEdges\" {place}"));
    }
    for (row, &i) in view.readout_leaves.iter().enumerate().filter(|_| named) {
        let middle = cell * (row as f64 + 0.5);
        svg.text((left + side + 6.0, top + middle + font * 0.36), &names[row], Text::new(font, Anchor::Start));
        if column_names {
            let at = (left + middle + font * 0.36, top + side + 8.0);
            svg.text(at, &names[row], Text::new(font, Anchor::End).turned(-90.0));
        }
        if k > 12 {
            continue;
        }
        for (column, &j) in view.readout_leaves.iter().enumerate().filter(|(_, j)| **j != i) {
            let Some(v) = view.similarity(i, j) else { continue };
            let color = if (v / limit).abs() > 0.75 { "#ffffff" } else { "#222222" };
            let at = (left + cell * (column as f64 + 0.5), top + middle + 4.0);
            svg.text(at, &number(v, 2), Text::new(11.0, Anchor::Middle).color(color));
        }
    }
    ward_tree(&mut svg, view, (24.0, top), tree, cell);
    color_bar(&mut svg, (left + side + longest + 38.0, top), limit);
    svg.finish()
}

fn cell_color(view: &View, i: usize, j: usize, limit: f64) -> String {
    match view.similarity(i, j) {
        _ if i == j => DIAGONAL.into(),
        // 64 shades: more cannot be told apart, and equal neighbours join.
        Some(v) => diverging((v / limit * 32.0).round() / 32.0),
        None => PAPER.into(),
    }
}

/// Ward's tree, root left, leaves at the heatmap's rows.
fn ward_tree(svg: &mut Svg, view: &View, (left, top): (f64, f64), width: f64, cell: f64) {
    let k = view.readout_leaves.len();
    let highest = view.readout_linkage.iter().map(|m| m[2]).filter(|h| h.is_finite()).fold(0.0, f64::max);
    let x = |height: f64| left + width * (1.0 - if highest > 0.0 { height / highest } else { 0.0 });
    let mut nodes = vec![(0.0, 0.0); k]; // (height, y) of every cluster, leaves first
    for (row, &leaf) in view.readout_leaves.iter().enumerate() {
        nodes[leaf] = (0.0, top + cell * (row as f64 + 0.5));
    }
    for &[a, b, height, _] in &view.readout_linkage {
        let ((ha, ya), (hb, yb)) = (nodes[a as usize], nodes[b as usize]);
        let (xa, xb, xj) = (x(ha), x(hb), x(height));
        let d = format!("M{} {}H{}V{}H{}", px(xa), px(ya), px(xj), px(yb), px(xb));
        svg.titled(&format!("Ward distance {}", claims::significant(Some(height))), |svg| {
            svg.path(&d, &format!("fill=\"none\" stroke=\"{GREY}\" stroke-width=\"1.3\""));
        });
        nodes.push((height, (ya + yb) / 2.0));
    }
    if highest > 0.0 {
        let y = top + cell * k as f64 + 8.0;
        svg.line((left, y), (left + width, y), GREY, 1.0, None);
        for (v, text) in ticks((0.0, highest), 3.0, 1.0, "") {
            svg.line((x(v), y), (x(v), y + 4.0), GREY, 1.0, None);
            svg.text((x(v), y + 17.0), &text, Text::new(11.5, Anchor::Middle).color(GREY));
        }
        svg.text((left + width / 2.0, y + 33.0), "Ward distance", Text::new(12.0, Anchor::Middle).color(GREY));
    }
}

fn color_bar(svg: &mut Svg, (x, y): (f64, f64), limit: f64) {
    svg.text((x, y + 2.0), "cosine", Text::new(12.5, Anchor::Start).bold());
    for i in 0..32 {
        let at = 1.0 - 2.0 * (i as f64 + 0.5) / 32.0;
        svg.rect((x, y + 12.0 + 4.0 * i as f64), (16.0, 4.2), &diverging(at), "none");
    }
    for (v, offset) in [(limit, 0.0), (0.0, 64.0), (-limit, 128.0)] {
        svg.text((x + 22.0, y + 16.5 + offset), &number(v, 2), Text::new(12.0, Anchor::Start));
    }
    svg.rect((x, y + 156.0), (16.0, 12.0), DIAGONAL, "none");
    svg.text((x + 22.0, y + 166.0), "itself (1)", Text::new(12.0, Anchor::Start));
}

/// Loss and accuracy on the validation split, one line per timestep.
fn training_curves(training: &Training) -> String {
    let mut svg = Svg::new(1060.0, 400.0, "Validation loss and accuracy during training, one line per timestep");
    let epochs = &training.epochs;
    let timesteps = epochs.iter().map(|e| e.accuracy.len().max(e.loss.len())).max().unwrap_or(0);
    let column = |pick: &dyn Fn(&super::Epoch) -> Option<f64>| epochs.iter().map(pick).collect::<Vec<_>>();
    let losses: Vec<_> = (0..timesteps).map(|t| column(&|e| e.loss.get(t).copied().flatten())).collect();
    let accuracies: Vec<_> = (0..timesteps).map(|t| column(&|e| e.accuracy.get(t).copied().flatten())).collect();
    let train = column(&|e| e.train_loss);
    let mark = if epochs.len() == 1 { Marker::Disc } else { Marker::None };
    let every = epochs.len().div_ceil(12);
    let x: Vec<_> = epochs.iter().enumerate().step_by(every).map(|(i, e)| (i as f64, e.epoch.to_string())).collect();
    for (p, (title, lines, scale, label)) in [
        ("Loss on the validation split", &losses, 1.0, "cross-entropy (nats)"),
        ("Accuracy on the validation split", &accuracies, 100.0, "classified correctly (%)"),
    ]
    .into_iter()
    .enumerate()
    {
        let extra = train.iter().copied().filter(|_| p == 0);
        let y = range(lines.iter().flatten().copied().chain(extra)).unwrap_or((0.0, 1.0));
        let y = if p == 1 { (0.0, y.1.clamp(0.01, 1.0)) } else { y };
        let axes = Axes {
            left: 84.0 + 430.0 * p as f64,
            top: 44.0,
            width: 350.0,
            height: 290.0,
            x: positions(epochs.len()),
            y,
        };
        svg.text((axes.left, 24.0), title, PANEL_TITLE);
        axes.draw(&mut svg, &x, &ticks(y, 5.0, scale, ""), "epoch", label);
        for (t, line) in lines.iter().enumerate() {
            let (color, dash) = ordered(t, timesteps);
            axes.series(&mut svg, line, &color, mark, dash);
        }
        if p == 0 {
            axes.series(&mut svg, &train, INK, mark, Some("5 4"));
        }
    }
    let left = 892.0;
    svg.text((left, 60.0), "timestep", Text::new(13.5, Anchor::Start).bold());
    let every = timesteps.div_ceil(12).max(1);
    let keys: Vec<usize> = (0..timesteps).step_by(every).collect();
    for (i, &t) in keys.iter().enumerate() {
        let y = 82.0 + 20.0 * i as f64;
        let (color, dash) = ordered(t, timesteps);
        svg.line((left, y - 4.5), (left + 24.0, y - 4.5), &color, 3.0, dash);
        svg.text((left + 32.0, y), &t.to_string(), Text::new(13.0, Anchor::Start));
    }
    if train.iter().any(Option::is_some) {
        let y = 90.0 + 20.0 * keys.len() as f64;
        svg.line((left, y - 4.5), (left + 24.0, y - 4.5), INK, 2.2, Some("5 4"));
        svg.text((left + 32.0, y), "training split,", Text::new(12.5, Anchor::Start));
        svg.text((left + 32.0, y + 16.0), "mean over timesteps", Text::new(12.5, Anchor::Start));
    }
    svg.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilson_interval() {
        // 10 of 40 by the formula in double precision, worked out apart from this program.
        let (low, high) = wilson(0.25, 40);
        assert!((low - 0.141_871_19).abs() < 1e-6 && (high - 0.401_939_61).abs() < 1e-6, "{low} {high}");
        assert!(wilson(0.0, 0).0 < 1e-12, "no images, no division by zero");
    }
}
