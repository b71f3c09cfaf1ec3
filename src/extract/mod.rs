//! Activity of a run's network, written to disk batch by batch: as an npz file in the layout of the published extraction
//! script, which `recurve analyse` reads too, or as a folder with one array for each area.
//!
//! - [`choice`]: which areas, timesteps and pictures.
//! - [`arrays`]: npy files whose images come batch by batch.

pub mod arrays;
pub mod choice;

pub use choice::Pictures;

use crate::analysis::facts::{as_written, checkpoint_hash};
use crate::analysis::run::Opened;
use crate::analysis::{Selection, progress};
use crate::dataset::{Dataset, Loader, Pictures as Read};
use crate::files::Partial;
use crate::gpu::Gpu;
use crate::graph::taps::{Quantity, Reader, Tap};
use crate::report::in_lines;
use crate::stream::{Collect, Sink, Values, stream};
use crate::trajectory::npz::NAMES;
use crate::{Error, Result};
use arrays::{ArrayFile, Format, header};
use serde_json::json;
use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is extracted, and where to.
#[derive(Clone, Debug)]
pub struct Extract<'a> {
    /// The run, its checkpoint, data and protocol.
    pub selection: Selection<'a>,
    /// `FILE.npz`, or a folder, which must not exist or be empty.
    pub out: &'a Path,
    /// Names of areas, or `all`; for a folder only, where none stands for all.
    pub areas: Option<&'a [String]>,
    /// At which timesteps; none: at all of them.
    pub timesteps: Option<&'a [usize]>,
    /// Which pictures of the split.
    pub pictures: &'a Pictures,
    /// Whether representations and areas are stored as float16. Outputs and logits stay float32, as rounding could change
    /// classes.
    pub half: bool,
    /// The command line, for a folder's `index.json`.
    pub command: &'a str,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extracted {
    /// The arrays, as `NAME SHAPE TYPE`.
    pub arrays: Vec<String>,
    /// Their bytes.
    pub bytes: u64,
}

/// Bytes of tapped activity of one batch at most, where it has several images: they lie on the device, in two readings that are
/// under way, and on the host.
const BATCH_BYTES: usize = 64 << 20;

/// One array of activity.
struct Activity {
    /// Name of the array: an area, `logits`, or of the npz.
    name: String,
    of: Quantity,
    /// In the order of the array's first index.
    timesteps: Vec<usize>,
    /// [T, N, ...]
    shape: Vec<usize>,
    format: Format,
}

/// Extracts activity of a run's network.
///
/// # Errors
/// A run that cannot be used; areas, timesteps or pictures that are not there; a device or disk that fails; activity that is
/// not finite, or too large for float16 where that was asked for. Nothing is left under the name `out` then.
pub async fn extract(gpu: &Gpu, asked: &Extract<'_>) -> Result<Extracted> {
    let to_npz = asked.out.extension().is_some_and(|e| e.eq_ignore_ascii_case("npz"));
    if to_npz && asked.areas.is_some() {
        return Err(Error::Config(format!(
            "{}: an npz file in the published layout holds outputs and what the readout sees, and no areas; name a folder to \
             extract areas to",
            asked.out.display()
        )));
    }
    let occupied = if to_npz { asked.out.is_dir() } else { asked.out.is_file() || has_entries(asked.out) };
    if occupied {
        return Err(Error::Config(format!(
            "{}: {}; remove it or name another by --out",
            asked.out.display(),
            if to_npz { "is a folder" } else { "exists and is no empty folder (a file is to be named .npz)" }
        )));
    }
    let run = Opened::new(&asked.selection, &gpu.target)?;
    if to_npz {
        run.labels_are_classes()?;
    }
    let ids = asked.pictures.ids(&run.split, run.images)?;
    let activities = if to_npz { published(&run, asked, ids.len())? } else { by_area(&run, asked, ids.len())? };

    let io = |e: io::Error| Error::Io { path: asked.out.to_path_buf(), source: e };
    let parent = asked.out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(Error::io(parent))?;
    let partial = Partial::new(asked.out).map_err(io)?;
    if !to_npz {
        std::fs::create_dir(partial.place()).map_err(Error::io(partial.place()))?;
    }
    let file = |of: &Activity| match to_npz {
        true => tempfile::tempfile_in(parent),
        false => {
            File::options().read(true).write(true).create_new(true).open(partial.place().join(file_name(&of.name)))
        }
    };
    let begin = |of: &Activity| file(of).and_then(|file| ArrayFile::new(file, &of.shape, of.format));
    let files = activities.iter().map(begin).collect::<io::Result<Vec<_>>>().map_err(io)?;
    let told = |failure: Failure| match failure {
        Failure::Known(error) => error,
        Failure::Disk(error) => io(error),
    };
    let files = written(gpu, &run, &activities, files, &ids).await.map_err(told)?;

    if to_npz {
        write_npz(&run, &activities, files, &ids, partial.place()).map_err(told)?;
    } else {
        drop(files);
        let labels: Vec<u8> = labels(&run, &ids)?.iter().flat_map(|&label| i64::from(label).to_le_bytes()).collect();
        let labels = [header("<i8", &[ids.len()]), labels].concat();
        std::fs::write(partial.place().join("labels.npy"), labels).map_err(io)?;
        let index = index(&run, asked, &activities, &ids)?;
        std::fs::write(partial.place().join("index.json"), index).map_err(io)?;
    }
    partial.commit().map_err(io)?;
    let bytes = |of: &Activity| (of.shape.iter().product::<usize>() * of.format.bytes()) as u64;
    Ok(Extracted {
        arrays: activities.iter().map(|of| format!("{} {:?} {}", of.name, of.shape, of.format.name())).collect(),
        bytes: activities.iter().map(bytes).sum(),
    })
}

