//! A folder of pictures: `train/<class>/*.png|jpg|jpeg`, and `val`, `test`, `testplus` likewise where they exist.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use image::imageops::FilterType;
use image::{DynamicImage, ImageDecoder, ImageReader};

use super::names::class_names;
use super::{CACHE_BYTES, ChannelSums, Dataset, Pictures, SPLITS, no_such_picture, no_such_split};
use crate::{Error, Result};

/// A folder of pictures, each scaled and cropped about its centre to a square.
///
/// Opening reads all training pictures once, for the channel statistics, and so finds those that are damaged.
pub struct Folder {
    path: PathBuf,
    classes: Vec<String>,
    side: usize,
    mean: [f64; 3],
    std: [f64; 3],
    splits: Vec<(String, Vec<File>)>,
    /// Whether decoded pictures are kept: only if all of them are small enough together.
    keep: bool,
    notes: Vec<String>,
}

struct File {
    path: PathBuf,
    label: u32,
    pixels: OnceLock<Vec<u8>>,
}

impl Folder {
    /// Opens a folder for pictures of `side` x `side` pixels.
    pub fn open(path: &Path, side: usize) -> Result<Folder> {
        let mut classes: Vec<String> = Vec::new();
        let (mut splits, mut notes, mut others) = (Vec::new(), Vec::new(), 0);
        for split in SPLITS {
            let folder = path.join(split);
            if !folder.is_dir() {
                if split == "train" {
                    return Err(Error::Data(format!(
                        "{}: expected a folder train with one folder of .png or .jpg pictures per class, found none",
                        path.display()
                    )));
                }
                continue;
            }
            let found: Vec<String> = list(&folder)?.into_iter().filter(|name| folder.join(name).is_dir()).collect();
            if split == "train" {
                classes = found;
            } else if let Some(odd) = classes.iter().find(|c| !found.contains(c)) {
                return Err(Error::Data(format!(
                    "{}: expected a folder for every class of train, found none for {odd}",
                    folder.display()
                )));
            } else if let Some(odd) = found.iter().find(|c| !classes.contains(c)) {
                return Err(Error::Data(format!(
                    "{}: expected only classes that train has ({}), found a folder {odd}",
                    folder.display(),
                    classes.join(", ")
                )));
            }
            let mut files = Vec::new();
            for (label, class) in classes.iter().enumerate() {
                let folder = folder.join(class);
                let (pictures, rest): (Vec<_>, Vec<_>) = list(&folder)?.into_iter().partition(|f| is_picture(f));
                if pictures.is_empty() {
                    return Err(Error::Data(format!(
                        "{}: expected pictures of class {class} (.png, .jpg or .jpeg), found none",
                        folder.display()
                    )));
                }
                others += rest.len();
                files.extend(pictures.into_iter().map(|name| File {
                    path: folder.join(name),
                    label: label as u32,
                    pixels: OnceLock::new(),
                }));
            }
            splits.push((split.to_string(), files));
        }
        if classes.is_empty() {
            return Err(Error::Data(format!(
                "{}: expected one folder of pictures per class, found none",
                path.join("train").display()
            )));
        }
        if others > 0 {
            notes.push(format!("{others} files in the class folders are not .png, .jpg or .jpeg and were passed over"));
        }
        if !splits.iter().any(|(name, _)| name == "val") {
            let (train, val) = hold_out(std::mem::take(&mut splits[0].1), classes.len());
            notes.push(format!(
                "there is no folder val: {} of {} training pictures are held out as val, a tenth of each class \
                 chosen by a hash of the file name",
                val.len(),
                train.len() + val.len()
            ));
            if !val.is_empty() {
                splits.insert(1, ("val".into(), val));
            }
            splits[0].1 = train;
        }
        let (classes, odd) = class_names(classes);
        notes.extend(odd);
        let count: usize = splits.iter().map(|(_, files)| files.len()).sum();
        let keep = count.saturating_mul(side * side * 3) <= CACHE_BYTES;
        let mut folder =
            Folder { path: path.into(), classes, side, mean: [0.0; 3], std: [0.0; 3], splits, keep, notes };
        let sums = folder.channel_sums(&folder.splits[0].1)?;
        (folder.mean, folder.std) = (sums.mean(), sums.std());
        if let Some(c) = folder.std.iter().position(|&std| std == 0.0) {
            return Err(Error::Data(format!(
                "{}: expected pictures that differ, found the same value in every pixel of the {} channel",
                path.join("train").display(),
                ["red", "green", "blue"][c]
            )));
        }
        Ok(folder)
    }

    /// Sums over all pixels of the files, on all cores.
    fn channel_sums(&self, files: &[File]) -> Result<ChannelSums> {
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
        std::thread::scope(|scope| {
            let parts: Vec<_> = files
                .chunks(files.len().div_ceil(threads))
                .map(|part| {
                    scope.spawn(move || {
                        let mut sums = ChannelSums::default();
                        part.iter().try_for_each(|file| self.pixels(file, |rgb| sums.add(rgb)))?;
                        Ok(sums)
                    })
                })
                .collect();
            let mut sums = ChannelSums::default();
            for part in parts {
                let part = part.join().unwrap_or_else(|_| Err(Error::Data("a decoding thread stopped".into())))?;
                sums.merge(&part);
            }
            Ok(sums)
        })
    }

