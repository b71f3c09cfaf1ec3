//! What a protocol changes: the disturbed run beside the undisturbed one, and what happens after the trained timesteps.

use crate::report::claims::{fixed, percent, significant};
use crate::report::disturbance::{Comparison, Disturbance, Settling, Transitions};
use crate::report::dynamics::{Grid, Row};
use crate::report::figures::{Chapter, Figure, Table};
use crate::report::heat::{Heat, Scale};
use crate::report::html::thousands;
use crate::report::images::GROUPS;
use crate::report::plots::{Plot, Series, Span};
use crate::report::svg::{BLUE, GREEN, INK, Marker, ORANGE, VERMILLION};
use crate::report::view::View;

/// All figures that there are measures for.
pub(super) fn all(d: &Disturbance, view: &View) -> Vec<Figure> {
    let mut figures = Vec::new();
    if let Some(c) = &d.comparison {
        figures.extend([accuracy(c, d), groups(c), distance(c, d)]);
        figures.extend(geometry(c, d));
    }
    figures.extend(d.settling.as_ref().map(|s| settling(s, d, view)));
    figures
}

fn counts(row: &[u64]) -> Row {
    row.iter().map(|&n| Some(n as f64)).collect()
}

/// The 95 % interval of a difference whose standard error is known.
fn interval(difference: &Row, se: &Row) -> Vec<[Option<f64>; 2]> {
    let ends = |(d, se): (&Option<f64>, &Option<f64>)| match (d, se) {
        (Some(d), Some(se)) => [Some(d - 1.96 * se), Some(d + 1.96 * se)],
        _ => [None; 2],
    };
    difference.iter().zip(se).map(ends).collect()
}

/// Accuracy of both runs, their difference, and the images behind it.
fn accuracy(c: &Comparison, d: &Disturbance) -> Figure {
    let t = d.timesteps;
    let lines = vec![
        Series::over_time("undisturbed", &c.accuracy_undisturbed, 0, INK, Marker::None).dashed("5 3"),
        Series::over_time("disturbed", &c.accuracy, 0, VERMILLION, Marker::Square),
    ];
    let title = "Accuracy of the disturbed and of the undisturbed run at each timestep";
    let both = Plot::over_time(title, "Accuracy", "accuracy (%)", t, lines).percent();
    let a = &c.answers;
    let difference =
        Series::over_time("", &a.difference, 0, VERMILLION, Marker::Square).with_band(&interval(&a.difference, &a.se));
    let title = "Accuracy of the disturbed run minus that of the undisturbed one, with 95 % intervals";
    let apart = Plot::over_time(title, "Disturbed \u{2212} undisturbed", "difference (% points)", t, vec![difference]);
    let lines = vec![
        Series::over_time("another class", &counts(&a.changed), 0, INK, Marker::None).dashed("5 3"),
        Series::over_time("lost", &counts(&a.lost), 0, VERMILLION, Marker::Square),
        Series::over_time("gained", &counts(&a.gained), 0, BLUE, Marker::Disc),
    ];
    let title = "Images whose class differs, that are lost and that are gained, at each timestep";
    let images = Plot::over_time(title, "Images that answer otherwise", "images", t, lines).span(Span::FromZero);
    let drawings = vec![("both", both.draw()), ("difference", apart.percent().draw()), ("images", images.draw())];
    let last = t - 1;
    let n = c.changed_images.len() as u64;
    let caption = format!(
        "The run under the protocol against the run of the same network on the same pictures without it. The band is the 95 % \
         interval of the difference over images; as both runs see the same images, it is that of paired answers. Lost are \
         images that are right undisturbed and wrong disturbed, gained the reverse; a small difference may hide many of both. At \
         the last timestep {} are lost and {} gained, McNemar\u{2019}s exact p = {}. {} of {} images have another class at some \
         timestep.",
        thousands(a.lost[last]),
        thousands(a.gained[last]),
        significant(a.mcnemar_p[last]),
        thousands(n),
        thousands(d.samples as u64)
    );
    Figure::new("disturbance", Chapter::Disturbance, "Accuracy with and without the disturbance", caption, drawings)
        .tables(&["disturbance", "changed_images"])
}

/// A table of groups as a matrix.
fn transitions(title: &str, heading: &str, t: &Transitions, [row_label, column_label]: [&str; 2]) -> String {
    let names = GROUPS.map(String::from);
    let grid: Grid = t.groups.iter().map(|row| counts(row)).collect();
    let heat = Heat {
        title: title.into(),
        heading,
        row_label,
        column_label,
        rows: &names,
        columns: &names,
        grid: &grid,
        scale: Scale::from_zero(&grid),
        unit: "images",
        diagonal: None,
    };
    heat.draw()
}