fn has_entries(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
}

fn file_name(array: &str) -> PathBuf {
    format!("{array}.npy").into()
}

/// Outputs and representations, under their published names.
fn published(run: &Opened, asked: &Extract, images: usize) -> Result<Vec<Activity>> {
    let network = &run.network;
    let first = network.first_steps()[network.readout.area];
    let timesteps = choice::timesteps(asked.timesteps, "the readout", first, run.schedule.timesteps)?;
    let shape = |numbers: usize| vec![timesteps.len(), images, numbers];
    let of = |name: &str, of: Quantity, numbers: usize, format: Format| {
        let (name, timesteps) = (name.to_string(), timesteps.clone());
        Activity { name, of, timesteps, shape: shape(numbers), format }
    };
    Ok(vec![
        of(NAMES[0], Quantity::LogProbs, network.classes, Format::F32),
        of(NAMES[2], Quantity::Representation, network.features(), format(asked)),
    ])
}

/// Areas and logits.
fn by_area(run: &Opened, asked: &Extract, images: usize) -> Result<Vec<Activity>> {
    let (network, steps) = (&run.network, run.schedule.timesteps);
    let first = network.first_steps();
    let all = ["all".to_string()];
    let mut activities = Vec::new();
    for area in choice::areas(network, asked.areas.unwrap_or(&all), steps)? {
        let of = &network.areas[area];
        if ["logits", "labels"].iter().any(|name| of.name.eq_ignore_ascii_case(name)) {
            return Err(Error::Config(format!("area {} has the name of another array of the folder", of.name)));
        }
        let timesteps = choice::timesteps(asked.timesteps, &format!("area {}", of.name), first[area], steps)?;
        let shape = vec![timesteps.len(), images, of.channels, of.side, of.side];
        let (name, quantity) = (of.name.clone(), Quantity::Activation(area));
        activities.push(Activity { name, of: quantity, timesteps, shape, format: format(asked) });
    }
    // Logits come along where they exist.
    let exists = first[network.readout.area];
    let timesteps: Vec<usize> = match asked.timesteps {
        Some(asked) => asked.iter().copied().filter(|&t| t >= exists).collect(),
        None => (exists..steps).collect(),
    };
    let shape = vec![timesteps.len(), images, network.classes];
    activities.push(Activity { name: "logits".into(), of: Quantity::Logits, timesteps, shape, format: Format::F32 });
    Ok(activities)
}

fn format(asked: &Extract) -> Format {
    if asked.half { Format::F16 } else { Format::F32 }
}

