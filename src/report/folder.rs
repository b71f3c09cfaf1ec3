//! The folder of a report: page, JSON, figures as SVG and PNG, tables, dissimilarity matrices.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use npyz::WriterBuilder;
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg;

use super::dynamics::{Dynamics, Grid};
use super::figures::{Drawing, Figure};
use super::svg::standalone;
use super::tables::Table;
use super::{Report, figures, html, tables};
use crate::dataset::outline::FONT_FILE;
use crate::dynamics::rdm::Rdm;
use crate::files::{LONG_TEXT, read_text, remove_sign, write_atomically};
use crate::train::run_folder::is_run;
use crate::{Error, Result, parallel};

/// The fonts of the PNG files, which have to be the same everywhere.
const FONTS: [&[u8]; 2] = [include_bytes!("../../assets/DejaVuSans.ttf"), FONT_FILE];

/// Pixels of a PNG for one of its SVG: sharp on paper and on dense screens.
const SCALE: f32 = 2.0;

/// The page of a report.
pub const PAGE: &str = "report.html";
/// The page of a comparison.
pub const COMPARISON: &str = "compare.html";

/// Writes `report.json`, `tables/*.csv`, `rdms/*.npy`, `figures/*.svg`, `figures/*.png` and, last, `report.html` into `dir`
/// (made if missing), each file atomically: without the page, which is removed first, the folder is not complete. See
/// `Filling` for what happens to files that are there. Returns the path of the page.
///
/// # Errors
/// When the report is malformed (nothing is written then), a file cannot be written, or a file of someone else has its name.
pub fn write(report: &Report, dir: &Path) -> Result<PathBuf> {
    let (view, dynamics) = report.views()?;
    let drawn = figures::all(report, &view, dynamics.as_ref());
    let page = html::render(report, &view, dynamics.as_ref(), &drawn)?;
    let mut files = Vec::new();
    for table in tables::all(report, &view, dynamics.as_ref()) {
        files.push((format!("tables/{}.csv", table.name), table.csv()?));
    }
    let rdms = dynamics.as_ref().map_or(Ok(Vec::new()), |dynamics| matrices(dynamics, &report.area_rdms))?;
    files.extend(rdms.into_iter().map(|(name, bytes)| (format!("rdms/{name}"), bytes)));
    files.extend(pictures(&drawn)?);
    files.push(("report.json".into(), report.json()?.into_bytes()));
    Filling::new(dir, PAGE)?.write(files, &page)
}

/// A folder that is filled with a page and what belongs to it. The list `PAGE.files` in it says what is ours: of the files there,
/// those are removed that an earlier page of the same name has listed and this one does not have, so that all that is ours
/// belongs together; a file that no list names is never removed, and not written over either.
#[derive(Debug)]
pub struct Filling<'a> {
    dir: &'a Path,
    page: &'static str,
    /// What an earlier page listed; none where there was none, or one that left no list.
    listed: BTreeSet<String>,
    /// Whether an earlier page left no list: what has our names is its.
    unlisted: bool,
}

