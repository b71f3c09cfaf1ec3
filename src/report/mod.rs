//! The report of an analysis: `report.json`, the figures as SVG files, and one self-contained `report.html` that
//! sets every figure beside the value published by Thorat, Doerig & Kietzmann 2023 (arXiv 2308.12435).
//!
//! ```text
//! Report --> view (typed, checked) --> figures (SVG) ---.
//!                    \---> claims (against published) ---+--> html
//! ```

mod claims;
mod figures;
mod html;
mod published;
pub(crate) mod svg;
mod view;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::ser::{Formatter, PrettyFormatter};

use crate::files::write_atomically;
use crate::{Error, Result};
use view::View;

/// Everything a report is made of; `report.json` is this structure.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Report {
    /// What was analysed, with what, on what.
    pub meta: Meta,
    /// How the network was trained, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training: Option<Training>,
    /// The trajectory statistics, under the names of [`crate::trajectory`]; undefined numbers are `null`.
    pub statistics: Value,
}

/// The facts of a run. What is unknown stays `None` and is left out of the page.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Meta {
    /// A name for the network, such as the preset's.
    pub name: Option<String>,
    /// The `[network]` table of the configuration (`lateral`, `topdown`, `interaction`, ...), or its `[architecture]`.
    pub network: Value,
    /// The protocol that it ran under (what was shown and disturbed, when), if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Value>,
    /// The run's complete `config.toml`, as text.
    pub configuration: Option<String>,
    /// Number of trainable parameters.
    pub parameters: Option<u64>,
    /// The data set: a path or `glyphs`.
    pub dataset: Option<String>,
    /// Hash of the data set, with the name of its algorithm (`crc32:...`).
    pub dataset_hash: Option<String>,
    /// The split analysed: `val`, `test`, ...
    pub split: Option<String>,
    /// Number of images analysed.
    pub images: Option<u64>,
    /// Class names in the order of the readout's rows; empty if unknown.
    pub classes: Vec<String>,
    /// Checkpoint analysed, as the run folder names it.
    pub checkpoint: Option<String>,
    /// Hash of that checkpoint, with the name of its algorithm.
    pub checkpoint_hash: Option<String>,
    /// Checkpoint of the untrained network, if one was compared.
    pub init_checkpoint: Option<String>,
    /// Optimiser step of the checkpoint.
    pub step: Option<u64>,
    /// Seed of the run.
    pub seed: Option<u64>,
    /// The GPU or software adapter.
    pub adapter: Option<String>,
    /// Its driver, with version.
    pub driver: Option<String>,
    /// The graphics interface: Vulkan, Metal, DX12.
    pub backend: Option<String>,
    /// Limits of the adapter that mattered, as a JSON object.
    pub limits: Option<Value>,
    /// Version of recurve.
    pub recurve_version: String,
    /// Anything the reader must know, one sentence each.
    pub notes: Vec<String>,
}

/// Validation during training, epoch by epoch.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Training {
    /// In the order of training.
    pub epochs: Vec<Epoch>,
}

/// One evaluation on the validation split.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Epoch {
    /// Epochs completed (0: before training).
    pub epoch: u64,
    /// Cross-entropy on the training split during this epoch, nats, mean over images and timesteps.
    #[serde(default)]
    pub train_loss: Option<f64>,
    /// Cross-entropy per timestep `[T]`, nats, mean over images.
    pub loss: Vec<Option<f64>>,
    /// Fraction correct per timestep `[T]`.
    pub accuracy: Vec<Option<f64>>,
}

impl Report {
    /// A report on anything that serialises to the statistics' names (NaN becomes `null`).
    ///
    /// # Errors
    /// When `statistics` does not serialise or does not have the shape of trajectory statistics.
    pub fn new(meta: Meta, training: Option<Training>, statistics: &impl Serialize) -> Result<Report> {
        let statistics = serde_json::to_value(statistics)
            .map_err(|e| Error::Data(format!("the trajectory statistics cannot be written as JSON: {e}")))?;
        let report = Report { meta, training, statistics };
        View::read(&report)?;
        Ok(report)
    }

    /// Reads a `report.json`.
    ///
    /// # Errors
    /// When the file cannot be read or is not a report.
    pub fn read(path: &Path) -> Result<Report> {
        let text = fs::read_to_string(path).map_err(Error::io(path))?;
        let report: Report = serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(&text))
            .map_err(|e| Error::Data(format!("{}: not a report of recurve: {e}", path.display())))?;
        View::read(&report).map_err(|e| Error::Data(format!("{}: {e}", path.display())))?;
        Ok(report)
    }

    /// The page: one HTML document without script or outside reference. The same report gives the same bytes.
    ///
    /// # Errors
    /// When the statistics have not the shape of trajectory statistics.
    pub fn html(&self) -> Result<String> {
        let view = View::read(self)?;
        html::render(self, &view, &figures::all(self, &view))
    }

    /// The figures, `(file stem, SVG document)`, in the order of the page.
    ///
    /// # Errors
    /// When the statistics have not the shape of trajectory statistics.
    pub fn figures(&self) -> Result<Vec<(&'static str, String)>> {
        let view = View::read(self)?;
        Ok(figures::all(self, &view).into_iter().map(|f| (f.name, f.svg)).collect())
    }

    /// The text of `report.json`: objects one key a line, arrays on one line, keys in a fixed order.
    ///
    /// # Errors
    /// Only if serialisation fails, which JSON values do not.
    pub fn json(&self) -> Result<String> {
        in_lines(self).map_err(|e| Error::Data(format!("report.json: {e}")))
    }
}

/// JSON text with one object key a line and arrays on one line.
pub(crate) fn in_lines(value: &impl Serialize) -> serde_json::Result<String> {
    let mut bytes = Vec::new();
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, Lines(PrettyFormatter::new())))?;
    bytes.push(b'\n');
    Ok(String::from_utf8(bytes).expect("JSON is UTF-8"))
}

/// Writes `report.json`, `figures/*.svg` and, last, `report.html` into `dir` (made if missing), each file atomically.
/// Returns the path of the page.
///
/// # Errors
/// When the statistics are malformed (nothing is written then) or a file cannot be written.
pub fn write(report: &Report, dir: &Path) -> Result<PathBuf> {
    let view = View::read(report)?;
    let figures = figures::all(report, &view);
    let page = html::render(report, &view, &figures)?;
    let json = report.json()?;

    let folder = dir.join("figures");
    fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
    for figure in &figures {
        write_text(&folder.join(format!("{}.svg", figure.name)), &figure.svg)?;
    }
    write_text(&dir.join("report.json"), &json)?;
    let path = dir.join("report.html");
    write_text(&path, &page)?;
    Ok(path)
}

fn write_text(path: &Path, text: &str) -> Result<()> {
    write_atomically(path, text.as_bytes()).map_err(Error::io(path))
}

/// JSON with one object key a line and arrays on one line: readable, and 25,000 ids stay one line.
struct Lines(PrettyFormatter<'static>);

impl Formatter for Lines {
    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object(writer)
    }
    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object(writer)
    }
    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(writer, first)
    }
    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object_value(writer)
    }
    fn end_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object_value(writer)
    }
}
