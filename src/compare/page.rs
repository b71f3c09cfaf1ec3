//! The page of a comparison: what the template `assets/compare.html` needs, put in words and tables.

use super::contrasts::{Contrast, Verdict};
use super::{Comparison, Facts};
use crate::report::claims::{fixed, pair, percent};
use crate::report::figures::{self, Figure};
use crate::report::html::{cell, filters, known, switches, thousands};
use crate::report::in_lines;
use crate::report::published::{CONTRASTS, Kind};
use crate::report::svg::{css_variables, number};
use crate::{Error, Result};
use askama::Template;
use std::fmt::Write;

#[derive(Template)]
#[template(path = "compare.html")]
struct Page<'a> {
    title: String,
    subtitle: String,
    facts: Vec<(&'static str, String)>,
    verdict: String,
    verdict_class: &'static str,
    findings: Vec<String>,
    notes: &'a [String],
    level: String,
    error: String,
    replicates: usize,
    networks: Vec<Network<'a>>,
    /// Why contrasts are undefined, one sentence each.
    reasons: Vec<String>,
    sections: Vec<Section<'a>>,
    provenance: Vec<(&'static str, String)>,
    command: Option<&'a str>,
    descriptions: Vec<(&'a str, String)>,
    version: &'a str,
    light: String,
    dark: String,
    switches: String,
}

/// The rows of one network.
struct Network<'a> {
    name: &'a str,
    rows: Vec<Row>,
    runs: Vec<RunRow<'a>>,
    /// Run and note.
    notes: Vec<(&'a str, &'a str)>,
}

/// A contrast, as texts.
struct Row {
    title: &'static str,
    first: String,
    second: String,
    difference: String,
    interval: String,
    p: String,
    seeds: String,
    published: String,
    verdict: &'static str,
    class: &'static str,
}

/// A run, as texts.
struct RunRow<'a> {
    name: &'a str,
    cells: Vec<String>,
    /// The relative address of its report.
    link: String,
}

/// A figure with its number and table.
struct Section<'a> {
    number: usize,
    figure: &'a Figure,
    table: Option<figures::Table>,
}

/// Renders the page.
pub(super) fn render(comparison: &Comparison, figures: &[Figure]) -> Result<String> {
    let meta = &comparison.meta;
    let networks = meta.networks.len();
    let (verdict, verdict_class) = verdict(&comparison.contrasts);
    let sections = figures.iter().enumerate().map(|(i, figure)| {
        let table = (figure.name == "accuracy").then(|| accuracy(comparison));
        Section { number: i + 1, figure, table }
    });
    let page = Page {
        title: format!("{} of {}", plural(comparison.runs.len(), "run"), plural(networks, "network")),
        subtitle: format!("Side by side on {} pictures of split {}", thousands(meta.images as u64), meta.split),
        facts: known([
            ("Data", data(comparison)),
            ("Split", Some(meta.split.clone())),
            ("Images", Some(thousands(meta.images as u64))),
            ("Classes", Some(meta.classes.len().to_string())),
            ("Adapter", meta.adapter.clone()),
        ]),
        verdict,
        verdict_class,
        findings: findings(comparison),
        notes: &meta.notes,
        level: number(100.0 * meta.level, 0),
        error: number(1.0 - meta.level, 2),
        replicates: meta.replicates,
        networks: meta.networks.iter().map(|network| self::network(comparison, &network.name)).collect(),
        reasons: reasons(comparison),
        sections: sections.collect(),
        provenance: known([
            ("Data", data(comparison)),
            ("Split", Some(meta.split.clone())),
            ("Adapter", meta.adapter.clone()),
            ("Driver", meta.driver.clone()),
            ("Bootstrap replicates", Some(meta.replicates.to_string())),
            ("Program", Some(format!("recurve {}", meta.recurve_version))),
        ]),
        command: meta.command.as_deref(),
        descriptions: meta
            .networks
            .iter()
            .map(|network| (network.name.as_str(), in_lines(&network.description).unwrap_or_default()))
            .collect(),
        version: &meta.recurve_version,
        light: css_variables(false),
        dark: css_variables(true),
        switches: switches(figures),
    };
    page.render().map_err(|e| Error::Data(format!("compare.html cannot be rendered: {e}")))
}

/// "1 run", "2 runs".
fn plural(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// The data sets, each once.
fn data(comparison: &Comparison) -> Option<String> {
    let mut names: Vec<&str> = comparison.runs.iter().filter_map(|run| run.dataset.as_deref()).collect();
    names.sort_unstable();
    names.dedup();
    (!names.is_empty()).then(|| names.join("; "))
}

fn kind(contrast: &Contrast) -> &'static Kind {
    CONTRASTS.iter().find(|kind| kind.key == contrast.contrast).unwrap_or(&CONTRASTS[0])
}

/// The CSS class of a verdict.
fn class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Holds => "holds",
        Verdict::DoesNotHold => "fails",
        Verdict::Undecided => "undecided",
        Verdict::Undefined => "undefined",
    }
}

