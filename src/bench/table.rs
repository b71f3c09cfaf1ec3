//! One schema for all measurements: a row of the table is an object of the JSON file and a line of the CSV file.

use super::ceilings::Ceilings;
use super::measure::{Clock, Samples, figure, median, median_interval};
use crate::files;
use crate::gpu::{Gpu, driver};
use crate::host::Processor;
use crate::kernels::Program;
use crate::{Error, Result};
use comfy_table::presets::{ASCII_MARKDOWN, NOTHING};
use comfy_table::{CellAlignment, ContentArrangement, Table};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::Path;

/// One measurement. Times are of one run of the operation, all its launches included.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Operation, shape and variant: by this a baseline's row is found again.
    pub id: String,
    /// Name of the operation, or of what else was measured.
    pub op: String,
    /// Sizes, as the operation names them.
    pub shape: String,
    /// The kernel variant that does most of the work.
    pub variant: String,
    /// Of a convolution, its variant in a few words, as `recurve bench variants` and `recurve tune` name it.
    #[serde(default)]
    pub tile: Option<String>,
    /// How often a training step runs it; 0 for shapes given by the user.
    pub uses: usize,
    /// Launches of one run.
    pub launches: usize,
    /// Median time, milliseconds.
    pub ms: f64,
    /// Least time, milliseconds.
    pub min_ms: f64,
    /// Largest time, milliseconds.
    pub max_ms: f64,
    /// 95 % bootstrap confidence interval of the median, milliseconds.
    pub ci_ms: [f64; 2],
    /// Every sample, milliseconds, in the order of measuring.
    pub samples_ms: Vec<f64>,
    /// Runs per sample.
    pub repeats: usize,
    /// The clock that the times were taken with.
    pub source: Clock,
    /// Why the device's clock was not believed, where it was offered and not.
    pub doubt: Option<String>,
    /// Processor time of a run, milliseconds (median): of all threads of this process, in user and in system mode. A software
    /// driver's work is in it, a GPU's is not. Absent where the system is not asked (all but Unix), and for parts of a step.
    #[serde(default)]
    pub processor_ms: Option<f64>,
    /// Additions and multiplications per second, in 10^9, at the median; padding included.
    pub gflops: f64,
    /// Bytes per second, in 10^9, at the median; every operand counted once.
    pub gbps: f64,
    /// The share of the multiply-add ceiling: `gflops` over what multiply-adds in registers reach on the same adapter just before
    /// and just after, in the median over the samples. Above 1 where Winograd's method needs few enough of the operations that
    /// `gflops` counts. Absent without ceilings, and where nothing is multiplied or added.
    #[serde(default)]
    pub share: Option<f64>,
    /// The 95 % bootstrap confidence interval of the share.
    #[serde(default)]
    pub share_ci: Option<[f64; 2]>,
    /// `gflops` / `share`: the ceiling beside this row, in 10^9 operations per second.
    #[serde(default)]
    pub ceiling_gflops: Option<f64>,
    /// The ceiling around every sample, in the order of `samples_ms`.
    #[serde(default)]
    pub ceiling_samples: Vec<f64>,
    /// Operations per byte.
    pub intensity: f64,
    /// Per cent of what the adapter's ceilings allow at this intensity in this working set; absent without ceilings.
    pub percent: Option<f64>,
    /// Largest difference to the reference, relative to the largest result, before anything was timed.
    pub error: f64,
    /// Making pipelines and buffers and the first run, in which drivers compile, less the median: milliseconds.
    pub compile_ms: f64,
    /// Bytes of workgroup memory of the variant.
    pub workgroup_memory: u32,
    /// Accumulators per invocation of the variant, where it is a convolution's.
    pub accumulators: Option<u32>,
    /// The command line that repeats this row.
    pub args: String,
    /// What went wrong; nothing was timed then.
    pub failure: Option<String>,
}

