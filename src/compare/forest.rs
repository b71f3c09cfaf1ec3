//! A forest plot: estimates with their intervals, one below the other on one scale.

use super::contrasts::Contrast;
use crate::report::plots::{HEADING, Keys, TOP, WIDTH, shorten};
use crate::report::svg::{
    Anchor, Axes, BLUE, GREY, INK, Marker, PALE, Svg, Text, VERMILLION, px, range, short, text_width, ticks,
};

/// Height of a row, pixels.
const ROW: f64 = 48.0;
/// Names are cut to this many characters.
const NAME: usize = 22;

/// One contrast of all networks.
pub(super) struct Forest<'a> {
    /// What a screen reader says.
    pub title: String,
    pub heading: &'a str,
    pub x_label: &'a str,
    pub rows: Vec<&'a Contrast>,
}

impl Forest<'_> {
    /// The document.
    pub fn draw(&self) -> String {
        let keys = Keys::new(["mean and interval", "single runs", "published"].into_iter());
        let high = ROW * self.rows.len().max(1) as f64;
        let mut svg = Svg::new(WIDTH, TOP + high + 56.0 + keys.height(), &self.title);
        svg.label((8.0, 20.0), self.heading, HEADING);
        let names: Vec<String> = self.rows.iter().map(|row| shorten(&row.network, NAME)).collect();
        let left = names.iter().map(|name| text_width(name, 13.0)).fold(40.0, f64::max) + 20.0;
        let scale = self.scale();
        let axes = Axes {
            left,
            top: TOP,
            width: WIDTH - left - 16.0,
            height: high,
            x: scale,
            y: (0.0, self.rows.len().max(1) as f64),
        };
        axes.draw(&mut svg, &ticks(scale, 6.0, 1.0, ""), &[], self.x_label, "");
        let zero = axes.at(0.0, 0.0).0;
        svg.line((zero, axes.top), (zero, axes.bottom()), GREY, 1.2, Some("5 4"));
        for (i, (row, name)) in self.rows.iter().zip(&names).enumerate() {
            let y = TOP + ROW * (i as f64 + 0.5);
            if i > 0 {
                svg.line((8.0, y - ROW / 2.0), (axes.right(), y - ROW / 2.0), PALE, 1.0, None);
            }
            svg.titled(&row.network, |svg| svg.text((left - 10.0, y + 4.5), name, Text::new(13.0, Anchor::End)));
            self.row(&mut svg, &axes, row, y);
        }
        keys.draw(&mut svg, TOP + high + 66.0, |svg, i, (x, y)| {
            let at = (x + 12.0, y - 4.5);
            match i {
                0 => {
                    svg.line((x, at.1), (x + 24.0, at.1), BLUE, 2.2, None);
                    svg.marker(at, Marker::Disc, BLUE);
                }
                1 => point(svg, at),
                _ => svg.marker(at, Marker::Diamond, VERMILLION),
            }
        });
        svg.finish()
    }

    /// From the intervals, the runs and 0; published differences belong to other data and are covered where they are near.
    fn scale(&self) -> (f64, f64) {
        let own = |row: &&Contrast| {
            [row.low, row.high, row.difference]
                .into_iter()
                .chain(row.runs.iter().map(|run| run.difference))
                .collect::<Vec<_>>()
        };
        let own: Vec<Option<f64>> = self.rows.iter().flat_map(own).chain([Some(0.0)]).collect();
        let Some((low, high)) = range(own.iter().copied()) else { return (-1.0, 1.0) };
        let published = self.rows.iter().filter_map(|row| row.published.map(|[a, b]| a - b));
        let undefined = self.rows.iter().all(|row| row.difference.is_none());
        let near = published.filter(|p| undefined || (low - (high - low)..=high + (high - low)).contains(p));
        range(own.iter().copied().chain(near.map(Some))).unwrap_or((-1.0, 1.0))
    }

    fn row(&self, svg: &mut Svg, axes: &Axes, row: &Contrast, y: f64) {
        let x = |value: f64| axes.at(value, 0.0).0;
        if let Some([first, second]) = row.published {
            let value = first - second;
            let text = format!("{}, published: difference {}", row.network, short(value));
            svg.titled(&text, |svg| match value {
                _ if (axes.x.0..=axes.x.1).contains(&value) => {
                    svg.marker((x(value), y - 13.0), Marker::Diamond, VERMILLION)
                }
                _ if value > axes.x.1 => beyond(svg, (axes.right(), y - 13.0), 1.0, value),
                _ => beyond(svg, (axes.left, y - 13.0), -1.0, value),
            });
        }
        for run in &row.runs {
            let Some(value) = run.difference else { continue };
            let interval = match (run.low, run.high) {
                (Some(low), Some(high)) => format!(" (interval over pictures {} to {})", short(low), short(high)),
                _ => String::new(),
            };
            let text = format!("{}, run {}: difference {}{interval}", row.network, shorten(&run.run, 40), short(value));
            svg.titled(&text, |svg| point(svg, (x(value), y + 13.0)));
        }
        let Some(value) = row.difference else {
            let at = (axes.centre().0, y + 4.5);
            svg.text(at, "undefined", Text::new(13.0, Anchor::Middle).color(GREY));
            return;
        };
        let interval = match (row.low, row.high) {
            (Some(low), Some(high)) => format!("{} to {}", short(low), short(high)),
            _ => "unknown".into(),
        };
        let text =
            format!("{}: difference {}, interval {interval}, {}", row.network, short(value), row.verdict.words());
        svg.titled(&text, |svg| {
            if let (Some(low), Some(high)) = (row.low, row.high) {
                svg.line((x(low), y), (x(high), y), BLUE, 2.2, None);
                for end in [low, high] {
                    svg.line((x(end), y - 5.0), (x(end), y + 5.0), BLUE, 2.2, None);
                }
            }
            svg.marker((x(value), y), Marker::Disc, BLUE);
        });
    }
}

/// A single run.
fn point(svg: &mut Svg, (x, y): (f64, f64)) {
    let d = format!("M{} {}a2.8 2.8 0 1 0 5.6 0a2.8 2.8 0 1 0 -5.6 0", px(x - 2.8), px(y));
    svg.path(&d, &format!("fill=\"{GREY}\""));
}

/// A value beyond the panel: an arrow at its edge, and the number.
fn beyond(svg: &mut Svg, (x, y): (f64, f64), way: f64, value: f64) {
    let d = format!("M{} {}l{} -5v10z", px(x), px(y), px(-8.0 * way));
    svg.path(&d, &format!("fill=\"{VERMILLION}\""));
    let anchor = if way > 0.0 { Anchor::End } else { Anchor::Start };
    svg.text((x - 12.0 * way, y + 4.0), &short(value), Text::new(11.5, anchor).color(INK));
}
