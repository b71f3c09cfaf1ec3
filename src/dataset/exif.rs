//! Which way up a picture is, as its EXIF or XMP data say.

use std::borrow::Cow;

use image::metadata::Orientation;

/// The tag.
const ORIENTATION: u64 = 0x0112;

/// How EXIF data begin in JPEG segments.
pub(super) const EXIF: &[u8] = b"Exif\0\0";

/// How XMP data begin in JPEG segments.
pub(super) const XMP: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";

/// What a picture holds that may say which way up it is: the first of each.
#[derive(Debug, Default)]
pub(super) struct Statements<'a> {
    /// EXIF data, with or without [`EXIF`] before them.
    pub exif: Option<Cow<'a, [u8]>>,
    /// XMP data.
    pub xmp: Option<Cow<'a, [u8]>>,
}

impl Statements<'_> {
    /// The orientation that the EXIF data state or, where they state none, the XMP data; else as stored.
    pub fn orientation(&self) -> Orientation {
        let by_exif = || of_exif(self.exif.as_deref()?);
        let by_xmp = || of_xmp(self.xmp.as_deref()?);
        by_exif().or_else(by_xmp).unwrap_or(Orientation::NoTransforms)
    }
}

/// The orientation that EXIF data state in their first directory, of whatever integer type.
fn of_exif(exif: &[u8]) -> Option<Orientation> {
    let value = stated(exif.strip_prefix(EXIF).unwrap_or(exif))?;
    Orientation::from_exif(u8::try_from(value).ok()?)
}

/// The orientation that XMP data state: `tiff:Orientation="6"` in a tag, or `<tiff:Orientation>6</tiff:Orientation>`.
fn of_xmp(xmp: &[u8]) -> Option<Orientation> {
    let text = String::from_utf8_lossy(xmp);
    text.split("tiff:Orientation").skip(1).find_map(|behind| {
        let behind = behind.trim_start();
        let value = match behind.strip_prefix('=') {
            Some(quoted) => quoted.trim_start().strip_prefix(['"', '\''])?,
            None => behind.strip_prefix('>')?,
        };
        let value = value.trim_start();
        let end = value.find(|c: char| !c.is_ascii_digit())?;
        Orientation::from_exif(value[..end].parse().ok()?)
    })
}

/// The value of the tag. The data are a TIFF file: byte order, place of the first directory; that has a count and for each
/// tag its number, type, count and value, which lies elsewhere where it is longer than 4 bytes.
fn stated(tiff: &[u8]) -> Option<u64> {
    let little = match tiff.get(..4)? {
        b"II*\0" => true,
        b"MM\0*" => false,
        _ => return None,
    };
    let number = |at: usize, bytes: usize| -> Option<u64> {
        let bytes = tiff.get(at..at.checked_add(bytes)?)?;
        let add = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
        Some(if little { bytes.iter().rev().fold(0, add) } else { bytes.iter().fold(0, add) })
    };
    let directory = number(4, 4)? as usize;
    let entries = number(directory, 2)? as usize;
    let entry = (0..entries)
        .map(|i| directory.saturating_add(2 + 12 * i))
        .find(|&entry| number(entry, 2) == Some(ORIENTATION))?;
    let size = match number(entry + 2, 2)? {
        1 | 6 => 1, // BYTE, SBYTE
        3 | 8 => 2, // SHORT, SSHORT
        4 | 9 => 4, // LONG, SLONG
        _ => return None,
    };
    let count = number(entry + 4, 4)? as usize;
    let place = if count.checked_mul(size)? <= 4 { entry + 8 } else { number(entry + 8, 4)? as usize };
    number(place, size)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// EXIF data with another tag before the orientation.
    fn exif(little: bool, kind: u64, size: usize, count: u64, value: u64) -> Vec<u8> {
        let number = |value: u64, bytes: usize| match little {
            true => value.to_le_bytes()[..bytes].to_vec(),
            false => value.to_be_bytes()[8 - bytes..].to_vec(),
        };
        let place = match size * count as usize <= 4 {
            true => [number(value, size), vec![0; 4 - size]].concat(),
            false => number(60, 4),
        };
        let begin = if little { b"II*\0" } else { b"MM\0*" };
        let entries = [number(2, 2), number(0x010F, 2), number(2, 2), number(1, 4), vec![0; 4]].concat();
        let entry = [number(ORIENTATION, 2), number(kind, 2), number(count, 4), place].concat();
        let mut all = [begin.to_vec(), number(8, 4), entries, entry].concat();
        all.resize(60, 0);
        all.extend(number(value, size));
        all
    }

    #[test]
    fn of_every_integer_type_byte_order_and_place() {
        for value in 1..=8 {
            for (kind, size) in [(1, 1), (3, 2), (4, 4), (6, 1), (8, 2), (9, 4)] {
                for (little, count) in [(true, 1), (false, 1), (true, 8), (false, 8)] {
                    let exif = exif(little, kind, size, count, value);
                    let found = of_exif(&exif).map(Orientation::to_exif);
                    assert_eq!(found, Some(value as u8), "type {kind}, {little}, count {count}");
                    assert_eq!(of_exif(&[EXIF, &*exif].concat()).map(Orientation::to_exif), found);
                    (0..60).for_each(|cut| _ = of_exif(&exif[..cut])); // no panic
                }
            }
        }
    }

    #[test]
    fn what_is_no_orientation_turns_nothing() {
        for (kind, size, value) in [(3, 2, 0), (3, 2, 9), (4, 4, 0x1_0006), (2, 1, 6), (5, 4, 6), (12, 4, 6)] {
            assert_eq!(of_exif(&exif(true, kind, size, 1, value)), None, "{kind} {value}");
        }
        let mut far = exif(true, 3, 2, 1, 6);
        far[4..8].fill(0xFF);
        assert_eq!(of_exif(&far), None);
        assert_eq!(of_exif(b"neither"), None);
        assert_eq!(Statements::default().orientation(), Orientation::NoTransforms);
    }

    #[test]
    fn xmp_counts_where_exif_states_nothing() {
        for (text, expected) in [
            ("<rdf:Description tiff:Orientation=\"6\" a=\"3\"/>", Some(6)),
            ("<a tiff:Orientation = '8'/>", Some(8)),
            ("<tiff:Orientation>3</tiff:Orientation>", Some(3)),
            ("<tiff:Orientation>\n 2\n</tiff:Orientation>", Some(2)),
            ("<tiff:Orientation/><a tiff:Orientation=\"5\"/>", Some(5)),
            ("<tiff:Orientation></tiff:Orientation>", None),
            ("<a tiff:Orientation=\"9\"/>", None),
            ("<a tiff:Orientation=\"60000000000000000000\"/>", None),
            ("<a tiff:Orientation=\"6", None),
            ("tiff:Orientation", None),
            ("", None),
        ] {
            assert_eq!(of_xmp(text.as_bytes()).map(Orientation::to_exif), expected, "{text}");
        }
        let both = |exif: Option<Vec<u8>>| Statements {
            exif: exif.map(Cow::Owned),
            xmp: Some(Cow::Borrowed(b"<a tiff:Orientation=\"8\"/>")),
        };
        assert_eq!(both(Some(exif(true, 3, 2, 1, 6))).orientation().to_exif(), 6);
        assert_eq!(both(Some(exif(true, 3, 2, 1, 0))).orientation().to_exif(), 8);
        assert_eq!(both(None).orientation().to_exif(), 8);
    }
}