/// What a row is about, before anything is measured.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    /// See [`Row::id`].
    pub id: String,
    /// See [`Row::op`].
    pub op: String,
    /// See [`Row::shape`].
    pub shape: String,
    /// See [`Row::tile`].
    pub tile: Option<String>,
    /// See [`Row::uses`].
    pub uses: usize,
    /// See [`Row::args`].
    pub args: String,
    /// Operations of one run.
    pub flops: f64,
    /// Bytes of one run, every operand counted once.
    pub bytes: f64,
}

impl Row {
    /// The columns, in the order of the CSV file: the keys of a row's JSON object.
    pub const COLUMNS: [&str; 30] = [
        "id",
        "op",
        "shape",
        "variant",
        "tile",
        "uses",
        "launches",
        "ms",
        "min_ms",
        "max_ms",
        "ci_ms",
        "samples_ms",
        "repeats",
        "source",
        "doubt",
        "processor_ms",
        "gflops",
        "gbps",
        "share",
        "share_ci",
        "ceiling_gflops",
        "ceiling_samples",
        "intensity",
        "percent",
        "error",
        "compile_ms",
        "workgroup_memory",
        "accumulators",
        "args",
        "failure",
    ];

    /// The row of a measured program that erred by `error` and was ready after `first` seconds.
    pub fn new(
        subject: Subject,
        program: &Program,
        samples: &Samples,
        (error, first): (f64, f64),
        ceilings: Option<&Ceilings>,
    ) -> Row {
        let mut row = Row::blank(subject.clone(), program);
        let ms: Vec<f64> = samples.seconds.iter().map(|s| 1e3 * s).collect();
        let seconds = 1e-3 * median(&ms);
        row.ms = median(&ms);
        row.min_ms = ms.iter().copied().fold(f64::INFINITY, f64::min);
        row.max_ms = ms.iter().copied().fold(0.0, f64::max);
        row.ci_ms = median_interval(&ms);
        row.samples_ms = ms;
        row.repeats = samples.repeats;
        row.source = samples.source;
        row.doubt = samples.doubt.clone();
        row.gflops = subject.flops / seconds / 1e9;
        row.gbps = subject.bytes / seconds / 1e9;
        row.processor_ms = (!samples.processor.is_empty()).then(|| 1e3 * median(&samples.processor));
        row.set_share(subject.flops, &samples.ceilings);
        row.percent = ceilings.map(|c| 100.0 * c.seconds(subject.flops, subject.bytes) / seconds);
        row.error = error;
        row.compile_ms = 1e3 * (first - seconds).max(0.0);
        row
    }

    /// Fills what follows from the ceiling around each sample.
    fn set_share(&mut self, flops: f64, ceilings: &[f64]) {
        self.ceiling_samples = ceilings.to_vec();
        if ceilings.is_empty() || flops == 0.0 {
            return;
        }
        let share = |(ms, ceiling): (&f64, &f64)| flops / (1e6 * ms) / ceiling;
        let shares: Vec<f64> = self.samples_ms.iter().zip(ceilings).map(share).collect();
        self.share = Some(median(&shares));
        self.share_ci = Some(median_interval(&shares));
        self.ceiling_gflops = self.share.map(|share| self.gflops / share);
    }

    /// What the row costs by the machine's own speed: the time of each sample times the ceiling around it, in operations that
    /// multiply-adds would have done meanwhile (10^6). Empty without ceilings.
    pub fn costs(&self) -> Vec<f64> {
        self.samples_ms.iter().zip(&self.ceiling_samples).map(|(ms, ceiling)| ms * ceiling).collect()
    }

    /// The row of a program that could not run or gave something wrong.
    pub fn failed(subject: Subject, program: &Program, error: f64, why: String) -> Row {
        Row { failure: Some(why), error, ..Row::blank(subject, program) }
    }

