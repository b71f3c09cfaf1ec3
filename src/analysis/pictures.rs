//! What a report holds of single images: pictures behind extreme trajectories, and a row of the table for each.

use super::run::Opened;
use crate::dataset::Dataset;
use crate::dynamics::Values;
use crate::dynamics::values::Datum;
use crate::report::{Example, Images, choose};
use crate::{Error, Result};
use std::io::Cursor;

/// Pictures behind extreme trajectories, at most `each` of a kind; none where the pictures are not known.
///
/// # Errors
/// Pictures that cannot be read again.
pub(super) fn examples(values: &Values, run: Option<&Opened>, each: usize) -> Result<Vec<Example>> {
    let Some(Opened { data, split, .. }) = run else { return Ok(Vec::new()) };
    let (classes, label_margin) = (classes(values), values.rows(Datum::LabelMargin));
    let one = |(kind, image): (_, usize)| {
        Ok(Example {
            kind,
            image,
            label: values.labels[image],
            classes: classes.iter().map(|row| row[image]).collect(),
            label_margin: label_margin.iter().map(|row| row[image]).map(|x| x.is_finite().then_some(x)).collect(),
            picture: Example::picture_of(&png(&**data, split, image)?),
        })
    };
    choose(&classes, &values.labels, &label_margin, each)?.into_iter().map(one).collect()
}

/// The values of all images, as the report's table takes them.
pub(super) fn images(values: &Values) -> Images {
    Images {
        ids: Vec::new(),
        labels: values.labels.clone(),
        classes: classes(values),
        margin: values.rows(Datum::Margin),
        label_margin: values.rows(Datum::LabelMargin),
        entropy: values.rows(Datum::Entropy),
        confidence: values.rows(Datum::Confidence),
    }
}

/// \[T\]\[N\]
fn classes(values: &Values) -> Vec<Vec<usize>> {
    let row = |row: &[u32]| row.iter().map(|&class| class as usize).collect();
    values.class.chunks_exact(values.samples).map(row).collect()
}

/// A picture of a data set as the bytes of a PNG file.
fn png(data: &dyn Dataset, split: &str, image: usize) -> Result<Vec<u8>> {
    let pictures = data.read(split, &[image])?;
    let side = pictures.side as u32;
    let picture = image::RgbImage::from_raw(side, side, pictures.data).ok_or_else(|| {
        Error::Data(format!("{}: picture {image} of {split} has not {side} x {side} pixels", data.name()))
    })?;
    let mut bytes = Cursor::new(Vec::new());
    picture
        .write_to(&mut bytes, image::ImageFormat::Png)
        .map_err(|e| Error::Data(format!("{}: picture {image} of {split} as PNG: {e}", data.name())))?;
    Ok(bytes.into_inner())
}
