//! A folder of pictures: `train/<class>/*.png|jpg|jpeg`, and `val`, `test`, `testplus` likewise where they exist. Pictures
//! may lie in folders within that of their class. Nothing is left out without a word: what is not read is in the notes, or
//! an error.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use image::ImageFormat;
use unicode_normalization::UnicodeNormalization;

use super::names::class_names;
use super::picture::{decode, decode_bytes};
use super::{CACHE_BYTES, ChannelSums, Dataset, Pictures, SPLITS, no_such_picture, no_such_split};
use crate::{Error, Result, parallel};

/// Pictures that a thread decodes at a time.
const BLOCK: usize = 16;

/// Folders of more pictures are large: opening lists them, and decodes a sample of the training pictures for the statistics.
const LARGE: usize = 20_000;

/// Training pictures of a large folder that are decoded when it is opened, at equal distances.
const SAMPLE: usize = 8_192;

/// Folders within folders; more are refused.
const DEEPEST: usize = 32;

/// Folders within the one of a class; more are refused.
const MOST_FOLDERS: usize = 1 << 16;

/// Times that links may lead to a folder of a class once more: two in each of 32 folders would be 2^32 ways.
const MOST_AGAIN: usize = 256;

/// Pictures of a class; more are refused.
const MOST_FILES: usize = 1 << 24;

/// A folder of pictures, each scaled and cropped about its centre to a square.
///
/// Opening decodes every picture of every split once, for the channel statistics of train and to find those that are
/// damaged before anything is made of the others. A large folder is only listed: its statistics are those of a sample, and
/// its pictures are looked at by [`Dataset::verify`] and [`Dataset::examine`].
pub struct Folder {
    path: PathBuf,
    classes: Vec<String>,
    side: usize,
    mean: [f64; 3],
    std: [f64; 3],
    splits: Vec<(String, Vec<File>)>,
    /// Whether decoded pictures are kept: only if all of them are small enough together.
    keep: bool,
    /// Whether not all were decoded when the folder was opened.
    large: bool,
    notes: Vec<String>,
}

struct File {
    path: PathBuf,
    label: u32,
    pixels: OnceLock<Vec<u8>>,
}

/// What lies in the folders of the classes.
#[derive(Default)]
struct Contents {
    files: Vec<File>,
    /// Pictures in folders within that of their class, and those folders.
    nested: (usize, BTreeSet<PathBuf>),
    /// Other files, by the end of their name.
    others: BTreeMap<String, usize>,
    /// Folders looked into, without links, and how many times one was looked into once more.
    folders: BTreeSet<PathBuf>,
    again: usize,
}

