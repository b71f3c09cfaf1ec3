//! One picture of a folder: a PNG or JPEG file becomes a square of RGB bytes, or an error that names it.

use std::fs::Metadata;
use std::io::Cursor;
use std::path::Path;

use image::codecs::{jpeg::JpegDecoder, png::PngDecoder};
use image::imageops::FilterType;
use image::{DynamicImage, ImageBuffer, ImageDecoder, ImageError, Limits, Rgb, RgbImage};

use super::{jpeg, png};
use crate::{Error, Result};

/// Pictures of more pixels are refused (a square of 8192 x 8192 is not), before memory for them is asked for.
const MOST_PIXELS: usize = 1 << 26;

/// Files of more bytes are refused: no picture that is taken needs as many.
const MOST_BYTES: u64 = 8 * MOST_PIXELS as u64;

const PNG_END: &[u8] = b"\0\0\0\0IEND\xAE\x42\x60\x82";
const JPEG: &[u8] = b"\xFF\xD8\xFF";
const JPEG_END: &[u8] = b"\xFF\xD9";

/// Decodes a picture, lays it on white where it is transparent, turns it as its EXIF or XMP data say, scales its shorter side to
/// `side` and crops the longer one about the centre. RGB bytes, `[side][side][3]`.
///
/// # Errors
/// Whatever is not a whole PNG or JPEG picture of at most 2^26 pixels.
pub(super) fn decode(path: &Path, side: usize) -> Result<Vec<u8>> {
    let refused =
        |what: String| Error::Data(format!("{}: expected a PNG or JPEG picture, found {what}", path.display()));
    let metadata = std::fs::metadata(path).map_err(Error::io(path))?;
    if !metadata.is_file() {
        return Err(refused(kind(&metadata).into()));
    }
    match metadata.len() {
        0 => return Err(refused("an empty file (0 bytes); copy it again or remove it".into())),
        bytes if bytes > MOST_BYTES => {
            return Err(refused(format!("a file of {bytes} bytes; pictures of at most {MOST_BYTES} bytes are read")));
        }
        _ => {}
    }
    let file = std::fs::read(path).map_err(Error::io(path))?;
    decode_bytes(file, side).map_err(refused)
}

/// The same of a file's bytes.
///
/// # Errors
/// What was found instead.
pub(super) fn decode_bytes(file: Vec<u8>, side: usize) -> Result<Vec<u8>, String> {
    scaled(pixels(file)?, side)
}

/// What lies where a file should be.
fn kind(metadata: &Metadata) -> &'static str {
    if metadata.is_dir() { "a folder of that name" } else { "something that is not a file (a pipe, socket or device)" }
}

/// All pixels, upright, without transparency.
///
/// The decoder gets one picture alone, with the mark of its end, whether the file has that or not, and whatever follows.
fn pixels(mut file: Vec<u8>) -> Result<DynamicImage, String> {
    let unusable = |fault: jpeg::Fault| format!("one that cannot be used: {fault}");
    let (picture, orientation) = if file.starts_with(png::SIGNATURE) {
        let found = png::read(&file).map_err(unusable)?;
        let (orientation, end) = (found.statements.orientation(), found.end);
        file.truncate(end);
        file.extend(PNG_END);
        let decoder = PngDecoder::with_limits(Cursor::new(&file), Limits::default()).map_err(damaged)?;
        let (width, height) = decoder.dimensions();
        allowed(width as usize, height as usize)?;
        (DynamicImage::from_decoder(decoder).map_err(damaged)?, orientation)
    } else if file.starts_with(JPEG) {
        let found = jpeg::read(&file, allowed).map_err(unusable)?;
        let orientation = found.statements.orientation();
        let size = (found.width as u32, found.height as u32);
        let end = found.end;
        file.truncate(end);
        file.extend(JPEG_END);
        let decoder = JpegDecoder::new(Cursor::new(file)).map_err(damaged)?;
        if decoder.dimensions() != size {
            return Err("one whose size is ambiguous: it has two headers".into());
        }
        (DynamicImage::from_decoder(decoder).map_err(damaged)?, orientation)
    } else {
        return Err(match image::guess_format(&file) {
            Ok(format) => format!("one in another format ({format:?}); convert it"),
            Err(_) => "neither's signature at its start".into(),
        });
    };
    let mut picture = on_white(picture);
    picture.apply_orientation(orientation);
    Ok(picture)
}

fn damaged(error: ImageError) -> String {
    format!("one that cannot be decoded: {error}")
}

fn allowed(width: usize, height: usize) -> Result<(), String> {
    match width.saturating_mul(height) <= MOST_PIXELS {
        true => Ok(()),
        false => Err(format!("one of {width} x {height} pixels; at most {MOST_PIXELS} (8192 x 8192) are read")),
    }
}

/// Lays a picture on white, in its own depth. This comes before scaling: what colour stands beneath the wholly
/// transparent must not bleed into its neighbours.
fn on_white(picture: DynamicImage) -> DynamicImage {
    fn over<T: Copy + Into<u32>>([r, g, b, alpha]: [T; 4], white: u32) -> [u32; 3] {
        let alpha = alpha.into();
        [r, g, b].map(|x| (x.into() * alpha + white * (white - alpha) + white / 2) / white)
    }
    match picture {
        DynamicImage::ImageLumaA8(_) | DynamicImage::ImageRgba8(_) => {
            let picture = picture.into_rgba8();
            DynamicImage::ImageRgb8(RgbImage::from_fn(picture.width(), picture.height(), |x, y| {
                Rgb(over(picture.get_pixel(x, y).0, 255).map(|value| value as u8))
            }))
        }
        DynamicImage::ImageLumaA16(_) | DynamicImage::ImageRgba16(_) => {
            let picture = picture.into_rgba16();
            DynamicImage::ImageRgb16(ImageBuffer::from_fn(picture.width(), picture.height(), |x, y| {
                Rgb(over(picture.get_pixel(x, y).0, 65535).map(|value| value as u16))
            }))
        }
        opaque => opaque,
    }
}

/// Scales the shorter side to `side` and crops the longer one about the centre.
fn scaled(picture: DynamicImage, side: usize) -> Result<Vec<u8>, String> {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    if (width, height) == (side, side) {
        return Ok(picture.into_rgb8().into_raw());
    }
    let longer = width.max(height).saturating_mul(side).div_ceil(width.min(height).max(1));
    if longer.saturating_mul(side) > MOST_PIXELS {
        return Err(format!("one of {width} x {height} pixels, too narrow to be scaled to {side} and cropped"));
    }
    Ok(picture.resize_to_fill(side as u32, side as u32, FilterType::CatmullRom).into_rgb8().into_raw())
}
