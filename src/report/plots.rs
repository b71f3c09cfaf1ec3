//! Panels that several figures are made of: curves with bands, bars, and paths in a plane. Each is narrow enough to be
//! read on a phone; a wide page sets several beside each other.

use std::fmt::Write;

use super::svg::{
    Anchor, Axes, BLUE, GREY, INK, Marker, PAPER, Svg, Text, number, px, short, text_width, ticks, whole_ticks,
};

/// Width of a panel, pixels.
pub(crate) const WIDTH: f64 = 470.0;
const LEFT: f64 = 70.0;
pub(crate) const TOP: f64 = 40.0;
pub(crate) const HEADING: Text = Text::new(14.5, Anchor::Start).bold();

/// Points (x, y) in order; undefined ones are `None`.
pub(crate) type Points = Vec<Option<(f64, f64)>>;

/// A curve and what is said of it.
pub(crate) struct Series {
    pub name: String,
    /// Points in order; the line breaks where one is undefined.
    pub points: Points,
    /// What is said of each point where the pointer rests on it.
    pub texts: Vec<String>,
    pub color: String,
    pub marker: Marker,
    pub dash: Option<&'static str>,
    /// Lower and upper end of an interval at each point.
    pub band: Option<Vec<[Option<f64>; 2]>>,
}

impl Series {
    /// A curve over timesteps, the first of which is `first`.
    pub fn over_time(name: &str, values: &[Option<f64>], first: usize, color: &str, marker: Marker) -> Series {
        let finite = |v: &Option<f64>| v.filter(|v| v.is_finite());
        let points = values.iter().enumerate().map(|(i, v)| finite(v).map(|v| ((first + i) as f64, v))).collect();
        let texts = values.iter().enumerate().map(|(i, v)| {
            let value = finite(v).map_or("undefined".into(), short);
            format!("{name}, t = {}: {value}", first + i)
        });
        Series {
            name: name.into(),
            points,
            texts: texts.collect(),
            color: color.into(),
            marker,
            dash: None,
            band: None,
        }
    }

    pub fn dashed(mut self, dash: &'static str) -> Series {
        self.dash = Some(dash);
        self
    }

    /// With an interval at each point, which the hover text names too.
    pub fn with_band(mut self, band: &[[Option<f64>; 2]]) -> Series {
        for (text, ends) in self.texts.iter_mut().zip(band) {
            if let [Some(low), Some(high)] = ends {
                let _ = write!(text, " (interval {} to {})", short(*low), short(*high));
            }
        }
        self.band = Some(band.to_vec());
        self
    }

    fn finite_band(&self) -> impl Iterator<Item = (f64, f64, f64)> + '_ {
        let ends = self.band.iter().flatten();
        self.points.iter().zip(ends).filter_map(|(point, ends)| Some((point.as_ref()?.0, ends[0]?, ends[1]?)))
    }
}

/// Which values a vertical axis covers.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Span {
    /// From 0 to the largest.
    FromZero,
    /// From the smallest to the largest; a line marks 0 if it is among them.
    Free,
    /// From 0 to 1.
    Unit,
    /// Between these, so that panels can be compared.
    Between(f64, f64),
}

/// A panel of curves.
pub(crate) struct Plot {
    /// What a screen reader says.
    pub title: String,
    /// What stands above the panel.
    pub heading: String,
    pub x_label: String,
    pub y_label: String,
    pub span: Span,
    /// Values are fractions, shown as percentages.
    pub percent: bool,
    pub series: Vec<Series>,
    /// Timesteps covered: ticks are whole numbers.
    pub timesteps: Option<(usize, usize)>,
    /// A dashed line of equal x and y.
    pub diagonal: bool,
    /// Timesteps averaged over elsewhere, shaded.
    pub window: Option<usize>,
}

impl Plot {
    /// A panel of curves over timesteps 0..T.
    pub fn over_time(title: &str, heading: &str, y_label: &str, timesteps: usize, series: Vec<Series>) -> Plot {
        Plot {
            title: title.into(),
            heading: heading.into(),
            x_label: "timestep t".into(),
            y_label: y_label.into(),
            span: Span::Free,
            percent: false,
            series,
            timesteps: Some((0, timesteps.max(1) - 1)),
            diagonal: false,
            window: None,
        }
    }

    pub fn span(mut self, span: Span) -> Plot {
        self.span = span;
        self
    }

    pub fn percent(mut self) -> Plot {
        self.percent = true;
        self
    }

