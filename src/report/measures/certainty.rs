//! How sure and how fast the network is: margins, entropy and confidence, calibration, reaction and solution times.

use super::{Context, SETS, set_style};
use crate::report::claims::{fixed, percent, significant};
use crate::report::dynamics::{Certainty, Sets};
use crate::report::figures::{Chapter, Figure};
use crate::report::plots::{Bars, Plot, Series, Span};
use crate::report::svg::{BLUE, INK, Marker, VERMILLION, short};

/// Curves of the means over sets of images.
fn over_sets<'a>(sets: impl IntoIterator<Item = (&'static str, &'a Vec<Option<f64>>)>) -> Vec<Series> {
    sets.into_iter()
        .map(|(set, values)| {
            let (name, color, marker) = set_style(set);
            let series = Series::over_time(name, values, 0, color, marker);
            if set == "all" { series.dashed("5 3") } else { series }
        })
        .collect()
}

/// Distances to the boundaries of zones.
pub(super) fn margins(context: &Context) -> Option<Figure> {
    let d = context.dynamics;
    let plot = |title: &str, heading: &str, label: &str, sets: &Sets| {
        Plot::over_time(title, heading, label, d.timesteps, over_sets(sets.named())).draw()
    };
    let mut drawings = Vec::new();
    if let Some(sets) = &d.label_margin {
        let title = "Mean distance to the boundary of the label\u{2019}s zone at each timestep";
        drawings.push(("label", plot(title, "To the label\u{2019}s zone", "distance (negative: outside)", sets)));
    }
    if let Some(margin) = &d.margin {
        let title = "Mean distance to the nearest boundary of the current zone at each timestep";
        drawings
            .push(("current", plot(title, "To the nearest boundary of the current zone", "distance", &margin.sets)));
    }
    if let Some(sets) = &d.relative_margin {
        let title = "The same distance divided by the length of the representation";
        drawings.push(("relative", plot(title, "The same, divided by the length of r", "distance / |r|", sets)));
    }
    if drawings.is_empty() {
        return None;
    }
    let negative = d.margin.as_ref().map_or(0, |m| m.negative.iter().sum::<u64>());
    let negative = match negative {
        0 => String::new(),
        n => format!(
            " {n} representations have a negative distance to their own zone: their outputs say another class than the readout \
             does, as rounding can at a boundary, and as outputs do that are not those of this readout."
        ),
    };
    let caption = format!(
        "How far the representation is from the boundary of a readout zone, averaged over sets of images. A line that \
         rises means that the images move deeper into the zone and that their class becomes harder to overturn. In the \
         first panel a negative value means that the average image is still outside the zone of its label. The last panel \
         can be compared between networks, whose representations differ in length. {SETS}{negative}"
    );
    Some(
        Figure::new("margins", Chapter::Certainty, "Distance to the boundary of the zone", caption, drawings)
            .tables(&["margins"]),
    )
}

/// Entropy and confidence.
pub(super) fn certainty(context: &Context) -> Option<Figure> {
    let d = context.dynamics;
    let plot = |title: &str, heading: &str, label: &str, certainty: &Certainty| {
        let series = over_sets(certainty.named());
        Plot::over_time(title, heading, label, d.timesteps, series).span(Span::FromZero)
    };
    let mut drawings = Vec::new();
    if let Some(entropy) = &d.entropy {
        let title = "Mean entropy of the answer at each timestep";
        drawings.push(("entropy", plot(title, "Entropy of the answer", "entropy (nats)", entropy).draw()));
    }
    if let Some(confidence) = &d.confidence {
        let title = "Mean confidence of the answer at each timestep";
        let plot = plot(title, "Confidence: probability of the chosen class", "confidence (%)", confidence);
        drawings.push(("confidence", plot.percent().draw()));
    }
    if drawings.is_empty() {
        return None;
    }
    let even = (context.dynamics.classes > 0).then(|| (context.dynamics.classes as f64).ln());
    let caption = format!(
        "How undecided the network\u{2019}s probabilities are. Entropy is 0 where one class has all the probability and {} \
         nats where all {} classes are equally likely. Confidence is the probability of the class that is chosen. If \
         recurrence resolves doubt, entropy falls and confidence rises over time. \u{201c}Right at t\u{201d} and \
         \u{201c}wrong at t\u{201d} divide the images anew at every timestep.",
        fixed(even, 2),
        context.dynamics.classes
    );
    Some(
        Figure::new("certainty", Chapter::Certainty, "Entropy and confidence", caption, drawings)
            .tables(&["certainty"]),
    )
}