/// What went wrong: something with words of its own, or the disk.
enum Failure {
    Known(Error),
    Disk(io::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Known(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Disk(error)
    }
}

/// Streams the pictures through the network into the arrays' files, and gives these back.
async fn written(
    gpu: &Gpu,
    run: &Opened,
    activities: &[Activity],
    files: Vec<ArrayFile>,
    ids: &[u32],
) -> Result<Vec<File>, Failure> {
    let tap = |of: &Activity| Tap { of: of.of, timesteps: Some(of.timesteps.clone()), reader: Reader::Host };
    let taps: Vec<Tap> = activities.iter().filter(|of| !of.timesteps.is_empty()).map(tap).collect();
    let an_image: usize = activities.iter().map(|of| 4 * of.shape[0] * of.shape[2..].iter().product::<usize>()).sum();
    let most = (BATCH_BYTES / an_image).min(ids.len()).max(1);
    let engines = run.engines(gpu, &[(&run.trained.parameters, &run.schedule, &taps)], most).await?;
    let next = run.schedule.shows_next();
    // The network is fed labels for its loss, which nothing here reads; those of other classes are none to it.
    let data: Arc<dyn Dataset> = match run.labels_are_classes() {
        Ok(()) => run.data.clone(),
        Err(_) => Arc::new(Unlabelled(run.data.clone())),
    };
    let loader = Loader::listed(&data, &run.split, ids, ids.len(), engines[0].batch, next)?;
    let files: Vec<RefCell<ArrayFile>> = files.into_iter().map(RefCell::new).collect();
    let failure: RefCell<Option<io::Error>> = RefCell::new(None);
    let put = |number: usize, values: &Values| -> Result<()> {
        let of = &activities[number];
        let step = of.timesteps.iter().position(|&t| t == values.timestep).expect("only these are tapped");
        match files[number].borrow_mut().put(step, values.first, values.images, &values.values) {
            Ok(None) => Ok(()),
            Ok(Some((image, at, value))) => Err(Error::Data(format!(
                "{}, timestep {}, picture {}, number {at}: {value} {}",
                of.name,
                values.timestep,
                ids[image],
                if value.is_finite() {
                    "has no room in float16, whose largest number is 65504; leave --half away"
                } else {
                    "is not finite; the network's weights have probably diverged"
                }
            ))),
            Err(error) => {
                // The stream ends with any error; the disk's is told as what it is.
                let told = Error::Data(error.to_string());
                failure.borrow_mut().get_or_insert(error);
                Err(told)
            }
        }
    };
    let put = &put;
    let tapped = activities.iter().enumerate().filter(|(_, of)| !of.timesteps.is_empty());
    let mut sinks: Vec<_> =
        tapped.map(|(i, of)| Collect::new(gpu, 0, of.of, move |values: Values| put(i, &values))).collect();
    let mut sinks: Vec<&mut dyn Sink> = sinks.iter_mut().map(|sink| sink as &mut dyn Sink).collect();
    let streamed = stream(&engines, loader, &mut sinks, progress(ids.len())).await;
    drop(sinks);
    match (failure.take(), streamed) {
        (Some(error), _) => return Err(error.into()),
        (None, streamed) => streamed?,
    }
    Ok(files.into_iter().map(|file| file.into_inner().finish()).collect::<io::Result<_>>()?)
}

/// Pictures of a data set, all with label 0.
struct Unlabelled(Arc<dyn Dataset>);

impl Dataset for Unlabelled {
    fn name(&self) -> String {
        self.0.name()
    }

    fn classes(&self) -> &[String] {
        self.0.classes()
    }

    fn image_size(&self) -> usize {
        self.0.image_size()
    }

    fn splits(&self) -> Vec<String> {
        self.0.splits()
    }

    fn labels(&self, split: &str) -> Result<Vec<u32>> {
        Ok(vec![0; self.0.len(split)?])
    }

    fn len(&self, split: &str) -> Result<usize> {
        self.0.len(split)
    }

    fn mean(&self) -> [f64; 3] {
        self.0.mean()
    }

