//! The figures of a comparison, in the order of its page.

use super::forest::Forest;
use super::{Comparison, Facts};
use crate::report::figures::{Chapter, Figure, Pane};
use crate::report::heat::{Heat, Scale};
use crate::report::plots::{COLORS, Plot, Series, Span, shorten};
use crate::report::published::CONTRASTS;
use crate::report::svg::{Marker, range};

/// Marks of lines, in turn.
const MARKERS: [Marker; 4] = [Marker::Disc, Marker::Ring, Marker::Square, Marker::Diamond];

/// Colour and mark of the line with this number.
fn look(i: usize) -> (&'static str, Marker) {
    (COLORS[i % COLORS.len()], MARKERS[i % MARKERS.len()])
}

/// All of them.
pub(super) fn all(comparison: &Comparison) -> Vec<Figure> {
    let mut figures = vec![contrasts(comparison), accuracy(comparison)];
    figures.extend(over_time(comparison));
    figures.extend(matrices(comparison));
    figures
}

fn contrasts(comparison: &Comparison) -> Figure {
    let panel = |kind: &crate::report::published::Kind| {
        let rows = comparison.contrasts.iter().filter(|contrast| contrast.contrast == kind.key).collect();
        let label = format!("{} minus {}", kind.groups[0], kind.groups[1]);
        let title = format!("{}: difference of each network with its interval", kind.title);
        (kind.key, Forest { title, heading: kind.title, x_label: &label, rows }.draw())
    };
    let caption = format!(
        "The difference between the means of the two groups, one panel a contrast, each with a scale of its own. Disc and bar: mean \
         over the runs of a network and its {} % interval; grey points below: single runs; diamond above: the published difference, \
         as an arrow with its number where it lies beyond the panel. A bar right of the dashed line, and clear of it, says that the \
         first mean exceeds the second; verdicts are also corrected for the number of contrasts. The published networks were \
         trained on other pictures: compare sides of the line, not distances.",
        100.0 * comparison.meta.level
    );
    let panels = CONTRASTS.iter().map(panel).collect();
    Figure::new("contrasts", Chapter::Runs, "The contrasts and their uncertainty", caption, panels)
        .tables(&["contrasts", "contrast_runs"])
}

/// The accuracies of a run as they are drawn.
fn accuracies(run: &Facts) -> Vec<Option<f64>> {
    run.accuracy.iter().map(|&a| Some(a)).collect()
}

fn accuracy(comparison: &Comparison) -> Figure {
    let all = || comparison.runs.iter().flat_map(accuracies);
    let (low, high) = range(all()).map_or((0.0, 1.0), |(low, high)| (low.max(0.0), high.min(1.0)));
    let longest = comparison.runs.iter().map(|run| run.timesteps).max().unwrap_or(1);
    let plot = |title: &str, heading: &str, timesteps: usize, series| {
        let label = "images classified correctly (%)";
        Plot::over_time(title, heading, label, timesteps, series).span(Span::Between(low, high)).percent().draw()
    };
    let mut means = Vec::new();
    let mut panels = Vec::new();
    for (i, network) in comparison.meta.networks.iter().enumerate() {
        let runs: Vec<Vec<Option<f64>>> = comparison.runs_of(&network.name).map(accuracies).collect();
        let (color, marker) = look(i);
        means.push(spread(&network.name, &runs, color, marker));
        let lines = comparison.runs_of(&network.name).enumerate().map(|(j, run)| {
            let (color, marker) = look(j);
            Series::over_time(&run.run, &accuracies(run), 0, color, marker)
        });
        let steps = runs.iter().map(Vec::len).max().unwrap_or(1);
        let title = format!("Accuracy at each timestep, runs of {}", network.name);
        panels.push((format!("accuracy_{}", i + 1), plot(&title, &shorten(&network.name, 50), steps, lines.collect())));
    }
    let title = "Accuracy at each timestep, mean over the runs of each network";
    panels.insert(0, ("accuracy".into(), plot(title, "All networks", longest, means)));
    let caption = "The share of images whose class is the label, at each timestep, all panels on one scale, which need not begin at 0. First panel: the mean \
                   over the runs of each network, and in its colour the range from the lowest run to the highest. Other panels: \
                   run by run. Lines that rise after t = 0 say that recurrence helps; a wide range says that a difference between \
                   networks may be one between trainings.";
    let figure =
        Figure::new("accuracy", Chapter::Runs, "Accuracy over time", caption.into(), vec![]).tables(&["accuracy"]);
    Figure { panes: vec![Pane::new("", panels)], ..figure }
}

