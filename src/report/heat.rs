//! Heat maps. Small ones are rectangles with hover texts and, where there is room, their numbers; large ones are one PNG of
//! a pixel a cell, since ten thousand rectangles a timestep would make the page too heavy.

use std::io::Cursor;

use image::{ExtendedColorType, ImageEncoder, codecs::png};

use super::dynamics::Grid;
use super::plots::{WIDTH, shorten};
use super::svg::{Anchor, DIAGONAL, GREY, INK, PANEL, Svg, Text, diverging, number, px, short, text_width, viridis};

/// Most cells that are drawn one by one.
const CELLS: usize = 256;
/// Most pixels a side of a PNG; each is the mean of a block of cells where a matrix has more.
const PIXELS: usize = 150;
/// Smallest cell beside which its name can be read, pixels.
const NAMED: f64 = 10.0;

/// What the colours mean.
#[derive(Clone, Copy)]
pub(crate) enum Scale {
    /// From the first number, dark, to the second, light.
    Sequential(f64, f64),
    /// From minus the number, blue, through 0, white, to it, red.
    Diverging(f64),
}

impl Scale {
    /// From 0 to the largest value, or to 1 without any.
    pub fn from_zero(grid: &Grid) -> Scale {
        let most = values(grid).fold(0.0, f64::max);
        Scale::Sequential(0.0, if most > 0.0 { most } else { 1.0 })
    }

    /// From the smallest value to 1, for similarities that reach 1; diverging if some are clearly negative.
    pub fn similarity(grids: &[&Grid]) -> Scale {
        let least = grids.iter().flat_map(|grid| values(grid)).fold(1.0, f64::min);
        if least < -0.3 { Scale::Diverging(1.0) } else { Scale::Sequential((least * 10.0).floor() / 10.0, 1.0) }
    }

    fn at(self, v: f64) -> f64 {
        match self {
            Scale::Sequential(low, high) => (v - low) / (high - low).max(f64::MIN_POSITIVE),
            Scale::Diverging(limit) => v / limit,
        }
    }

    fn color(self, v: f64) -> String {
        match self {
            Scale::Sequential(..) => viridis(self.at(v)),
            Scale::Diverging(_) => diverging(self.at(v)),
        }
    }

    /// A colour that can be read on that of `v`.
    fn ink(self, v: f64) -> &'static str {
        let dark = match self {
            Scale::Sequential(..) => self.at(v) < 0.6,
            Scale::Diverging(_) => self.at(v).abs() > 0.7,
        };
        if dark { "#ffffff" } else { "#111111" }
    }

    fn ends(self) -> [f64; 3] {
        match self {
            Scale::Sequential(low, high) => [high, (low + high) / 2.0, low],
            Scale::Diverging(limit) => [limit, 0.0, -limit],
        }
    }
}

fn values(grid: &Grid) -> impl Iterator<Item = f64> + '_ {
    grid.iter().flatten().flatten().copied().filter(|v| v.is_finite())
}

/// A matrix as a picture; row 0 is at the top.
pub(crate) struct Heat<'a> {
    /// What a screen reader says.
    pub title: String,
    pub heading: &'a str,
    pub row_label: &'a str,
    pub column_label: &'a str,
    /// A name for each row and each column.
    pub rows: &'a [String],
    pub columns: &'a [String],
    pub grid: &'a Grid,
    pub scale: Scale,
    /// What the numbers are, above the colour bar.
    pub unit: &'a str,
    /// Why cells of the diagonal have no value, if they have none for a reason of their own.
    pub diagonal: Option<&'a str>,
}

