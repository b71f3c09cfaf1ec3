//! The shape of trajectories and of the space they run in: paths, dissimilarities, CKA, principal components.

use super::zones::block_note;
use super::{Context, group_style};
use crate::report::claims::{fixed, percent, significant};
use crate::report::dynamics::{Grid, Metrics, Path, Similarities, square};
use crate::report::figures::{Chapter, Figure, Pane, Table};
use crate::report::heat::{Heat, Scale};
use crate::report::plots::{Bars, Plane, Plot, Series, Span, WIDTH};
use crate::report::svg::{BLUE, Marker, short};

/// How far, how straight and how fast the groups move.
pub(super) fn path(context: &Context) -> Option<Figure> {
    let p = context.dynamics.path.as_ref()?;
    let t = context.dynamics.timesteps;
    let lines = |pick: fn(&Path) -> &Vec<Option<f64>>, first: usize| -> Vec<Series> {
        p.named()
            .into_iter()
            .map(|(group, path)| {
                let (color, marker) = group_style(group);
                let series = Series::over_time(group, pick(path), first, color, marker);
                if group == "all" { series.dashed("5 3") } else { series }
            })
            .collect()
    };
    let plot = |title: &str, heading: &str, label: &str, series| Plot::over_time(title, heading, label, t, series);
    let mut speed = plot(
        "Mean length of each step by group",
        "Speed: length of each step",
        "|r(t+1) \u{2212} r(t)|",
        lines(|p| &p.speed, 0),
    );
    speed.x_label = "timestep t, before the step to t + 1".into();
    let to_final = plot(
        "Mean distance to the last representation by group",
        "Distance to where it ends",
        "|r(t) \u{2212} r(T\u{2212}1)|",
        lines(|p| &p.to_final, 0),
    );
    let turning = plot(
        "Mean angle between successive steps by group",
        "Turning between successive steps",
        "angle (degrees)",
        lines(|p| &p.turning_t, 1),
    );
    let drawings = vec![
        ("speed", speed.span(Span::FromZero).draw()),
        ("to_final", to_final.span(Span::FromZero).draw()),
        ("turning", turning.span(Span::FromZero).draw()),
    ];
    let cell = |v: Option<f64>| v.map_or("\u{2013}".into(), short);
    let rows = p.named().map(|(group, p)| {
        let numbers = [p.length, p.displacement, p.straightness, p.turning].map(cell);
        (group.to_string(), [vec![p.n.to_string()], numbers.to_vec()].concat())
    });
    let table = Table {
        caption: "Means over the images of each group".into(),
        head: ["Group", "images", "length", "displacement", "straightness", "turning (degrees)"]
            .map(String::from)
            .into(),
        rows: rows.into(),
    };
    let caption = "The trajectory as a path. Its length is the sum of its steps, its displacement the straight distance from \
        the first representation to the last, and its straightness displacement divided by length: 1 is a straight line, and \
        values near 0 are paths that return to where they began. Turning is the angle between one step and the next: 0 goes \
        straight on, 90 degrees is what a random walk in many dimensions does, 120 degrees is noise around a fixed point, 180 \
        turns back. A speed that falls to 0 is a network that settles."
        .to_string();
    let figure =
        Figure::new("path", Chapter::Paths, "Length, straightness and speed of trajectories", caption, drawings);
    Some(figure.table(table).tables(&["path", "path_steps"]))
}

/// What the ways of measuring dissimilarity are called.
const METRICS: [(&str, &str); 3] = [
    ("euclidean", "Squared Euclidean distance / D"),
    ("correlation", "1 \u{2212} correlation over features"),
    ("cosine", "1 \u{2212} cosine"),
];

const HOW_TO_READ_RDM: &str = "Each cell says how different the representations of two members are: dark cells are alike, bright \
    ones far apart. Each colour scale spans all timesteps, so that a picture that grows brighter means representations that move \
    apart. Squares along the diagonal are members that stay together.";

/// Dissimilarity matrices, switched by timestep.
fn dissimilarities(context: &Context, figure: Figure, rdm: &Metrics<Grid>, names: &[String], of: &str) -> Figure {
    let members = if of == "class" { "classes" } else { "images" };
    // One scale for all timesteps.
    let scales = rdm.named().map(|(_, grid)| Scale::from_zero(grid));
    context.switched(figure, |t| {
        let parts = rdm.named().into_iter().zip(METRICS).zip(scales);
        parts
            .map(|(((_, grid), (part, heading)), scale)| {
                let grid = square(&grid[t]);
                let heat = Heat {
                    title: format!("{heading} between {members} at timestep {t}"),
                    heading,
                    row_label: of,
                    column_label: of,
                    rows: names,
                    columns: names,
                    grid: &grid,
                    scale,
                    unit: "",
                    diagonal: None,
                };
                (part, heat.draw())
            })
            .collect()
    })
}

