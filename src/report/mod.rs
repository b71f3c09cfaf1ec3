//! The report of an analysis: `report.json`, one self-contained `report.html` that sets the published figures beside the
//! values of Thorat, Doerig & Kietzmann 2023 (arXiv 2308.12435) and shows the dynamics, the figures as SVG and PNG files,
//! and all numbers as tables. `docs/report.md` says what is on the page and in the folder.
//!
//! ```text
//! Report --> view, dynamics (typed, checked) --> figures, measures (drawn by plots, heat, svg) ---.
//!                    |\---> claims (against published), summary ---------------------------------+--> html
//!                    \----> tables, images ------------------------------------------------------+--> folder
//! ```

pub(crate) mod claims;
mod disturbance;
pub(crate) mod dynamics;
mod examples;
pub(crate) mod figures;
pub(crate) mod folder;
pub(crate) mod heat;
pub(crate) mod html;
mod images;
mod measures;
pub(crate) mod plots;
pub(crate) mod published;
mod summary;
pub(crate) mod svg;
pub(crate) mod tables;
mod view;

use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::ser::{Formatter, PrettyFormatter};

use crate::dynamics::Parameters;
use crate::dynamics::areas::Area;
use crate::dynamics::rdm::Rdm;
use crate::{Error, Result, files};
pub use disturbance::Changed;
use dynamics::Dynamics;
pub use examples::{Example, Kind, choose};
pub use folder::write;
pub use images::Images;
use view::{View, demand};

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
    /// The dynamics, under the names of [`crate::dynamics`]; a report without them has the published figures only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dynamics: Option<Value>,
    /// What a protocol changed, under the names of [`crate::dynamics::disturbance`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disturbance: Option<Value>,
    /// Pictures behind extreme trajectories.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<Example>,
    /// Values of single images, for their table; they are not part of `report.json`.
    #[serde(skip)]
    pub images: Option<Images>,
    /// Classes of the images whose answer a protocol changed, for their table; not part of `report.json` either.
    #[serde(skip)]
    pub changed: Option<Changed>,
    /// Dissimilarity matrices of the areas below the readout, by the names of their files, for the folder; they are not part of
    /// `report.json`.
    #[serde(skip)]
    pub area_rdms: Vec<(String, Rdm)>,
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
    /// The command that repeats the analysis.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// What the dynamics were told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dynamics_parameters: Option<Parameters>,
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
        let report = Report { meta, training, statistics, ..Report::default() };
        View::read(&report)?;
        Ok(report)
    }

    /// The same with dynamics, under the names of [`crate::dynamics`], and what they were told.
    ///
    /// # Errors
    /// When they do not serialise, do not have the shape of dynamics, or do not belong to the statistics.
    pub fn with_dynamics(mut self, dynamics: &impl Serialize, parameters: &Parameters) -> Result<Report> {
        let value = serde_json::to_value(dynamics)
            .map_err(|e| Error::Data(format!("the dynamics cannot be written as JSON: {e}")))?;
        (self.dynamics, self.meta.dynamics_parameters) = (Some(value), Some(parameters.clone()));
        self.views()?;
        Ok(self)
    }

    /// The same with what a protocol changed, under the names of [`crate::dynamics::disturbance`], and the classes of the images
    /// whose answer it changed.
    ///
    /// # Errors
    /// When it does not serialise, does not have that shape, or does not belong to the statistics.
    pub fn with_disturbance(mut self, disturbance: &impl Serialize, changed: Option<Changed>) -> Result<Report> {
        let value = serde_json::to_value(disturbance)
            .map_err(|e| Error::Data(format!("the disturbance cannot be written as JSON: {e}")))?;
        (self.disturbance, self.changed) = (Some(value), changed);
        self.views()?;
        Ok(self)
    }

    /// The same with the dissimilarity matrices of areas, which `report.json` has no room for.
    pub fn with_area_rdms(mut self, areas: &[Area]) -> Report {
        let named = |area: &Area| {
            let form = area.facts.form.name().replace(' ', "_");
            (format!("areas_{}_{form}", area.facts.name), area.rdm.clone())
        };
        self.area_rdms = areas.iter().map(named).collect();
        self
    }

    /// The same with pictures behind extreme trajectories.
    ///
    /// # Errors
    /// When one does not fit the statistics.
    pub fn with_examples(mut self, examples: Vec<Example>) -> Result<Report> {
        self.examples = examples;
        self.views()?;
        Ok(self)
    }

    /// The same with the values of single images.
    ///
    /// # Errors
    /// When they do not fit the statistics.
    pub fn with_images(mut self, images: Images) -> Result<Report> {
        self.images = Some(images);
        self.views()?;
        Ok(self)
    }

    /// Everything as figures, tables and page read it, checked.
    fn views(&self) -> Result<(View, Option<Dynamics>)> {
        let view = View::read(self)?;
        let read = |value| Dynamics::read(value, self.meta.dynamics_parameters.as_ref());
        let dynamics = self.dynamics.as_ref().filter(|value| !value.is_null()).map(read).transpose()?;
        if let Some(d) = &dynamics {
            let k = view.readout_leaves.len();
            for (key, here, there) in [
                ("timesteps", d.timesteps, view.timesteps),
                ("samples", d.samples, view.samples as usize),
                ("classes", d.classes, if k == 0 { d.classes } else { k }),
            ] {
                demand(here == there, &format!("dynamics: {key}"), &format!("{there}, as in the statistics"), here)?;
            }
        }
        let classes = view.class_count();
        self.examples.iter().try_for_each(|example| example.check(view.timesteps, classes))?;
        self.images.iter().try_for_each(|images| images.check(view.timesteps, view.samples as usize))?;
        self.changed.iter().try_for_each(|changed| changed.check(view.timesteps, view.samples as usize))?;
        Ok((view, dynamics))
    }

    /// Reads a `report.json`.
    ///
    /// # Errors
    /// When the file cannot be read or is not a report.
    pub fn read(path: &Path) -> Result<Report> {
        let text = files::read_text(path, files::LONG_TEXT).map_err(Error::io(path))?;
        let report: Report = serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(&text))
            .map_err(|e| Error::Data(format!("{}: not a report of recurve: {e}", path.display())))?;
        report.views().map_err(|e| Error::Data(format!("{}: {e}", path.display())))?;
        Ok(report)
    }

    /// The page: one HTML document without script or outside reference. The same report gives the same bytes.
    ///
    /// # Errors
    /// When the statistics have not the shape of trajectory statistics.
    pub fn html(&self) -> Result<String> {
        let (view, dynamics) = self.views()?;
        let figures = figures::all(self, &view, dynamics.as_ref());
        html::render(self, &view, dynamics.as_ref(), &figures)
    }

    /// The drawings, `(file stem, SVG document)`, in the order of the page; a figure may have several. They stand for
    /// themselves, on white.
    ///
    /// # Errors
    /// When the statistics have not the shape of trajectory statistics.
    pub fn figures(&self) -> Result<Vec<(String, String)>> {
        let (view, dynamics) = self.views()?;
        let figures = figures::all(self, &view, dynamics.as_ref());
        let drawings = figures.iter().flat_map(figures::Figure::drawings);
        Ok(drawings.map(|drawing| (drawing.stem.clone(), svg::standalone(&drawing.svg))).collect())
    }

    /// The tables, `(file stem, CSV)`.
    ///
    /// # Errors
    /// When the statistics have not the shape of trajectory statistics.
    pub fn tables(&self) -> Result<Vec<(String, String)>> {
        let (view, dynamics) = self.views()?;
        folder::csv(&tables::all(self, &view, dynamics.as_ref()))
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
