//! Just enough SVG for the report's figures: a document with a title, text, lines, rectangles, marks with hover text, and
//! a pair of axes. Written here because the figures need what plotting crates do not give together (kuva 0.6 was tried on
//! three of them): colours that follow the page's light or dark scheme, lines that break and cells that are marked where
//! a value is undefined, names for screen readers, a tree aligned with its heat map.
//!
//! Colours are CSS variables, which [`css_variables`] defines for the page; [`standalone`] writes a document's colours
//! out for a file of its own.

use std::fmt::Write;

/// Okabe & Ito's palette, distinguishable with any colour vision.
pub(crate) const BLUE: &str = "var(--blue)";
pub(crate) const VERMILLION: &str = "var(--vermillion)";
pub(crate) const GREEN: &str = "var(--green)";
pub(crate) const ORANGE: &str = "var(--orange)";
pub(crate) const SKY: &str = "var(--sky)";
pub(crate) const PURPLE: &str = "var(--purple)";
pub(crate) const INK: &str = "var(--ink)";
pub(crate) const GREY: &str = "var(--soft)";
pub(crate) const PALE: &str = "var(--line)";
/// Behind what stands out of the paper: the averaged window, cells without a value.
pub(crate) const PANEL: &str = "var(--panel)";
pub(crate) const PAPER: &str = "var(--paper)";
/// The diagonal of a matrix, where it says nothing.
pub(crate) const DIAGONAL: &str = "#9a9a9a";

/// Every variable: its name, on white, on black. Text has a contrast of at least 4.5, marks of at least 3 except for
/// Okabe & Ito's light colours on white, which never stand without a mark or name of their own.
const VARIABLES: [(&str, &str, &str); 11] = [
    ("blue", "#0072B2", "#4BA9E6"),
    ("vermillion", "#D55E00", "#F08A4B"),
    ("green", "#009E73", "#2FC79C"),
    ("orange", "#E69F00", "#E69F00"),
    ("sky", "#56B4E9", "#8CCBF0"),
    ("purple", "#CC79A7", "#DD9CC0"),
    ("ink", "#222222", "#E8E8E8"),
    ("soft", "#5C6068", "#A9AEB8"),
    ("line", "#D9DCE1", "#3B4048"),
    ("panel", "#F3F5F8", "#22262C"),
    ("paper", "#FFFFFF", "#15181C"),
];

/// Steps of the colour scale of ordered lines.
const RAMP: usize = 16;

/// Colour and dashes of the `i`th of `count` ordered lines: viridis, from dark to light on white, without its darkest part on
/// black. Neighbours, whose colours are alike where lines are many, differ in their dashes.
pub(crate) fn ordered(i: usize, count: usize) -> (String, Option<&'static str>) {
    let at = if count > 1 { i as f64 / (count - 1) as f64 } else { 0.0 };
    let color = format!("var(--ramp-{})", (at.clamp(0.0, 1.0) * (RAMP - 1) as f64).round() as usize);
    (color, [None, Some("9 3"), Some("2.5 2.5")][i % 3])
}

/// Names and values of all variables, in the order of [`VARIABLES`], then the ramp.
fn variables(dark: bool) -> impl Iterator<Item = (String, String)> {
    let named = VARIABLES.iter().map(move |(name, light, black)| (*name, if dark { *black } else { *light }));
    let ramp = (0..RAMP).map(move |i| {
        let at = i as f64 / (RAMP - 1) as f64;
        (format!("ramp-{i}"), if dark { viridis(0.4 + 0.6 * at) } else { viridis(at * 0.87) })
    });
    named.map(|(name, color)| (name.to_string(), color.to_string())).chain(ramp)
}

/// The variables as CSS declarations.
pub(crate) fn css_variables(dark: bool) -> String {
    variables(dark).map(|(name, color)| format!("--{name}:{color};")).collect()
}

