//! The fourteen operations on a picture of bytes, fast: tables of 256 entries, rows that are copied whole, loops that a
//! compiler turns into vector instructions. Every product, sum and quotient in f32 is rounded by itself, as written here: Rust
//! neither fuses nor reorders them. What they mean, pixel by pixel, stands in `reference/augment.rs`, their plain twin.

/// What is done to a picture. Magnitudes come from [`super::Drawn`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Operation {
    /// Nothing.
    Identity,
    /// Rows move to the side by `m` pixels a row, the top edge stays.
    ShearX(f64),
    /// Columns move down by `m` pixels a column, the left edge stays.
    ShearY(f64),
    /// To the right by whole pixels.
    TranslateX(i32),
    /// Down by whole pixels.
    TranslateY(i32),
    /// Counter-clockwise about the middle, in degrees.
    Rotate(f64),
    /// Each byte v becomes (1 + m) v.
    Brightness(f64),
    /// Away from (m > 0) or towards the grey of the pixel.
    Color(f64),
    /// Away from or towards the mean grey of the picture.
    Contrast(f64),
    /// Away from or towards the smoothed picture.
    Sharpness(f64),
    /// The highest so many bits of each byte stay.
    Posterize(u32),
    /// Bytes from this threshold on are turned round, v becomes 255 - v.
    Solarize(f64),
    /// Each channel is stretched to 0..255.
    AutoContrast,
    /// The values of each channel are spread evenly.
    Equalize,
}

/// Memory that an operation needs beside the picture; one for each thread.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    /// A copy of the picture.
    before: Vec<u8>,
    /// What of a position depends on the column alone, for columns and rows.
    across: [Vec<f32>; 2],
    /// Where the pixels of a row come from.
    source: [Vec<i32>; 2],
    /// Sums of three neighbours, one above the other.
    columns: Vec<u16>,
}

impl Operation {
    /// Changes a picture, `[side][side][3]`.
    pub fn apply(self, picture: &mut [u8], side: usize, scratch: &mut Scratch) {
        assert_eq!(picture.len(), side * side * 3, "a square of RGB pixels");
        match self {
            Operation::Identity => {}
            Operation::ShearX(m) => moved(picture, side, [1.0, m, m * side as f64 / 2.0, 0.0, 1.0, 0.0], scratch),
            Operation::ShearY(m) => moved(picture, side, [1.0, 0.0, 0.0, m, 1.0, m * side as f64 / 2.0], scratch),
            Operation::TranslateX(m) => moved(picture, side, [1.0, 0.0, -f64::from(m), 0.0, 1.0, 0.0], scratch),
            Operation::TranslateY(m) => moved(picture, side, [1.0, 0.0, 0.0, 0.0, 1.0, -f64::from(m)], scratch),
            Operation::Rotate(m) => {
                let (sin, cos) = m.to_radians().sin_cos();
                moved(picture, side, [cos, -sin, 0.0, sin, cos, 0.0], scratch);
            }
            Operation::Brightness(m) => through(picture, &Mix::new(m).table(0.0)),
            Operation::Color(m) => coloured(picture, Mix::new(m)),
            Operation::Contrast(m) => {
                let mean = grey_sum(picture) as f32 / (side * side) as f32;
                through(picture, &Mix::new(m).table(mean));
            }
            Operation::Sharpness(m) => sharpened(picture, side, Mix::new(m), scratch),
            Operation::Posterize(bits) => {
                let mask = 0xff_u8 << (8 - bits);
                picture.iter_mut().for_each(|v| *v &= mask);
            }
            Operation::Solarize(m) => {
                let from = m.ceil() as u8; // whole numbers are compared
                picture.iter_mut().for_each(|v| *v = if *v >= from { 255 - *v } else { *v });
            }
            Operation::AutoContrast => through_each(picture, &stretching(picture)),
            Operation::Equalize => through_each(picture, &equalising(picture, side)),
        }
    }
}

/// Nearest-neighbour sampling: the pixel at (X, Y) from the middle is that of the source at (a X + b Y + c, d X + e Y + f), or
/// black where that is outside.
fn moved(picture: &mut [u8], side: usize, matrix: [f64; 6], scratch: &mut Scratch) {
    let Scratch { before, across, source, .. } = scratch;
    before.clear();
    before.extend_from_slice(picture);
    let half = side as f32 / 2.0;
    let [a, b, c, d, e, f] = matrix.map(|x| x as f32 / half);
    let from_middle = |i: usize| (i as f32 + 0.5) - half;
    for (across, by) in across.iter_mut().zip([a, d]) {
        across.clear();
        across.extend((0..side).map(|i| from_middle(i) * by));
    }
    source.iter_mut().for_each(|source| source.resize(side, 0));
    let [columns, rows] = source;
    for (j, line) in picture.chunks_exact_mut(3 * side).enumerate() {
        let y = from_middle(j);
        positions(&across[0], y * b, c, half, columns);
        positions(&across[1], y * e, f, half, rows);
        let (first, row) = (columns[0], rows[0]);
        let straight = (0..)
            .zip(columns.iter().zip(rows.iter()))
            .fold(true, |straight, (i, (column, r))| straight & (*column == first.wrapping_add(i)) & (*r == row));
        if straight {
            shifted(line, before, side, first, row);
            continue;
        }
        for (pixel, (&column, &row)) in line.as_chunks_mut::<3>().0.iter_mut().zip(columns.iter().zip(rows.iter())) {
            let inside = (column as u32 as usize) < side && (row as u32 as usize) < side;
            let at = if inside { (row as usize * side + column as usize) * 3 } else { 0 };
            let found = [before[at], before[at + 1], before[at + 2]];
            *pixel = if inside { found } else { [0; 3] };
        }
    }
}

