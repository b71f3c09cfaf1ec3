//! The page: what the template `assets/report.html` needs, put in words and tables.

use askama::Template;
use serde_json::Value;

use super::claims::{self, Claim, Contrast, Verdict, fixed, pair, percent, significant};
use super::dynamics::Dynamics;
use super::examples::{Example, Kind};
use super::figures::{self, Figure, Table};
use super::plots::shorten;
use super::published::{self, Comparison};
use super::summary;
use super::svg::{css_variables, escape, short};
use super::view::{Pair, View};
use super::{Meta, Report, Training};
use crate::hash::fnv1a;
use crate::{Error, Result};

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    title: String,
    subtitle: String,
    facts: Vec<(&'static str, String)>,
    notes: Vec<String>,
    verdict: String,
    verdict_class: &'static str,
    /// What was found, one sentence each.
    findings: Vec<String>,
    /// The published networks, and whether this one is of that kind.
    networks: Vec<(&'static str, bool)>,
    caveat: Option<String>,
    compared: &'static str,
    contrasts: Vec<ContrastRow>,
    chapters: Vec<ChapterOfPage<'a>>,
    examples: Vec<ExampleGroup<'a>>,
    window: String,
    /// Everything that says what was run on what.
    provenance: Vec<(&'static str, String)>,
    command: Option<&'a str>,
    configuration: Option<String>,
    version: &'a str,
    /// CSS variables on white and on black, and the rules of the switches.
    light: String,
    dark: String,
    switches: String,
}

/// Figures under one heading.
struct ChapterOfPage<'a> {
    anchor: &'static str,
    title: &'static str,
    sections: Vec<Section<'a>>,
}

/// A row of the twelve-cell table.
struct ContrastRow {
    title: String,
    groups: String,
    published: Vec<(String, bool)>,
    here: String,
    verdict: Verdict,
}

/// A figure with what belongs to it.
struct Section<'a> {
    number: usize,
    figure: Option<&'a Figure>,
    /// Wide figures stand above their claims, not beside them.
    wide: bool,
    /// One sentence (HTML of this module's making).
    sentence: String,
    claims: Vec<Claim>,
    /// What is said where there is no published number.
    remark: Option<&'static str>,
    table: Option<Table>,
}

/// Pictures of one kind.
struct ExampleGroup<'a> {
    kind: Kind,
    cards: Vec<Card<'a>>,
}

/// A picture and its trajectory.
struct Card<'a> {
    example: &'a Example,
    label: String,
    /// Class, whether it is the label, distance to the label's zone; at each timestep.
    steps: Vec<(String, bool, String)>,
}

/// Renders the page.
pub(super) fn render(report: &Report, view: &View, dynamics: Option<&Dynamics>, figures: &[Figure]) -> Result<String> {
    let meta = &report.meta;
    let comparison = published::comparison(&meta.network);
    let contrasts = claims::contrasts(view);
    let mut chapters: Vec<ChapterOfPage> = Vec::new();
    for (i, figure) in figures.iter().enumerate() {
        let contrast = figures::CONTRASTS.iter().position(|name| *name == figure.name);
        let mut section = match (figure.name, contrast) {
            (_, Some(c)) => contrast_section(view, &contrasts[c], &comparison),
            (figures::ACCURACY, _) => accuracy_section(view),
            (figures::GROUPS, _) => groups_section(view),
            (figures::CHANGE, _) => change_section(view),
            (figures::READOUT, _) => readout_section(view),
            (figures::TRAINING, _) => training_section(report.training.as_ref()),
            _ => Section { wide: true, ..Section::new("", vec![], None) },
        };
        (section.number, section.figure) = (i + 1, Some(figure));
        let (title, anchor) = figure.chapter.title();
        match chapters.last_mut().filter(|chapter| chapter.anchor == anchor) {
            Some(chapter) => chapter.sections.push(section),
            None => chapters.push(ChapterOfPage { anchor, title, sections: vec![section] }),
        }
    }
    let (verdict, verdict_class) = summary(&contrasts, &comparison, view);
    let page = Page {
        title: match &meta.name {
            Some(name) => format!("Readout-zone trajectories of {name}"),
            None => "Readout-zone trajectories".into(),
        },
        subtitle: describe(&meta.network),
        facts: facts(meta, view),
        notes: notes(meta, view, dynamics),
        verdict,
        verdict_class,
        findings: summary::findings(view, dynamics),
        networks: published::NETWORKS.iter().enumerate().map(|(i, n)| (n.name, comparison.is(i))).collect(),
        compared: comparison.network().name,
        contrasts: contrasts.iter().map(|c| contrast_row(c, &comparison)).collect(),
        chapters,
        examples: examples(report, view),
        window: match view.timesteps_analyse {
            Some(window) => format!("In this run the window is t < {window}."),
            None => "In this run there is no such window.".into(),
        },
        provenance: provenance(meta, view),
        command: meta.command.as_deref(),
        configuration: meta.configuration.clone().or_else(|| pretty(&meta.network)),
        caveat: comparison.caveat,
        version: &meta.recurve_version,
        light: css_variables(false),
        dark: css_variables(true),
        switches: switches(figures),
    };
    page.render().map_err(|e| Error::Data(format!("report.html cannot be rendered: {e}")))
}

