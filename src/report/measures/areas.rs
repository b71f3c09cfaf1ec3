//! The areas below the readout: since when they carry the label, how many dimensions they fill, how their geometry changes.

use super::Context;
use crate::report::claims::{UNDEFINED, percent, significant};
use crate::report::dynamics::{Area, Grid, Row};
use crate::report::figures::{Chapter, Figure, Pane, Table};
use crate::report::heat::{Heat, Scale};
use crate::report::plots::{Plot, Points, Series, Span};
use crate::report::svg::{BLUE, GREEN, GREY, INK, Marker, ORANGE, PURPLE, SKY, VERMILLION};

const COLORS: [&str; 7] = [BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY, GREY];
const AVERAGE: &str = "pixel average";

/// How the two panels of a figure divide the areas' forms.
const PANELS: [(&str, &str); 2] =
    [("average", "Maps averaged over their pixels"), ("map", "Maps as they are, or projected")];

fn in_panel(area: &Area, part: &str) -> bool {
    (area.form == AVERAGE) == (part == "average")
}

/// The steps of the run that the figures cover.
fn steps(context: &Context, areas: &[Area]) -> usize {
    let measured = areas.iter().flat_map(|area| area.timesteps.iter().map(|t| t + 1)).max().unwrap_or(1);
    measured.max(context.dynamics.timesteps)
}

/// One line an area over the steps of the run; an area that never changes is a dashed level.
fn lines(areas: &[Area], part: &str, steps: usize, values: impl Fn(&Area) -> Row) -> Vec<Series> {
    // An area has one colour in both panels.
    let mut names: Vec<&str> = areas.iter().map(|area| area.name.as_str()).collect();
    names.dedup();
    let line = |area: &Area| {
        let values = values(area);
        let first = area.timesteps[0];
        let values = match area.constant {
            true => vec![values[0]; steps.max(first + 1) - first],
            false => values,
        };
        let color = names.iter().position(|name| *name == area.name).map_or(INK, |i| COLORS[i % COLORS.len()]);
        let series = Series::over_time(&area.name, &values, first, color, Marker::Disc);
        match area.constant {
            true => Series { marker: Marker::None, ..series.dashed("5 3") },
            false => series,
        }
    };
    areas.iter().filter(|area| in_panel(area, part)).map(line).collect()
}

/// Share of right answers of the ridge decoder where it was fitted.
fn accuracy(area: &Area) -> Row {
    let right = &area.decoder.ridge.correct;
    let share = |n: u64| (area.decoder.n_test > 0).then(|| n as f64 / area.decoder.n_test as f64);
    (0..right.len()).map(|t| share(right[t][t])).collect()
}

/// When each area carries the label.
pub(super) fn decoding(context: &Context) -> Option<Figure> {
    let areas = context.dynamics.areas.as_deref().filter(|areas| !areas.is_empty())?;
    let steps = steps(context, areas);
    let mut drawings = Vec::new();
    for (part, heading) in PANELS {
        let mut series = lines(areas, part, steps, accuracy);
        if series.is_empty() {
            continue;
        }
        let chance = areas[0].chance;
        let level = Series::over_time("chance", &vec![chance; steps], 0, INK, Marker::None).dashed("2 4");
        let (mut points, mut texts): (Points, Vec<String>) = (Vec::new(), Vec::new());
        for area in areas.iter().filter(|area| in_panel(area, part)) {
            let Some(from) = area.label_from else { continue };
            let at = area.timesteps.iter().position(|t| *t == from).expect("checked");
            // Single points, with a gap between any two.
            points.extend([accuracy(area)[at].map(|share| (from as f64, share)), None]);
            texts.extend([format!("{}: above chance from t = {from} on", area.name), String::new()]);
        }
        let name = if points.is_empty() { "" } else { "first step above chance" };
        let marks = Series { name: name.into(), points, texts, marker: Marker::Diamond, ..level_like(INK) };
        series.extend([level, marks]);
        let title = format!("Accuracy of ridge decoders at each timestep by area: {heading}");
        let plot = Plot::over_time(&title, heading, "accuracy (%)", steps, series);
        drawings.push((part, plot.span(Span::FromZero).percent().draw()));
    }
    let row = |area: &Area| {
        let shares = accuracy(area);
        let ends = [shares.first(), shares.last()].map(|share| percent(share.copied().flatten()));
        let numbers = match area.projected_from {
            Some(from) => format!("{} of {from}, projected", area.features),
            None => format!("{}, {}", area.features, area.form),
        };
        let from = area.label_from.map_or("never".into(), |t| format!("t = {t}"));
        (area.name.clone(), vec![numbers, from, ends[0].clone(), ends[1].clone()])
    };
    let table = Table {
        caption: "The first step at which each area carries the label".into(),
        head: ["Area", "numbers", "above chance from", "accuracy, first step", "accuracy, last step"]
            .map(String::from)
            .into(),
        rows: areas.iter().map(row).collect(),
    };
    let limit = match (areas[0].by_chance, areas[0].decoder.n_test) {
        (Some(most), n) => {
            format!("more than {most} of {n} right answers, which guessing exceeds once in a hundred times")
        }
        (None, _) => "undefined here without test images".into(),
    };
    let seed = areas.iter().find_map(|area| area.seed);
    let projected = seed.map_or(String::new(), |seed| {
        format!(" Maps of more than 256 numbers went through a sparse random projection (seed {seed}), which keeps distances about as they are.")
    });
    let caption = format!(
        "A ridge decoder of the label is fitted to each area at each timestep on half of the images and tested at the same timestep \
         on the others. The diamond is the first step at which it is above chance: {limit}. An area that carries the label only \
         after the first sweep owes it to recurrence. Timesteps are steps of the run. Dashed levels are areas that nothing recurrent reaches. Averaging over pixels \
         leaves what does not depend on place; the map itself has more.{projected}"
    );
    let title = "Since when each area carries the label";
    let figure = Figure::new("areas_decoding", Chapter::Areas, title, caption, drawings);
    Some(figure.table(table).tables(&["areas", "areas_decoders"]))
}

