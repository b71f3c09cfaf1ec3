//! The folder of a comparison.

use super::{Comparison, figures, page, tables};
use crate::report::folder::{COMPARISON, Filling, pictures};
use crate::report::in_lines;
use crate::{Error, Result};
use std::path::{Path, PathBuf};

/// Writes `tables/*.csv`, `figures/*.svg`, `figures/*.png`, `compare.json` and, last, `compare.html`, each file atomically; see
/// [`Filling`] for what happens to files that are there. Returns the path of the page.
pub(super) fn write(comparison: &Comparison, folder: &Path) -> Result<PathBuf> {
    let drawn = figures::all(comparison);
    let page = page::render(comparison, &drawn)?;
    let json = in_lines(comparison).map_err(|e| Error::Data(format!("compare.json: {e}")))?;
    let mut files = Vec::new();
    for table in tables::all(comparison) {
        files.push((format!("tables/{}.csv", table.name), table.csv()?));
    }
    files.extend(pictures(&drawn)?);
    files.push(("compare.json".into(), json.into_bytes()));
    Filling::new(folder, COMPARISON)?.write(files, &page)
}
