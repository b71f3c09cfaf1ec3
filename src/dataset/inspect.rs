//! Reading and verifying a whole data set, and contact sheets of it.

use std::fmt;
use std::path::Path;

use image::{Rgb, RgbImage};
use serde::Serialize;

use super::augment::{Drawn, Scratch, augment};
use super::outline::{draw_text, text_width};
use super::statistics::{OF_ALL, judge, three};
use super::{ChannelSums, Dataset, SPLITS, open};
use crate::files::write_atomically;
use crate::{Error, Result};

/// Pictures read at a time.
const BLOCK: usize = 256;

/// What a data set holds, after all of it was read.
#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    /// The data set's name.
    pub name: String,
    /// Side of the pictures in pixels (for folders: after scaling and cropping).
    pub image_size: usize,
    /// Class names.
    pub classes: Vec<String>,
    /// One entry per split.
    pub splits: Vec<SplitInspection>,
    /// Mean per channel of the training set as the data set states it, 0..255.
    pub stored_mean: [f64; 3],
    /// Standard deviation per channel likewise.
    pub stored_std: [f64; 3],
    /// What the user should know.
    pub notes: Vec<String>,
}

/// One split of an [`Inspection`].
#[derive(Clone, Debug, Serialize)]
pub struct SplitInspection {
    /// Name of the split.
    pub name: String,
    /// Number of pictures.
    pub pictures: usize,
    /// Number of pictures of each class.
    pub per_class: Vec<usize>,
    /// Mean per channel over all pixels, 0..255, computed from the pictures.
    pub mean: [f64; 3],
    /// Standard deviation per channel, likewise.
    pub std: [f64; 3],
    /// Number of pictures all of whose pixels are the same.
    pub one_colour: usize,
}

/// Opens what `spec` names (as [`open`] does), reads all of it and verifies it. A file must have train, val and test.
pub fn inspect(spec: &str) -> Result<Inspection> {
    let dataset = open(spec, None)?;
    let wanted = dataset.splits();
    if Path::new(spec).is_file() {
        for split in &SPLITS[..3] {
            dataset.len(split)?; // names the first that is missing before anything long is read
        }
    }
    let splits = wanted.iter().map(|split| inspect_split(&*dataset, split)).collect::<Result<Vec<_>>>()?;

    let mut notes = dataset.notes();
    let (stated, found) = ([dataset.mean(), dataset.std()], [splits[0].mean, splits[0].std]);
    notes.extend(judge(stated, found, OF_ALL, "the training pictures").map(|doubt| doubt.text));
    for split in &splits {
        let without: Vec<&str> = (0..dataset.classes().len())
            .filter(|&c| split.per_class[c] == 0)
            .map(|c| dataset.classes()[c].as_str())
            .collect();
        if !without.is_empty() {
            notes.push(format!("{} has no picture of {}", split.name, without.join(", ")));
        }
    }
    let blank: Vec<String> = splits
        .iter()
        .filter(|split| split.one_colour > 0)
        .map(|split| format!("{} of {} in {}", split.one_colour, split.pictures, split.name))
        .collect();
    if !blank.is_empty() {
        notes.push(format!(
            "pictures of one colour, all pixels the same: {}; what was never written to an HDF5 file reads as black",
            blank.join(", ")
        ));
    }
    Ok(Inspection {
        name: dataset.name(),
        image_size: dataset.image_size(),
        classes: dataset.classes().to_vec(),
        splits,
        stored_mean: dataset.mean(),
        stored_std: dataset.std(),
        notes,
    })
}

fn inspect_split(dataset: &dyn Dataset, split: &str) -> Result<SplitInspection> {
    let len = dataset.len(split)?;
    let (mut sums, mut one_colour) = (ChannelSums::default(), 0);
    let mut per_class = vec![0; dataset.classes().len()];
    for first in (0..len).step_by(BLOCK) {
        let indices: Vec<usize> = (first..len.min(first + BLOCK)).collect();
        let pictures = dataset.read(split, &indices)?;
        sums.add(&pictures.data);
        let blank = |picture: &&[u8]| picture.chunks_exact(3).all(|pixel| pixel == &picture[..3]);
        one_colour += pictures.data.chunks_exact(3 * pictures.side * pictures.side).filter(blank).count();
        for label in pictures.labels {
            per_class[label as usize] += 1;
        }
    }
    Ok(SplitInspection { name: split.into(), pictures: len, per_class, mean: sums.mean(), std: sums.std(), one_colour })
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        writeln!(f, "{}: {} x {} pixels, {} classes", self.name, self.image_size, self.image_size, self.classes.len())?;
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        let names = self.splits.iter().map(|s| s.name.clone());
        table.set_header(std::iter::once(String::new()).chain(names));
        let mut row = |name: &str, cell: &dyn Fn(&SplitInspection) -> String| {
            table.add_row(std::iter::once(name.to_string()).chain(self.splits.iter().map(cell)));
        };
        row("pictures", &|s| s.pictures.to_string());
        row("mean (RGB, 0..255)", &|s| three(s.mean));
        row("std (RGB, 0..255)", &|s| three(s.std));
        for (c, class) in self.classes.iter().enumerate() {
            row(class, &|s| s.per_class[c].to_string());
        }
        for i in 1..=self.splits.len() {
            if let Some(column) = table.column_mut(i) {
                column.set_cell_alignment(comfy_table::CellAlignment::Right);
            }
        }
        writeln!(f, "{table}")?;
        write!(f, "stored statistics: mean {}, std {}", three(self.stored_mean), three(self.stored_std))?;
        self.notes.iter().try_for_each(|note| write!(f, "\nnote: {note}"))
    }
}