impl<'a> Filling<'a> {
    /// Looks whether the folder can be filled, before there is anything to fill it with; it need not exist. Changes nothing.
    ///
    /// # Errors
    /// No folder, one that cannot be written to, one that is a run, or one with a page of the other kind.
    pub fn new(dir: &'a Path, page: &'static str) -> Result<Filling<'a>> {
        let refuse = |what: &str| {
            let dir = dir.display();
            Error::Data(format!("{dir}: expected a folder for {page}, found {what}; choose another one by --out"))
        };
        if dir.exists() && !dir.is_dir() {
            return Err(refuse("something else of this name"));
        }
        if is_run(dir) {
            return Err(refuse("a run"));
        }
        if let Some(other) = [PAGE, COMPARISON].into_iter().find(|other| *other != page && dir.join(other).exists()) {
            return Err(refuse(&format!("{other}, whose files lie in folders of the same names")));
        }
        // The nearest folder that exists takes what is to be made.
        let there = dir.ancestors().find(|of| of.as_os_str().is_empty() || of.exists()).unwrap_or(dir);
        let there = if there.as_os_str().is_empty() { Path::new(".") } else { there };
        tempfile::tempfile_in(there).map_err(Error::io(there))?;
        let list = list_of(dir, page);
        let listed = match list.exists() {
            true => read_text(&list, LONG_TEXT).map_err(Error::io(&list))?.lines().map(String::from).collect(),
            false => BTreeSet::new(),
        };
        let unlisted = !list.exists() && dir.join(page).exists();
        Ok(Filling { dir, page, listed, unlisted })
    }

    /// Writes the files, by their paths in the folder, and last the page, whose path is returned.
    ///
    /// # Errors
    /// A file that someone else has put there; what the system says.
    pub fn write(self, files: Vec<(String, Vec<u8>)>, page: &str) -> Result<PathBuf> {
        let Filling { dir, listed, unlisted, .. } = &self;
        let names: BTreeSet<String> = files.iter().map(|(name, _)| name.clone()).collect();
        let foreign = |name: &&String| !unlisted && !listed.contains(*name) && dir.join(name).exists();
        if let Some(name) = names.iter().find(foreign) {
            let path = dir.join(name);
            return Err(Error::Data(format!(
                "{}: there is a file of this name, which no {} has written; move it, or choose another folder by --out",
                path.display(),
                self.page
            )));
        }
        let sign = dir.join(self.page);
        remove_sign(&sign).map_err(Error::io(&sign))?;
        fs::create_dir_all(dir).map_err(Error::io(dir))?;
        // Whatever interrupts this, the list names all that is ours.
        self.list(listed.union(&names))?;
        for (name, bytes) in &files {
            let path = dir.join(name);
            let folder = path.parent().unwrap_or(dir);
            fs::create_dir_all(folder).map_err(Error::io(folder))?;
            write_atomically(&path, bytes).map_err(Error::io(&path))?;
        }
        for name in listed.difference(&names).filter(|name| is_ours(name)) {
            let path = dir.join(name);
            remove_sign(&path).map_err(Error::io(&path))?;
        }
        self.list(names.iter())?;
        write_atomically(&sign, page.as_bytes()).map_err(Error::io(&sign))?;
        Ok(sign)
    }

    fn list<'n>(&self, names: impl Iterator<Item = &'n String>) -> Result<()> {
        let text: String = names.map(|name| format!("{name}\n")).collect();
        let path = list_of(self.dir, self.page);
        write_atomically(&path, text.as_bytes()).map_err(Error::io(&path))
    }
}

/// Where the names of a page's files stand.
fn list_of(dir: &Path, page: &str) -> PathBuf {
    dir.join(format!("{page}.files"))
}

/// Whether a listed name is one that a page may have: whatever else a list says, nothing outside its folder is removed.
fn is_ours(name: &str) -> bool {
    let (folder, file) = name.split_once('/').unwrap_or(("", name));
    let plain = !file.is_empty() && !file.contains(['/', '\\']) && !file.starts_with('.');
    plain && ["", "tables", "rdms", "figures"].contains(&folder)
}

/// Every drawing as SVG and PNG, on white, in the folder `figures`.
pub(crate) fn pictures(figures: &[Figure]) -> Result<Vec<(String, Vec<u8>)>> {
    let mut options = usvg::Options { font_family: "DejaVu Sans".into(), ..usvg::Options::default() };
    let fonts = options.fontdb_mut();
    FONTS.into_iter().for_each(|font| fonts.load_font_data(font.into()));
    // Whatever family a document names, there is this one.
    fonts.set_sans_serif_family("DejaVu Sans");
    let draw = |drawing: &Drawing| -> Result<[(String, Vec<u8>); 2]> {
        let svg = standalone(&drawing.svg);
        let png = png(&drawing.stem, &svg, &options)?;
        let name = |kind: &str| format!("figures/{}.{kind}", drawing.stem);
        Ok([(name("png"), png), (name("svg"), svg.into_bytes())])
    };
    // Drawings do not depend on each other, and their order stays.
    let drawings: Vec<&Drawing> = figures.iter().flat_map(Figure::drawings).collect();
    let mut files = Vec::new();
    for drawn in parallel::each(&drawings, |_, drawing| draw(drawing)) {
        files.extend(drawn?);
    }
    Ok(files)
}