    fn blank(subject: Subject, program: &Program) -> Row {
        let Subject { id, op, shape, tile, uses, args, flops, bytes } = subject;
        // The kernel that does most of the work has the longest text; packing and summing are short.
        let main = program.launches.iter().map(|l| &l.kernel).max_by_key(|k| k.source.len());
        Row {
            id,
            op,
            shape,
            variant: main.map(|k| k.label()).unwrap_or_default(),
            tile,
            uses,
            launches: program.launches.len(),
            ms: 0.0,
            min_ms: 0.0,
            max_ms: 0.0,
            ci_ms: [0.0; 2],
            samples_ms: Vec::new(),
            repeats: 0,
            source: Clock::Wall,
            doubt: None,
            processor_ms: None,
            gflops: 0.0,
            gbps: 0.0,
            share: None,
            share_ci: None,
            ceiling_gflops: None,
            ceiling_samples: Vec::new(),
            intensity: flops / bytes,
            percent: None,
            error: 0.0,
            compile_ms: 0.0,
            workgroup_memory: main.map_or(0, |k| k.workgroup_memory),
            accumulators: main.and_then(|k| accumulators(&k.variant)),
            args,
            failure: None,
        }
    }
}

/// Accumulators of a convolution's variant, from its constants: COUNT, or R x NV x the images of a vector.
fn accumulators(variant: &str) -> Option<u32> {
    let constant = |name: &str| {
        let digits = |part: &str| part.strip_prefix(name).and_then(|rest| rest.parse::<u32>().ok());
        variant.split('_').find_map(digits)
    };
    let images =
        ["vec2", "vec4"].iter().position(|flag| variant.split('_').any(|part| part == *flag)).map_or(1, |i| 2 << i);
    constant("count").or_else(|| Some(constant("r")? * constant("nv")? * images))
}

/// The result of one `recurve bench` command.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Document {
    /// The subcommand of `recurve bench` that made it.
    pub bench: String,
    /// Name of the adapter.
    pub adapter: String,
    /// Driver and its version.
    pub driver: String,
    /// The processor; absent in files of versions that did not ask.
    #[serde(default)]
    pub cpu: Option<Processor>,
    /// Version of recurve.
    pub recurve_version: String,
    /// The adapter's ceilings; absent where they were not measured.
    pub ceilings: Option<Ceilings>,
    /// What was measured, in order.
    pub rows: Vec<Row>,
}

impl Document {
    /// A document without rows.
    pub fn new(bench: &str, gpu: &Gpu, ceilings: Option<Ceilings>) -> Document {
        let (adapter, driver) = (gpu.info.name.clone(), driver(&gpu.info));
        let recurve_version = env!("CARGO_PKG_VERSION").to_string();
        let cpu = Some(Processor::this());
        Document { bench: bench.into(), adapter, driver, cpu, recurve_version, ceilings, rows: Vec::new() }
    }