    /// The document.
    pub fn draw(&self) -> String {
        let keys = Keys::new(self.series.iter().filter(|s| !s.name.is_empty()).map(|s| s.name.as_str()));
        let height = TOP + 220.0 + 56.0 + keys.height();
        let mut svg = Svg::new(WIDTH, height, &self.title);
        let axes = Axes {
            left: LEFT,
            top: TOP,
            width: WIDTH - LEFT - 16.0,
            height: 220.0,
            x: self.x_range(),
            y: self.y_range(),
        };
        svg.label((8.0, 20.0), &self.heading, HEADING);
        let defined = self.series.iter().any(|s| s.points.iter().any(Option::is_some));
        let x_ticks = match self.timesteps {
            Some((first, last)) => whole_ticks(first, last),
            None => ticks(axes.x, 5.0, 1.0, ""),
        };
        let y_ticks = if defined { ticks(axes.y, 5.0, if self.percent { 100.0 } else { 1.0 }, "") } else { vec![] };
        if let Some(window) = self.window {
            let right = axes.at(window as f64 - 0.5, 0.0).0.clamp(axes.left, axes.right());
            svg.rect((axes.left, axes.top), (right - axes.left, axes.height), super::svg::PANEL, "none");
        }
        axes.draw(&mut svg, &x_ticks, &y_ticks, &self.x_label, &self.y_label);
        if axes.y.0 < 0.0 && axes.y.1 > 0.0 {
            svg.line(axes.at(axes.x.0, 0.0), axes.at(axes.x.1, 0.0), GREY, 1.2, None);
        }
        if self.diagonal {
            let (low, high) = (axes.x.0.max(axes.y.0), axes.x.1.min(axes.y.1));
            svg.line(axes.at(low, low), axes.at(high, high), GREY, 1.2, Some("5 4"));
        }
        for series in &self.series {
            band(&mut svg, &axes, series);
        }
        for series in &self.series {
            curve(&mut svg, &axes, series);
        }
        if !defined {
            let (x, y) = axes.centre();
            svg.text((x, y), "undefined", Text::new(14.0, Anchor::Middle).color(GREY));
        }
        keys.draw(&mut svg, TOP + 220.0 + 66.0, |svg, i, at| {
            let shown: Vec<&Series> = self.series.iter().filter(|s| !s.name.is_empty()).collect();
            svg.line((at.0, at.1 - 4.5), (at.0 + 24.0, at.1 - 4.5), &shown[i].color, 2.2, shown[i].dash);
            svg.marker((at.0 + 12.0, at.1 - 4.5), shown[i].marker, &shown[i].color);
        });
        svg.finish()
    }

    fn x_range(&self) -> (f64, f64) {
        if let Some((first, last)) = self.timesteps {
            return (first as f64 - 0.35, last as f64 + 0.35);
        }
        let xs = self.series.iter().flat_map(|s| s.points.iter().flatten().map(|p| p.0));
        extent(xs, self.span == Span::Unit)
    }

    fn y_range(&self) -> (f64, f64) {
        match self.span {
            Span::Unit => return (0.0, 1.0),
            Span::Between(low, high) => return (low, high),
            Span::FromZero | Span::Free => {}
        }
        let points = self.series.iter().flat_map(|s| s.points.iter().flatten().map(|p| p.1));
        let bands = self.series.iter().flat_map(|s| s.finite_band().flat_map(|(_, low, high)| [low, high]));
        let values: Vec<f64> = points.chain(bands).collect();
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        match (super::svg::range(values.into_iter().map(Some)), self.span) {
            (None, _) => (0.0, 1.0),
            (Some((low, high)), Span::FromZero) => (if least < 0.0 { low } else { 0.0 }, high.max(1e-9)),
            (Some(range), _) => range,
        }
    }
}

/// Range of numbers with a margin, or 0 to 1.
fn extent(values: impl Iterator<Item = f64>, unit: bool) -> (f64, f64) {
    if unit { (0.0, 1.0) } else { super::svg::range(values.map(Some)).unwrap_or((0.0, 1.0)) }
}

