//! Which zones are visited: transitions, occupancy, lengths of stay, the label's zone.

use super::Context;
use crate::report::claims::significant;
use crate::report::figures::{Chapter, Figure};
use crate::report::heat::{Heat, Scale};
use crate::report::plots::{Bars, Plot, Series, Span, shorten};
use crate::report::svg::{BLUE, Marker, VERMILLION};

/// From which zone to which images switch.
pub(super) fn transitions(context: &Context) -> Option<Figure> {
    let v = context.dynamics.visits.as_ref()?;
    let k = v.transitions.len();
    let count = |i: usize, j: usize| if i == j { None } else { Some(v.transitions[i][j] as f64) };
    let grid: Vec<Vec<_>> = (0..k).map(|i| (0..k).map(|j| count(i, j)).collect()).collect();
    // The order of Ward's tree puts classes that are read out alike side by side.
    let leaves = &context.view.readout_leaves;
    let ordered = leaves.len() == k && k > 0;
    let order: Vec<usize> = if ordered { leaves.clone() } else { (0..k).collect() };
    let grid: Vec<Vec<_>> = order.iter().map(|&i| order.iter().map(|&j| grid[i][j]).collect()).collect();
    let names = context.names_of(&order);
    let heat = Heat {
        title: "Switches from one readout zone to another, by class".into(),
        heading: "Switches, from row to column",
        row_label: "from",
        column_label: "to",
        rows: &names,
        columns: &names,
        grid: &grid,
        scale: Scale::from_zero(&grid),
        unit: "switches",
        diagonal: Some("stays are left out"),
    };
    let switches: u64 = (0..k)
        .flat_map(|i| (0..k).filter(move |&j| j != i).map(move |j| (i, j)))
        .map(|(i, j)| v.transitions[i][j])
        .sum();
    let most = (0..k)
        .flat_map(|i| (0..k).filter(move |&j| j != i).map(move |j| (i, j)))
        .max_by(|a, b| v.transitions[a.0][a.1].cmp(&v.transitions[b.0][b.1]).then(b.cmp(a)))
        .filter(|&(i, j)| v.transitions[i][j] > 0);
    let most = most.map_or(String::new(), |(i, j)| {
        let [from, to] = [i, j].map(|class| shorten(&context.classes[class], 60));
        let n = v.transitions[i][j];
        format!(" The most frequent is from {from} to {to} ({n} times).")
    });
    let sorted = if ordered { " Classes stand in the order of the tree of readout vectors." } else { "" };
    let caption = format!(
        "How often images switch from the zone of one class (row) to that of another (column) from one timestep to the next; \
         there are {switches} switches in all. Steps at which an image stays where it is are left out.{most}{sorted} A cell that is much brighter \
         than its mirror image across the diagonal shows a direction: images leave one zone for the other and do not come back.{}",
        block_note(k)
    );
    let drawings = vec![("", heat.draw())];
    Some(
        Figure::new("transitions", Chapter::Zones, "Switches between zones", caption, drawings)
            .tables(&["transitions", "classes"]),
    )
}

/// Says that pixels stand for blocks of cells, where they do.
pub(super) fn block_note(cells: usize) -> String {
    match Heat::block(cells) {
        1 => String::new(),
        b => format!(" Each pixel is the mean of {b} \u{d7} {b} cells, as there are {cells} rows."),
    }
}

/// Says that pixels stand for several rows, where they do.
fn row_note(rows: usize) -> String {
    match Heat::block(rows) {
        1 => String::new(),
        b => format!(" Each line of pixels is the mean of {b} classes."),
    }
}

/// How many images are in each zone.
pub(super) fn occupancy(context: &Context) -> Option<Figure> {
    let v = context.dynamics.visits.as_ref()?;
    let k = context.classes.len();
    let grid: Vec<Vec<_>> = (0..k).map(|i| v.occupancy.iter().map(|row| Some(row[i] as f64)).collect()).collect();
    let heat = Heat {
        title: "Images in each readout zone at each timestep".into(),
        heading: "Images in each zone",
        row_label: "zone",
        column_label: "timestep t",
        rows: &context.classes,
        columns: &context.steps,
        grid: &grid,
        scale: Scale::from_zero(&grid),
        unit: "images",
        diagonal: None,
    };
    let empty = v.occupancy.last().map_or(0, |row| row.iter().filter(|n| **n == 0).count());
    let caption = format!(
        "How many images are in the zone of each class at each timestep. A row that grows brighter to the right is a class \
         that the network moves towards; with a balanced set of images and a perfect network all rows would be alike. At \
         the last timestep {empty} of {k} zones hold no image.{}",
        row_note(k)
    );
    Some(
        Figure::new("occupancy", Chapter::Zones, "Occupancy of zones", caption, vec![("", heat.draw())])
            .tables(&["occupancy", "classes"]),
    )
}