/// A document whose colours do not depend on a page: those on white.
pub(crate) fn standalone(svg: &str) -> String {
    // Only whole attributes are replaced: in text, quotation marks are escaped.
    let mut out = String::with_capacity(svg.len());
    let mut rest = svg;
    let colors: std::collections::BTreeMap<String, String> = variables(false).collect();
    while let Some(at) = rest.find("=\"var(--") {
        let name = &rest[at + 8..];
        let end = name.find(")\"").unwrap_or(0);
        let color = colors.get(&name[..end]);
        out.push_str(&rest[..at]);
        match color {
            Some(color) => {
                let _ = write!(out, "=\"{color}\"");
                rest = &name[end + 2..];
            }
            None => {
                out.push_str("=\"var(--");
                rest = name;
            }
        }
    }
    out + rest
}

/// Escapes text for XML and HTML; characters that XML forbids, and those that turn the direction of all text after them,
/// become U+FFFD.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\u{fffe}' | '\u{ffff}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => out.push('\u{fffd}'),
            c if c.is_control() && !matches!(c, '\t' | '\n') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// A coordinate with at most two decimals and no trailing zeros.
pub(crate) fn px(v: f64) -> String {
    let mut s = format!("{v:.2}");
    while s.ends_with('0') {
        s.pop();
    }
    if s.ends_with('.') {
        s.pop();
    }
    if s == "-0" { "0".into() } else { s }
}

/// Where a text stands relative to its point.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

/// How a text looks.
#[derive(Clone, Copy)]
pub(crate) struct Text {
    pub size: f64,
    pub anchor: Anchor,
    pub color: &'static str,
    pub bold: bool,
    /// Degrees, clockwise, about the point.
    pub turn: f64,
}

impl Text {
    /// Upright text of a size in pixels.
    pub const fn new(size: f64, anchor: Anchor) -> Text {
        Text { size, anchor, color: INK, bold: false, turn: 0.0 }
    }
    pub const fn color(mut self, color: &'static str) -> Text {
        self.color = color;
        self
    }
    pub const fn bold(mut self) -> Text {
        self.bold = true;
        self
    }
    pub const fn turned(mut self, degrees: f64) -> Text {
        self.turn = degrees;
        self
    }
}

/// An SVG document under construction. Coordinates in pixels, y downwards.
pub(crate) struct Svg {
    width: f64,
    height: f64,
    title: String,
    body: String,
}

impl Svg {
    /// An empty document; `title` is what a screen reader says.
    pub fn new(width: f64, height: f64, title: &str) -> Svg {
        Svg { width, height, title: escape(title), body: String::new() }
    }

    pub fn line(&mut self, from: (f64, f64), to: (f64, f64), color: &str, width: f64, dash: Option<&str>) {
        let dash = dash.map_or(String::new(), |d| format!(" stroke-dasharray=\"{d}\""));
        self.raw(&format!(
            "<line x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\" stroke=\"{color}\" stroke-width=\"{}\"{dash}/>",
            px(from.0),
            px(from.1),
            px(to.0),
            px(to.1),
            px(width)
        ));
    }

    pub fn rect(&mut self, at: (f64, f64), size: (f64, f64), fill: &str, stroke: &str) {
        self.raw(&format!(
            "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{fill}\" stroke=\"{stroke}\"/>",
            px(at.0),
            px(at.1),
            px(size.0.max(0.0)),
            px(size.1.max(0.0))
        ));
    }

    /// What `draw` draws, with a text that appears where the pointer rests on it.
    pub fn titled(&mut self, title: &str, draw: impl FnOnce(&mut Svg)) {
        self.body.push_str(&format!("<g><title>{}</title>", escape(title)));
        draw(self);
        self.raw("</g>");
    }

    /// What `draw` draws, with attributes in common.
    pub fn group(&mut self, attributes: &str, draw: impl FnOnce(&mut Svg)) {
        self.raw(&format!("<g {attributes}>"));
        draw(self);
        self.raw("</g>");
    }