/// The rules that show the pane which is chosen.
pub(crate) fn switches(figures: &[Figure]) -> String {
    let most = figures.iter().map(|figure| figure.panes.len()).max().unwrap_or(0);
    (1..=most)
        .map(|i| format!(".switch>input:nth-of-type({i}):checked~.panes>:nth-child({i}){{display:block}}\n"))
        .collect()
}

/// The pictures by kind.
fn examples<'a>(report: &'a Report, view: &View) -> Vec<ExampleGroup<'a>> {
    let name = |class: usize| match view.classes.get(class) {
        Some(name) => shorten(name, 60),
        None => format!("class {class}"),
    };
    let card = |example: &'a Example| Card {
        example,
        label: name(example.label),
        steps: example
            .classes
            .iter()
            .zip(&example.label_margin)
            .map(|(&class, margin)| (name(class), class == example.label, margin.map_or("\u{2013}".into(), short)))
            .collect(),
    };
    Kind::ALL
        .into_iter()
        .map(|kind| ExampleGroup {
            kind,
            cards: report.examples.iter().filter(|example| example.kind == kind).map(card).collect(),
        })
        .filter(|group| !group.cards.is_empty())
        .collect()
}

/// Width of a drawing, pixels.
fn width_of(svg: &str) -> f64 {
    let after = svg.split(" width=\"").nth(1).and_then(|rest| rest.split('"').next());
    after.and_then(|width| width.parse().ok()).unwrap_or(0.0)
}

impl figures::Drawing {
    /// Whether it needs a place that scrolls where the page is narrow.
    pub fn scrolls(&self) -> bool {
        width_of(&self.svg) > 500.0
    }

    /// Its width, pixels.
    pub fn width(&self) -> f64 {
        width_of(&self.svg)
    }
}

fn pretty(network: &Value) -> Option<String> {
    if network.is_null() { None } else { serde_json::to_string_pretty(network).ok() }
}

/// `[network]` in words.
fn describe(network: &Value) -> String {
    let flag = |key: &str| network.get(key).and_then(Value::as_bool) == Some(true);
    let connections = match (flag("lateral"), flag("topdown")) {
        (true, true) => "lateral and top-down connections (LT)",
        (true, false) => "lateral connections (L)",
        (false, true) => "top-down connections (T)",
        (false, false) if network.get("lateral").is_some() => "no recurrent connections",
        _ => return String::new(),
    };
    let mut words = vec![format!("BLT network with {connections}")];
    for (key, before, after) in
        [("interaction", "", " interaction"), ("timesteps", "T = ", ""), ("image_size", "", " px images")]
    {
        match network.get(key) {
            Some(Value::String(s)) => words.push(format!("{before}{s}{after}")),
            Some(Value::Number(n)) => words.push(format!("{before}{n}{after}")),
            _ => {}
        }
    }
    words.join(", ")
}

/// Name and hash of something, as far as they are known.
fn hashed(name: Option<&str>, hash: Option<&str>) -> Option<String> {
    match (name, hash) {
        (Some(name), Some(hash)) => Some(format!("{name} ({hash})")),
        (name, hash) => name.or(hash).map(String::from),
    }
}

