//! What a PNG file holds, found without decoding a pixel: where its data end, and what may say which way up it is, which
//! stands in a chunk of its own or, from programs older than that chunk (ImageMagick among them), in texts.

use std::borrow::Cow;
use std::io::Read;

use super::exif::{Statements, XMP};
use super::jpeg::Fault;

/// What files begin with.
pub(super) const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// Most bytes of a text about the orientation, unpacked.
const MOST_TEXT: u64 = 16 << 20;

/// What stands around the pixels.
pub(super) struct Png<'a> {
    /// What may say which way up it is.
    pub statements: Statements<'a>,
    /// Bytes up to which the file must be read: before the mark of its end or, where the file lacks that, behind the last
    /// whole chunk.
    pub end: usize,
}

/// Walks through the chunks, wherever they stand.
///
/// # Errors
/// Pixels that are cut; a packed text about the orientation that cannot be unpacked.
pub(super) fn read(file: &[u8]) -> Result<Png<'_>, Fault> {
    let (mut at, mut data) = (SIGNATURE.len(), false);
    let (mut chunk, mut profile, mut xmp) = (None, None, None);
    while let Some(head) = file.get(at..at + 8) {
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let kind = &head[4..];
        let whole = file.len() - at >= 12 && length <= file.len() - at - 12;
        let content = || &file[at + 8..at + 8 + length];
        match kind {
            b"IDAT" if !whole => return Err(Fault::Cut),
            b"IDAT" => data = true,
            b"IEND" => break,
            _ if !whole => break,
            b"eXIf" if chunk.is_none() => chunk = Some(Cow::Borrowed(content())),
            b"tEXt" | b"zTXt" | b"iTXt" => match keyword(content()) {
                (b"Raw profile type exif" | b"Raw profile type APP1", text) if profile.is_none() => {
                    profile = unpacked(kind, text)?.and_then(|text| raw_profile(&text));
                }
                (b"XML:com.adobe.xmp", text) if xmp.is_none() => xmp = unpacked(kind, text)?,
                _ => {}
            },
            _ => {}
        }
        at += 12 + length;
    }
    if !data {
        return Err(Fault::Cut);
    }
    // What stood in a segment of a JPEG file may be either.
    let (profile_exif, profile_xmp) = match profile {
        Some(profile) => match profile.strip_prefix(XMP) {
            Some(xmp) => (None, Some(Cow::Owned(xmp.to_vec()))),
            None => (Some(Cow::Owned(profile)), None),
        },
        None => (None, None),
    };
    let statements = Statements { exif: chunk.or(profile_exif), xmp: xmp.or(profile_xmp) };
    Ok(Png { statements, end: at })
}

/// A text's keyword, and what stands behind the zero that ends it.
fn keyword(content: &[u8]) -> (&[u8], &[u8]) {
    let end = content.iter().position(|&byte| byte == 0).unwrap_or(content.len());
    (&content[..end], content.get(end + 1..).unwrap_or_default())
}

/// The text of a chunk of this kind, behind its keyword; none where the chunk is not built as its kind is.
fn unpacked<'a>(kind: &[u8], behind: &'a [u8]) -> Result<Option<Cow<'a, [u8]>>, Fault> {
    let (packed, text) = match (kind, behind) {
        (b"tEXt", text) => (false, text),
        (b"zTXt", [0, text @ ..]) => (true, text),
        // A language and the keyword in it come before the text.
        (b"iTXt", [packed @ (0 | 1), 0, rest @ ..]) => (*packed == 1, keyword(keyword(rest).1).1),
        _ => return Ok(None),
    };
    if !packed {
        return Ok(Some(text.into()));
    }
    let mut unpacked = Vec::new();
    let read = flate2::read::ZlibDecoder::new(text).take(MOST_TEXT + 1).read_to_end(&mut unpacked);
    match read {
        Ok(_) if unpacked.len() as u64 <= MOST_TEXT => Ok(Some(unpacked.into())),
        Ok(_) => Err(Fault::Damaged(format!("a text that may say which way up it is has more than {MOST_TEXT} bytes"))),
        Err(error) => {
            Err(Fault::Damaged(format!("a text that may say which way up it is cannot be unpacked ({error})")))
        }
    }
}

/// The bytes of a profile as ImageMagick writes it: an empty line, its kind, how many bytes, and these in hexadecimal digits.
fn raw_profile(text: &[u8]) -> Option<Vec<u8>> {
    let mut lines = text.split(|&byte| byte == b'\n').skip(2);
    let bytes: usize = str::from_utf8(lines.next()?).ok()?.trim().parse().ok()?;
    let digits = lines.flatten().filter(|byte| !byte.is_ascii_whitespace());
    let digits: Option<Vec<u8>> =
        digits.map(|&digit| char::from(digit).to_digit(16).map(|digit| digit as u8)).collect();
    let profile: Vec<u8> = digits?.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    (profile.len() == bytes).then_some(profile)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_in_hexadecimal_digits() {
        let text = b"\nexif\n       8\n4949\n2a00 08\n000000\n";
        assert_eq!(raw_profile(text).as_deref(), Some(b"II*\0\x08\0\0\0".as_slice()));
        (0..text.len() - 2).for_each(|cut| assert_eq!(raw_profile(&text[..cut]), None, "{cut}"));
        assert_eq!(raw_profile(b"\nexif\n 8\n4949 2a00 0x 000000"), None);
    }
}