    /// A square of side 1, with hover text: a cell of a matrix, in a group that scales it.
    pub fn cell(&mut self, (column, row): (usize, usize), fill: &str, title: &str) {
        let title = escape(title);
        self.raw(&format!("<path d=\"M{column} {row}h1v1h-1z\" fill=\"{fill}\"><title>{title}</title></path>"));
    }

    /// Text that looks as its group says.
    pub fn plain(&mut self, (x, y): (f64, f64), text: &str, color: &str) {
        self.raw(&format!("<text x=\"{}\" y=\"{}\" fill=\"{color}\">{}</text>", px(x), px(y), escape(text)));
    }

    /// Pixels of a PNG file stretched over a rectangle, without smoothing.
    pub fn image(&mut self, at: (f64, f64), size: (f64, f64), uri: &str) {
        self.raw(&format!(
            "<image x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" preserveAspectRatio=\"none\" \
             image-rendering=\"pixelated\" href=\"{uri}\"/>",
            px(at.0),
            px(at.1),
            px(size.0),
            px(size.1)
        ));
    }

    /// A path; `style` holds its presentation attributes.
    pub fn path(&mut self, d: &str, style: &str) {
        self.raw(&format!("<path d=\"{d}\" {style}/>"));
    }

    /// Text that is shown as it is.
    pub fn text(&mut self, at: (f64, f64), text: &str, style: Text) {
        self.text_element(at, &escape(text), style);
    }

    /// Text of the program's own in which `t_stable` is set as a symbol with subscript.
    pub fn label(&mut self, at: (f64, f64), text: &str, style: Text) {
        let symbol = "<tspan font-style=\"italic\">t</tspan><tspan dy=\"3\" font-size=\"75%\">stable</tspan>";
        let parts: Vec<String> = text.split("t_stable").map(escape).collect();
        let mut out = parts[0].clone();
        for part in &parts[1..] {
            // The baseline comes back with the next text; a no-break space carries it where none follows.
            let rest = if part.is_empty() { "\u{a0}" } else { part };
            let _ = write!(out, "{symbol}<tspan dy=\"-3\">{rest}</tspan>");
        }
        self.text_element(at, &out, style);
    }

    fn text_element(&mut self, (x, y): (f64, f64), inner: &str, style: Text) {
        let anchor = match style.anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        let weight = if style.bold { " font-weight=\"600\"" } else { "" };
        let turn = match style.turn {
            0.0 => String::new(),
            turn => format!(" transform=\"rotate({} {} {})\"", px(turn), px(x), px(y)),
        };
        self.raw(&format!(
            "<text x=\"{}\" y=\"{}\" font-size=\"{}\" fill=\"{}\"{anchor}{weight}{turn}>{inner}</text>",
            px(x),
            px(y),
            px(style.size),
            style.color
        ));
    }

    pub fn marker(&mut self, at: (f64, f64), marker: Marker, color: &str) {
        let (x, y) = at;
        match marker {
            Marker::Disc => self.raw(&format!("<circle cx=\"{}\" cy=\"{}\" r=\"4\" fill=\"{color}\"/>", px(x), px(y))),
            Marker::Ring => self.raw(&format!(
                "<circle cx=\"{}\" cy=\"{}\" r=\"4.5\" fill=\"{PAPER}\" stroke=\"{color}\" stroke-width=\"2\"/>",
                px(x),
                px(y)
            )),
            Marker::Diamond => self.raw(&format!(
                "<path d=\"M{} {}l5 5l-5 5l-5 -5z\" fill=\"{color}\"/>",
                px(x),
                px(y - 5.0)
            )),
            Marker::Square => self.raw(&format!(
                "<rect x=\"{}\" y=\"{}\" width=\"8\" height=\"8\" fill=\"{PAPER}\" stroke=\"{color}\" stroke-width=\"2\"/>",
                px(x - 4.0),
                px(y - 4.0)
            )),
            Marker::None => {
                self.raw(&format!("<circle cx=\"{}\" cy=\"{}\" r=\"5\" fill=\"transparent\"/>", px(x), px(y)));
            }
        }
    }