/// The numbers of the groups, with sums.
fn transitions_table(caption: &str, corner: &str, t: &Transitions) -> Table {
    let mut head = vec![corner.to_string()];
    head.extend(GROUPS.map(String::from));
    head.push("all".into());
    let sum = |row: &[u64]| thousands(row.iter().sum());
    let cells = |row: &Vec<u64>| row.iter().map(|&n| thousands(n)).chain([sum(row)]).collect();
    let mut rows: Vec<(String, Vec<String>)> =
        GROUPS.into_iter().zip(&t.groups).map(|(group, row)| (group.to_string(), cells(row))).collect();
    let columns: Vec<u64> = (0..GROUPS.len()).map(|j| t.groups.iter().map(|row| row[j]).sum()).collect();
    rows.push(("all".into(), cells(&columns)));
    Table { caption: caption.into(), head, rows }
}

/// What is said of `t_stable`.
fn stability(t: &Transitions) -> String {
    match t.t_stable_change {
        None => "No image is stable both times.".into(),
        Some(change) => format!(
            "Of the {} images that are stable both times {} become stable earlier, {} at the same timestep and {} later, on average \
             by {} timesteps.",
            thousands(t.stable_both),
            thousands(t.earlier),
            thousands(t.same),
            thousands(t.later),
            fixed(Some(change), 2)
        ),
    }
}

/// What becomes of the stability groups.
fn groups(c: &Comparison) -> Figure {
    let t = &c.transitions;
    let drawing = transitions(
        "Images by their stability group undisturbed and disturbed",
        "Stability groups",
        t,
        ["undisturbed", "disturbed"],
    );
    let caption = format!(
        "How many images are in which stability group without the disturbance (row) and with it (column). What lies off the \
         diagonal changes its group: the first row says what becomes of the images that the undisturbed network settles \
         rightly. {}",
        stability(t)
    );
    let title = "Stability groups with and without the disturbance";
    Figure::new("disturbance_groups", Chapter::Disturbance, title, caption, vec![("", drawing)])
        .table(transitions_table("Images by group undisturbed (row) and disturbed (column)", "Undisturbed", t))
        .tables(&["disturbance_groups", "disturbance_t_stable"])
}

/// How far apart the trajectories are.
fn distance(c: &Comparison, d: &Disturbance) -> Figure {
    let (t, of) = (d.timesteps, &c.distance);
    let plot = |title: &str, heading: &str, label: &str, lines| Plot::over_time(title, heading, label, t, lines);
    let line = |row: &Row| vec![Series::over_time("", row, 0, VERMILLION, Marker::Square)];
    let mut lines = line(&of.mean);
    lines[0].name = "distance".into();
    lines.push(Series::over_time("norm, disturbed", &of.norm_disturbed, 0, ORANGE, Marker::Diamond));
    lines.push(Series::over_time("norm, undisturbed", &of.norm_undisturbed, 0, INK, Marker::None).dashed("5 3"));
    let absolute = plot(
        "Mean distance between the disturbed and the undisturbed representation, and their mean norms",
        "Distance and norms",
        "L2 norm",
        lines,
    );
    let relative = plot(
        "Mean distance between the two representations of an image, relative to the undisturbed one\u{2019}s norm",
        "Relative to the undisturbed norm",
        "|d \u{2212} u| / |u|",
        line(&of.relative),
    );
    let cosine = plot(
        "Mean cosine between the disturbed and the undisturbed representation of an image",
        "Direction",
        "cosine of d and u",
        line(&of.cosine),
    );
    let drawings = vec![
        ("absolute", absolute.span(Span::FromZero).draw()),
        ("relative", relative.span(Span::FromZero).draw()),
        ("cosine", cosine.draw()),
    ];
    let caption = "How far the disturbed representation d of an image is from its undisturbed one u at the same timestep, averaged over \
        all images. It is exactly 0 until the disturbance has reached the readout. If it grows for a while and then stays, the \
        network settles somewhere else; if it returns to 0 after a disturbance that ends, the network recovers. A cosine of 1 says \
        that only the length has changed."
        .to_string();
    Figure::new(
        "disturbance_distance",
        Chapter::Disturbance,
        "Distance between the two trajectories",
        caption,
        drawings,
    )
    .tables(&["disturbance_distance"])
}