    /// Hands the RGB bytes of a picture to `take`.
    fn pixels(&self, file: &File, take: impl FnOnce(&[u8])) -> Result<()> {
        if let Some(pixels) = file.pixels.get() {
            take(pixels);
            return Ok(());
        }
        let pixels = decode(&file.path, self.side)?;
        take(&pixels);
        if self.keep {
            file.pixels.set(pixels).ok(); // another thread may have been faster, with the same bytes
        }
        Ok(())
    }

    fn files(&self, split: &str) -> Result<&[File]> {
        match self.splits.iter().find(|(name, _)| name == split) {
            Some((_, files)) => Ok(files),
            None => Err(no_such_split(&self.name(), split, &self.splits())),
        }
    }
}

impl Dataset for Folder {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn image_size(&self) -> usize {
        self.side
    }

    fn splits(&self) -> Vec<String> {
        self.splits.iter().map(|(name, _)| name.clone()).collect()
    }

    fn labels(&self, split: &str) -> Result<Vec<u32>> {
        Ok(self.files(split)?.iter().map(|f| f.label).collect())
    }

    fn len(&self, split: &str) -> Result<usize> {
        Ok(self.files(split)?.len())
    }

    fn mean(&self) -> [f64; 3] {
        self.mean
    }

    fn std(&self) -> [f64; 3] {
        self.std
    }

    fn read(&self, split: &str, indices: &[usize]) -> Result<Pictures> {
        let files = self.files(split)?;
        let mut pictures = Pictures { data: vec![], labels: vec![], n: indices.len(), side: self.side };
        for &i in indices {
            let file = files.get(i).ok_or_else(|| no_such_picture(&self.name(), split, i, files.len()))?;
            self.pixels(file, |rgb| pictures.data.extend_from_slice(rgb))?;
            pictures.labels.push(file.label);
        }
        Ok(pictures)
    }

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }
}

/// Names in a folder in alphabetical order, without hidden ones.
fn list(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder))? {
        let name = entry.map_err(Error::io(folder))?.file_name();
        let name = name
            .into_string()
            .map_err(|name| Error::Data(format!("{}: expected names in UTF-8, found {name:?}", folder.display())))?;
        if !name.starts_with('.') {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn is_picture(name: &str) -> bool {
    let name = name.to_lowercase();
    [".png", ".jpg", ".jpeg"].iter().any(|end| name.ends_with(end))
}

/// Takes a tenth of each class (rounded, at least one picture where there are two) for validation: those whose file
/// names have the smallest hashes.
fn hold_out(files: Vec<File>, classes: usize) -> (Vec<File>, Vec<File>) {
    let mut by_class: Vec<Vec<File>> = (0..classes).map(|_| Vec::new()).collect();
    for file in files {
        by_class[file.label as usize].push(file);
    }
    let (mut train, mut val) = (Vec::new(), Vec::new());
    for class in by_class {
        let mut ranks: Vec<(u64, usize)> = class.iter().map(|f| hash(&f.path)).zip(0..).collect();
        ranks.sort();
        let held = if class.len() < 2 { 0 } else { ((class.len() + 5) / 10).max(1) };
        let held: Vec<usize> = ranks[..held].iter().map(|&(_, i)| i).collect();
        for (i, file) in class.into_iter().enumerate() {
            if held.contains(&i) { val.push(file) } else { train.push(file) }
        }
    }
    (train, val)
}

/// FNV-1a (64 bits) of a path's last component.
fn hash(path: &Path) -> u64 {
    crate::hash::fnv1a(path.file_name().unwrap_or_default().as_encoded_bytes())
}

/// Decodes a picture, turns it as its EXIF data say, lays it on white where it is transparent, scales its shorter side
/// to `side` and crops the longer one about the centre. RGB bytes, `[side][side][3]`.
fn decode(path: &Path, side: usize) -> Result<Vec<u8>> {
    let damaged = |e: image::ImageError| {
        Error::Data(format!(
            "{}: expected a PNG or JPEG picture, found one that cannot be decoded: {e}",
            path.display()
        ))
    };
    let reader = ImageReader::open(path).map_err(Error::io(path))?.with_guessed_format().map_err(Error::io(path))?;
    let mut decoder = reader.into_decoder().map_err(damaged)?;
    let orientation = decoder.orientation().map_err(damaged)?;
    let mut picture = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    picture.apply_orientation(orientation);
    if (picture.width() as usize, picture.height() as usize) != (side, side) {
        picture = picture.resize_to_fill(side as u32, side as u32, FilterType::CatmullRom);
    }
    if !picture.color().has_alpha() {
        return Ok(picture.into_rgb8().into_raw());
    }
    let over_white = |rgba: &image::Rgba<u8>| {
        let [r, g, b, alpha] = rgba.0.map(u32::from);
        [r, g, b].map(|x| ((x * alpha + 255 * (255 - alpha) + 127) / 255) as u8)
    };
    Ok(picture.into_rgba8().pixels().flat_map(over_white).collect())
}
