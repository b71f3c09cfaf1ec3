//! What the timesteps have in common, and how certain the contrasts are: decoders, consistency of answers, intervals.

use super::Context;
use super::geometry::over_time;
use crate::report::claims::{UNDEFINED, significant};
use crate::report::dynamics::{Contrast, Decoder, Grid};
use crate::report::figures::{Chapter, Figure, Table};
use crate::report::heat::Scale;
use crate::report::plots::{Plot, Series, Span};
use crate::report::svg::{BLUE, GREEN, INK, Marker, ORANGE, VERMILLION};

/// What is contrasted: words, and the two groups.
pub(in crate::report) const CONTRASTS: [(&str, &str); 4] = [
    ("L2 norm of r", "correct now \u{2212} correct later"),
    ("Cosine to the current readout vector", "correct now \u{2212} correct later"),
    ("Distance to the boundary of the zone", "correct now \u{2212} correct later"),
    ("Cosine to final classes", "own \u{2212} others\u{2019}"),
];

/// Differences with bootstrap intervals, and effect sizes.
pub(super) fn contrasts(context: &Context) -> Option<Figure> {
    let c = context.dynamics.contrasts.as_ref()?;
    let t = context.dynamics.timesteps;
    let level = context.dynamics.parameters.as_ref().map_or(0.95, |p| p.level);
    let mut drawings = Vec::new();
    for ((part, contrast), (title, groups)) in c.named().into_iter().zip(CONTRASTS) {
        let series =
            Series::over_time("difference", &contrast.diff, 0, BLUE, Marker::Disc).with_band(&contrast.boot_ci);
        let mut plot = Plot::over_time(
            &format!("{title}: difference between the groups at each timestep, with bootstrap intervals"),
            title,
            groups,
            t,
            vec![Series { name: String::new(), ..series }],
        );
        plot.window = context.view.timesteps_analyse;
        drawings.push((part, with_zero(plot).draw()));
    }
    let styles = [(BLUE, Marker::Disc), (GREEN, Marker::Diamond), (ORANGE, Marker::Square), (VERMILLION, Marker::Ring)];
    let names = ["norm", "cosine, current", "distance", "cosine, final"];
    let effects = c.named().into_iter().zip(names.into_iter().zip(styles));
    let effects = effects.filter_map(|((_, contrast), (name, (color, marker)))| {
        contrast.effect().map(|effect| Series::over_time(name, effect, 0, color, marker))
    });
    let mut plot = Plot::over_time(
        "Effect size of each contrast at each timestep",
        "Effect sizes",
        "difference / sd",
        t,
        effects.collect(),
    );
    plot.window = context.view.timesteps_analyse;
    drawings.push(("effects", with_zero(plot).draw()));
    let rows = c.named().into_iter().zip(CONTRASTS).map(|((_, contrast), (title, groups))| {
        let w = &contrast.window;
        let interval = match w.boot_ci {
            [Some(low), Some(high)] => format!("{} to {}", significant(Some(low)), significant(Some(high))),
            _ => UNDEFINED.into(),
        };
        let cells = vec![significant(w.diff), significant(w.se), significant(w.boot_se), interval, verdict(contrast)];
        (format!("{title}, {groups}"), cells)
    });
    let table = Table {
        caption: "Differences averaged over the window of the published means".into(),
        head: [
            "Contrast",
            "difference",
            "standard error",
            "bootstrap error",
            "bootstrap interval",
            "interval excludes 0",
        ]
        .map(String::from)
        .into(),
        rows: rows.collect(),
    };
    let caption = format!(
        "How far apart the two groups of each contrast are, and how sure that is. The band is the {} % interval of {} bootstrap \
         replicates over images; where it does not touch 0 the sign of the difference does not hang on which images were drawn. \
         The shaded timesteps are those of the published window. Effect sizes divide the difference by the spread of single \
         images (Hedges\u{2019} g; for final classes the paired form), so that contrasts can be compared: 0.2 is small, 0.8 \
         large. Intervals are over images of one network; they say nothing about other seeds.",
        100.0 * level,
        c.norm.window.replicates.len()
    );
    let title = "Contrasts with intervals and effect sizes";
    Some(Figure::new("contrasts", Chapter::Contrasts, title, caption, drawings).table(table).tables(&[
        "contrasts",
        "contrast_windows",
        "contrast_replicates",
    ]))
}

/// A plot in which 0 can be seen, as all differences are read against it.
fn with_zero(mut plot: Plot) -> Plot {
    let defined = plot.series.iter().any(|s| s.points.iter().any(Option::is_some));
    let low = plot.series.iter().flat_map(|s| s.points.iter().flatten().map(|p| p.1)).fold(0.0, f64::min);
    if defined && low >= 0.0 {
        plot.span = Span::FromZero;
    }
    plot
}

fn verdict(contrast: &Contrast) -> String {
    match contrast.window.boot_ci {
        [Some(low), Some(high)] => if low > 0.0 || high < 0.0 { "yes" } else { "no" }.into(),
        _ => UNDEFINED.into(),
    }
}