/// Between single images.
pub(super) fn rdm(context: &Context) -> Option<Figure> {
    let rdm = context.dynamics.rdm.as_ref()?;
    let count = crate::report::dynamics::members_of(rdm.euclidean.first().map_or(0, Vec::len));
    let images: Vec<String> = context.dynamics.rdm_images(count).iter().map(|i| i.to_string()).collect();
    let caption = format!(
        "Representational dissimilarity matrices of {} images, named by their index in the split. {HOW_TO_READ_RDM}{}",
        images.len(),
        block_note(images.len())
    );
    let figure = Figure::new("rdm", Chapter::Geometry, "Dissimilarity of images", caption, vec![]);
    Some(dissimilarities(context, figure.files("rdms/rdm_*.npy").tables(&["rdm_images"]), rdm, &images, "image"))
}

/// Between class means.
pub(super) fn class_rdm(context: &Context) -> Option<Figure> {
    let rdm = context.dynamics.class_rdm.as_ref()?;
    let count = crate::report::dynamics::members_of(rdm.euclidean.first().map_or(0, Vec::len));
    let names = context.names_of(&context.dynamics.shown_classes(count));
    let caption = format!(
        "Representational dissimilarity matrices of {} classes: the representations of all images of a label are averaged \
         first. {HOW_TO_READ_RDM} Classes without images have no mean and are crossed out.{}",
        names.len(),
        block_note(names.len())
    );
    let figure = Figure::new("class_rdm", Chapter::Geometry, "Dissimilarity of classes", caption, vec![]);
    Some(dissimilarities(
        context,
        figure.files("rdms/class_rdm_*.npy").tables(&["class_rdm", "class_rdm_classes"]),
        rdm,
        &names,
        "class",
    ))
}

/// A matrix over two timesteps.
pub(super) fn over_time(
    context: &Context,
    title: &str,
    heading: &str,
    grid: &Grid,
    scale: Scale,
    init: bool,
) -> String {
    let heat = Heat {
        title: title.into(),
        heading,
        row_label: "timestep",
        column_label: if init { "timestep of the untrained network" } else { "timestep" },
        rows: &context.steps,
        columns: &context.steps,
        grid,
        scale,
        unit: "",
        diagonal: None,
    };
    heat.draw()
}

/// Similarity of dissimilarity matrices between timesteps, switched by measure.
pub(super) fn rdm_time(context: &Context) -> Option<Figure> {
    let within = context.dynamics.rdm_time.as_ref()?;
    let init = context.dynamics.rdm_init.as_ref();
    const KINDS: [(&str, &str); 4] =
        [("pearson", "Pearson"), ("spearman", "Spearman"), ("cosine", "cosine"), ("tau_a", "Kendall tau a")];
    let words = ["Euclidean", "correlation", "cosine"];
    let mut panes = Vec::new();
    for (m, (metric, similarities)) in within.named().into_iter().enumerate() {
        let untrained = init.map(|init: &Metrics<Similarities>| init.named()[m].1);
        for (s, (kind, word)) in KINDS.into_iter().enumerate() {
            let grid = similarities.named()[s].1;
            let other = untrained.map(|u| u.named()[s].1);
            let scale = Scale::similarity(&[&[grid][..], &Vec::from_iter(other)].concat());
            let title = format!("{word} similarity between timesteps of {metric} dissimilarity matrices");
            let drawing = over_time(context, &title, "Within the network", grid, scale, false);
            let mut drawings = vec![(format!("rdm_time_{metric}_{kind}"), drawing)];
            if let Some(other) = other {
                let title = format!("{title} of the network and the untrained one");
                let drawing = over_time(context, &title, "With the untrained network", other, scale, true);
                drawings.push((format!("rdm_init_{metric}_{kind}"), drawing));
            }
            panes.push(Pane::new(&format!("{}, {word}", words[m]), drawings));
        }
    }
    let caption = "How similar the geometry at one timestep is to that at another: each cell compares two dissimilarity matrices \
        of the images above. A bright block along the diagonal is a stretch of time in which the geometry hardly changes. The \
        second matrix compares with the untrained network on the same images: what is bright there comes from the architecture \
        and the images, not from training. The choice names how representations are compared, then how their matrices are."
        .to_string();
    let mut figure =
        Figure::new("rdm_time", Chapter::Geometry, "Similarity of the geometry between timesteps", caption, vec![]);
    // Correlation distance compared by ranks is what the field uses most.
    (figure.choice, figure.shown, figure.panes) = ("Dissimilarity, similarity", 5, panes);
    Some(figure.tables(&["rdm_similarity"]))
}