impl Folder {
    /// Opens a folder for pictures of `side` x `side` pixels.
    pub fn open(path: &Path, side: usize) -> Result<Folder> {
        let mut classes: Vec<String> = Vec::new();
        let (mut splits, mut contents, mut stray) = (Vec::new(), Contents::default(), Vec::new());
        let top: Vec<(String, Metadata)> = list(path)?;
        for split in SPLITS {
            let folder = path.join(split);
            match top.iter().find(|(name, _)| name == split) {
                Some((_, found)) if found.is_dir() => {}
                Some(_) => {
                    return Err(Error::Data(format!(
                        "{}: expected a folder with one folder of pictures per class, found something else",
                        folder.display()
                    )));
                }
                None if split == "train" => {
                    return Err(Error::Data(format!(
                        "{}: expected a folder train with one folder of .png or .jpg pictures per class, found none",
                        path.display()
                    )));
                }
                None => continue,
            }
            let (found, outside) = class_folders(&folder)?;
            stray.extend(outside.into_iter().map(|name| Path::new(split).join(name)));
            if split == "train" {
                classes = found.keys().cloned().collect();
            } else if let Some(odd) = classes.iter().find(|c| !found.contains_key(*c)) {
                return Err(Error::Data(format!(
                    "{}: expected a folder for every class of train, found none for {odd}",
                    folder.display()
                )));
            } else if let Some(odd) = found.keys().find(|c| !classes.contains(c)) {
                return Err(Error::Data(format!(
                    "{}: expected only classes that train has ({}), found a folder {odd}",
                    folder.display(),
                    classes.join(", ")
                )));
            }
            for ((class, folder), label) in found.iter().zip(0..) {
                let mut only = Contents::default();
                collect(folder, label, &mut vec![], &mut only)?;
                if only.files.is_empty() {
                    let found = if only.others.is_empty() { String::new() } else { format!(" but {}", only.others()) };
                    return Err(Error::Data(format!(
                        "{}: expected pictures of class {class} (.png, .jpg or .jpeg), found none{found}",
                        folder.display()
                    )));
                }
                contents.add(only);
            }
            splits.push((split.to_string(), std::mem::take(&mut contents.files)));
        }
        if classes.is_empty() {
            return Err(Error::Data(format!(
                "{}: expected one folder of pictures per class, found none",
                path.join("train").display()
            )));
        }
        for (name, found) in &top {
            if !SPLITS.contains(&name.as_str()) && (found.is_dir() || is_image(name)) {
                stray.push(name.into());
            }
        }
        let mut notes = contents.notes(path);
        if !stray.is_empty() {
            notes.push(format!(
                "what lies neither in {} nor in the folder of a class was left out: {}",
                SPLITS.join(", "),
                some(stray.iter())
            ));
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
        let (keep, large) = (count.saturating_mul(side * side * 3) <= CACHE_BYTES, count > LARGE);
        let mut folder =
            Folder { path: path.into(), classes, side, mean: [0.0; 3], std: [0.0; 3], splits, keep, large, notes };
        let sums = if large { folder.read_sample()? } else { folder.read_all()? };
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

    /// Decodes every picture; gives the sums over all pixels of the first split, which is train.
    fn read_all(&self) -> Result<ChannelSums> {
        let mut splits = self.splits.iter().map(|(_, files)| self.decode_all(files.iter()));
        let sums = splits.next().expect("train is there")?;
        splits.try_for_each(|split| split.map(drop))?;
        Ok(sums)
    }

    /// Decodes training pictures at equal distances; gives the sums over their pixels, and says so.
    fn read_sample(&mut self) -> Result<ChannelSums> {
        let files = &self.splits[0].1;
        let count = files.len().min(SAMPLE);
        let sums = self.decode_all((0..count).map(|i| &files[i * files.len() / count]))?;
        self.notes.push(format!(
            "a large folder: channel statistics are those of {count} of its {} training pictures, at equal distances, and \
             pictures are looked at while the network trains",
            files.len()
        ));
        Ok(sums)
    }

    /// Decodes pictures on all cores; gives the sums over all pixels.
    fn decode_all<'a>(&self, files: impl Iterator<Item = &'a File>) -> Result<ChannelSums> {
        let files: Vec<&File> = files.collect();
        let blocks: Vec<&[&File]> = files.chunks(BLOCK).collect();
        let failed = AtomicBool::new(false);
        let read = |_, block: &&[&File]| -> Result<ChannelSums> {
            let mut sums = ChannelSums::default();
            for file in block.iter().take_while(|_| !failed.load(Ordering::Relaxed)) {
                self.pixels(file, |rgb| sums.add(rgb)).inspect_err(|_| failed.store(true, Ordering::Relaxed))?;
            }
            Ok(sums)
        };
        let mut sums = ChannelSums::default();
        for block in parallel::each(&blocks, read) {
            sums.merge(&block?);
        }
        Ok(sums)
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

    fn stored(&self, split: &str, picture: usize) -> Result<Option<Vec<u8>>> {
        let files = self.files(split)?;
        let file = files.get(picture).ok_or_else(|| no_such_picture(&self.name(), split, picture, files.len()))?;
        std::fs::read(&file.path).map(Some).map_err(Error::io(&file.path))
    }

    fn decode(&self, stored: Vec<u8>) -> Result<Vec<u8>> {
        decode_bytes(stored, self.side)
            .map_err(|what| Error::Data(format!("{}: expected a PNG or JPEG picture, found {what}", self.name())))
    }

    fn verify(&self, split: &str) -> Result<()> {
        let files = self.files(split)?;
        if self.large { self.decode_all(files.iter()).map(drop) } else { Ok(()) }
    }

    fn unverified(&self) -> Vec<String> {
        if self.large { self.splits() } else { Vec::new() }
    }

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }
}

/// Names in a folder in alphabetical order, without hidden ones, and what they (or what they link to) are.
fn list(folder: &Path) -> Result<Vec<(String, Metadata)>> {
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder))? {
        let name = entry.map_err(Error::io(folder))?.file_name();
        let name = name
            .into_string()
            .map_err(|name| Error::Data(format!("{}: expected names in UTF-8, found {name:?}", folder.display())))?;
        if name.starts_with('.') {
            continue;
        }
        let path = folder.join(&name);
        let metadata = std::fs::metadata(&path).map_err(|error| match std::fs::read_link(&path) {
            Ok(target) => Error::Data(format!(
                "{}: it is a link to {}, which cannot be followed: {error}; mend or remove it",
                path.display(),
                target.display()
            )),
            Err(_) => Error::io(&path)(error),
        })?;
        entries.push((name, metadata));
    }
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(entries)
}