impl Heat<'_> {
    /// The document.
    pub fn draw(&self) -> String {
        let (n, m) = (self.grid.len(), self.columns.len());
        let names = |names: &[String]| names.iter().map(|name| shorten(name, 18)).collect::<Vec<_>>();
        let (rows, columns) = (names(self.rows), names(self.columns));
        let widest = |names: &[String]| names.iter().map(|s| text_width(s, 12.0)).fold(0.0, f64::max);
        let bar = 78.0;
        let longest = widest(&rows);
        // Names are shown if their cells are high enough; without them there is more room. Rows that are not the columns
        // again may make the picture higher than wide.
        let least = if n != m && n <= 60 { NAMED + 1.0 } else { 0.0 };
        let size = |left: f64, count: usize| ((WIDTH - left - bar) / count.max(1) as f64).min(64.0);
        let named = size(longest + 34.0, n).max(least) >= NAMED;
        let left = if named { longest + 34.0 } else { 34.0 };
        let cell = (size(left, m), size(left, n).max(least));
        let columns_named = cell.0 >= NAMED;
        let turned = widest(&columns) > cell.0 - 4.0;
        let below = match (columns_named, turned) {
            (false, _) => 8.0,
            (true, false) => 20.0,
            (true, true) => widest(&columns) + 12.0,
        };
        let top = 36.0;
        let (width, height) = (cell.0 * m as f64, cell.1 * n as f64);
        let mut svg = Svg::new(WIDTH, (top + height + below + 26.0).max(top + 170.0), &self.title);
        svg.label((8.0, 20.0), self.heading, Text::new(14.5, Anchor::Start).bold());
        if n * m <= CELLS {
            self.cells(&mut svg, (left, top), cell);
        } else {
            svg.image((left, top), (width, height), &self.picture());
        }
        let font = |cell: f64| (cell * 0.85).clamp(8.5, 12.0);
        for (i, name) in rows.iter().enumerate().filter(|_| named) {
            let (font, middle) = (font(cell.1), top + cell.1 * (i as f64 + 0.5));
            svg.text((left - 6.0, middle + font * 0.36), name, Text::new(font, Anchor::End));
        }
        for (i, name) in columns.iter().enumerate().filter(|_| columns_named) {
            let (font, middle) = (font(cell.0), left + cell.0 * (i as f64 + 0.5));
            if turned {
                let at = (middle + font * 0.36, top + height + 7.0);
                svg.text(at, name, Text::new(font, Anchor::End).turned(-90.0));
            } else {
                svg.text((middle, top + height + 15.0), name, Text::new(font, Anchor::Middle));
            }
        }
        svg.label(
            (left + width / 2.0, top + height + below + 16.0),
            self.column_label,
            Text::new(13.0, Anchor::Middle),
        );
        svg.label((16.0, top + height / 2.0), self.row_label, Text::new(13.0, Anchor::Middle).turned(-90.0));
        self.bar(&mut svg, (left + width + 12.0, top));
        svg.finish()
    }

    /// One rectangle a cell.
    fn cells(&self, svg: &mut Svg, (left, top): (f64, f64), (wide, high): (f64, f64)) {
        // All numbers have as many decimals, so that they can be compared.
        let texts = |decimals: usize| values(self.grid).map(move |v| number(v, decimals));
        let most = values(self.grid).map(f64::abs).fold(0.0, f64::max);
        let whole = values(self.grid).all(|v| v.fract() == 0.0);
        let decimals = if whole {
            0
        } else if most < 10.0 {
            2
        } else {
            1
        };
        let font = 11.0;
        let names = |label: &str, names: &[String]| names.iter().map(|n| spoken(label, n)).collect::<Vec<_>>();
        let (rows, columns) = (names(self.row_label, self.rows), names(self.column_label, self.columns));
        let fits = texts(decimals).all(|text| text_width(&text, font) <= wide - 3.0) && high >= 15.0;
        let defined = |i: usize, j: usize| self.grid[i][j].filter(|v| v.is_finite());
        let places = || (0..self.grid.len()).flat_map(|i| (0..self.columns.len()).map(move |j| (i, j)));
        let place = format!("transform=\"translate({} {}) scale({} {})\"", px(left), px(top), px(wide), px(high));
        svg.group(&format!("{place} shape-rendering=\"crispEdges\""), |svg| {
            for (i, j) in places() {
                let (value, none) = (defined(i, j), self.diagonal.filter(|_| i == j));
                let text = value.map_or(none.unwrap_or("undefined").into(), short);
                let color = match (value, none) {
                    (Some(v), _) => self.scale.color(v),
                    (None, Some(_)) => DIAGONAL.into(),
                    (None, None) => PANEL.into(),
                };
                svg.cell((j, i), &color, &format!("{}, {}: {text}", rows[i], columns[j]));
            }
        });
        for (i, j) in places().filter(|&(i, j)| defined(i, j).is_none() && !(i == j && self.diagonal.is_some())) {
            cross_out(svg, (left + wide * j as f64, top + high * i as f64), (wide, high));
        }
        if fits {
            // The numbers leave the pointer to the cells below them.
            let style = format!("font-size=\"{}\" text-anchor=\"middle\" pointer-events=\"none\"", px(font));
            svg.group(&style, |svg| {
                for (i, j) in places() {
                    let Some(v) = defined(i, j) else { continue };
                    let at = (left + wide * (j as f64 + 0.5), top + high * (i as f64 + 0.5) + 4.0);
                    svg.plain(at, &number(v, decimals), self.scale.ink(v));
                }
            });
        }
    }

    /// One pixel a cell, or a block of cells, as a data URI.
    fn picture(&self) -> String {
        let (pixels, wide, high) = self.pixels();
        png_uri(&pixels, wide, high)
    }

    /// Its pixels (red, green, blue; row by row), width and height. Rows and columns have blocks of their own, so that few
    /// timesteps are never mixed because classes are many.
    fn pixels(&self) -> (Vec<u8>, usize, usize) {
        let (n, m) = (self.grid.len(), self.columns.len());
        let [rows, columns] = [n, m].map(|cells| cells.div_ceil(PIXELS).max(1));
        let (high, wide) = (n.div_ceil(rows), m.div_ceil(columns));
        let mut pixels = Vec::with_capacity(high * wide * 3);
        for i in 0..high {
            for j in 0..wide {
                let block = &self.grid[i * rows..n.min((i + 1) * rows)];
                let cells = block.iter().flat_map(|row| row[j * columns..m.min((j + 1) * columns)].iter().flatten());
                let (sum, count) =
                    cells.filter(|v| v.is_finite()).fold((0.0, 0u32), |(sum, count), v| (sum + v, count + 1));
                // 64 shades: more cannot be told apart, and fewer compress better.
                let shade = |v: f64| match self.scale {
                    Scale::Sequential(..) => viridis((self.scale.at(v) * 63.0).round() / 63.0),
                    Scale::Diverging(_) => diverging((self.scale.at(v) * 32.0).round() / 32.0),
                };
                let color = if count > 0 { shade(sum / f64::from(count)) } else { "#b0b0b0".into() };
                let channel = |at: usize| u8::from_str_radix(&color[at..at + 2], 16).unwrap_or(0);
                pixels.extend([channel(1), channel(3), channel(5)]);
            }
        }
        (pixels, wide, high)
    }

    /// How many cells a side one pixel stands for, if more than one.
    pub fn block(cells: usize) -> usize {
        if cells * cells <= CELLS { 1 } else { cells.div_ceil(PIXELS) }
    }

    fn bar(&self, svg: &mut Svg, (x, y): (f64, f64)) {
        svg.label((x, y - 2.0), self.unit, Text::new(12.0, Anchor::Start));
        let [high, _, low] = self.scale.ends();
        for i in 0..32 {
            let v = high + (low - high) * (f64::from(i) + 0.5) / 32.0;
            svg.rect((x, y + 6.0 + 3.0 * f64::from(i)), (14.0, 3.2), &self.scale.color(v), "none");
        }
        for (i, v) in self.scale.ends().into_iter().enumerate() {
            svg.text((x + 19.0, y + 12.0 + 46.0 * i as f64), &compact(v), Text::new(12.0, Anchor::Start).color(INK));
        }
        let undefined =
            |i: usize, j: usize| self.grid[i][j].is_none_or(|v| !v.is_finite()) && !(i == j && self.diagonal.is_some());
        if (0..self.grid.len()).any(|i| (0..self.grid[i].len()).any(|j| undefined(i, j))) {
            svg.rect((x, y + 112.0), (14.0, 14.0), PANEL, "none");
            cross_out(svg, (x, y + 112.0), (14.0, 14.0));
            let small = Text::new(11.0, Anchor::Start).color(GREY);
            svg.text((x + 17.0, y + 123.0), "undef.", small);
        }
    }
}