    fn raw(&mut self, element: &str) {
        self.body.push_str(element);
        self.body.push('\n');
    }

    /// The finished document.
    pub fn finish(self) -> String {
        let Svg { width, height, title, body } = self;
        let (w, h) = (px(width), px(height));
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {w} {h}\" width=\"{w}\" height=\"{h}\" role=\"img\" \
             aria-label=\"{title}\" font-family=\"Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif\">\n\
             <title>{title}</title>\n<rect width=\"{w}\" height=\"{h}\" fill=\"{PAPER}\"/>\n{body}</svg>\n"
        )
    }
}

/// The mark at a data point, so that lines differ without colour too.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Marker {
    Disc,
    Ring,
    Square,
    Diamond,
    None,
}

/// About how wide a text is, in a font whose letters are rather wide.
pub(crate) fn text_width(text: &str, size: f64) -> f64 {
    text.chars().count() as f64 * size * 0.6
}

/// A rectangle of the document with a linear scale on both sides.
pub(crate) struct Axes {
    pub left: f64,
    pub top: f64,
    pub width: f64,
    pub height: f64,
    pub x: (f64, f64),
    pub y: (f64, f64),
}

impl Axes {
    pub fn at(&self, x: f64, y: f64) -> (f64, f64) {
        let along = |v: f64, (lo, hi): (f64, f64)| if hi > lo { (v - lo) / (hi - lo) } else { 0.5 };
        (self.left + along(x, self.x) * self.width, self.top + (1.0 - along(y, self.y)) * self.height)
    }

    pub fn right(&self) -> f64 {
        self.left + self.width
    }

    pub fn bottom(&self) -> f64 {
        self.top + self.height
    }

    pub fn centre(&self) -> (f64, f64) {
        (self.left + self.width / 2.0, self.top + self.height / 2.0)
    }

    /// Grid lines, ticks and axis labels; `y_label` empty for a panel that shares its neighbour's scale.
    pub fn draw(&self, svg: &mut Svg, x: &[(f64, String)], y: &[(f64, String)], x_label: &str, y_label: &str) {
        for (value, text) in y {
            let (_, py) = self.at(self.x.0, *value);
            svg.line((self.left, py), (self.right(), py), PALE, 1.0, None);
            svg.text((self.left - 8.0, py + 4.5), text, Text::new(13.0, Anchor::End));
        }
        svg.line((self.left, self.bottom()), (self.right(), self.bottom()), INK, 1.0, None);
        for (value, text) in x {
            let (px, _) = self.at(*value, self.y.0);
            svg.line((px, self.bottom()), (px, self.bottom() + 5.0), INK, 1.0, None);
            svg.text((px, self.bottom() + 20.0), text, Text::new(13.0, Anchor::Middle));
        }
        svg.label((self.centre().0, self.bottom() + 42.0), x_label, Text::new(14.0, Anchor::Middle));
        if !y_label.is_empty() {
            let at = (self.left - 54.0, self.centre().1);
            svg.label(at, y_label, Text::new(14.0, Anchor::Middle).turned(-90.0));
        }
    }