/// How alike the geometry is.
fn geometry(c: &Comparison, d: &Disturbance) -> Option<Figure> {
    let (rdm, cka) = (c.rdm_spearman.as_ref()?, c.cka.as_ref()?);
    let steps: Vec<String> = (0..d.timesteps).map(|t| t.to_string()).collect();
    let diagonal = |grid: &Grid| -> Row { grid.iter().enumerate().map(|(t, row)| row[t]).collect() };
    let lines = vec![
        Series::over_time("dissimilarities (Spearman)", &diagonal(rdm), 0, BLUE, Marker::Disc),
        Series::over_time("CKA, debiased", &diagonal(cka), 0, GREEN, Marker::Diamond),
    ];
    let title = "Similarity of the geometry of the disturbed and the undisturbed run at the same timestep";
    let same = Plot::over_time(title, "At the same timestep", "similarity", d.timesteps, lines);
    let heat = |title: &str, heading: &str, grid: &Grid| {
        let heat = Heat {
            title: title.into(),
            heading,
            row_label: "timestep, disturbed",
            column_label: "timestep, undisturbed",
            rows: &steps,
            columns: &steps,
            grid,
            scale: Scale::similarity(&[grid]),
            unit: "",
            diagonal: None,
        };
        heat.draw()
    };
    let drawings = vec![
        ("same", same.draw()),
        (
            "rdm",
            heat("Spearman correlation of dissimilarity matrices, disturbed and undisturbed", "Dissimilarities", rdm),
        ),
        ("cka", heat("CKA of the disturbed and the undisturbed run, by timestep", "CKA", cka)),
    ];
    let caption = "Whether the images still lie to each other as they do undisturbed, wherever they have moved together: the Spearman \
        correlation of the correlation dissimilarities between images, and debiased linear CKA over all images. 1 is the same \
        geometry. In the matrices, a row that is brightest left of the diagonal is a disturbed network that has got only as far \
        as the undisturbed one was earlier."
        .to_string();
    let title = "Geometry with and without the disturbance";
    let figure = Figure::new("disturbance_geometry", Chapter::Disturbance, title, caption, drawings);
    Some(figure.tables(&["disturbance_geometry"]))
}

/// What happens after the last trained timestep.
fn settling(s: &Settling, d: &Disturbance, view: &View) -> Figure {
    let (trained, first) = (d.trained_timesteps, d.trained_timesteps - 1);
    let all = Series::over_time("trained timesteps", &view.accuracy[..trained], 0, INK, Marker::None).dashed("5 3");
    let beyond = Series::over_time("beyond", &s.accuracy, first, VERMILLION, Marker::Square);
    let title = "Accuracy at the trained timesteps and beyond";
    let accuracy = Plot::over_time(title, "Accuracy", "accuracy (%)", d.timesteps, vec![all, beyond]).percent();
    let a = &s.answers;
    let lines = vec![
        Series::over_time("another class", &counts(&a.changed), first, INK, Marker::None).dashed("5 3"),
        Series::over_time("lost", &counts(&a.lost), first, VERMILLION, Marker::Square),
        Series::over_time("gained", &counts(&a.gained), first, BLUE, Marker::Disc),
    ];
    let title = "Images that answer otherwise than at the last trained timestep";
    let images = Plot::over_time(title, "Against the last trained timestep", "images", d.timesteps, lines);
    let groups = transitions(
        "Images by their stability group after the trained timesteps and after all",
        "Stability groups",
        &s.transitions,
        ["by the trained timesteps", "by all timesteps"],
    );
    let drawings =
        vec![("accuracy", accuracy.draw()), ("images", images.span(Span::FromZero).draw()), ("groups", groups)];
    let share = |n: u64| percent(Some(n as f64 / d.samples as f64));
    let caption = format!(
        "The network was trained with {trained} timesteps and ran for {}. Whether it has settled is seen in the steps that it was \
         never trained on: a network at a fixed point keeps its answers, and an accuracy that falls says that the last trained \
         timestep is a passage and no end. {} of the images keep the class of the last trained timestep to the end; {} change it \
         at the very last step. The matrix has the group by the trained timesteps alone (row) and by all (column). {}",
        d.timesteps,
        share(s.kept),
        share(s.still_changing),
        stability(&s.transitions)
    );
    Figure::new("settling", Chapter::Disturbance, "Beyond the trained timesteps", caption, drawings)
        .table(transitions_table(
            "Images by group, trained timesteps (row) and all (column)",
            "Trained",
            &s.transitions,
        ))
        .tables(&["settling", "disturbance_groups", "disturbance_t_stable"])
}