/// How often images switch and how long they stay.
pub(super) fn visits(context: &Context) -> Option<Figure> {
    let v = context.dynamics.visits.as_ref()?;
    let switches =
        Bars::counts("Images by number of switches", "Switches of an image", "number of switches", &v.switches, 0);
    let zones = Bars::counts("Images by number of zones", "Zones that an image visits", "distinct zones", &v.zones, 1);
    let mut dwell = Bars::counts(
        "Stays by length",
        "Lengths of stay in one zone",
        "length of stay (timesteps)",
        &v.dwell.histogram,
        1,
    );
    dwell.y_label = "stays".into();
    let caption = format!(
        "How restless trajectories are: the number of switches of zone of each image, the number of different zones it visits, \
         and how long it stays in a zone at a time. A stay lasts {} timesteps on average: {} in the zone of the label, {} in \
         others. Stays at the beginning and the end are cut off by the sequence; the complete ones in between last {}.",
        significant(v.dwell.mean),
        significant(v.dwell.mean_label),
        significant(v.dwell.mean_other),
        significant(v.dwell.mean_complete)
    );
    let drawings = vec![("switches", switches.draw()), ("zones", zones.draw()), ("dwell", dwell.draw())];
    Some(
        Figure::new("visits", Chapter::Zones, "Switches, zones and stays of an image", caption, drawings)
            .tables(&["visits", "dwell"]),
    )
}

/// Entering and leaving the label's zone.
pub(super) fn label_zone(context: &Context) -> Option<Figure> {
    let z = &context.dynamics.visits.as_ref()?.label_zone;
    let counts = |values: &[u64]| values.iter().map(|&n| Some(n as f64)).collect::<Vec<_>>();
    let steps = context.dynamics.timesteps - 1;
    let mut plot = Plot::over_time(
        "Images that enter and leave the zone of their label at each step",
        "Entering and leaving the label\u{2019}s zone",
        "images",
        steps.max(1),
        vec![
            Series::over_time("enter", &counts(&z.entered), 0, BLUE, Marker::Disc),
            Series::over_time("leave", &counts(&z.left), 0, VERMILLION, Marker::Square),
        ],
    )
    .span(Span::FromZero);
    plot.x_label = "timestep t, before the step to t + 1".into();
    let bar = |label: &str, n: u64, text: &str| (label.to_string(), n as f64, format!("{text}: {n} images"));
    let bars = Bars {
        title: "Images by what they do with the zone of their label".into(),
        heading: "Visits of the label\u{2019}s zone".into(),
        x_label: "images that start in, visit, leave, return to or lose it".into(),
        y_label: "images".into(),
        bars: vec![
            bar("start in", z.started, "start in the zone of their label"),
            bar("visit", z.visited, "visit it at some timestep"),
            bar("leave", z.left_ever, "leave it at least once"),
            bar("return", z.regained, "enter it again after leaving"),
            bar("lose", z.lost, "visit it and are outside at the end"),
        ],
        apart: None,
    };
    let total = context.dynamics.samples;
    let caption = format!(
        "Of {total} images {} begin in the zone of their label and {} visit it at some timestep; {} have visited it and are \
         outside at the end, so that stopping earlier would have answered them rightly. Where more enter than leave, \
         recurrence corrects more than it spoils.",
        z.started, z.visited, z.lost
    );
    let drawings = vec![("steps", plot.draw()), ("images", bars.draw())];
    Some(
        Figure::new("label_zone", Chapter::Zones, "Visits of the label\u{2019}s zone", caption, drawings)
            .tables(&["label_zone", "label_zone_steps"]),
    )
}