/// Confidence against accuracy, by timestep.
pub(super) fn calibration(context: &Context) -> Option<Figure> {
    let c = context.dynamics.calibration.as_ref()?;
    let draw = |t: usize| {
        let bins = c.count[t].len();
        let place = |m: usize| c.confidence[t][m].zip(c.accuracy[t][m]).filter(|(x, y)| x.is_finite() && y.is_finite());
        let text = |m: usize| {
            let (low, high) = (m as f64 / bins as f64, (m + 1) as f64 / bins as f64);
            format!(
                "confidence {} to {}: {} images, mean confidence {}, accuracy {}",
                percent(Some(low)),
                percent(Some(high)),
                c.count[t][m],
                percent(c.confidence[t][m]),
                percent(c.accuracy[t][m])
            )
        };
        let series = Series {
            name: "a bin of images".into(),
            // Bins without images are left out, not gaps: their neighbours belong to one curve.
            points: (0..bins).filter_map(place).map(Some).collect(),
            texts: (0..bins).filter(|m| place(*m).is_some()).map(text).collect(),
            color: BLUE.into(),
            marker: Marker::Disc,
            dash: None,
            band: None,
        };
        let mut plot = Plot::over_time(
            &format!("Accuracy by confidence at timestep {t}"),
            &format!("Accuracy by confidence at t = {t}"),
            "accuracy",
            1,
            vec![series],
        )
        .span(Span::Unit);
        (plot.timesteps, plot.x_label, plot.diagonal) = (None, "mean confidence".into(), true);
        let bars = c.count[t].iter().enumerate().map(|(m, &n)| {
            let label = format!("{:.2}", (m + 1) as f64 / bins as f64);
            (label, n as f64, text(m))
        });
        let histogram = Bars {
            title: format!("Images by confidence at timestep {t}"),
            heading: format!("Images by confidence at t = {t}"),
            x_label: "confidence, upper end of the bin".into(),
            y_label: "images".into(),
            bars: bars.collect(),
            apart: None,
        };
        vec![("", plot.draw()), ("images", histogram.draw())]
    };
    let ece: Vec<String> = c.ece.iter().enumerate().map(|(t, e)| format!("{} at t = {t}", significant(*e))).collect();
    let shown = if ece.len() > 6 { [&ece[..1], &ece[ece.len() - 1..]].concat() } else { ece };
    let caption = format!(
        "Whether the network is as often right as its confidence says. Images are put into bins of equal width by \
         confidence; a point on the dashed line is a bin whose accuracy equals its mean confidence, a point below it one that \
         is too sure. The expected calibration error, the mean gap weighted by images, is {}. Bins with few images exaggerate \
         it.",
        shown.join(", ")
    );
    let figure = Figure::new("calibration", Chapter::Certainty, "Calibration", caption, vec![]);
    Some(context.switched(figure.tables(&["calibration", "calibration_error"]), draw))
}