    fn std(&self) -> [f64; 3] {
        self.0.std()
    }

    fn read(&self, split: &str, indices: &[usize]) -> Result<Read> {
        let pictures = self.0.read(split, indices)?;
        Ok(Read { labels: vec![0; pictures.n], ..pictures })
    }
}

/// The labels of the pictures.
fn labels(run: &Opened, ids: &[u32]) -> Result<Vec<u32>> {
    let all = run.data.labels(&run.split)?;
    Ok(ids.iter().map(|&id| all[id as usize]).collect())
}

/// Puts the arrays together as the published script does: `outputs_all`, `labels_all` (float64), `representations_all`,
/// `readout_weight`, and `readout_bias`, which is an empty float64 array where the readout has none.
fn write_npz(run: &Opened, activities: &[Activity], files: Vec<File>, ids: &[u32], path: &Path) -> Result<(), Failure> {
    let mut zip = zip::ZipWriter::new(io::BufWriter::new(File::create_new(path)?));
    let parameter = |name: &String| -> Result<Vec<u8>> {
        Ok(run.trained.parameters.values(name)?.iter().flat_map(|w| w.to_le_bytes()).collect())
    };
    let (network, readout) = (&run.network, &run.network.readout);
    let labels: Vec<u8> = labels(run, ids)?.iter().flat_map(|&label| f64::from(label).to_le_bytes()).collect();
    let labels = [header("<f8", &[ids.len()]), labels].concat();
    let weight = [header("<f4", &[network.classes, network.features()]), parameter(&readout.weight)?].concat();
    let bias = match &readout.bias {
        Some(bias) => [header("<f4", &[network.classes]), parameter(bias)?].concat(),
        None => header("<f8", &[0]),
    };
    let mut streamed = activities.iter().zip(files);
    for name in NAMES {
        let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        zip.start_file(file_name(name).to_string_lossy(), options.large_file(true)).map_err(io::Error::from)?;
        match name {
            _ if name == NAMES[1] => zip.write_all(&labels)?,
            _ if name == NAMES[3] => zip.write_all(&weight)?,
            _ if name == NAMES[4] => zip.write_all(&bias)?,
            _ => {
                let (of, mut file) = streamed.next().expect("outputs and representations");
                assert_eq!(of.name, name, "in the order of the names");
                io::copy(&mut file, &mut zip)?;
            }
        }
    }
    zip.finish().map_err(io::Error::from)?.into_inner().map_err(io::IntoInnerError::into_error)?;
    Ok(())
}

/// What `index.json` says of a folder.
fn index(run: &Opened, asked: &Extract, activities: &[Activity], ids: &[u32]) -> Result<String> {
    let array = |of: &Activity| {
        json!({
            "name": of.name, "file": file_name(&of.name), "shape": of.shape, "dtype": of.format.name(),
            "timesteps": of.timesteps,
        })
    };
    let (logits, areas) = activities.split_last().expect("logits at least");
    let state = &run.trained.state;
    let as_json = |e: serde_json::Error| Error::Config(format!("index.json: {e}"));
    let index = json!({
        "areas": areas.iter().map(array).collect::<Vec<_>>(),
        "logits": array(logits),
        "labels": {"file": "labels.npy", "shape": [ids.len()], "dtype": "int64"},
        "timesteps": asked.timesteps.map_or_else(|| (0..run.schedule.timesteps).collect(), <[usize]>::to_vec),
        "ids": ids,
        "split": run.split,
        "dataset": run.data.name(),
        "classes": run.data.classes(),
        "run": run.root,
        "checkpoint": run.checkpoint.file_name().map(|name| name.to_string_lossy()),
        "checkpoint_hash": checkpoint_hash(run)?,
        "step": state.step,
        "normalisation": {
            "formula": "(byte / 255 - mean / 255) / (std / 255)",
            "mean": state.data.channel_mean, "std": state.data.channel_std,
        },
        "protocol": run.protocol.as_ref().map(as_written).transpose().map_err(as_json)?,
        "command": asked.command,
        "recurve_version": env!("CARGO_PKG_VERSION"),
        "notes": run.notes,
    });
    in_lines(&index).map_err(as_json)
}
