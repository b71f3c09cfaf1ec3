//! Letters as outlines: taken from the embedded font (DejaVu Sans Bold), transformed at will, and filled with
//! antialiasing. Serves the built-in stimuli and the lettering of contact sheets.

use std::sync::LazyLock;

use ab_glyph::{Font, FontRef, OutlineCurve, Point};
use image::{Rgb, RgbImage};

/// The font's file.
pub(crate) const FONT_FILE: &[u8] = include_bytes!("../../assets/DejaVuSans-Bold.ttf");

static FONT: LazyLock<FontRef<'static>> =
    LazyLock::new(|| FontRef::try_from_slice(FONT_FILE).expect("the embedded font is sound"));

/// Pieces that a curve is cut into.
const PIECES: usize = 6;

/// Scan lines per row of pixels; within a scan line coverage is exact.
const LINES: usize = 4;

/// A straight piece of a closed contour, from one point to the other.
pub(crate) type Segment = [[f32; 2]; 2];

/// The outline of a character in units of the em, x to the right, y down, the baseline at y = 0. Empty for blanks and
/// for characters that the font lacks.
pub(crate) fn outline(character: char) -> Vec<Segment> {
    let em = FONT.units_per_em().unwrap_or(2048.0);
    let at = |p: Point| [p.x / em, -p.y / em];
    let cut = |point: &dyn Fn(f32) -> [f32; 2]| -> Vec<Segment> {
        let at = |i: usize| point(i as f32 / PIECES as f32);
        (0..PIECES).map(|i| [at(i), at(i + 1)]).collect()
    };
    let mix = |a: [f32; 2], b: [f32; 2], t: f32| [a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t];
    let mut segments = Vec::new();
    for piece in FONT.outline(FONT.glyph_id(character)).map(|o| o.curves).unwrap_or_default() {
        match piece {
            OutlineCurve::Line(a, b) => segments.push([at(a), at(b)]),
            OutlineCurve::Quad(a, b, c) => {
                let (a, b, c) = (at(a), at(b), at(c));
                segments.extend(cut(&|t| mix(mix(a, b, t), mix(b, c, t), t)));
            }
            OutlineCurve::Cubic(a, b, c, d) => {
                let (a, b, c, d) = (at(a), at(b), at(c), at(d));
                segments.extend(cut(&|t| {
                    let middle = mix(b, c, t);
                    mix(mix(mix(a, b, t), middle, t), mix(middle, mix(c, d, t), t), t)
                }));
            }
        }
    }
    segments
}

/// How much of each pixel of a `width` x `height` canvas lies inside (0..1), for the smallest rectangle of pixels that
/// holds the whole shape.
pub(crate) struct Coverage {
    /// First column and first row of the rectangle.
    pub left: usize,
    /// First row.
    pub top: usize,
    /// Columns.
    pub width: usize,
    /// Row by row.
    pub values: Vec<f32>,
}

/// Fills a shape by the nonzero winding rule, clipped to the canvas. Coordinates are in pixels; pixel (x, y) covers
/// `x..x+1` by `y..y+1`.
pub(crate) fn fill(segments: &[Segment], width: usize, height: usize) -> Coverage {
    let bound = |axis: usize, size: usize| {
        let ends = segments.iter().flatten().map(|p| p[axis]);
        let low = ends.clone().fold(f32::INFINITY, f32::min).floor().clamp(0.0, size as f32) as usize;
        let high = ends.fold(f32::NEG_INFINITY, f32::max).ceil().clamp(0.0, size as f32) as usize;
        (low, high.max(low))
    };
    let ((left, right), (top, bottom)) = (bound(0, width), bound(1, height));
    let mut coverage = Coverage { left, top, width: right - left, values: vec![0.0; (right - left) * (bottom - top)] };

    // Where the contours cross the scan lines: (scan line, x, +1 downwards or -1 upwards).
    let mut crossings: Vec<(usize, f32, i32)> = Vec::new();
    let line_of = |y: f32| ((y - top as f32) * LINES as f32 - 0.5).ceil().max(0.0) as usize; // first at or below y
    let lines = (bottom - top) * LINES;
    for [a, b] in segments {
        let (upper, lower, direction) = if a[1] < b[1] { (a, b, 1) } else { (b, a, -1) };
        for line in line_of(upper[1])..line_of(lower[1]).min(lines) {
            let y = top as f32 + (line as f32 + 0.5) / LINES as f32;
            let x = upper[0] + (lower[0] - upper[0]) * ((y - upper[1]) / (lower[1] - upper[1]));
            crossings.push((line, x - left as f32, direction));
        }
    }
    crossings.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));

    for line in crossings.chunk_by(|a, b| a.0 == b.0) {
        let row = &mut coverage.values[line[0].0 / LINES * coverage.width..][..coverage.width];
        let mut winding = 0;
        for pair in line.windows(2) {
            winding += pair[0].2;
            if winding != 0 {
                let end = row.len() as f32;
                let (from, to) = (pair[0].1.clamp(0.0, end), pair[1].1.clamp(0.0, end));
                for x in from as usize..to.ceil() as usize {
                    let inside = to.min(x as f32 + 1.0) - from.max(x as f32);
                    row[x] += inside / LINES as f32;
                }
            }
        }
    }
    coverage
}

/// Width in pixels of a line of text with an em of `em` pixels.
pub(crate) fn text_width(text: &str, em: f32) -> f32 {
    text.chars().map(|c| FONT.h_advance_unscaled(FONT.glyph_id(c))).sum::<f32>() * em
        / FONT.units_per_em().unwrap_or(2048.0)
}

/// Writes a line of text, starting at `x` with its baseline at `y`.
pub(crate) fn draw_text(canvas: &mut RgbImage, text: &str, mut x: f32, y: f32, em: f32, colour: [u8; 3]) {
    for character in text.chars() {
        let place = |p: [f32; 2]| [x + p[0] * em, y + p[1] * em];
        let segments: Vec<Segment> = outline(character).iter().map(|s| s.map(place)).collect();
        let coverage = fill(&segments, canvas.width() as usize, canvas.height() as usize);
        for (i, &inside) in coverage.values.iter().enumerate() {
            let (column, row) = (coverage.left + i % coverage.width, coverage.top + i / coverage.width);
            let Rgb(pixel) = canvas.get_pixel_mut(column as u32, row as u32);
            for c in 0..3 {
                let old = f32::from(pixel[c]);
                pixel[c] = (old + (f32::from(colour[c]) - old) * inside.min(1.0)).round() as u8;
            }
        }
        x += text_width(character.encode_utf8(&mut [0; 4]), em);
    }
}
