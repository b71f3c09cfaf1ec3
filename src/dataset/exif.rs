//! Which way up a picture is, as EXIF data say.

use image::metadata::Orientation;

/// The tag.
const ORIENTATION: u64 = 0x0112;

/// The orientation that EXIF data state in their first directory, of whatever integer type; as stored, where they state
/// none. Data may begin with the mark that JPEG segments have (`Exif`, two zeros).
pub(super) fn orientation(exif: &[u8]) -> Orientation {
    stated(exif.strip_prefix(b"Exif\0\0".as_slice()).unwrap_or(exif))
        .and_then(|value| Orientation::from_exif(u8::try_from(value).ok()?))
        .unwrap_or(Orientation::NoTransforms)
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
                    assert_eq!(orientation(&exif).to_exif(), value as u8, "type {kind}, {little}, count {count}");
                    assert_eq!(orientation(&[b"Exif\0\0", &*exif].concat()).to_exif(), value as u8);
                    (0..60).for_each(|cut| _ = orientation(&exif[..cut])); // no panic
                }
            }
        }
    }

    #[test]
    fn what_is_no_orientation_turns_nothing() {
        for (kind, size, value) in [(3, 2, 0), (3, 2, 9), (4, 4, 0x1_0006), (2, 1, 6), (5, 4, 6), (12, 4, 6)] {
            assert_eq!(orientation(&exif(true, kind, size, 1, value)), Orientation::NoTransforms, "{kind} {value}");
        }
        let mut far = exif(true, 3, 2, 1, 6);
        far[4..8].fill(0xFF);
        assert_eq!(orientation(&far), Orientation::NoTransforms);
        assert_eq!(orientation(b"neither"), Orientation::NoTransforms);
    }
}
