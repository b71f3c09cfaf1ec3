//! `--html`: the table, and the rows under the adapter's ceilings (Williams, Waterman & Patterson 2009), as one
//! self-contained page.

use super::ceilings::Ceilings;
use super::measure::figure;
use super::table::{Document, HEAD, Row, cells};
use crate::report::svg::{Anchor, Axes, BLUE, GREEN, GREY, INK, Marker, ORANGE, Svg, Text, VERMILLION, standalone};
use crate::{Error, Result};
use askama::Template;

#[derive(Template)]
#[template(path = "bench.html")]
struct Page<'a> {
    title: String,
    adapter: &'a str,
    driver: &'a str,
    cpu: String,
    version: &'a str,
    ceilings: String,
    roofline: Option<String>,
    head: [&'static str; 13],
    rows: Vec<([String; 13], bool)>,
}

/// The page of a run, self-contained HTML.
///
/// # Errors
/// Only if the template cannot be rendered.
pub fn html(document: &Document) -> Result<String> {
    let page = Page {
        title: format!("recurve bench {}", document.bench),
        adapter: &document.adapter,
        driver: &document.driver,
        cpu: document.cpu.as_ref().map_or(String::new(), |cpu| format!(". CPU: {}", cpu.describe())),
        version: &document.recurve_version,
        ceilings: document.ceilings.as_ref().map_or(String::new(), Ceilings::describe),
        roofline: document.ceilings.as_ref().and_then(|ceilings| svg(ceilings, &document.rows)),
        head: HEAD,
        rows: document.rows.iter().map(|row| (cells(row), row.failure.is_some())).collect(),
    };
    page.render().map_err(|e| Error::Data(format!("the page of the benchmark: {e}")))
}

/// Colour and mark of an operation.
fn style(op: &str) -> (&'static str, Marker, &'static str) {
    match op {
        "conv2d" | "conv_transpose2d" => (BLUE, Marker::Disc, "convolution, forward"),
        op if op.starts_with("conv") && op.ends_with("d_input") => {
            (ORANGE, Marker::Square, "convolution, input gradient")
        }
        op if op.starts_with("conv") => (VERMILLION, Marker::Ring, "convolution, weight gradient"),
        "step" => (INK, Marker::Square, "whole step"),
        _ => (GREEN, Marker::Disc, "other operations"),
    }
}

/// Label positions around a mark, in the order of preference: offset of the text's left and baseline.
const AROUND: [(f64, f64); 8] =
    [(7.0, 4.0), (-3.0, -8.0), (-3.0, 17.0), (-22.0, 4.0), (7.0, -6.0), (7.0, 14.0), (-22.0, -6.0), (-22.0, 14.0)];

/// A rectangle that a mark or a number takes.
struct Area {
    left: f64,
    top: f64,
    right: f64,
    bottom: f64,
}

impl Area {
    fn apart(&self, other: &Area) -> bool {
        self.right < other.left || other.right < self.left || self.bottom < other.top || other.bottom < self.top
    }
}