/// The folders of a split's classes by their names, and the pictures beside them. A name is the same in whatever Unicode
/// form the file system has it: it is given in the composed one (NFC).
fn class_folders(split: &Path) -> Result<(BTreeMap<String, PathBuf>, Vec<String>)> {
    let (mut classes, mut outside) = (BTreeMap::new(), Vec::new());
    for (name, metadata) in list(split)? {
        if metadata.is_dir() {
            let composed: String = name.nfc().collect();
            if let Some(first) = classes.insert(composed, split.join(&name)) {
                return Err(Error::Data(format!(
                    "{}: expected one folder per class, found another that differs from {} in the Unicode form of its \
                     name alone; join or rename them",
                    split.join(&name).display(),
                    first.display()
                )));
            }
        } else if is_image(&name) {
            outside.push(name);
        }
    }
    Ok((classes, outside))
}

/// Finds the pictures of a class in `folder` and in the folders within. `above` are those that it lies in.
fn collect(folder: &Path, label: u32, above: &mut Vec<PathBuf>, contents: &mut Contents) -> Result<()> {
    let real = std::fs::canonicalize(folder).map_err(Error::io(folder))?;
    contents.again += usize::from(!contents.folders.insert(real.clone()));
    let what = match () {
        () if above.contains(&real) => "a link back to a folder that it lies in".into(),
        () if above.len() == DEEPEST => format!("too many folders: more than {DEEPEST} within each other"),
        () if contents.folders.len() > MOST_FOLDERS => format!("too many folders: more than {MOST_FOLDERS}"),
        () if contents.again > MOST_AGAIN => "links that lead to the same folders again and again".into(),
        () if contents.files.len() > MOST_FILES => format!("more than {MOST_FILES} of one class"),
        () => String::new(),
    };
    if !what.is_empty() {
        return Err(Error::Data(format!("{}: expected pictures, found {what}", folder.display())));
    }
    above.push(real);
    for (name, metadata) in list(folder)? {
        let path = folder.join(&name);
        if is_picture(&name) {
            if above.len() > 1 {
                contents.nested.0 += 1;
                contents.nested.1.insert(folder.into());
            }
            contents.files.push(File { path, label, pixels: OnceLock::new() });
        } else if metadata.is_dir() {
            collect(&path, label, above, contents)?;
        } else {
            let end = Path::new(&name).extension().map_or("no ending".into(), |end| format!(".{}", end.display()));
            *contents.others.entry(end.to_lowercase()).or_default() += 1;
        }
    }
    above.pop();
    Ok(())
}

impl Contents {
    fn add(&mut self, more: Contents) {
        self.files.extend(more.files);
        self.nested.0 += more.nested.0;
        self.nested.1.extend(more.nested.1);
        more.others.into_iter().for_each(|(end, count)| *self.others.entry(end).or_default() += count);
    }

    /// The other files, counted by the end of their name.
    fn others(&self) -> String {
        self.others.iter().map(|(end, count)| format!("{count} {end}")).collect::<Vec<_>>().join(", ")
    }

    fn notes(&self, root: &Path) -> Vec<String> {
        let mut notes = Vec::new();
        let count: usize = self.others.values().sum();
        if count > 0 {
            notes.push(format!(
                "{count} files in the class folders are not .png, .jpg or .jpeg and were passed over: {}",
                self.others()
            ));
        }
        let (count, folders) = &self.nested;
        if *count > 0 {
            notes.push(format!(
                "{count} pictures lie in folders within that of their class and were read as pictures of that class: {}",
                some(folders.iter().map(|folder| folder.strip_prefix(root).unwrap_or(folder)))
            ));
        }
        notes
    }
}

/// The first three of some paths, and how many more there are.
fn some<P: AsRef<Path>>(paths: impl ExactSizeIterator<Item = P>) -> String {
    let more = paths.len().saturating_sub(3);
    let first: Vec<String> = paths.take(3).map(|path| path.as_ref().display().to_string()).collect();
    first.join(", ") + &if more > 0 { format!(" and {more} more") } else { String::new() }
}

fn is_picture(name: &str) -> bool {
    let name = name.to_lowercase();
    [".png", ".jpg", ".jpeg"].iter().any(|end| name.ends_with(end))
}

/// Whether a name is that of a picture in any format.
fn is_image(name: &str) -> bool {
    ImageFormat::from_path(name).is_ok()
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
        let held: BTreeSet<usize> = ranks[..held].iter().map(|&(_, i)| i).collect();
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