/// The mean of several lines with their range, if there are several.
fn spread(name: &str, lines: &[Vec<Option<f64>>], color: &str, marker: Marker) -> Series {
    let steps = lines.iter().map(Vec::len).max().unwrap_or(0);
    let at = |t: usize| lines.iter().filter_map(move |line| line.get(t).copied().flatten());
    let mean = |t: usize| {
        let n = at(t).count();
        (n > 0).then(|| at(t).sum::<f64>() / n as f64)
    };
    let ends = |t: usize| [at(t).reduce(f64::min), at(t).reduce(f64::max)];
    let series = Series::over_time(name, &(0..steps).map(mean).collect::<Vec<_>>(), 0, color, marker);
    let band: Vec<[Option<f64>; 2]> = (0..steps).map(ends).collect();
    if lines.len() > 1 { series.with_band(&band) } else { series }
}

/// Agreement between the runs of each network over time, if one has several.
fn over_time(comparison: &Comparison) -> Option<Figure> {
    let networks = &comparison.consistency.networks;
    if networks.is_empty() {
        return None;
    }
    let steps =
        networks.iter().flat_map(|of| of.pairs.iter().map(|pair| pair.error_consistency.len())).max().unwrap_or(1);
    let panel = |title: &str, heading: &str, label: &str, pick: fn(&super::consistency::Pair) -> &Vec<Option<f64>>| {
        let series = networks.iter().enumerate().map(|(i, of)| {
            let (color, marker) = look(i);
            let lines: Vec<Vec<Option<f64>>> = of.pairs.iter().map(|pair| pick(pair).clone()).collect();
            spread(&of.network, &lines, color, marker)
        });
        Plot::over_time(title, heading, label, steps, series.collect()).draw()
    };
    let panels = vec![
        (
            "geometry",
            panel(
                "Rank correlation of dissimilarities between runs of one network, at each timestep",
                "Geometry: rank correlation of dissimilarities",
                "Spearman correlation",
                |pair| &pair.spearman,
            ),
        ),
        (
            "errors",
            panel(
                "Error consistency between runs of one network, at each timestep",
                "Errors: kappa of being correct",
                "kappa",
                |pair| &pair.error_consistency,
            ),
        ),
    ];
    let caption = "How far two trainings of one network agree at each timestep, mean over the pairs of its runs and, where there are \
                   several pairs, their range. Left: the rank correlation of the dissimilarities between the same images; 1 means \
                   that both runs arrange the images alike. Right: error consistency; 0 means that two runs are wrong on the same \
                   images as often as their accuracies make likely, 1 that they are right and wrong on the same ones.";
    Some(
        Figure::new(
            "agreement",
            Chapter::Runs,
            "Agreement between runs of one network, over time",
            caption.into(),
            panels,
        )
        .tables(&["consistency"]),
    )
}

/// All runs with each other at their last timestep, if there are several.
fn matrices(comparison: &Comparison) -> Option<Figure> {
    let last = &comparison.consistency.last;
    if last.runs.len() < 2 {
        return None;
    }
    let heat = |stem: &str, title: &str, unit: &str, grid: &Vec<Vec<Option<f64>>>| {
        let heat = Heat {
            title: format!("{title}, all runs with each other at the last timestep"),
            heading: title,
            row_label: "run",
            column_label: "run",
            rows: &last.runs,
            columns: &last.runs,
            grid,
            scale: Scale::similarity(&[grid]),
            unit,
            diagonal: None,
        };
        (format!("agreement_last_{stem}"), heat.draw())
    };
    let errors = heat("errors", "Error consistency", "kappa", &last.error_consistency);
    let spearman = heat("spearman", "Rank correlation of dissimilarities", "Spearman", &last.spearman);
    let pearson = heat("pearson", "Correlation of dissimilarities", "Pearson", &last.pearson);
    let panes = vec![
        Pane::new("rank correlation (Spearman)", vec![spearman]),
        Pane::new("correlation (Pearson)", vec![pearson]),
        Pane::new("error consistency", vec![errors]),
    ];
    let caption = "Every run against every other, each at its last timestep, in the order of the networks. Blocks along the diagonal \
                   that are lighter than the rest mean that trainings of one network agree more with each other than with other \
                   networks. Dissimilarities are 1 minus the correlation over features between the same images.";
    let figure =
        Figure::new("agreement_last", Chapter::Runs, "Agreement of all runs at the end", caption.into(), vec![])
            .tables(&["consistency_last"]);
    Some(Figure { panes, choice: "Measure", ..figure })
}