/// A number for a colour bar, short.
fn compact(v: f64) -> String {
    let text = short(v);
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_string(),
        false => text,
    }
}

/// The name of a row or column as hover texts say it.
fn spoken(label: &str, name: &str) -> String {
    let name = shorten(name, 40);
    match label {
        _ if label.contains("untrained") => format!("untrained t = {name}"),
        _ if label.contains("timestep") || label.ends_with(" t") => format!("t = {name}"),
        "image" => format!("image {name}"),
        _ => name,
    }
}

/// The line through a cell without a value.
fn cross_out(svg: &mut Svg, (x, y): (f64, f64), (wide, high): (f64, f64)) {
    svg.line((x, y), (x + wide, y + high), GREY, 1.0, None);
}

/// Pixels (red, green, blue; row by row) as a PNG in a data URI.
fn png_uri(pixels: &[u8], width: usize, height: usize) -> String {
    let mut file = Cursor::new(Vec::new());
    let encoder = png::PngEncoder::new_with_quality(&mut file, png::CompressionType::Best, png::FilterType::NoFilter);
    match encoder.write_image(pixels, width as u32, height as u32, ExtendedColorType::Rgb8) {
        Ok(()) => data_uri(&file.into_inner()),
        // Sizes agree and memory takes whatever is written: this does not happen, and would show as no picture.
        Err(_) => String::new(),
    }
}

