//! The folder of a comparison.

use super::{Comparison, figures, page, tables};
use crate::files::{remove_sign, write_atomically};
use crate::report::folder::{fill, pictures};
use crate::report::in_lines;
use crate::{Error, Result};
use std::path::{Path, PathBuf};

/// Writes `tables/*.csv`, `figures/*.svg`, `figures/*.png`, `compare.json` and, last, `compare.html`, each file atomically; files
/// that an earlier comparison left in the two folders are removed. Returns the path of the page.
pub(super) fn write(comparison: &Comparison, folder: &Path) -> Result<PathBuf> {
    let drawn = figures::all(comparison);
    let page = page::render(comparison, &drawn)?;
    let json = in_lines(comparison).map_err(|e| Error::Data(format!("compare.json: {e}")))?;
    let csv = tables::all(comparison).into_iter().map(|table| Ok((format!("{}.csv", table.name), table.csv()?)));
    let sign = folder.join("compare.html");
    remove_sign(&sign).map_err(Error::io(&sign))?;
    fill(&folder.join("tables"), csv.collect::<Result<Vec<_>>>()?)?;
    fill(&folder.join("figures"), pictures(&drawn)?)?;
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        write_atomically(&path, text.as_bytes()).map_err(Error::io(&path))?;
        Ok(path)
    };
    write("compare.json", &json)?;
    write("compare.html", &page)
}