    /// A line through the defined values of a series at x = 0, 1, ...; it breaks where a value is undefined.
    pub fn series(&self, svg: &mut Svg, values: &[Option<f64>], color: &str, marker: Marker, dash: Option<&str>) {
        let points = |run: &[(usize, f64)]| -> String {
            run.iter().enumerate().fold(String::new(), |mut d, (i, &(t, v))| {
                let (x, y) = self.at(t as f64, v);
                let _ = write!(d, "{}{} {}", if i == 0 { "M" } else { "L" }, px(x), px(y));
                d
            })
        };
        let dash = dash.map_or(String::new(), |d| format!(" stroke-dasharray=\"{d}\""));
        for run in runs(values) {
            if run.len() > 1 {
                let style =
                    format!("fill=\"none\" stroke=\"{color}\" stroke-width=\"2.2\" stroke-linejoin=\"round\"{dash}");
                svg.path(&points(&run), &style);
            }
            // A single value between undefined ones has no line: it is shown by its mark.
            let marker = if marker == Marker::None && run.len() == 1 { Marker::Disc } else { marker };
            // Beyond a few marks a line, hover texts would only weigh.
            for &(t, v) in run.iter().filter(|_| marker != Marker::None || values.len() <= 40) {
                svg.titled(&format!("{t}: {}", short(v)), |svg| svg.marker(self.at(t as f64, v), marker, color));
            }
        }
    }
}

/// The stretches of consecutive finite values, with their positions.
fn runs(values: &[Option<f64>]) -> Vec<Vec<(usize, f64)>> {
    let mut runs = vec![Vec::new()];
    for (t, value) in values.iter().enumerate() {
        match value.filter(|v| v.is_finite()) {
            Some(v) => runs.last_mut().into_iter().for_each(|run| run.push((t, v))),
            None => runs.push(Vec::new()),
        }
    }
    runs.retain(|run| !run.is_empty());
    runs
}

/// About `count` round numbers that cover a range, with labels of equal decimals.
pub(crate) fn ticks((lo, hi): (f64, f64), count: f64, scale: f64, unit: &str) -> Vec<(f64, String)> {
    let raw = (hi - lo) / count;
    if !(raw.is_finite() && raw > 0.0) {
        return vec![(lo, number(lo * scale, 2))];
    }
    let power = 10f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|s| *s >= raw * 0.999).unwrap_or(power);
    let decimals = (-(step * scale).log10().floor()).clamp(0.0, 9.0) as usize;
    let first = (lo / step - 1e-9).ceil() as i64;
    let last = (hi / step + 1e-9).floor() as i64;
    (first..=last).map(|i| i as f64 * step).map(|v| (v, format!("{}{unit}", number(v * scale, decimals)))).collect()
}

/// Whole numbers from `first` to `last`, thinned to at most about twelve.
pub(crate) fn whole_ticks(first: usize, last: usize) -> Vec<(f64, String)> {
    let step = [1, 2, 5, 10, 20, 50, 100].into_iter().find(|s| (last - first) / s <= 12).unwrap_or(1000);
    (first..=last).filter(|t| t.is_multiple_of(step)).map(|t| (t as f64, t.to_string())).collect()
}

/// The range of the finite values with a margin; `None` if there are none.
pub(crate) fn range(values: impl IntoIterator<Item = Option<f64>>) -> Option<(f64, f64)> {
    let finite = values.into_iter().flatten().filter(|v| v.is_finite());
    let (lo, hi) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), v| (lo.min(v), hi.max(v)));
    if lo > hi {
        return None;
    }
    let margin = if hi > lo { 0.08 * (hi - lo) } else { (0.1 * hi.abs()).max(1e-6) };
    Some((lo - margin, hi + margin))
}

/// A number with four significant digits, as hover texts say it.
pub(crate) fn short(v: f64) -> String {
    if v != 0.0 && v.abs() < 1e-6 {
        return format!("{v:.3e}").replace('-', "\u{2212}");
    }
    let decimals = if v == 0.0 { 0.0 } else { (3.0 - v.abs().log10().floor()).clamp(0.0, 9.0) };
    number(v, decimals as usize)
}

/// A decimal number with a true minus sign and no negative zero.
pub(crate) fn number(v: f64, decimals: usize) -> String {
    let text = format!("{:.decimals$}", v.abs());
    let zero = text.bytes().all(|b| matches!(b, b'0' | b'.'));
    if v < 0.0 && !zero { format!("\u{2212}{text}") } else { text }
}