/// Grey, so that white pictures show where they end.
const BACKGROUND: [u8; 3] = [236, 236, 236];
const INK: [u8; 3] = [30, 30, 30];
const FAINT: [u8; 3] = [130, 130, 130];

/// A contact sheet: the first `per_class` pictures of every class of a split, each with its class name beneath. With seed and
/// epoch they are augmented as a run of that seed sees them in that epoch, and what was drawn stands beneath.
/// Small pictures are enlarged by whole factors, without smoothing.
pub fn sheet(dataset: &dyn Dataset, split: &str, per_class: usize, augmented: Option<(u64, u64)>) -> Result<RgbImage> {
    let mut scratch = Scratch::default();
    let labels = dataset.labels(split)?;
    let mut columns: Vec<Vec<usize>> = vec![Vec::new(); dataset.classes().len()];
    for (i, &label) in labels.iter().enumerate() {
        if columns[label as usize].len() < per_class {
            columns[label as usize].push(i);
        }
    }
    let side = dataset.image_size();
    let scale = 72_usize.div_ceil(side);
    let cell = side * scale;
    let (gap, caption, margin, title) = (6, 16, 12, 40);
    let blocks = match columns.len() {
        0..=10 => 1,
        11..=32 => 2,
        _ => 4,
    };
    let rows = columns.len().div_ceil(blocks);
    let across = blocks * per_class;
    let width = 2 * margin + across * (cell + gap) - gap + (blocks - 1) * margin;
    let height = title + margin + rows * (cell + caption + gap);
    let mut canvas = RgbImage::from_pixel(width as u32, height as u32, Rgb(BACKGROUND));

    let (left, mut em) = (margin as f32, 15.0);
    let heading = format!("{}, {split}: {} pictures of {side} x {side} pixels", dataset.name(), labels.len());
    em *= (((width - 2 * margin) as f32) / text_width(&heading, em)).min(1.0);
    draw_text(&mut canvas, &heading, left, 26.0, em, INK);

    for (class, indices) in columns.iter().enumerate() {
        let name = &dataset.classes()[class];
        let (block, row) = (class / rows, class % rows);
        let top = title + row * (cell + caption + gap);
        let mut pictures = dataset.read(split, indices)?;
        if let Some((seed, epoch)) = augmented {
            augment(&mut pictures.data, side, seed, epoch, indices, &mut scratch);
        }
        for k in 0..per_class {
            let left = margin + block * margin + (block * per_class + k) * (cell + gap);
            if k < pictures.n {
                let picture = &pictures.data[k * side * side * 3..][..side * side * 3];
                for y in 0..cell {
                    for x in 0..cell {
                        let at = (y / scale * side + x / scale) * 3;
                        let rgb = [picture[at], picture[at + 1], picture[at + 2]];
                        canvas.put_pixel((left + x) as u32, (top + y) as u32, Rgb(rgb));
                    }
                }
            }
            let (text, colour) = match (k < pictures.n, augmented) {
                (false, _) => ("none".into(), FAINT),
                (true, None) => (name.clone(), INK),
                (true, Some((seed, epoch))) => (Drawn::of(seed, epoch, indices[k] as u64).to_string(), INK),
            };
            let text = shortened(&text, 11.0, cell as f32);
            let x = left as f32 + (cell as f32 - text_width(&text, 11.0)) / 2.0;
            draw_text(&mut canvas, &text, x, (top + cell + 12) as f32, 11.0, colour);
        }
    }
    Ok(canvas)
}

/// The text, or as much of it as fits with an ellipsis.
fn shortened(text: &str, em: f32, room: f32) -> String {
    let mut short = text.to_string();
    while text_width(&short, em) > room && short.chars().count() > 2 {
        short = short.chars().take(short.chars().count() - 2).chain(['…']).collect();
    }
    short
}

/// Writes a picture as PNG.
pub fn write_png(picture: &RgbImage, path: &Path) -> Result<()> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    let unwritten = |error| Error::Data(format!("{}: cannot be written: {error}", path.display()));
    picture.write_to(&mut bytes, image::ImageFormat::Png).map_err(unwritten)?;
    write_atomically(path, &bytes.into_inner()).map_err(Error::io(path))
}