fn png(name: &str, svg: &str, options: &usvg::Options) -> Result<Vec<u8>> {
    let refuse = |what: String| Error::Data(format!("figures/{name}.png: {what}"));
    let tree = usvg::Tree::from_str(svg, options).map_err(|e| refuse(e.to_string()))?;
    // A tall figure of many classes is drawn smaller: a picture of 8000 pixels is as much as viewers open.
    let size = tree.size();
    let scale = SCALE.min(8000.0 / size.width().max(size.height()));
    let pixels = |length: f32| ((length * scale).ceil() as u32).max(1);
    let mut pixmap = Pixmap::new(pixels(size.width()), pixels(size.height()))
        .ok_or_else(|| refuse("no memory for the picture".into()))?;
    resvg::render(&tree, Transform::from_scale(scale, scale), &mut pixmap.as_mut());
    pixmap.encode_png().map_err(|e| refuse(e.to_string()))
}

/// Dissimilarity matrices as NumPy arrays [T][pairs] of f64, NaN where undefined, and what they are.
fn matrices(dynamics: &Dynamics, areas: &[(String, Rdm)]) -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    let mut lines = String::new();
    for (key, rdm, of) in [
        ("rdm", &dynamics.rdm, "images: tables/rdm_images.csv, column image"),
        ("class_rdm", &dynamics.class_rdm, "classes: tables/class_rdm_classes.csv, column class"),
    ] {
        for (metric, grid) in rdm.iter().flat_map(|rdm| rdm.named()) {
            let name = format!("{key}_{metric}.npy");
            let _ = writeln!(lines, "{name}: between {of}");
            files.push((name.clone(), npy(&name, grid, |v| v)?));
        }
    }
    for (area, rdm) in areas {
        for (metric, grid) in
            [("euclidean", &rdm.euclidean), ("correlation", &rdm.correlation), ("cosine", &rdm.cosine)]
        {
            let name = format!("{area}_{metric}.npy");
            let _ =
                writeln!(lines, "{name}: between the same images as rdm_{metric}.npy, of an area (tables/areas.csv)");
            files.push((name.clone(), npy(&name, grid, |v| v as f32)?));
        }
    }
    if !files.is_empty() {
        files.push(("README.txt".into(), format!("{ABOUT}{lines}").into_bytes()));
    }
    Ok(files)
}

/// What stands beside the matrices.
const ABOUT: &str = "\
Representational dissimilarity matrices, one at each timestep.

Each file is an array of 64-bit floats, of areas (areas_*) 32-bit floats, [timesteps][pairs]: the upper triangle row by row, (0,1), (0,2), ..., NaN where a
dissimilarity is undefined. rsatoolbox reads one in a line, with one RDM a timestep:

    import numpy, rsatoolbox; rdms = rsatoolbox.rdm.RDMs(numpy.load('rdms/rdm_correlation.npy'))

and scipy.spatial.distance.squareform(numpy.load('rdms/rdm_correlation.npy')[0]) is the square matrix at the first.

euclidean: squared distance divided by the number of features; correlation: 1 - Pearson over features; cosine: 1 - cosine.

";

fn npy<T: npyz::AutoSerialize>(name: &str, grid: &Grid, cast: fn(f64) -> T) -> Result<Vec<u8>> {
    let refuse = |e: std::io::Error| Error::Data(format!("rdms/{name}: {e}"));
    let mut bytes = Vec::new();
    let shape = [grid.len() as u64, grid.first().map_or(0, Vec::len) as u64];
    let writer = npyz::WriteOptions::new().default_dtype().shape(&shape).writer(&mut bytes);
    let mut writer = writer.begin_nd().map_err(refuse)?;
    writer.extend(grid.iter().flatten().map(|v| cast(v.unwrap_or(f64::NAN)))).map_err(refuse)?;
    writer.finish().map_err(refuse)?;
    Ok(bytes)
}

/// The tables' files, by name.
pub(super) fn csv(tables: &[Table]) -> Result<Vec<(String, String)>> {
    tables
        .iter()
        .map(|table| {
            let text = String::from_utf8(table.csv()?).map_err(|e| Error::Data(format!("{}.csv: {e}", table.name)))?;
            Ok((table.name.clone(), text))
        })
        .collect()
}