/// Speed against accuracy, and the reaction times at one threshold.
pub(super) fn reaction(context: &Context) -> Option<Figure> {
    let (d, r) = (context.dynamics, context.dynamics.reaction.as_ref()?);
    let threshold = |i: usize| match &d.parameters {
        Some(p) => format!("{} nats", short(p.thresholds[i])),
        None => format!("number {i}"),
    };
    let last = d.timesteps - 1;
    let points: Vec<usize> = (0..r.mean.len()).filter(|&i| r.mean[i].is_some() && r.accuracy[i].is_some()).collect();
    let series = Series {
        name: String::new(),
        points: points.iter().map(|&i| r.mean[i].zip(r.accuracy[i])).collect(),
        texts: points
            .iter()
            .map(|&i| {
                format!(
                    "threshold {}: mean reaction time {}, accuracy {}, {} of {} images crossed it",
                    threshold(i),
                    significant(r.mean[i]),
                    percent(r.accuracy[i]),
                    r.reached[i],
                    d.samples
                )
            })
            .collect(),
        color: BLUE.into(),
        marker: Marker::Disc,
        dash: None,
        band: None,
    };
    let mut curve = Plot::over_time(
        "Accuracy by mean reaction time, one point a threshold of entropy",
        "Speed and accuracy, one point a threshold",
        "accuracy (%)",
        1,
        vec![series],
    )
    .percent();
    (curve.timesteps, curve.x_label) = (None, "mean reaction time (timesteps)".into());
    let mut drawings = vec![("curve", curve.draw())];
    let at = |values: &[Option<f64>], name: &str, color: &str, marker| {
        let texts =
            (0..values.len()).map(|i| format!("{name}, threshold {}: {}", threshold(i), significant(values[i])));
        let x = |i: usize| d.parameters.as_ref().map_or(i as f64, |p| p.thresholds[i]);
        Series {
            name: name.into(),
            points: values.iter().enumerate().map(|(i, v)| v.map(|v| (x(i), v))).collect(),
            texts: texts.collect(),
            color: color.into(),
            marker,
            dash: None,
            band: None,
        }
    };
    let mut outcome = Plot::over_time(
        "Mean reaction time by threshold, of right and wrong answers",
        "Reaction time of right and wrong answers",
        "mean reaction time",
        1,
        vec![
            at(&r.mean_correct, "right answers", BLUE, Marker::Disc),
            at(&r.mean_incorrect, "wrong answers", VERMILLION, Marker::Square),
        ],
    )
    .span(Span::FromZero);
    (outcome.timesteps, outcome.x_label) = (None, "threshold of entropy (nats)".into());
    drawings.push(("outcome", outcome.draw()));
    let shown = d.parameters.as_ref().map_or(0, |p| p.image_threshold);
    if let Some(histogram) = r.histogram.get(shown) {
        let never = (d.samples as u64).saturating_sub(r.reached[shown]);
        let heading = format!("Reaction times at a threshold of {}", threshold(shown));
        let title = format!("Images by reaction time at a threshold of {}", threshold(shown));
        let bars = Bars::counts(&title, &heading, "reaction time (timestep)", histogram, 0);
        drawings.push(("histogram", bars.draw()));
        let caption = format!(
            "An image\u{2019}s reaction time is the first timestep at which the entropy of the network\u{2019}s answer falls below a \
             threshold, or the last timestep, {last}, if it never does. A strict threshold waits longer. The first panel shows \
             what that waiting buys: each point is one threshold, with the mean reaction time and the accuracy of the answers \
             given then. The second compares how long right and wrong answers take. The histogram is for one threshold; {never} \
             of its {} images never crossed it and stand at the last timestep.",
            d.samples
        );
        return Some(figure_of_reaction(caption, drawings));
    }
    let caption = "There is no threshold of entropy, so that no reaction time is defined.".to_string();
    Some(figure_of_reaction(caption, drawings))
}

fn figure_of_reaction(caption: String, drawings: Vec<(&'static str, String)>) -> Figure {
    let title = "Reaction time, and the speed-accuracy curve";
    Figure::new("reaction", Chapter::Certainty, title, caption, drawings).tables(&["reaction", "reaction_histogram"])
}

/// From when on images are right to the end.
pub(super) fn solution(context: &Context) -> Option<Figure> {
    let s = context.dynamics.solution.as_ref()?;
    let mut bars = Bars::counts(
        "Images by object solution time",
        "Object solution times",
        "object solution time (timestep)",
        &s.histogram,
        0,
    );
    bars.apart = Some(bars.bars.len());
    bars.bars.push(("never".into(), s.unsolved as f64, format!("not solved at the end: {}", s.unsolved)));
    let total = context.dynamics.samples as u64;
    let mut solved = 0;
    let cumulative: Vec<Option<f64>> = s
        .histogram
        .iter()
        .map(|n| {
            solved += n;
            (total > 0).then(|| solved as f64 / total as f64)
        })
        .collect();
    let lines = vec![
        Series::over_time("solved for good by t", &cumulative, 0, BLUE, Marker::Disc),
        Series::over_time("right at t", &context.view.accuracy, 0, INK, Marker::None).dashed("5 3"),
    ];
    let plot = Plot::over_time(
        "Share of images solved by each timestep, beside accuracy",
        "Share of images solved by t",
        "images (%)",
        context.dynamics.timesteps,
        lines,
    );
    let caption = format!(
        "An image\u{2019}s object solution time is the first timestep from which on its class is the label up to the end. {} of \
         {total} images are not solved at the end; of the others the mean is {} timesteps. In the second panel the gap \
         between the lines is the images that are right at t and wrong again later.",
        s.unsolved,
        significant(s.mean)
    );
    let drawings = vec![("times", bars.draw()), ("share", plot.span(Span::FromZero).percent().draw())];
    Some(Figure::new("solution", Chapter::Certainty, "Object solution time", caption, drawings).tables(&["solution"]))
}