/// All contrasts in one sentence, and the CSS class that suits it.
fn verdict(contrasts: &[Contrast]) -> (String, &'static str) {
    let count = |verdict| contrasts.iter().filter(|contrast| contrast.verdict == verdict).count();
    let [holds, fails, undecided, undefined] =
        [Verdict::Holds, Verdict::DoesNotHold, Verdict::Undecided, Verdict::Undefined].map(count);
    let all = contrasts.len();
    let mut sentence = match holds == all && all > 0 {
        true => format!("In all {all} contrasts the first mean exceeds the second."),
        false => format!("In {holds} of {all} contrasts the first mean exceeds the second."),
    };
    if fails > 0 {
        let _ = write!(sentence, " In {fails} the second exceeds the first.");
    }
    if undecided > 0 {
        let _ = write!(sentence, " {undecided} cannot be decided with these runs and pictures.");
    }
    if undefined > 0 {
        let _ = write!(sentence, " {undefined} cannot be computed here.");
    }
    let class = match (fails, holds == all) {
        (0, true) => "holds",
        (0, false) => "undefined",
        _ => "fails",
    };
    (sentence, class)
}

/// What was found, a sentence each.
fn findings(comparison: &Comparison) -> Vec<String> {
    let mut findings: Vec<String> = CONTRASTS.iter().map(|kind| of_contrast(comparison, kind)).collect();
    findings.push(of_seeds(comparison));
    findings.extend(of_accuracy(comparison));
    findings.extend(of_agreement(comparison));
    findings
}

/// In which networks a contrast holds.
fn of_contrast(comparison: &Comparison, kind: &Kind) -> String {
    let mut parts = Vec::new();
    for verdict in [Verdict::Holds, Verdict::DoesNotHold, Verdict::Undecided, Verdict::Undefined] {
        let those = comparison.contrasts.iter().filter(|c| c.contrast == kind.key && c.verdict == verdict);
        let names: Vec<&str> = those.map(|c| c.network.as_str()).collect();
        if !names.is_empty() {
            parts.push(format!("{} in {}", verdict.words(), listed(&names)));
        }
    }
    format!("{} ({} > {}): {}.", kind.title, kind.groups[0], kind.groups[1], parts.join("; "))
}

/// Names in a row, in quotation marks if one holds a comma.
fn listed(names: &[&str]) -> String {
    let quoted = names.iter().any(|name| name.contains(','));
    let each = names.iter().map(|name| if quoted { format!("\u{201c}{name}\u{201d}") } else { name.to_string() });
    each.collect::<Vec<_>>().join(", ")
}

/// What the intervals speak of.
fn of_seeds(comparison: &Comparison) -> String {
    let single: Vec<&str> = comparison
        .meta
        .networks
        .iter()
        .filter(|network| network.runs.len() == 1)
        .map(|network| network.name.as_str())
        .collect();
    if single.len() == comparison.meta.networks.len() {
        return "Every network was trained once. Intervals and verdicts are for other pictures of the same kind and for these very \
                trained networks: nothing is known about other trainings."
            .into();
    }
    let several = "Intervals and verdicts are for other pictures and for other trainings of the same networks; few runs make them wide.";
    match single.is_empty() {
        true => several.into(),
        false => format!(
            "{several} Of {} there is a single run: its intervals are for these very trained weights, and nothing is known about other \
             trainings.",
            listed(&single)
        ),
    }
}

/// Accuracy at the end.
fn of_accuracy(comparison: &Comparison) -> Option<String> {
    let at_end = |run: &Facts| run.accuracy.last().copied();
    let mut parts = Vec::new();
    for network in &comparison.meta.networks {
        let values: Vec<f64> = comparison.runs_of(&network.name).filter_map(at_end).collect();
        let (low, high) = (values.iter().copied().reduce(f64::min)?, values.iter().copied().reduce(f64::max)?);
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        parts.push(match values.len() {
            1 => format!("{} {}", network.name, percent(Some(mean))),
            n => format!(
                "{} {} ({n} runs, {} to {})",
                network.name,
                percent(Some(mean)),
                percent(Some(low)),
                percent(Some(high))
            ),
        });
    }
    Some(format!("Accuracy at the last timestep: {}.", parts.join("; ")))
}

