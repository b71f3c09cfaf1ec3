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
use crate::files::{remove_sign, write_atomically};
use crate::{Error, Result, parallel};

/// The fonts of the PNG files, which have to be the same everywhere.
const FONTS: [&[u8]; 2] = [include_bytes!("../../assets/DejaVuSans.ttf"), FONT_FILE];

/// Pixels of a PNG for one of its SVG: sharp on paper and on dense screens.
const SCALE: f32 = 2.0;

/// Writes `report.json`, `tables/*.csv`, `rdms/*.npy`, `figures/*.svg`, `figures/*.png` and, last, `report.html` into `dir`
/// (made if missing), each file atomically: without the page, which is removed first, the folder is not complete. Files that an earlier report left in these three folders and this one does
/// not have are removed, so that all that is there belongs together. Returns the path of the page.
///
/// # Errors
/// When the report is malformed (nothing is written then) or a file cannot be written.
pub fn write(report: &Report, dir: &Path) -> Result<PathBuf> {
    let (view, dynamics) = report.views()?;
    let drawn = figures::all(report, &view, dynamics.as_ref());
    let page = html::render(report, &view, dynamics.as_ref(), &drawn)?;
    let json = report.json()?;

    let sign = dir.join("report.html");
    remove_sign(&sign).map_err(Error::io(&sign))?;
    let mut files = Vec::new();
    for table in tables::all(report, &view, dynamics.as_ref()) {
        files.push((format!("{}.csv", table.name), table.csv()?));
    }
    fill(&dir.join("tables"), files)?;
    fill(
        &dir.join("rdms"),
        dynamics.as_ref().map_or(Ok(Vec::new()), |dynamics| matrices(dynamics, &report.area_rdms))?,
    )?;
    fill(&dir.join("figures"), pictures(&drawn)?)?;
    let write = |name: &str, text: &str| -> Result<PathBuf> {
        let path = dir.join(name);
        write_atomically(&path, text.as_bytes()).map_err(Error::io(&path))?;
        Ok(path)
    };
    write("report.json", &json)?;
    write("report.html", &page)
}

/// Makes a folder hold these files and no others of their kinds; without any it is not made.
pub(crate) fn fill(folder: &Path, files: Vec<(String, Vec<u8>)>) -> Result<()> {
    const KINDS: [&str; 5] = ["csv", "npy", "svg", "png", "txt"];
    if files.is_empty() && !folder.exists() {
        return Ok(());
    }
    fs::create_dir_all(folder).map_err(Error::io(folder))?;
    let names: BTreeSet<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        let path = entry.map_err(Error::io(folder))?.path();
        let kept = path.file_name().and_then(|name| name.to_str()).is_none_or(|name| names.contains(name));
        let ours = path.extension().and_then(|e| e.to_str()).is_some_and(|e| KINDS.contains(&e));
        if ours && !kept && path.is_file() {
            fs::remove_file(&path).map_err(Error::io(&path))?;
        }
    }
    for (name, bytes) in &files {
        let path = folder.join(name);
        write_atomically(&path, bytes).map_err(Error::io(&path))?;
    }
    Ok(())
}

/// Every drawing as SVG and PNG, on white.
pub(crate) fn pictures(figures: &[Figure]) -> Result<Vec<(String, Vec<u8>)>> {
    let mut options = usvg::Options { font_family: "DejaVu Sans".into(), ..usvg::Options::default() };
    let fonts = options.fontdb_mut();
    FONTS.into_iter().for_each(|font| fonts.load_font_data(font.into()));
    // Whatever family a document names, there is this one.
    fonts.set_sans_serif_family("DejaVu Sans");
    let draw = |drawing: &Drawing| -> Result<[(String, Vec<u8>); 2]> {
        let svg = standalone(&drawing.svg);
        let png = png(&drawing.stem, &svg, &options)?;
        Ok([(format!("{}.png", drawing.stem), png), (format!("{}.svg", drawing.stem), svg.into_bytes())])
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