/// The facts that the reader needs first.
fn facts(meta: &Meta, view: &View) -> Vec<(&'static str, String)> {
    let classes = (view.class_count() > 0).then(|| view.class_count().to_string());
    known([
        ("Data", meta.dataset.clone()),
        ("Split", meta.split.clone()),
        ("Images", Some(thousands(meta.images.unwrap_or(view.samples)))),
        ("Classes", classes),
        ("Timesteps", Some(view.timesteps.to_string())),
        ("Parameters", meta.parameters.map(thousands)),
        ("Checkpoint", meta.checkpoint.clone()),
        ("Adapter", meta.adapter.clone()),
    ])
}

/// Everything that says what was run on what.
fn provenance(meta: &Meta, view: &View) -> Vec<(&'static str, String)> {
    let limits = meta
        .limits
        .as_ref()
        .and_then(Value::as_object)
        .map(|limits| limits.iter().map(|(k, v)| format!("{k} {v}")).collect::<Vec<_>>().join(", "));
    let list = |numbers: &[f64]| numbers.iter().map(f64::to_string).collect::<Vec<_>>().join(", ");
    let p = meta.dynamics_parameters.as_ref();
    let hash = |text: &String| format!("fnv1a:{:016x}", fnv1a(text.as_bytes()));
    known([
        ("Data", hashed(meta.dataset.as_deref(), meta.dataset_hash.as_deref())),
        ("Split", meta.split.clone()),
        ("Images", Some(thousands(view.samples))),
        ("Checkpoint", hashed(meta.checkpoint.as_deref(), meta.checkpoint_hash.as_deref())),
        ("Step", meta.step.map(thousands)),
        ("Untrained network", meta.init_checkpoint.clone()),
        ("Seed", meta.seed.map(|s| s.to_string())),
        ("Configuration", meta.configuration.as_ref().map(hash)),
        ("Protocol", meta.protocol.as_ref().map(Value::to_string)),
        ("Adapter", meta.adapter.clone()),
        ("Driver", meta.driver.clone()),
        ("Backend", meta.backend.clone()),
        ("Limits", limits),
        ("Program", (!meta.recurve_version.is_empty()).then(|| format!("recurve {}", meta.recurve_version))),
        ("Thresholds of entropy (nats)", p.map(|p| list(&p.thresholds))),
        ("Images compared pair by pair", p.map(|p| p.rdm_images.len().to_string())),
        ("Classes whose means are shown", p.map(|p| p.shown_classes.len().to_string())),
        ("Ridge of the decoders", p.map(|p| p.ridge.to_string())),
        ("Coverage of intervals", p.map(|p| format!("{}\u{a0}%", 100.0 * p.level))),
    ])
}