/// Agreement within networks and between them, at the end.
fn of_agreement(comparison: &Comparison) -> Option<String> {
    let (last, runs) = (&comparison.consistency.last, &comparison.runs);
    let mean = |grid: &[Vec<Option<f64>>], same: bool| {
        let pairs = (0..runs.len()).flat_map(|i| (0..i).map(move |j| (i, j)));
        let values: Vec<f64> = pairs
            .filter(|&(i, j)| (runs[i].network == runs[j].network) == same)
            .filter_map(|(i, j)| grid[i][j])
            .collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    let sentence = |name: &str, grid: &[Vec<Option<f64>>]| match (mean(grid, true), mean(grid, false)) {
        (None, None) => None,
        (Some(same), None) => Some(format!("{name} is {} between runs of one network", fixed(Some(same), 3))),
        (None, Some(other)) => Some(format!("{name} is {} between networks", fixed(Some(other), 3))),
        (Some(same), Some(other)) => Some(format!(
            "{name} is {} between runs of one network and {} between runs of different ones",
            fixed(Some(same), 3),
            fixed(Some(other), 3)
        )),
    };
    let parts: Vec<String> = [
        sentence("the mean rank correlation of dissimilarities", &last.spearman),
        sentence("the mean error consistency", &last.error_consistency),
    ]
    .into_iter()
    .flatten()
    .collect();
    (!parts.is_empty()).then(|| format!("At the last timestep {}.", parts.join("; ")))
}

fn network<'a>(comparison: &'a Comparison, name: &'a str) -> Network<'a> {
    let runs: Vec<&Facts> = comparison.runs_of(name).collect();
    Network {
        name,
        rows: comparison.contrasts.iter().filter(|contrast| contrast.network == name).map(row).collect(),
        notes: runs.iter().flat_map(|run| run.notes.iter().map(|note| (run.run.as_str(), note.as_str()))).collect(),
        runs: runs.into_iter().map(run_row).collect(),
    }
}

/// p as a text; small ones are not told exactly.
pub fn p_text(p: Option<f64>) -> String {
    match p {
        None => "\u{2013}".into(),
        Some(p) if p < 0.001 => "< 0.001".into(),
        Some(p) => number(p, 3),
    }
}

/// Runs of a contrast, and in how many of them it is defined if not in all.
pub fn seeds_text(contrast: &Contrast) -> String {
    match contrast.defined == contrast.seeds {
        true => contrast.seeds.to_string(),
        false => format!("{} (defined in {})", contrast.seeds, contrast.defined),
    }
}

fn row(contrast: &Contrast) -> Row {
    let kind = kind(contrast);
    let decimals = kind.decimals;
    Row {
        title: kind.title,
        first: cell(contrast.first, decimals),
        second: cell(contrast.second, decimals),
        difference: cell(contrast.difference, decimals + 1),
        interval: match (contrast.low, contrast.high) {
            (Some(low), Some(high)) => format!("{} to {}", number(low, decimals + 1), number(high, decimals + 1)),
            _ => "\u{2013}".into(),
        },
        p: p_text(contrast.p_holm),
        seeds: seeds_text(contrast),
        published: contrast.published.map_or("\u{2013}".into(), |means| pair(means.map(Some), decimals)),
        verdict: contrast.verdict.words(),
        class: class(contrast.verdict),
    }
}

fn run_row(run: &Facts) -> RunRow<'_> {
    let known = |value: Option<u64>| value.map_or("\u{2013}".into(), thousands);
    let share = |n: u64| {
        let c = &run.counts;
        let all = c.stable_correct + c.stable_incorrect + c.unstable_correct + c.unstable_incorrect;
        percent((all > 0).then(|| n as f64 / all as f64))
    };
    let cells = vec![
        run.seed.map_or("unknown".into(), |seed| seed.to_string()),
        known(run.step),
        percent(run.accuracy.first().copied()),
        percent(run.accuracy.last().copied()),
        share(run.counts.stable_correct),
        known(run.parameters),
        run.checkpoint.clone().unwrap_or("\u{2013}".into()),
    ];
    RunRow { name: &run.run, cells, link: address(&run.report) }
}

/// A relative path as an address (RFC 3986): it begins with `./`, so that no name can be taken for a scheme.
fn address(path: &str) -> String {
    let mut address = String::from("./");
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => address.push(byte as char),
            _ => {
                let _ = write!(address, "%{byte:02X}");
            }
        }
    }
    address
}

/// Why contrasts have no verdict.
fn reasons(comparison: &Comparison) -> Vec<String> {
    let undefined = comparison.contrasts.iter().filter_map(|c| Some((c, c.why.as_ref()?)));
    undefined.map(|(c, why)| format!("{}, {}: {why}", c.network, kind(c).title)).collect()
}

fn accuracy(comparison: &Comparison) -> figures::Table {
    let steps = comparison.runs.iter().map(|run| run.timesteps).max().unwrap_or(0);
    let head =
        ["run".to_string(), "network".into()].into_iter().chain((0..steps).map(|t| format!("t = {t}"))).collect();
    let rows = comparison.runs.iter().map(|run| {
        let at = |t: usize| run.accuracy.get(t).map_or("\u{2013}".into(), |&a| percent(Some(a)));
        (run.run.clone(), std::iter::once(run.network.clone()).chain((0..steps).map(at)).collect())
    });
    figures::Table { caption: "Accuracy of each run".into(), head, rows: rows.collect() }
}

/// The table for people, on the terminal.
pub fn table(comparison: &Comparison) -> Vec<[String; 9]> {
    let rows = comparison.contrasts.iter().map(|contrast| {
        let Row { first, second, difference, interval, p, seeds, published, verdict, .. } = row(contrast);
        let place = format!("{}, {}", contrast.network, contrast.contrast);
        [place, first, second, difference, interval, p, seeds, published, verdict.into()]
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_hold_no_markup_and_no_scheme() {
        assert_eq!(address("a b/report.html"), "./a%20b/report.html");
        assert_eq!(address("javascript:x\"<\u{e4}/r"), "./javascript%3Ax%22%3C%C3%A4/r");
    }
}