    /// Reads the JSON of an earlier run; keys beyond the schema are passed over.
    ///
    /// # Errors
    /// A file that cannot be read, or is not the JSON of `recurve bench`.
    pub fn read(path: &Path) -> Result<Document> {
        let text = files::read_text(path, files::LONG_TEXT).map_err(Error::io(path))?;
        serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(&text))
            .map_err(|e| Error::Data(format!("{}: not the output of `recurve bench … --json`: {e}", path.display())))
    }

    /// The CSV file: one line per row, the columns of [`Row::COLUMNS`]; lists are joined by spaces.
    pub fn csv(&self) -> String {
        let mut out = Row::COLUMNS.join(",") + "\n";
        for row in &self.rows {
            let object = serde_json::to_value(row).expect("a row is plain data");
            let cells: Vec<String> = Row::COLUMNS.iter().map(|column| quoted(&plain(&object[*column]))).collect();
            out += &(cells.join(",") + "\n");
        }
        out
    }

    /// Everything about every row, as wide as it gets (it is also Markdown). The first column, after `recurve bench`, repeats
    /// the row.
    pub fn wide_table(&self) -> String {
        let mut table = Table::new();
        table.load_style(ASCII_MARKDOWN);
        table.set_header(HEAD);
        (1..HEAD.len() - 1).for_each(|i| table.column_mut(i).expect("set").set_cell_alignment(CellAlignment::Right));
        for row in &self.rows {
            table.add_row(cells(row));
        }
        table.to_string()
    }

    /// The table for people, at most [`WIDTH`] wide: short names of rows and variants, above it what holds for all rows.
    pub fn table(&self) -> String {
        let good: Vec<&Row> = self.rows.iter().filter(|row| row.failure.is_none()).collect();
        let mut lines: Vec<String> = Vec::new();
        let mut commands: Vec<&str> = Vec::new();
        for row in &self.rows {
            let (command, single) = row.args.split_once(" --row ").unwrap_or((&row.args, ""));
            if !single.is_empty() && !commands.contains(&command) {
                commands.push(command);
            }
        }
        lines.extend(commands.iter().map(|command| format!("{command} --row ID repeats a row; --wide prints the ids")));
        let count = |source: Clock| good.iter().filter(|row| row.source == source).count();
        let clock = match (count(Clock::Timestamp), count(Clock::Wall)) {
            (_, 0) => "times by the device's timestamps".to_string(),
            (0, _) => "times by the wall clock".to_string(),
            (device, wall) => {
                format!("times by the device's timestamps in {device} rows, by the wall clock in {wall} (w)")
            }
        };
        let error = good.iter().map(|row| row.error).fold(0.0, f64::max);
        if !good.is_empty() {
            lines.push(format!("{clock}; largest error {error:.0e} of a result's largest value"));
        }
        if let Some(doubt) = good.iter().find_map(|row| row.doubt.as_ref()) {
            lines.push(format!("why not timestamps: {doubt}"));
        }
        let uses = self.rows.iter().any(|row| row.uses > 0);
        let mixed = count(Clock::Timestamp) > 0;
        let mut table = Table::new();
        table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
        let mut head = vec!["", "ms", "± %", "GFLOP/s", "share", "GB/s", "roof %", "CPU ms"];
        head.extend(uses.then_some("uses"));
        head.push("variant");
        table.set_header(&head);
        for row in &self.rows {
            let mut cells = short_cells(row, mixed);
            if !uses {
                cells.remove(8);
            }
            table.add_row(cells);
        }
        for i in 0..head.len() {
            let column = table.column_mut(i).expect("set");
            column.set_padding((0, if i + 1 < head.len() { 2 } else { 0 }));
            if i > 0 && i + 1 < head.len() {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let table = table.to_string();
        lines.extend(table.lines().map(|line| line.trim_end().to_string()));
        lines.join("\n")
    }
}

/// Columns of the terminal that tables for people are made for.
pub const WIDTH: u16 = 120;

/// An operation in short: `conv dw` for `conv2d_d_weight`, where dx, dw are the gradients with respect to input and weight.
fn short(op: &str) -> String {
    let replaced = [("conv_transpose2d", "convT"), ("conv2d", "conv"), ("_d_input", " dx"), ("_d_weight", " dw")];
    replaced.into_iter().fold(op.to_string(), |name, (long, short)| name.replace(long, short))
}

/// A variant in short: a convolution's tile, else kernel and constants.
pub fn short_variant(row: &Row) -> String {
    let Some(tile) = &row.tile else { return row.variant.clone() };
    tile.replace("subgroup", "sub").replace("uniform", "uni")
}

/// A row's cells in the narrow table; `mixed`: rows by the wall clock are marked.
fn short_cells(row: &Row, mixed: bool) -> Vec<String> {
    let uses = if row.uses > 0 { row.uses.to_string() } else { String::new() };
    let name = format!("{} {}", short(&row.op), row.shape);
    if let Some(why) = &row.failure {
        let nothing = vec![String::new(); 7];
        return [vec![name], nothing, vec![uses, format!("{}: FAILED: {why}", short_variant(row))]].concat();
    }
    let half = 50.0 * (row.ci_ms[1] - row.ci_ms[0]) / row.ms;
    let clock = if mixed && row.source == Clock::Wall { " (w)" } else { "" };
    vec![
        name,
        figure(row.ms),
        if half < 10.0 { format!("{half:.1}") } else { format!("{half:.0}") },
        figure(row.gflops),
        row.share.map_or(String::new(), |share| format!("{share:.2}")),
        figure(row.gbps),
        row.percent.map_or(String::new(), |p| format!("{p:.0}")),
        row.processor_ms.map_or(String::new(), figure),
        uses,
        format!("{}{clock}", short_variant(row)),
    ]
}

/// The columns of the wide table.
pub const HEAD: [&str; 13] = [
    "recurve bench …",
    "uses",
    "ms",
    "95 % CI",
    "GFLOP/s",
    "share",
    "GB/s",
    "flop/B",
    "% roof",
    "CPU ms",
    "error",
    "compile ms",
    "variant, clock",
];

/// A row's cells in the wide table.
pub fn cells(row: &Row) -> [String; 13] {
    // The arguments of a part of a step give the whole step: its name is added.
    let args = row.args.trim_start_matches("recurve bench ");
    let name = if args.ends_with(&row.id) { args.to_string() } else { format!("{args}: {}", row.op) };
    let uses = if row.uses > 0 { row.uses.to_string() } else { String::new() };
    let error = format!("{:.0e}", row.error);
    if let Some(why) = &row.failure {
        let failed = format!("{}: FAILED: {why}", row.variant);
        let [ms, interval, gflops, share, gbps, intensity, percent, cpu, compile] = [(); 9].map(|()| String::new());
        return [name, uses, ms, interval, gflops, share, gbps, intensity, percent, cpu, error, compile, failed];
    }
    let clock = match (row.source, &row.doubt) {
        (Clock::Timestamp, _) => "timestamps".to_string(),
        (Clock::Wall, None) => "wall".to_string(),
        (Clock::Wall, Some(doubt)) => format!("wall ({doubt})"),
    };
    [
        name,
        uses,
        figure(row.ms),
        format!("{} – {}", figure(row.ci_ms[0]), figure(row.ci_ms[1])),
        figure(row.gflops),
        row.share.map_or(String::new(), |share| format!("{share:.3}")),
        figure(row.gbps),
        figure(row.intensity),
        row.percent.map_or(String::new(), |p| format!("{p:.0}")),
        row.processor_ms.map_or(String::new(), figure),
        error,
        format!("{:.0}", row.compile_ms),
        format!("{}, {clock}", row.variant),
    ]
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(plain).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

fn quoted(cell: &str) -> String {
    let special = cell.contains([',', '"', '\n', '\r']);
    if special { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell.to_string() }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A row of the given samples.
    pub fn row(id: &str, ms: &[f64]) -> Row {
        let subject = Subject { id: id.into(), op: "conv2d".into(), flops: 1e9, bytes: 1e6, ..Subject::default() };
        let seconds = ms.iter().map(|x| 1e-3 * x).collect();
        let (processor, ceilings) = (Vec::new(), Vec::new());
        let samples = Samples { seconds, repeats: 1, processor, ceilings, source: Clock::Wall, doubt: None };
        Row::new(subject, &Program::default(), &samples, (1e-7, 0.0), None)
    }

    /// A document of the given rows.
    pub fn document(rows: Vec<Row>) -> Document {
        let text = |s: &str| s.to_string();
        let (adapter, driver, recurve_version) = (text("a"), text("d 1"), text("0"));
        Document { bench: text("kernels"), adapter, driver, cpu: None, recurve_version, ceilings: None, rows }
    }

    /// The row with the ceiling beside each of its samples.
    pub fn beside(mut row: Row, ceilings: &[f64]) -> Row {
        row.set_share(1e9, ceilings);
        row
    }

    #[test]
    fn json_and_csv_have_the_same_columns() {
        let mut row = row("a, \"b\"", &[1.0, 2.0, 3.0]);
        row.failure = Some("x".into());
        let object = serde_json::to_value(&row).unwrap();
        let keys: Vec<&str> = object.as_object().unwrap().keys().map(|k| k.as_str()).collect();
        let mut columns = Row::COLUMNS.to_vec();
        columns.sort_unstable();
        assert_eq!(keys, columns);
        let csv = document(vec![row.clone()]).csv();
        let lines: Vec<&str> = csv.lines().collect();
        assert_eq!(lines[0].split(',').collect::<Vec<_>>(), Row::COLUMNS);
        assert!(lines[1].starts_with("\"a, \"\"b\"\"\",conv2d,") && lines[1].contains(",1.0 2.0 3.0,"), "{}", lines[1]);
        assert_eq!(serde_json::from_value::<Row>(object).unwrap(), row);
    }

    #[test]
    fn rates_follow_from_the_median() {
        let row = row("a", &[1.0, 2.0, 8.0]);
        let found = [row.ms, row.min_ms, row.max_ms, row.gflops, row.gbps, row.intensity];
        for (found, expected) in found.into_iter().zip([2.0, 1.0, 8.0, 500.0, 0.5, 1000.0]) {
            assert!((found / expected - 1.0).abs() < 1e-12, "{found} for {expected}");
        }
    }

    #[test]
    fn the_share_is_the_median_of_the_ratios_to_the_ceiling_beside_each_sample() {
        // 1e9 operations in 10 ms are 100 GFLOP/s; in a slow spell 50, where the ceiling falls to a half as well.
        let found = beside(row("a", &[10.0, 20.0, 20.0, 10.0, 20.0]), &[200.0, 100.0, 100.0, 200.0, 125.0]);
        assert!((found.share.unwrap() - 0.5).abs() < 1e-12, "{found:?}");
        assert!((found.gflops / found.ceiling_gflops.unwrap() - found.share.unwrap()).abs() < 1e-12);
        let [low, high] = found.share_ci.unwrap();
        assert!(low <= 0.5 && 0.5 <= high && low >= 0.399, "{low} {high}");
        assert_eq!(found.costs(), [2000.0, 2000.0, 2000.0, 2000.0, 2500.0]);
        // Nothing to be had a share of, and no ceilings.
        let mut idle = row("a", &[10.0]);
        idle.set_share(0.0, &[200.0]);
        assert_eq!((idle.share, idle.ceiling_gflops, idle.costs()), (None, None, vec![2000.0]));
        assert_eq!((row("a", &[1.0]).share, row("a", &[1.0]).costs()), (None, Vec::new()));
    }

    #[test]
    fn the_table_fits_a_terminal() {
        let mut long = beside(row("a", &[1234.5, 2345.6]), &[1234.0, 2345.0]);
        long.op = "conv_transpose2d_d_weight".into();
        long.shape = "128x512x16x16-256-k3-s2-bias-base-t10#2".into();
        long.tile = Some("channels subgroup l8 r16 c8 u4 v1 s12".into());
        (long.uses, long.percent, long.processor_ms) = (100, Some(123.4), Some(2345.6));
        long.args = "recurve bench kernels --preset blt128 --batch 128 --row a".into();
        let mut failed = row("b", &[1.0]);
        failed.failure = Some("wrong ".repeat(40));
        failed.variant = "v_".repeat(60);
        let mut timed = row("c", &[1.0]);
        timed.source = Clock::Timestamp;
        let text = document(vec![long, failed, timed]).table();
        for line in text.lines() {
            assert!(line.chars().count() <= usize::from(WIDTH), "{} wide: {line}", line.chars().count());
        }
        for piece in ["convT dw", "FAILED", "--row ID", "in 1 rows, by the wall clock in 1 (w)", "uses"] {
            assert!(text.contains(piece), "`{piece}` is not in:\n{text}");
        }
        let narrow = document(vec![row("c", &[1.0])]).table();
        assert!(!narrow.contains("uses") && !narrow.contains("--row"), "{narrow}");
        assert!(document(vec![row("c", &[1.0])]).wide_table().contains("| recurve bench"), "wide");
    }

    #[test]
    fn accumulators_by_the_variants_constants() {
        assert_eq!(accumulators("cu1_k3_l8_nv4_r16_rows6_s8_stride1_subgroup"), Some(64));
        assert_eq!(accumulators("cu1_k3_l8_nv2_r32_rows4_s8_stride1_wv4_subgroup_vec2_wide4"), Some(128));
        assert_eq!(accumulators("above1_c8_count144_k3_nv2"), Some(144));
        assert_eq!(accumulators("l64_unroll4"), None);
    }

    #[test]
    fn figures_have_three_digits() {
        assert_eq!([0.0, 0.001234, 1.234, 12.34, 1234.5].map(figure), ["0", "0.00123", "1.23", "12.3", "1234"]);
    }
}