/// The band of a series, where it is defined.
fn band(svg: &mut Svg, axes: &Axes, series: &Series) {
    let mut run: Vec<(f64, f64, f64)> = Vec::new();
    let mut runs = Vec::new();
    let ends = series.band.iter().flatten();
    for (point, ends) in series.points.iter().zip(ends) {
        match (point, ends) {
            (Some((x, _)), [Some(low), Some(high)]) if low.is_finite() && high.is_finite() => {
                run.push((*x, *low, *high));
            }
            _ => runs.push(std::mem::take(&mut run)),
        }
    }
    runs.push(run);
    for run in runs {
        if let [(x, low, high)] = run[..] {
            svg.line(axes.at(x, low), axes.at(x, high), &series.color, 6.0, None);
        }
        if run.len() < 2 {
            continue;
        }
        let mut d = String::new();
        for (i, &(x, _, high)) in run.iter().enumerate() {
            let (x, y) = axes.at(x, high);
            let _ = write!(d, "{}{} {}", if i == 0 { "M" } else { "L" }, px(x), px(y));
        }
        for &(x, low, _) in run.iter().rev() {
            let (x, y) = axes.at(x, low);
            let _ = write!(d, "L{} {}", px(x), px(y));
        }
        svg.path(&(d + "z"), &format!("fill=\"{}\" fill-opacity=\"0.2\"", series.color));
    }
}

fn curve(svg: &mut Svg, axes: &Axes, series: &Series) {
    let mut d = String::new();
    let mut last = false;
    for point in &series.points {
        if let Some((x, y)) = point {
            let (x, y) = axes.at(*x, *y);
            let _ = write!(d, "{}{} {}", if last { "L" } else { "M" }, px(x), px(y));
        }
        last = point.is_some();
    }
    if d.contains('L') {
        let dash = series.dash.map_or(String::new(), |d| format!(" stroke-dasharray=\"{d}\""));
        let color = &series.color;
        svg.path(&d, &format!("fill=\"none\" stroke=\"{color}\" stroke-width=\"2.2\" stroke-linejoin=\"round\"{dash}"));
    }
    for (i, point) in series.points.iter().enumerate() {
        let Some((x, y)) = point else { continue };
        // A single point between undefined ones has no line: its mark shows it.
        let alone = (i == 0 || series.points[i - 1].is_none()) && series.points.get(i + 1).is_none_or(Option::is_none);
        let marker = if alone && series.marker == Marker::None { Marker::Disc } else { series.marker };
        svg.titled(&series.texts[i], |svg| svg.marker(axes.at(*x, *y), marker, &series.color));
    }
}

/// Names below a panel, as many in a line as fit.
pub(crate) struct Keys {
    /// Name and place (x, line).
    placed: Vec<(String, f64, usize)>,
    lines: usize,
}

impl Keys {
    pub fn new<'a>(names: impl Iterator<Item = &'a str>) -> Keys {
        let (mut x, mut line, mut placed) = (LEFT - 50.0, 0, Vec::new());
        for name in names {
            let name = shorten(name, 40);
            let wide = 34.0 + text_width(&name, 13.0) + 16.0;
            if x + wide > WIDTH && x > LEFT {
                (x, line) = (LEFT - 50.0, line + 1);
            }
            placed.push((name, x, line));
            x += wide;
        }
        let lines = if placed.is_empty() { 0 } else { line + 1 };
        Keys { placed, lines }
    }

    pub fn height(&self) -> f64 {
        if self.lines == 0 { 0.0 } else { 20.0 * self.lines as f64 + 6.0 }
    }

    pub fn draw(&self, svg: &mut Svg, top: f64, sample: impl Fn(&mut Svg, usize, (f64, f64))) {
        for (i, (name, x, line)) in self.placed.iter().enumerate() {
            let y = top + 20.0 * *line as f64;
            sample(svg, i, (*x, y));
            svg.label((x + 31.0, y), name, Text::new(13.0, Anchor::Start));
        }
    }
}

/// A panel of bars: counts by something.
pub(crate) struct Bars {
    pub title: String,
    pub heading: String,
    pub x_label: String,
    pub y_label: String,
    /// Label below, height, hover text.
    pub bars: Vec<(String, f64, String)>,
    /// Bars from this one on are of another kind, set apart and grey.
    pub apart: Option<usize>,
}

impl Bars {
    /// Counts by a whole number that begins with `first`.
    pub fn counts(title: &str, heading: &str, x_label: &str, counts: &[u64], first: usize) -> Bars {
        let bars = counts.iter().enumerate().map(|(i, &n)| {
            let at = first + i;
            (at.to_string(), n as f64, format!("{x_label} {at}: {n}"))
        });
        Bars {
            title: title.into(),
            heading: heading.into(),
            x_label: x_label.into(),
            y_label: "images".into(),
            bars: bars.collect(),
            apart: None,
        }
    }

