//! npy arrays on disk whose images come batch by batch: [T, N, ...], so that a batch is written in T places.

use half::f16;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};

/// How numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Four bytes, as they were computed.
    F32,
    /// Two bytes.
    F16,
}

impl Format {
    /// Bytes of a number.
    pub fn bytes(self) -> usize {
        match self {
            Format::F32 => 4,
            Format::F16 => 2,
        }
    }

    /// Its name in numpy.
    pub fn name(self) -> &'static str {
        match self {
            Format::F32 => "float32",
            Format::F16 => "float16",
        }
    }

    /// Its name in an npy header.
    fn descr(self) -> &'static str {
        match self {
            Format::F32 => "<f4",
            Format::F16 => "<f2",
        }
    }
}

/// The start of an npy file: what follows are the numbers, in C order.
pub fn header(descr: &str, shape: &[usize]) -> Vec<u8> {
    let extents: String = shape.iter().map(|length| format!("{length}, ")).collect();
    let mut text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({extents}), }}");
    // Magic, version and length take ten bytes; numbers begin at a multiple of 64.
    text.push_str(&" ".repeat((10 + text.len() + 1).next_multiple_of(64) - 10 - text.len() - 1));
    text.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((text.len() as u16).to_le_bytes());
    bytes.extend(text.into_bytes());
    bytes
}

/// An npy array [T, N, ...] in a file of its own.
#[derive(Debug)]
pub struct ArrayFile {
    file: File,
    start: u64,
    images: usize,
    /// Numbers of one image at one timestep.
    numbers: usize,
    format: Format,
    bytes: Vec<u8>,
}

impl ArrayFile {
    /// Begins in an empty file, which is made as long as it will be.
    ///
    /// # Errors
    /// What the file system says.
    pub fn new(mut file: File, shape: &[usize], format: Format) -> io::Result<ArrayFile> {
        let header = header(format.descr(), shape);
        file.write_all(&header)?;
        let (start, count) = (header.len() as u64, shape.iter().product::<usize>() as u64);
        file.set_len(start + count * format.bytes() as u64)?;
        let numbers = shape[2..].iter().product();
        Ok(ArrayFile { file, start, images: shape[1], numbers, format, bytes: Vec::new() })
    }

    /// Writes images `first..first + images` of step number `step`, given image innermost, \[...\]\[width\]. Gives the place
    /// (image, number) and value of a number that has no room in the format, if there is one.
    ///
    /// # Errors
    /// What the file system says.
    pub fn put(
        &mut self,
        step: usize,
        first: usize,
        images: usize,
        values: &[f32],
    ) -> io::Result<Option<(usize, usize, f32)>> {
        let width = values.len() / self.numbers;
        self.bytes.clear();
        for n in 0..images {
            for d in 0..self.numbers {
                let value = values[d * width + n];
                let fits = match self.format {
                    Format::F32 => {
                        self.bytes.extend(value.to_le_bytes());
                        value.is_finite()
                    }
                    Format::F16 => {
                        let half = f16::from_f32(value);
                        self.bytes.extend(half.to_le_bytes());
                        half.is_finite()
                    }
                };
                if !fits {
                    return Ok(Some((first + n, d, value)));
                }
            }
        }
        let at = (step * self.images + first) * self.numbers * self.format.bytes();
        self.file.seek(SeekFrom::Start(self.start + at as u64))?;
        self.file.write_all(&self.bytes)?;
        Ok(None)
    }

    /// The finished file, from its start on.
    ///
    /// # Errors
    /// What the file system says.
    pub fn finish(mut self) -> io::Result<File> {
        self.file.flush()?;
        self.file.seek(SeekFrom::Start(0))?;
        Ok(self.file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_numpy_s() {
        let expected = b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3, ), }";
        let found = header("<f4", &[2, 3]);
        assert!(found.starts_with(expected), "{}", String::from_utf8_lossy(&found));
        for shape in [&[][..], &[7], &[4096; 5]] {
            let found = header("<f2", shape);
            assert!(found.len().is_multiple_of(64) && found.ends_with(b"\n"));
            let read = npyz::NpyHeader::from_reader(&found[..]).expect("a header");
            assert_eq!(read.shape(), shape.iter().map(|&n| n as u64).collect::<Vec<_>>());
        }
    }

    #[test]
    fn images_stand_where_they_belong() {
        let mut array = ArrayFile::new(tempfile::tempfile().unwrap(), &[2, 3, 2], Format::F32).unwrap();
        // [number][width 4]: image n of batch b at step t has the numbers 100 t + 10 (image) + number.
        for (first, images) in [(0, 2), (2, 1)] {
            for t in 0..2 {
                let value = |d: usize, n: usize| (100 * t + 10 * (first + n) + d) as f32;
                let values: Vec<f32> = (0..8).map(|i| value(i / 4, i % 4)).collect();
                assert_eq!(array.put(t, first, images, &values).unwrap(), None);
            }
        }
        let file = array.finish().unwrap();
        let found: Vec<f32> = npyz::NpyFile::new(file).unwrap().into_vec().unwrap();
        assert_eq!(found, [0., 1., 10., 11., 20., 21., 100., 101., 110., 111., 120., 121.]);
    }

    #[test]
    fn numbers_without_room_are_told() {
        let mut array = ArrayFile::new(tempfile::tempfile().unwrap(), &[1, 2, 2], Format::F16).unwrap();
        assert_eq!(array.put(0, 0, 2, &[1.0, 65504.0, -2.0, 3.0]).unwrap(), None);
        assert_eq!(array.put(0, 0, 2, &[1.0, 2.0, 3.0, 65536.0]).unwrap(), Some((1, 1, 65536.0)));
        let mut array = ArrayFile::new(tempfile::tempfile().unwrap(), &[1, 1, 1], Format::F32).unwrap();
        assert!(array.put(0, 0, 1, &[f32::NAN]).unwrap().is_some());
    }
}