/// Where the pixels of a row come from: the nearest whole number, halves to the even one, to (across + down + c + 1) half - 0.5.
fn positions(across: &[f32], down: f32, c: f32, half: f32, into: &mut [i32]) {
    // Added to a number below 2^22, this leaves its nearest whole number in the last bits.
    const ROUND: f32 = 12_582_912.0;
    for (into, across) in into.iter_mut().zip(across) {
        let g = (across + down) + c;
        let position = (g + 1.0) * half - 0.5;
        *into = (position + ROUND).to_bits() as i32 - ROUND.to_bits() as i32;
    }
}

/// A row whose pixel i comes from column `first` + i of one row.
fn shifted(line: &mut [u8], before: &[u8], side: usize, first: i32, row: i32) {
    let (side, first) = (side as i64, i64::from(first));
    let (from, to) = ((-first).clamp(0, side), (side - first).clamp(0, side)); // those whose source is inside
    if !(0..side).contains(&i64::from(row)) || from >= to {
        line.fill(0);
        return;
    }
    let [from, to] = [from, to].map(|i| 3 * i as usize);
    let source = 3 * (i64::from(row) * side + first.max(0)) as usize;
    line[..from].fill(0);
    line[from..to].copy_from_slice(&before[source..][..to - from]);
    line[to..].fill(0);
}

/// Mixing of a byte v with a number w: F v + G w, without its fraction, at most 255.
#[derive(Clone, Copy)]
struct Mix {
    f: f32,
    g: f32,
}

impl Mix {
    fn new(m: f64) -> Mix {
        Mix { f: (1.0 + m) as f32, g: (1.0 - (1.0 + m)) as f32 }
    }

    /// What each byte becomes when it is mixed with one number.
    fn table(self, w: f32) -> [u8; 256] {
        std::array::from_fn(|v| cut(self.f * v as f32 + self.g * w))
    }
}

/// A number held in 0..=255, without its fraction. Sums instead of a cast, which compilers do not turn into vectors.
fn cut(x: f32) -> u8 {
    const ROUND: f32 = 8_388_608.0; // added to a number below it, this leaves the nearest whole number in the last bits
    let x = x.clamp(0.0, 255.0);
    let nearest = x + ROUND;
    let above = u32::from(nearest - ROUND > x);
    (nearest.to_bits() - above) as u8
}

/// Replaces each byte by its entry in a table.
fn through(picture: &mut [u8], table: &[u8; 256]) {
    picture.iter_mut().for_each(|v| *v = table[usize::from(*v)]);
}

/// The same with a table for each channel; without one, the channel stays.
fn through_each(picture: &mut [u8], tables: &[[u8; 256]; 3]) {
    for [r, g, b] in picture.as_chunks_mut::<3>().0 {
        *r = tables[0][usize::from(*r)];
        *g = tables[1][usize::from(*g)];
        *b = tables[2][usize::from(*b)];
    }
}

/// Weights of the channels in grey.
const GREY: [f32; 3] = [0.2989, 0.587, 0.114];

/// The grey of so many neighbouring pixels.
const TOGETHER: usize = 16;

/// Grey bytes of pixels, as whole numbers in f32.
fn grey<const N: usize>(pixels: &[[u8; 3]; N]) -> [i32; N] {
    let of = |c: usize| -> [f32; N] { std::array::from_fn(|i| GREY[c] * f32::from(pixels[i][c])) };
    let [r, g, b] = [of(0), of(1), of(2)];
    std::array::from_fn(|i| ((r[i] + g[i]) + b[i]) as i32)
}

/// The sum of the grey bytes of a picture.
fn grey_sum(picture: &[u8]) -> u64 {
    let (pixels, _) = picture.as_chunks::<3>();
    let (blocks, rest) = pixels.as_chunks::<TOGETHER>();
    let mut sums = [0_u32; TOGETHER];
    let mut all = 0_u64;
    for many in blocks.chunks(1 << 20) {
        sums.fill(0);
        for block in many {
            let grey = grey(block);
            (0..TOGETHER).for_each(|i| sums[i] += grey[i] as u32);
        }
        all += sums.iter().map(|&sum| u64::from(sum)).sum::<u64>();
    }
    all + rest.iter().map(|pixel| grey(&[*pixel])[0] as u64).sum::<u64>()
}