/// Decoders fitted at one timestep and tested at another.
pub(super) fn decoders(context: &Context) -> Option<Figure> {
    let d = context.dynamics.decoder.as_ref()?;
    let share = |n: u64| (d.n_test > 0).then(|| n as f64 / d.n_test as f64);
    let accuracy = |decoder: &Decoder| -> Grid {
        decoder.correct.iter().map(|row| row.iter().map(|&n| share(n).map(|s| 100.0 * s)).collect()).collect()
    };
    let (ridge, means) = (accuracy(&d.ridge), accuracy(&d.class_mean));
    let most = [&ridge, &means].into_iter().flatten().flatten().flatten().copied().fold(0.0, f64::max);
    let scale = Scale::Sequential(0.0, if most > 0.0 { most } else { 100.0 });
    let draw = |title: &str, heading: &str, grid: &Grid| {
        use crate::report::heat::Heat;
        let heat = Heat {
            title: title.into(),
            heading,
            row_label: "fitted at t",
            column_label: "tested at t",
            rows: &context.steps,
            columns: &context.steps,
            grid,
            scale,
            unit: "% right",
            diagonal: None,
        };
        heat.draw()
    };
    let diagonal = |decoder: &Decoder| -> Vec<Option<f64>> {
        decoder.correct.iter().enumerate().map(|(t, row)| share(row[t])).collect()
    };
    let lines = vec![
        Series::over_time("ridge", &diagonal(&d.ridge), 0, BLUE, Marker::Disc),
        Series::over_time("class means", &diagonal(&d.class_mean), 0, ORANGE, Marker::Square),
        Series::over_time("the network\u{2019}s own readout, all images", &context.view.accuracy, 0, INK, Marker::None)
            .dashed("5 3"),
    ];
    let plot = Plot::over_time(
        "Accuracy of decoders fitted and tested at the same timestep, beside the network\u{2019}s own",
        "Fitted and tested at the same t",
        "accuracy (%)",
        context.dynamics.timesteps,
        lines,
    );
    let drawings = vec![
        ("ridge", draw("Accuracy of ridge decoders by timestep of fit and of test", "Ridge regression", &ridge)),
        (
            "class_mean",
            draw("Accuracy of nearest class means by timestep of fit and of test", "Nearest class mean", &means),
        ),
        ("same", plot.span(Span::FromZero).percent().draw()),
    ];
    let near: u64 = [&d.ridge, &d.class_mean].iter().flat_map(|d| d.near_ties.iter().flatten()).sum();
    let near = match near {
        0 => String::new(),
        n => format!(" {n} answers in all cells together are so close to a tie that rounding may decide them."),
    };
    let caption = format!(
        "Temporal generalisation. A decoder is fitted on half of the images at one timestep (row) and tested on the {} others at \
         every timestep (column). If a row stays bright away from the diagonal, the code of that timestep still serves later: the \
         representation moves along fixed axes. If only the diagonal is bright, the code itself changes. The network uses one \
         readout at all timesteps; its own accuracy stands beside the diagonal in the third panel.{near}",
        d.n_test
    );
    let title = "Decoding across time";
    Some(Figure::new("decoders", Chapter::Agreement, title, caption, drawings).tables(&["decoders", "decoder_weights"]))
}

/// Whether timesteps give the same answers and make the same mistakes.
pub(super) fn consistency(context: &Context) -> Option<Figure> {
    let c = context.dynamics.consistency.as_ref()?;
    let grids = [Some(&c.kappa), Some(&c.error_consistency), c.kappa_init.as_ref(), c.error_consistency_init.as_ref()];
    let scale = Scale::similarity(&grids.into_iter().flatten().collect::<Vec<_>>());
    let mut drawings = vec![
        (
            "errors",
            over_time(
                context,
                "Error consistency between timesteps",
                "Errors: right and wrong on the same images",
                &c.error_consistency,
                scale,
                false,
            ),
        ),
        (
            "kappa",
            over_time(
                context,
                "Cohen\u{2019}s kappa between timesteps",
                "Answers: the same classes",
                &c.kappa,
                scale,
                false,
            ),
        ),
    ];
    if let Some(init) = &c.error_consistency_init {
        let title = "Error consistency between timesteps of the network and of the untrained one";
        drawings
            .push(("errors_init", over_time(context, title, "Errors, with the untrained network", init, scale, true)));
    }
    let caption = "Whether two timesteps answer alike, beyond what their accuracies alone would give. Error consistency asks whether \
        they are right and wrong on the same images, Cohen\u{2019}s kappa whether they give the same class: 1 is always, 0 is chance, \
        negative is less than chance. A low value between early and late timesteps means that recurrence does not only add right \
        answers but trades some images for others. Cells in which chance alone gives full agreement are undefined."
        .to_string();
    Some(
        Figure::new("consistency", Chapter::Agreement, "Consistency of answers between timesteps", caption, drawings)
            .tables(&["consistency"]),
    )
}