/// The facts that are known.
pub(crate) fn known<const N: usize>(facts: [(&'static str, Option<String>); N]) -> Vec<(&'static str, String)> {
    let known = facts.into_iter().filter_map(|(name, value)| value.map(|value| (name, value)));
    known.filter(|(_, value)| !value.is_empty()).collect()
}

fn notes(meta: &Meta, view: &View, dynamics: Option<&Dynamics>) -> Vec<String> {
    let mut notes = meta.notes.clone();
    if view.silent_representations > 0 {
        notes.push(format!(
            "{} representations (image and timestep) are all zero. They have no direction: their cosine is undefined.",
            thousands(view.silent_representations)
        ));
    }
    match dynamics.map(Dynamics::missing) {
        None => notes.push("This report has the published statistics only; the dynamics were not measured.".into()),
        Some(missing) if !missing.is_empty() => notes.push(format!("Not measured here: {}.", missing.join(", "))),
        Some(_) => {}
    }
    notes
}

/// The verdict in one sentence and its CSS class.
fn summary(contrasts: &[Contrast], comparison: &Comparison, view: &View) -> (String, &'static str) {
    let count = |verdict| contrasts.iter().filter(|c| c.verdict() == verdict).count();
    let (holds, fails) = (count(Verdict::Holds), count(Verdict::Fails));
    let network = match comparison.caveat {
        None => format!("published network of this kind: {}", comparison.network().name),
        Some(_) => "this kind of network was not published".into(),
    };
    match contrasts.len() - holds - fails {
        0 if fails == 0 => (format!("All three contrasts hold here ({network})."), "holds"),
        0 => (format!("{holds} of the three contrasts hold here, {fails} not ({network})."), "fails"),
        3 => (format!("None of the three contrasts can be tested here. {}", claims::undefined(view)), "undefined"),
        undefined => (
            format!(
                "{holds} of the three contrasts hold here, {fails} do not, {undefined} cannot be tested ({network})."
            ),
            if fails == 0 { "undefined" } else { "fails" },
        ),
    }
}

fn contrast_row(contrast: &Contrast, comparison: &Comparison) -> ContrastRow {
    let published = contrast.published.iter().enumerate();
    ContrastRow {
        title: contrast.title.into(),
        groups: contrast.groups.join(" / "),
        published: published.map(|(i, p)| (pair(p.map(Some), contrast.decimals), comparison.is(i))).collect(),
        here: pair(contrast.here, contrast.decimals),
        verdict: contrast.verdict(),
    }
}

impl Section<'_> {
    fn new(sentence: &str, claims: Vec<Claim>, table: Option<Table>) -> Self {
        let sentence = rich(sentence);
        Section { number: 0, figure: None, wide: false, sentence, claims, remark: None, table }
    }
}

fn accuracy_section<'a>(view: &View) -> Section<'a> {
    let last = view.timesteps - 1;
    let mut sentence = format!("Accuracy is {} at t = 0", percent(view.accuracy[0]));
    if last > 0 {
        sentence += &format!(" and {} at t = {last}", percent(view.accuracy[last]));
    }
    if let Some(init) = &view.accuracy_init {
        sentence += &format!("; the untrained network reaches {} at t = {last}", percent(init[last]));
    }
    if view.class_count() > 0 {
        sentence += &format!("; chance is {}", percent(Some(1.0 / view.class_count() as f64)));
    }
    let mut rows = vec![("trained".to_string(), view.accuracy.iter().map(|a| percent(*a)).collect())];
    if let Some(init) = &view.accuracy_init {
        rows.push(("untrained".into(), init.iter().map(|a| percent(*a)).collect()));
    }
    let table = Table { caption: "Accuracy".into(), head: timesteps(view), rows };
    Section::new(&(sentence + "."), vec![claims::accuracy(view)], Some(table))
}

fn groups_section<'a>(view: &View) -> Section<'a> {
    let c = &view.counts;
    let total = c.stable_correct + c.stable_incorrect + c.unstable_correct + c.unstable_incorrect;
    let share = |n: u64| percent((total > 0).then(|| n as f64 / total as f64));
    let sentence = match total {
        0 => "No image is classified as stable or unstable: that takes at least two timesteps.".into(),
        _ => format!(
            "{} of the images settle on the right class for good (stable-correct), {} on a wrong one (stable-incorrect); {} are \
             unstable: their class comes and goes, or changes at the last step.",
            share(c.stable_correct),
            share(c.stable_incorrect),
            share(c.unstable_correct + c.unstable_incorrect)
        ),
    };
    let groups = [
        ("stable-correct", c.stable_correct),
        ("stable-incorrect", c.stable_incorrect),
        ("unstable-correct", c.unstable_correct),
        ("unstable-incorrect", c.unstable_incorrect),
    ];
    let mut head: Vec<String> = ["group", "images", "here", "published (L additive)"].map(String::from).into();
    let mut rows: Vec<(String, Vec<String>)> = groups
        .into_iter()
        .zip(published::GROUPS)
        .map(|((name, n), p)| (name.into(), vec![thousands(n), share(n), percent(Some(p))]))
        .collect();
    // The histogram goes on in the same table: share of the stable-correct images, here and published.
    let (here, there) = (view.stable_correct(), published::HISTOGRAM.iter().sum::<u64>());
    for t in 0..view.timesteps.max(published::HISTOGRAM.len()) {
        let n = view.t_stable_histogram.get(t).copied();
        let p = published::HISTOGRAM.get(t).map(|&p| percent(Some(p as f64 / there as f64)));
        rows.push((
            format!("stable-correct, t_stable = {t}"),
            vec![
                n.map_or("\u{2013}".into(), thousands),
                n.map_or("\u{2013}".into(), |n| percent((here > 0).then(|| n as f64 / here as f64))),
                p.unwrap_or("\u{2013}".into()),
            ],
        ));
    }
    head[0] = "Group, or t_stable within stable-correct (shares of that group)".into();
    let table = Table { caption: "Images in each group".into(), head, rows };
    let mut section = Section::new(&sentence, claims::groups(view).into(), Some(table));
    section.wide = true;
    section
}

fn change_section<'a>(view: &View) -> Section<'a> {
    let mean = view.mean_change(&view.change_by_t_stable);
    let sentence = match (mean.first().copied().flatten(), mean.last().copied().flatten()) {
        (Some(first), Some(last)) if mean.len() > 1 => format!(
            "Over all stable-correct images the representation changes by {} in the first step and by {} in the last. If images \
             were \u{201c}done\u{201d} once in their final readout zone, each line would fall towards 0 after its ring.",
            significant(Some(first)),
            significant(Some(last))
        ),
        (Some(first), _) => format!("The representation changes by {} in the only step.", significant(Some(first))),
        _ => "There are no stable-correct images whose change could be followed.".into(),
    };
    let head = [String::from("t_stable")].into_iter();
    let head = head.chain((0..view.timesteps - 1).map(|t| format!("{t} \u{2192} {}", t + 1))).collect();
    let decimals = claims::common_decimals(view.change_by_t_stable.iter().flatten().copied());
    let mut rows = Vec::new();
    for (name, table) in
        [("trained", Some(&view.change_by_t_stable)), ("untrained", view.change_by_t_stable_init.as_ref())]
    {
        let Some(table) = table else { continue };
        for (g, row) in table.iter().enumerate().filter(|(g, _)| view.t_stable_histogram[*g] > 0) {
            rows.push((format!("{name}, {g}"), row.iter().map(|v| cell(*v, decimals)).collect()));
        }
        let mean = view.mean_change(table);
        rows.push((format!("{name}, all"), mean.iter().map(|v| cell(*v, decimals)).collect()));
    }
    let table = Table { caption: "Mean L2 norm of r(t+1) \u{2212} r(t) of stable-correct images".into(), head, rows };
    let mut section = Section::new(&sentence, claims::change(view).into(), Some(table));
    section.wide = true;
    section
}

fn contrast_section<'a>(view: &View, contrast: &Contrast, comparison: &Comparison) -> Section<'a> {
    let [first, second] = contrast.groups;
    let means = pair(contrast.here, contrast.decimals);
    let decimals = match contrast.decimals {
        2 => claims::common_decimals(contrast.by_timestep.iter().flatten().copied()),
        cosine => cosine,
    };
    let sentence = match (contrast.verdict(), view.timesteps_analyse) {
        (Verdict::Undefined, _) | (_, None) => "The averaged contrast is undefined here.".into(),
        (_, Some(window)) => {
            format!("Averaged over t < {window}: {means} (\u{201c}{first}\u{201d} / \u{201c}{second}\u{201d}).")
        }
    };
    let row = |c: usize| contrast.by_timestep.iter().map(|p: &Pair| cell(p[c], decimals)).collect::<Vec<_>>();
    let table = Table {
        caption: contrast.title.into(),
        head: timesteps(view),
        rows: vec![(first.into(), row(0)), (second.into(), row(1))],
    };
    Section::new(&sentence, vec![contrast.claim(view, comparison)], Some(table))
}

fn readout_section<'a>(view: &View) -> Section<'a> {
    let k = view.class_count();
    let mut pairs: Vec<(f64, usize, usize)> = (0..k)
        .flat_map(|i| (i + 1..k).map(move |j| (i, j)))
        .filter_map(|(i, j)| view.similarity(i, j).map(|v| (v, i, j)))
        .collect();
    pairs.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    let name = |&(_, i, j): &(f64, usize, usize)| {
        format!("{} and {}", shorten(&view.classes[i], 60), shorten(&view.classes[j], 60))
    };
    let sentence = match (pairs.first(), pairs.last()) {
        (Some(most), Some(least)) if pairs.len() > 1 => format!(
            "The readout vectors most alike are those of {} (cosine {}), the least alike those of {} (cosine {}).",
            name(most),
            fixed(Some(most.0), 3),
            name(least),
            fixed(Some(least.0), 3)
        ),
        (Some(only), _) => format!("The two readout vectors have cosine {}.", fixed(Some(only.0), 3)),
        _ => "There are no two classes to compare.".into(),
    };
    let shown = pairs.len().min(10);
    let ends = (0..shown).map(|i| (&pairs[i], &pairs[pairs.len() - 1 - i]));
    let table = Table {
        caption: "Pairs of classes whose readout vectors are most and least alike".into(),
        head: ["Rank", "most alike", "cosine", "least alike", "cosine"].map(String::from).into(),
        rows: ends
            .enumerate()
            .map(|(i, (most, least))| {
                let cells = vec![name(most), fixed(Some(most.0), 3), name(least), fixed(Some(least.0), 3)];
                ((i + 1).to_string(), cells)
            })
            .collect(),
    };
    let mut section = Section::new(&sentence, vec![], Some(table));
    section.wide = true;
    section.remark = Some("No published number is compared with this figure.");
    section
}

fn training_section<'a>(training: Option<&Training>) -> Section<'a> {
    let epochs = training.map_or(&[][..], |t| &t.epochs);
    let last = epochs.last();
    let at_end = |values: Option<&Vec<Option<f64>>>| values.and_then(|v| v.last().copied().flatten());
    let sentence = match last {
        Some(e) => format!(
            "After epoch {} the loss on the validation split is {} nats and the accuracy {}, both at the last timestep.",
            e.epoch,
            fixed(at_end(Some(&e.loss)), 3),
            percent(at_end(Some(&e.accuracy)))
        ),
        None => String::new(),
    };
    let head = ["Epoch", "loss, training", "loss, t = 0", "loss, last t", "accuracy, t = 0", "accuracy, last t"];
    let rows = epochs.iter().map(|e| {
        let first = |v: &[Option<f64>]| v.first().copied().flatten();
        let cells = vec![
            cell(e.train_loss, 3),
            cell(first(&e.loss), 3),
            cell(at_end(Some(&e.loss)), 3),
            percent(first(&e.accuracy)),
            percent(at_end(Some(&e.accuracy))),
        ];
        (e.epoch.to_string(), cells)
    });
    let table = Table {
        caption: "Loss (nats) and accuracy by epoch; all but the second column on the validation split".into(),
        head: head.map(String::from).into(),
        rows: rows.collect(),
    };
    let mut section = Section::new(&sentence, vec![], Some(table));
    section.wide = true;
    section.remark =
        Some("The published networks were trained for 60 epochs; no published number is compared with this figure.");
    section
}

/// Table head with one column a timestep.
fn timesteps(view: &View) -> Vec<String> {
    [String::from("t")].into_iter().chain((0..view.timesteps).map(|t| t.to_string())).collect()
}

/// A number of a table; a dash where it is undefined.
pub(crate) fn cell(v: Option<f64>, decimals: usize) -> String {
    v.map_or("\u{2013}".into(), |v| fixed(Some(v), decimals))
}

/// A whole number with thin spaces between thousands.
pub(crate) fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && digits.len() > 4 && (digits.len() - i).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(c);
    }
    out
}

/// Escaped text in which `t_stable` and `t = 0` are set as symbols.
fn rich(text: &str) -> String {
    escape(text)
        .replace("t_stable", "<i>t</i><sub>stable</sub>")
        .replace(" t = ", " <i>t</i>\u{a0}=\u{a0}")
        .replace(" t &lt; ", " <i>t</i>\u{a0}&lt;\u{a0}")
}

/// Filters of the template.
pub(crate) mod filters {
    /// [`super::rich`], to be followed by `|safe`.
    #[askama::filter_fn]
    pub fn rich(text: impl std::fmt::Display, _: &dyn askama::Values) -> askama::Result<String> {
        Ok(super::rich(&text.to_string()))
    }
}