    /// The document.
    pub fn draw(&self) -> String {
        let mut svg = Svg::new(WIDTH, TOP + 220.0 + 56.0, &self.title);
        svg.label((8.0, 20.0), &self.heading, HEADING);
        let most = self.bars.iter().map(|b| b.1).fold(0.0, f64::max);
        let count = self.bars.len().max(1) as f64 + if self.apart.is_some() { 0.6 } else { 0.0 };
        let axes = Axes {
            left: LEFT,
            top: TOP,
            width: WIDTH - LEFT - 16.0,
            height: 220.0,
            x: (-0.6, count - 0.4),
            y: (0.0, if most > 0.0 { most * 1.12 } else { 1.0 }),
        };
        let whole = self.bars.iter().all(|b| b.1.fract() == 0.0);
        let mut y = ticks(axes.y, 5.0, 1.0, "");
        if whole {
            y.retain(|(v, _)| v.fract() == 0.0);
            y.iter_mut().for_each(|(v, text)| *text = number(*v, 0));
        }
        let place = |i: usize| i as f64 + if self.apart.is_some_and(|from| i >= from) { 0.6 } else { 0.0 };
        let pitch = axes.width / (count + 0.2);
        let widest = self.bars.iter().map(|b| text_width(&b.0, 13.0)).fold(1.0, f64::max);
        let every = ((widest + 6.0) / pitch).ceil().max(1.0) as usize;
        let shown = |i: usize| i.is_multiple_of(every) || self.apart.is_some_and(|from| i >= from);
        let x: Vec<_> =
            self.bars.iter().enumerate().filter(|(i, _)| shown(*i)).map(|(i, b)| (place(i), b.0.clone())).collect();
        axes.draw(&mut svg, &x, &y, &self.x_label, &self.y_label);
        for (i, (_, value, text)) in self.bars.iter().enumerate() {
            let (x, y) = axes.at(place(i), *value);
            let wide = (pitch * 0.74).min(70.0);
            let color = if self.apart.is_some_and(|from| i >= from) { GREY } else { BLUE };
            svg.titled(text, |svg| {
                svg.rect((x - wide / 2.0, y), (wide, axes.bottom() - y), color, "none");
                let label = number(*value, if whole { 0 } else { 1 });
                if pitch >= text_width(&label, 12.0) {
                    svg.text((x, y - 5.0), &label, Text::new(12.0, Anchor::Middle));
                }
            });
        }
        if most == 0.0 {
            let (x, y) = axes.centre();
            svg.text((x, y), "none", Text::new(14.0, Anchor::Middle).color(GREY));
        }
        svg.finish()
    }
}

/// Paths in a plane, with a ring where each begins and a disc where it ends.
pub(crate) struct Plane {
    pub title: String,
    pub heading: String,
    pub x_label: String,
    pub y_label: String,
    /// Name, and (x, y) at each timestep.
    pub paths: Vec<(String, Points)>,
}

/// Most paths that can be told apart, each named where it ends.
pub(super) const PATHS: usize = 20;