/// A colour of the viridis scale, `at` in 0..=1, dark to light.
pub(crate) fn viridis(at: f64) -> String {
    const ANCHORS: [[f64; 3]; 5] =
        [[68.0, 1.0, 84.0], [59.0, 82.0, 139.0], [33.0, 145.0, 140.0], [94.0, 201.0, 98.0], [253.0, 231.0, 37.0]];
    mix(&ANCHORS, at.clamp(0.0, 1.0))
}

/// A colour of the blue-white-red scale, `at` in -1..=1.
pub(crate) fn diverging(at: f64) -> String {
    const ANCHORS: [[f64; 3]; 5] = [
        [33.0, 102.0, 172.0],
        [146.0, 197.0, 222.0],
        [247.0, 247.0, 247.0],
        [244.0, 165.0, 130.0],
        [178.0, 24.0, 43.0],
    ];
    mix(&ANCHORS, (at.clamp(-1.0, 1.0) + 1.0) / 2.0)
}

fn mix(anchors: &[[f64; 3]; 5], at: f64) -> String {
    let place = at * 4.0;
    let i = (place.floor() as usize).min(3);
    let f = place - i as f64;
    let channel = |c: usize| ((anchors[i][c] * (1.0 - f) + anchors[i + 1][c] * f).round()) as u8;
    format!("#{:02x}{:02x}{:02x}", channel(0), channel(1), channel(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_cover_the_range() {
        let labels = |r, scale, unit| ticks(r, 5.0, scale, unit).into_iter().map(|(_, l)| l).collect::<Vec<_>>();
        assert_eq!(labels((0.0, 1.0), 100.0, " %"), ["0 %", "20 %", "40 %", "60 %", "80 %", "100 %"]);
        assert_eq!(labels((-0.11, 0.21), 1.0, ""), ["\u{2212}0.1", "0.0", "0.1", "0.2"]);
        assert_eq!(labels((2.0, 2.0), 1.0, ""), ["2.00"]);
    }

    #[test]
    fn a_line_breaks_at_undefined_values() {
        let runs = runs(&[Some(1.0), Some(2.0), None, Some(f64::NAN), Some(3.0)]);
        assert_eq!(runs, [vec![(0, 1.0), (1, 2.0)], vec![(4, 3.0)]]);
    }

    #[test]
    fn neighbouring_lines_are_told_apart() {
        for count in 2..=40 {
            let lines: Vec<_> = (0..count).map(|i| ordered(i, count)).collect();
            assert!(lines.windows(2).all(|pair| pair[0].1 != pair[1].1), "dashes of {count}");
            // Those that have the same dashes have other colours, as far as there are colours.
            let few = count <= 3 * RAMP;
            assert!(
                !few || lines.windows(4).all(|four| four[0].1 == four[3].1 && four[0].0 != four[3].0),
                "of {count}"
            );
        }
    }

    #[test]
    fn numbers_have_no_negative_zero() {
        assert_eq!(number(-0.0004, 3), "0.000");
        assert_eq!(number(-0.066, 3), "\u{2212}0.066");
    }

    #[test]
    fn escaping_covers_markup_and_control_characters() {
        assert_eq!(escape("<b a='\"&\u{0}\u{202e}"), "&lt;b a=&#39;&quot;&amp;\u{fffd}\u{fffd}");
    }

    #[test]
    fn colours_are_written_out_in_attributes_alone() {
        let svg = "<text fill=\"var(--ink)\">var(--ink) &quot;var(--ink)&quot;</text><a b=\"var(--unknown)\" c=\"var(--ramp-0)\"/>";
        let expected =
            "<text fill=\"#222222\">var(--ink) &quot;var(--ink)&quot;</text><a b=\"var(--unknown)\" c=\"#440154\"/>";
        assert_eq!(standalone(svg), expected);
        assert_eq!(standalone("<a b=\"var(--"), "<a b=\"var(--");
    }
}