/// The chart, log by log; `None` where no row counts operations.
fn svg(ceilings: &Ceilings, rows: &[Row]) -> Option<String> {
    let points: Vec<(usize, &Row)> =
        rows.iter().enumerate().filter(|(_, r)| r.gflops > 0.0 && r.intensity > 0.0 && r.failure.is_none()).collect();
    if points.is_empty() || ceilings.gflops.is_nan() || ceilings.gflops <= 0.0 {
        return None;
    }
    let extent = |of: &dyn Fn(&Row) -> f64| {
        let values = points.iter().map(|(_, r)| of(r).log10());
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), v| (lo.min(v), hi.max(v)))
    };
    let best = ceilings.bandwidth.iter().map(|b| b.gbps).fold(0.0, f64::max);
    let ridge = (ceilings.gflops / best).log10();
    let (x, y) = (extent(&|r| r.intensity), extent(&|r| r.gflops));
    let x = ((x.0 - 0.2).min(ridge - 1.0).floor(), (x.1 + 0.3).max(ridge + 1.0));
    let y = ((y.0 - 0.2).floor(), (ceilings.gflops.log10() + 0.25).max(y.1 + 0.2));
    let axes = Axes { left: 80.0, top: 46.0, width: 990.0, height: 520.0, x, y };
    let mut svg = Svg::new(1100.0, 640.0, "Roofline: operations per second by operations per byte");
    axes.draw(&mut svg, &powers(x), &powers(y), "operations per byte (every operand once)", "GFLOP/s");

    // Ceilings.
    let peak = ceilings.gflops.log10();
    let mut slopes: Vec<(f64, String)> = Vec::new();
    for b in &ceilings.bandwidth {
        let size = super::ceilings::size(b.bytes);
        match slopes.iter_mut().find(|(gbps, _)| (gbps.log10() - b.gbps.log10()).abs() < 0.05) {
            Some((_, label)) => *label += &format!(", {size}"),
            None => slopes.push((b.gbps, format!("{} GB/s in {size}", figure(b.gbps)))),
        }
    }
    let least_ridge = (ceilings.gflops / best).log10().max(x.0);
    svg.line(axes.at(least_ridge, peak), axes.at(x.1, peak), INK, 2.0, None);
    let at = axes.at(x.1, peak);
    let label = format!("{} GFLOP/s multiply-adds", figure(ceilings.gflops));
    svg.text((at.0, at.1 - 7.0), &label, Text::new(13.0, Anchor::End).bold());
    slopes.sort_by(|a, b| b.0.total_cmp(&a.0));
    let angle = (axes.height / (y.1 - y.0) / (axes.width / (x.1 - x.0))).atan().to_degrees();
    for (i, (gbps, label)) in slopes.iter().enumerate() {
        let bandwidth = gbps.log10();
        let from = x.0.max(y.0 - bandwidth);
        let to = peak - bandwidth;
        svg.line(axes.at(from, from + bandwidth), axes.at(to, peak), INK, 1.5, (i > 0).then_some("6 4"));
        // The highest line has room above it; what the others are stands in the corner that rows do not reach.
        if i == 0 {
            let along = to - 0.1 * (to - from);
            let (px, py) = axes.at(along, along + bandwidth);
            let (dx, dy) = (-7.0 * angle.to_radians().sin(), -7.0 * angle.to_radians().cos());
            svg.text((px + dx, py + dy), label, Text::new(13.0, Anchor::End).bold().turned(-angle));
        } else {
            let line = axes.bottom() - 10.0 - 18.0 * (slopes.len() - 1 - i) as f64;
            svg.text((axes.right() - 6.0, line), &format!("dashed: {label}"), Text::new(12.0, Anchor::End).color(GREY));
        }
    }

    // Rows: marks first, so that numbers are never covered.
    let places: Vec<(f64, f64)> = points.iter().map(|(_, r)| axes.at(r.intensity.log10(), r.gflops.log10())).collect();
    for ((_, row), place) in points.iter().zip(&places) {
        let (color, marker, _) = style(&row.op);
        svg.marker(*place, marker, color);
    }
    let around = |&(x, y): &(f64, f64)| Area { left: x - 5.0, top: y - 5.0, right: x + 5.0, bottom: y + 5.0 };
    let mut taken: Vec<Area> = places.iter().map(around).collect();
    for (i, (number, row)) in points.iter().enumerate() {
        let text = (number + 1).to_string();
        let width = 6.5 * text.len() as f64;
        let boxes = AROUND.map(|(dx, dy)| {
            let (left, bottom) = (places[i].0 + dx, places[i].1 + dy);
            Area { left, top: bottom - 10.0, right: left + width, bottom }
        });
        let own = i;
        let free = |area: &Area| taken.iter().enumerate().all(|(j, other)| j == own || area.apart(other));
        // Where everything is full, no number: the table has the row all the same.
        if let Some(place) = boxes.into_iter().find(free) {
            svg.text((place.left, place.bottom), &text, Text::new(11.0, Anchor::Start).color(style(&row.op).0));
            taken.push(place);
        }
    }

    // Legend.
    let mut named: Vec<(&str, Marker, &str)> = Vec::new();
    for (_, row) in &points {
        let entry = style(&row.op);
        if !named.iter().any(|(.., name)| *name == entry.2) {
            named.push(entry);
        }
    }
    let mut left = axes.left + 6.0;
    for (color, marker, name) in named {
        svg.marker((left, 20.0), marker, color);
        svg.text((left + 11.0, 24.5), name, Text::new(13.0, Anchor::Start).color(GREY));
        left += 34.0 + 7.0 * name.len() as f64;
    }
    Some(standalone(&svg.finish()))
}

/// Ticks at powers of ten; where there are few of them, also at 2 and 5 times those.
fn powers((lo, hi): (f64, f64)) -> Vec<(f64, String)> {
    let steps: &[f64] = if hi - lo < 2.5 { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let exponents = lo.floor() as i32..=hi.ceil() as i32;
    let all = exponents.flat_map(|e| steps.iter().map(move |s| s * 10f64.powi(e)));
    let inside = all.filter(|v| (lo - 1e-9..=hi + 1e-9).contains(&v.log10()));
    inside.map(|v| (v.log10(), if v >= 1.0 { format!("{v:.0}") } else { format!("{v}") })).collect()
}

#[cfg(test)]
mod tests {
    use super::super::ceilings::Bandwidth;
    use super::super::table::tests::{document, row};
    use super::*;

    #[test]
    fn a_page_with_every_row_and_ceiling() {
        let mut failed = row("c", &[1.0]);
        failed.args = "recurve bench kernels <c>".into();
        failed.failure = Some("wrong".into());
        let mut document = document(vec![row("a", &[1.0]), row("b", &[30.0]), failed]);
        document.rows[0].args = "recurve bench kernels a".into();
        assert!(!html(&document).unwrap().contains("<svg"), "no ceilings, no chart");
        let bandwidth =
            [(1 << 20, 20.0), (1 << 24, 5.0)].map(|(bytes, gbps)| Bandwidth { bytes, gbps, kernel: String::new() });
        let (kernel, bandwidth) = (String::new(), bandwidth.to_vec());
        document.ceilings =
            Some(Ceilings { gflops: 2000.0, kernel, unrest: 1.0, bandwidth, submit_us: 1.0, dispatch_us: 1.0 });
        let page = html(&document).unwrap();
        for piece in
            ["<svg", "2000 GFLOP/s multiply-adds", "20.0 GB/s in 1 MiB", "5.00 GB/s in 16 MiB", "kernels &#60;c&#62;"]
        {
            assert!(page.contains(piece), "`{piece}` is not in: {page}");
        }
        assert_eq!(page.matches("<circle").count(), 2 + 1, "two marks that count and the legend's");
        let (links, namespaces) = (page.matches("http://").count(), page.matches("http://www.w3.org/2000/svg").count());
        assert_eq!(links, namespaces, "nothing from outside");
        assert!(page.contains("FAILED: wrong") && page.contains("class=\"failed\""));
    }

    #[test]
    fn ticks_of_a_logarithmic_axis() {
        let labels = |range| powers(range).into_iter().map(|t| t.1).collect::<Vec<_>>();
        assert_eq!(labels((-1.0, 3.0)), ["0.1", "1", "10", "100", "1000"]);
        assert_eq!(labels((0.0, 1.2)), ["1", "2", "5", "10"]);
    }
}