/// Mixes each pixel with its grey.
fn coloured(picture: &mut [u8], mix: Mix) {
    fn pixels<const N: usize>(pixels: &mut [[u8; 3]; N], mix: Mix) {
        let grey = grey(pixels).map(|grey| mix.g * grey as f32);
        for i in 0..N {
            for c in 0..3 {
                pixels[i][c] = cut(mix.f * f32::from(pixels[i][c]) + grey[i]);
            }
        }
    }
    let (all, _) = picture.as_chunks_mut::<3>();
    let (blocks, rest) = all.as_chunks_mut::<TOGETHER>();
    blocks.iter_mut().for_each(|block| pixels(block, mix));
    rest.as_chunks_mut::<1>().0.iter_mut().for_each(|pixel| pixels(pixel, mix));
}

/// Mixes the inside of a picture with what smoothing makes of it.
fn sharpened(picture: &mut [u8], side: usize, mix: Mix, scratch: &mut Scratch) {
    if side < 3 {
        return;
    }
    let Scratch { before, columns, .. } = scratch;
    before.clear();
    before.extend_from_slice(picture);
    let width = 3 * side;
    columns.resize(width, 0);
    // The edge is mixed with itself, which rounding may change by a grey level.
    let edge: [u8; 256] = std::array::from_fn(|v| cut(mix.f * v as f32 + mix.g * v as f32));
    for (j, line) in picture.chunks_exact_mut(width).enumerate() {
        if j == 0 || j == side - 1 {
            through(line, &edge);
            continue;
        }
        let [above, own, below] = [j - 1, j, j + 1].map(|j| &before[j * width..][..width]);
        for (sum, ((above, own), below)) in columns.iter_mut().zip(above.iter().zip(own).zip(below)) {
            *sum = u16::from(*above) + u16::from(*own) + u16::from(*below);
        }
        let (left, middle, right) = (&columns[..width - 6], &columns[3..width - 3], &columns[6..]);
        let inside = line[3..width - 3].iter_mut().zip(&own[3..width - 3]);
        for ((into, v), ((left, middle), right)) in inside.zip(left.iter().zip(middle).zip(right)) {
            let sum = left + middle + right + 4 * u16::from(*v);
            // The nearest whole number to sum / 13, for all sums up to 13 x 255.
            let smooth = ((u32::from(sum + 6) * 5042) >> 16) as u16;
            *into = cut(mix.f * f32::from(*v) + mix.g * f32::from(smooth));
        }
        through(&mut line[..3], &edge);
        through(&mut line[width - 3..], &edge);
    }
}

/// Tables that leave every byte as it is.
fn unchanged() -> [[u8; 256]; 3] {
    [std::array::from_fn(|v| v as u8); 3]
}

/// The table of AutoContrast for each channel.
fn stretching(picture: &[u8]) -> [[u8; 256]; 3] {
    let (mut low, mut high) = ([255_u8; 48], [0_u8; 48]);
    let (blocks, rest) = picture.as_chunks::<48>();
    for block in blocks {
        for i in 0..48 {
            low[i] = low[i].min(block[i]);
            high[i] = high[i].max(block[i]);
        }
    }
    for (i, v) in rest.iter().enumerate() {
        (low[i], high[i]) = (low[i].min(*v), high[i].max(*v));
    }
    let mut tables = unchanged();
    for (c, table) in tables.iter_mut().enumerate() {
        let least = (c..48).step_by(3).map(|i| low[i]).min().expect("16 of them");
        let greatest = (c..48).step_by(3).map(|i| high[i]).max().expect("16 of them");
        if greatest > least {
            let scale = (1.0 / f32::from(greatest - least)) * 255.0;
            *table = std::array::from_fn(|v| cut((v as f32 - f32::from(least)) * scale));
        }
    }
    tables
}

/// The table of Equalize for each channel.
fn equalising(picture: &[u8], side: usize) -> [[u8; 256]; 3] {
    let mut counts = [[0_u32; 256]; 6]; // neighbours are counted apart, as they are often equal
    let (pairs, rest) = picture.as_chunks::<6>();
    for pair in pairs {
        (0..6).for_each(|i| counts[i][usize::from(pair[i])] += 1);
    }
    rest.iter().enumerate().for_each(|(c, v)| counts[c][usize::from(*v)] += 1);
    let mut tables = unchanged();
    for (c, table) in tables.iter_mut().enumerate() {
        let count = |v: usize| counts[c][v] + counts[c + 3][v];
        let greatest = (0..256).rfind(|&v| count(v) > 0).expect("a picture has pixels");
        let step = ((side * side) as u32 - count(greatest)) / 255;
        if step == 0 {
            continue;
        }
        let mut below = 0;
        for (v, entry) in table.iter_mut().enumerate() {
            *entry = ((below + step / 2) / step).min(255) as u8;
            below += count(v);
        }
    }
    tables
}