/// Centred kernel alignment over all images.
pub(super) fn cka(context: &Context) -> Option<Figure> {
    let c = context.dynamics.cka.as_ref()?;
    let grids = [Some(&c.debiased), c.debiased_init.as_ref()];
    let scale = Scale::similarity(&grids.into_iter().flatten().collect::<Vec<_>>());
    let title = "Debiased CKA between timesteps of the network";
    let mut drawings = vec![("", over_time(context, title, "Within the network", &c.debiased, scale, false))];
    if let Some(init) = &c.debiased_init {
        let title = "Debiased CKA between timesteps of the network and of the untrained one";
        drawings.push(("init", over_time(context, title, "With the untrained network", init, scale, true)));
    }
    let caption = "Centred kernel alignment between the representations of all images at two timesteps: 1 where they are equal up \
        to rotation and scale, about 0 where they have nothing in common. This is the debiased estimate, which can fall slightly \
        below 0; the biased one, which rises as images become few, is in the table. The untrained network is the baseline."
        .to_string();
    Some(Figure::new("cka", Chapter::Geometry, "CKA between timesteps", caption, drawings).tables(&["cka"]))
}

/// Class means in the plane of the first two principal components.
pub(super) fn pca(context: &Context) -> Option<Figure> {
    let p = context.dynamics.pca.as_ref()?;
    let shown = context.dynamics.shown_classes(p.class_mean.len());
    let paths = p.class_mean.iter().zip(context.names_of(&shown)).filter_map(|(steps, name)| {
        let point = |v: &Vec<Option<f64>>| {
            let (x, y) = (v.first().copied().flatten()?, v.get(1).copied().flatten().unwrap_or(0.0));
            (x.is_finite() && y.is_finite()).then_some((x, y))
        };
        let points: Vec<_> = steps.iter().map(point).collect();
        points.iter().any(Option::is_some).then_some((name, points))
    });
    let axis = |i: usize| {
        let share = p.explained.get(i).copied().flatten();
        format!("component {} ({} of the variance)", i + 1, percent(share))
    };
    let plane = Plane {
        title: "Trajectories of class means in the plane of the first two principal components".into(),
        heading: "Class means".into(),
        x_label: axis(0),
        y_label: axis(1),
        paths: paths.collect(),
    };
    let drawn = plane.draw(WIDTH + 100.0);
    let bars = p.explained.iter().enumerate().map(|(i, share)| {
        let value = share.filter(|v| v.is_finite()).unwrap_or(0.0);
        ((i + 1).to_string(), 100.0 * value, format!("component {}: {}", i + 1, percent(*share)))
    });
    let scree = Bars {
        title: "Variance explained by each principal component".into(),
        heading: "Variance explained".into(),
        x_label: "principal component".into(),
        y_label: "variance (%)".into(),
        bars: bars.collect(),
        apart: None,
    };
    let two = [0, 1].map(|i| p.explained.get(i).copied().flatten()).into_iter().flatten().sum::<f64>();
    let caption = format!(
        "The mean representation of the images of each class, projected on the two directions in which all representations of all \
         timesteps vary most. A ring is t = 0, a disc the last timestep. Lines that fan out are classes that recurrence pulls \
         apart. The plane holds {} of the variance; what happens in other directions is not seen here.",
        percent(Some(two))
    );
    let drawings = vec![("", drawn), ("variance", scree.draw())];
    Some(Figure::new("pca", Chapter::Geometry, "Trajectories of class means", caption, drawings).tables(&[
        "pca_class_means",
        "pca_variance",
        "pca_components",
    ]))
}

/// Dimensionality over time.
pub(super) fn participation(context: &Context) -> Option<Figure> {
    let p = context.dynamics.pca.as_ref()?;
    let series = Series::over_time("participation ratio", &p.participation_t, 0, BLUE, Marker::Disc);
    let plot = Plot::over_time(
        "Participation ratio at each timestep",
        "Dimensionality over time",
        "dimensions",
        context.dynamics.timesteps,
        vec![series],
    );
    let ends = [p.participation_t.first(), p.participation_t.last()].map(|v| v.copied().flatten());
    let caption = format!(
        "The participation ratio is how many dimensions the representations of all images fill at a timestep: 1 if they lie on a \
         line, the number of features ({}) if they spread equally in all directions. It goes from {} at t = 0 to {} at the end, and \
         is {} for all timesteps together. It comes out too low where images are hardly more than features.",
        p.features(),
        fixed(ends[0], 2),
        fixed(ends[1], 2),
        significant(p.participation)
    );
    let drawings = vec![("", plot.span(Span::FromZero).draw())];
    Some(
        Figure::new("participation", Chapter::Geometry, "Dimensionality", caption, drawings).tables(&["participation"]),
    )
}