/// The bytes of a PNG file as a data URI (base64, RFC 4648).
pub(crate) fn data_uri(png: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(22 + png.len().div_ceil(3) * 4);
    text.push_str("data:image/png;base64,");
    for three in png.chunks(3) {
        let bits = three.iter().fold(0u32, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - three.len()));
        for digit in 0..4 {
            match digit <= three.len() {
                true => text.push(DIGITS[(bits >> (18 - 6 * digit) & 63) as usize] as char),
                false => text.push('='),
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_the_standard() {
        // The test vectors of RFC 4648.
        for (text, code) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(data_uri(text.as_bytes()), format!("data:image/png;base64,{code}"));
        }
    }

    #[test]
    fn large_matrices_become_means_of_blocks() {
        let n = 2 * PIXELS;
        let grid: Grid = (0..n).map(|i| (0..n).map(|j| Some(((i / 2 + j / 2) % 2) as f64)).collect()).collect();
        let names: Vec<String> = (0..n).map(|i| i.to_string()).collect();
        let heat = Heat {
            title: String::new(),
            heading: "",
            row_label: "",
            column_label: "",
            rows: &names,
            columns: &names,
            grid: &grid,
            scale: Scale::Sequential(0.0, 1.0),
            unit: "",
            diagonal: None,
        };
        assert!(heat.picture().len() < 4000, "a chessboard of {PIXELS} fields a side compresses well");
        let columns = names[..3].to_vec();
        let grid: Grid = grid.iter().map(|row| row[..3].to_vec()).collect();
        let (pixels, wide, high) = Heat { columns: &columns, grid: &grid, ..heat }.pixels();
        assert_eq!((wide, high, pixels.len()), (3, PIXELS, 3 * 3 * PIXELS), "few columns stay apart");
        assert_eq!((Heat::block(16), Heat::block(150), Heat::block(151)), (1, 1, 2));
    }
}