/// A series without points.
fn level_like(color: &str) -> Series {
    Series::over_time("", &[], 0, color, Marker::None)
}

/// Dimensionality over time.
pub(super) fn participation(context: &Context) -> Option<Figure> {
    let areas = context.dynamics.areas.as_deref().filter(|areas| !areas.is_empty())?;
    let steps = steps(context, areas);
    let mut drawings = Vec::new();
    for (part, heading) in PANELS {
        let series = lines(areas, part, steps, |area| area.pca.participation_t.clone());
        if !series.is_empty() {
            let title = format!("Participation ratio at each timestep by area: {heading}");
            let plot = Plot::over_time(&title, heading, "dimensions", steps, series);
            drawings.push((part, plot.span(Span::FromZero).draw()));
        }
    }
    let most = areas.iter().max_by(|a, b| {
        let of = |area: &Area| area.pca.participation.unwrap_or(0.0);
        of(a).total_cmp(&of(b))
    });
    let most = most.map_or((UNDEFINED.into(), UNDEFINED.into()), |area| {
        (format!("{} ({})", area.name, area.form), significant(area.pca.participation))
    });
    let caption = format!(
        "How many dimensions the activity of each area fills over all images at a timestep: 1 if it lies on a line, the number of \
         features if it spreads equally in all directions. A line that falls is an area whose activity becomes simpler. Over all \
         timesteps together {} fills the most, {}. A projection has at most as many dimensions as features, and so comes out lower \
         than the map itself.",
        most.0, most.1
    );
    let figure = Figure::new("areas_participation", Chapter::Areas, "Dimensionality of each area", caption, drawings);
    Some(figure.tables(&["areas_participation", "areas_variance"]))
}

/// How the geometry of each area changes, switched by area.
pub(super) fn similarity(context: &Context) -> Option<Figure> {
    let areas = context.dynamics.areas.as_deref().unwrap_or_default();
    let changing: Vec<&Area> = areas.iter().filter(|area| !area.constant).collect();
    let mut names: Vec<&str> = changing.iter().map(|area| area.name.as_str()).collect();
    names.dedup();
    if names.is_empty() {
        return None;
    }
    // One scale for all areas.
    let cka: Vec<&Grid> = changing.iter().map(|area| &area.cka.debiased).collect();
    let rdm: Vec<&Grid> = changing.iter().map(|area| &area.rdm_time.correlation.spearman).collect();
    let scales = [Scale::similarity(&cka), Scale::similarity(&rdm)];
    let pane = |name: &&str| {
        let mut drawings = Vec::new();
        for area in changing.iter().filter(|area| area.name == *name) {
            let steps: Vec<String> = area.timesteps.iter().map(|t| t.to_string()).collect();
            let (form, slug) = (&area.form, area.form.replace(' ', "_"));
            for ((kind, words, grid), scale) in [
                ("cka", "debiased CKA", &area.cka.debiased),
                ("rdm", "dissimilarities, rank correlation", &area.rdm_time.correlation.spearman),
            ]
            .into_iter()
            .zip(scales)
            {
                let heading = format!("{name}, {form}: {words}");
                let heat = Heat {
                    title: format!("Similarity between timesteps of area {name} ({form}): {words}"),
                    heading: &heading,
                    row_label: "timestep",
                    column_label: "timestep",
                    rows: &steps,
                    columns: &steps,
                    grid,
                    scale,
                    unit: "",
                    diagonal: None,
                };
                drawings.push((format!("areas_similarity_{name}_{slug}_{kind}"), heat.draw()));
            }
        }
        Pane::new(name, drawings)
    };
    let caption = "How similar the geometry of an area is between timesteps: CKA over all images, and the rank correlation of the \
        correlation distances between the images whose dissimilarity matrices are shown above. A bright square is an area that does \
        not change; a dark corner is an area whose last step tells images apart in another way than its first. All areas have the \
        same colour scale. Areas that nothing recurrent reaches are left out: they do not change."
        .to_string();
    let title = "Geometry of each area between timesteps";
    let mut figure = Figure::new("areas_similarity", Chapter::Areas, title, caption, vec![]);
    figure.panes = names.iter().map(pane).collect();
    (figure.choice, figure.shown) = ("Area", figure.panes.len() - 1);
    Some(figure.files("rdms/areas_*.npy").tables(&["areas_cka", "areas_rdm_similarity"]))
}