impl Plane {
    /// The document.
    pub fn draw(&self, width: f64) -> String {
        let height = 430.0;
        let mut svg = Svg::new(width, height, &self.title);
        svg.label((8.0, 20.0), &self.heading, HEADING);
        let points = || self.paths.iter().flat_map(|(_, points)| points.iter().flatten());
        // One scale for both axes: distances can be compared.
        let x = extent(points().map(|p| p.0), false);
        let y = extent(points().map(|p| p.1), false);
        let (wide, high) = (width - LEFT - 130.0, 316.0);
        let unit = ((x.1 - x.0) / wide).max((y.1 - y.0) / high);
        let centred = |(low, high): (f64, f64), pixels: f64| {
            let middle = (low + high) / 2.0;
            (middle - unit * pixels / 2.0, middle + unit * pixels / 2.0)
        };
        let axes = Axes { left: LEFT, top: TOP, width: wide, height: high, x: centred(x, wide), y: centred(y, high) };
        axes.draw(&mut svg, &ticks(axes.x, 5.0, 1.0, ""), &ticks(axes.y, 5.0, 1.0, ""), &self.x_label, &self.y_label);
        let mut labels = Vec::new();
        for (i, (name, points)) in self.paths.iter().enumerate() {
            let color = COLORS[i % COLORS.len()];
            let texts = points.iter().enumerate().map(|(t, p)| match p {
                Some((x, y)) => format!("{name}, t = {t}: {}, {}", short(*x), short(*y)),
                None => String::new(),
            });
            let series = Series {
                name: name.clone(),
                points: points.clone(),
                texts: texts.collect(),
                color: color.into(),
                marker: Marker::None,
                dash: if i / COLORS.len() % 2 == 1 { Some("5 3") } else { None },
                band: None,
            };
            curve(&mut svg, &axes, &series);
            for (marker, point) in
                [(Marker::Ring, points.iter().flatten().next()), (Marker::Disc, points.iter().flatten().next_back())]
            {
                if let Some((x, y)) = point {
                    svg.marker(axes.at(*x, *y), marker, color);
                }
            }
            if let Some((x, y)) = points.iter().flatten().next_back() {
                labels.push((axes.at(*x, *y), shorten(name, 16)));
            }
        }
        if labels.is_empty() {
            let (x, y) = axes.centre();
            svg.text((x, y), "undefined", Text::new(14.0, Anchor::Middle).color(GREY));
        }
        if labels.len() <= PATHS {
            let halo =
                format!("paint-order=\"stroke\" stroke=\"{PAPER}\" stroke-width=\"3\" stroke-linejoin=\"round\"");
            // From top to bottom, each moved down until it covers none of those before.
            labels.sort_by(|a, b| a.0.1.total_cmp(&b.0.1).then(a.0.0.total_cmp(&b.0.0)));
            let mut taken: Vec<(f64, f64, f64)> = Vec::new(); // left, right, baseline
            svg.group(&halo, |svg| {
                for ((x, y), name) in labels {
                    let (left, right) = (x + 8.0, x + 8.0 + text_width(&name, 12.0));
                    let mut baseline = y + 4.0;
                    while let Some(hit) =
                        taken.iter().find(|(l, r, b)| left < *r && right > *l && (baseline - b).abs() < 13.0)
                    {
                        baseline = hit.2 + 13.5;
                    }
                    taken.push((left, right, baseline));
                    // Where there is no room left, hover texts have the name.
                    if baseline > axes.bottom() - 3.0 {
                        continue;
                    }
                    svg.text((left, baseline), &name, Text::new(12.0, Anchor::Start));
                }
            });
        }
        svg.finish()
    }
}

/// Colours of paths in turn; every path has its name or hover text besides.
pub(crate) const COLORS: [&str; 7] =
    [BLUE, super::svg::VERMILLION, super::svg::GREEN, super::svg::ORANGE, super::svg::PURPLE, super::svg::SKY, INK];

/// The first characters of a long name, on one line and in one direction.
pub(crate) fn shorten(name: &str, most: usize) -> String {
    let plain = |c: char| match c {
        c if c.is_whitespace() => ' ',
        c if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => '\u{fffd}',
        c => c,
    };
    let name: String = name.trim().chars().map(plain).collect();
    if name.is_empty() {
        return "(no name)".into();
    }
    if name.chars().count() <= most {
        return name;
    }
    name.chars().take(most - 1).chain(['\u{2026}']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_on_one_line() {
        assert_eq!(shorten("a\r\nb\tc\u{0}\u{202e}d", 9), "a  b c\u{fffd}\u{fffd}d");
        assert_eq!(shorten("abcdef", 4), "abc\u{2026}");
        assert_eq!(shorten(" \n", 4), "(no name)");
    }

    #[test]
    fn bands_and_curves_break_where_nothing_is_defined() {
        let values = [Some(1.0), Some(2.0), None, Some(f64::NAN), Some(3.0)];
        let series = Series::over_time("s", &values, 0, BLUE, Marker::Disc);
        assert_eq!(series.points, [Some((0.0, 1.0)), Some((1.0, 2.0)), None, None, Some((4.0, 3.0))]);
        assert_eq!(series.texts[2], "s, t = 2: undefined");
        let band = [[Some(0.5), Some(1.5)], [Some(1.0), Some(3.0)], [None, None], [None, None], [Some(2.0), None]];
        let plot = Plot::over_time("", "", "", 5, vec![series.with_band(&band)]);
        let svg = plot.draw();
        assert_eq!(svg.matches("fill-opacity").count(), 1, "one stretch has a band");
        assert!(svg.contains("s, t = 1: 2.000 (interval 1.000 to 3.000)"), "{svg}");
    }
}
