//! TrivialAugmentWide's operations on a picture of bytes, pixel by pixel as the published code's library computes them on a
//! processor. Unlike the other twins this one does not sum in f64: every product, sum and quotient is rounded to f32 by itself,
//! as the library rounds it, and the result is meant to be equal to the last bit.
//!
//! ```text
//! geometry   output (i, j) = source (column, row), 0 outside;  X = i + 0.5 - h, Y = j + 0.5 - h, h = S / 2
//!            column = round((((X a/h + Y b/h) + c/h) + 1) h - 0.5), halves to even; row likewise with d, e, f
//! mixing     cut((1 + m) v + (1 - (1 + m)) w),   cut: held in 0..255, fraction dropped
//! grey       cut((0.2989 R + 0.587 G) + 0.114 B)
//! smoothed   round((neighbourhood of 3 x 3 + 4 x centre) / 13) inside, the picture's own at its edge
//! ```

/// Shears and mixing weights by bin.
const SHARES: [f32; 31] = [
    0.0, 0.033, 0.066, 0.099, 0.132, 0.16499999, 0.198, 0.231, 0.264, 0.297, 0.32999998, 0.363, 0.396, 0.429, 0.462,
    0.495, 0.528, 0.561, 0.594, 0.62700003, 0.66, 0.693, 0.726, 0.759, 0.792, 0.825, 0.85800004, 0.89100003, 0.924,
    0.957, 0.99,
];

/// Bits that Posterize leaves, by bin.
const BITS: [u32; 31] = [8, 8, 8, 7, 7, 7, 7, 7, 6, 6, 6, 6, 6, 5, 5, 5, 5, 5, 4, 4, 4, 4, 4, 3, 3, 3, 3, 3, 2, 2, 2];

/// What an operation, by its published name, makes of a picture `[side][side][3]`, at a bin (0 to 30) and sign of its magnitude.
pub fn augment(operation: &str, bin: usize, minus: bool, picture: &[u8], side: usize) -> Vec<u8> {
    assert_eq!(picture.len(), side * side * 3, "a square of RGB pixels");
    let sign = if minus { -1.0 } else { 1.0 };
    let m = sign * f64::from(SHARES[bin]);
    let shift = sign * (16 * bin / 15) as f64;
    let h = side as f64 / 2.0;
    match operation {
        "Identity" => picture.to_vec(),
        "ShearX" => sampled(picture, side, [1.0, m, m * h], [0.0, 1.0, 0.0]),
        "ShearY" => sampled(picture, side, [1.0, 0.0, 0.0], [m, 1.0, m * h]),
        "TranslateX" => sampled(picture, side, [1.0, 0.0, -shift], [0.0, 1.0, 0.0]),
        "TranslateY" => sampled(picture, side, [1.0, 0.0, 0.0], [0.0, 1.0, -shift]),
        "Rotate" => {
            let r = (sign * 4.5 * bin as f64).to_radians();
            sampled(picture, side, [r.cos(), -r.sin(), 0.0], [r.sin(), r.cos(), 0.0])
        }
        "Brightness" => mixed(picture, m, |_| 0.0),
        "Color" => mixed(picture, m, |i| f32::from(grey(&picture[i / 3 * 3..]))),
        "Contrast" => {
            let sum: u64 = picture.chunks(3).map(|pixel| u64::from(grey(pixel))).sum();
            let mean = sum as f32 / (side * side) as f32;
            mixed(picture, m, |_| mean)
        }
        "Sharpness" if side <= 2 => picture.to_vec(),
        "Sharpness" => mixed(picture, m, |i| f32::from(smoothed(picture, side, i))),
        "Posterize" => picture.iter().map(|&v| v & (256 - (1 << (8 - BITS[bin]))) as u8).collect(),
        "Solarize" => {
            let threshold = 255.0 - 8.5 * bin as f64;
            picture.iter().map(|&v| if f64::from(v) >= threshold { 255 - v } else { v }).collect()
        }
        "AutoContrast" => by_channel(picture, stretched),
        "Equalize" => by_channel(picture, equalised),
        other => panic!("there is no operation {other}"),
    }
}

fn cut(x: f32) -> u8 {
    x.clamp(0.0, 255.0).floor() as u8
}

/// Nearest-neighbour sampling with x = a X + b Y + c and y = d X + e Y + f.
fn sampled(picture: &[u8], side: usize, x: [f64; 3], y: [f64; 3]) -> Vec<u8> {
    let h = side as f32 / 2.0;
    let position = |of: [f64; 3], i: usize, j: usize| {
        let [a, b, c] = of.map(|number| number as f32 / h);
        let (x, y) = (i as f32 + 0.5 - h, j as f32 + 0.5 - h);
        let across = x * a;
        let down = y * b;
        let g = (across + down) + c;
        ((g + 1.0) * h - 0.5).round_ties_even()
    };
    let mut out = vec![0; picture.len()];
    for j in 0..side {
        for i in 0..side {
            let (column, row) = (position(x, i, j), position(y, i, j));
            let inside = |p: f32| p >= 0.0 && p < side as f32;
            if inside(column) && inside(row) {
                let from = (row as usize * side + column as usize) * 3;
                let to = (j * side + i) * 3;
                out[to..to + 3].copy_from_slice(&picture[from..from + 3]);
            }
        }
    }
    out
}

/// Mixes every byte with a number that depends on its place.
fn mixed(picture: &[u8], m: f64, with: impl Fn(usize) -> f32) -> Vec<u8> {
    let (f, g) = ((1.0 + m) as f32, (1.0 - (1.0 + m)) as f32);
    let one = |(i, &v): (usize, &u8)| {
        let (of_v, of_w) = (f * f32::from(v), g * with(i));
        cut(of_v + of_w)
    };
    picture.iter().enumerate().map(one).collect()
}

/// The grey of the pixel that a slice begins with.
fn grey(pixel: &[u8]) -> u8 {
    let (r, g, b) = (0.2989 * f32::from(pixel[0]), 0.587 * f32::from(pixel[1]), 0.114 * f32::from(pixel[2]));
    cut((r + g) + b)
}

/// The smoothed picture at one byte.
fn smoothed(picture: &[u8], side: usize, i: usize) -> u8 {
    let (row, column, c) = (i / 3 / side, i / 3 % side, i % 3);
    if row == 0 || column == 0 || row == side - 1 || column == side - 1 {
        return picture[i];
    }
    let at = |row: usize, column: usize| u32::from(picture[(row * side + column) * 3 + c]);
    let mut sum = 4 * at(row, column);
    for r in row - 1..=row + 1 {
        for s in column - 1..=column + 1 {
            sum += at(r, s);
        }
    }
    (f64::from(sum) / 13.0).round() as u8
}

/// Replaces the values of each channel by what `of` makes of that channel.
fn by_channel(picture: &[u8], of: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let mut out = picture.to_vec();
    for c in 0..3 {
        let channel: Vec<u8> = picture.iter().skip(c).step_by(3).copied().collect();
        of(&channel).into_iter().enumerate().for_each(|(i, v)| out[3 * i + c] = v);
    }
    out
}

fn stretched(channel: &[u8]) -> Vec<u8> {
    let low = f32::from(*channel.iter().min().expect("a pixel"));
    let high = f32::from(*channel.iter().max().expect("a pixel"));
    if low == high {
        return channel.to_vec();
    }
    let reciprocal = 1.0 / (high - low);
    let scale = reciprocal * 255.0;
    channel.iter().map(|&v| cut((f32::from(v) - low) * scale)).collect()
}

fn equalised(channel: &[u8]) -> Vec<u8> {
    let count = |v: usize| channel.iter().filter(|&&x| usize::from(x) == v).count();
    let counts: Vec<usize> = (0..256).map(count).collect();
    let greatest = counts.iter().rposition(|&n| n > 0).expect("a pixel");
    let step = (channel.len() - counts[greatest]) / 255;
    if step == 0 {
        return channel.to_vec();
    }
    let new = |&v: &u8| {
        let below: usize = counts[..usize::from(v)].iter().sum();
        ((below + step / 2) / step).min(255) as u8
    };
    channel.iter().map(new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worked_by_hand() {
        // A row's second pixel moves to the first place; the last is black.
        let row: Vec<u8> = (0..27).collect();
        let left = augment("TranslateX", 1, true, &row, 3);
        assert_eq!(left[..9], [3, 4, 5, 6, 7, 8, 0, 0, 0]);
        assert_eq!(augment("TranslateY", 1, false, &row, 3)[9..], row[..18]);
        // 1.99 v, at most 255; grey of (10, 10, 10) is 9, and colour taken away by 0.99 leaves 0.01 x 10 + 0.99 x 9.
        assert_eq!(augment("Brightness", 30, false, &[100, 200, 0], 1), [199, 255, 0]);
        assert_eq!(augment("Color", 30, true, &[10, 10, 10], 1), [9, 9, 9]);
        assert_eq!(augment("Posterize", 30, false, &[255, 64, 63], 1), [192, 64, 0]);
        assert_eq!(augment("Solarize", 0, false, &[255, 254, 0], 1), [0, 254, 0]);
        let two = [0, 10, 7, 1, 20, 7, 0, 10, 7, 1, 20, 7];
        assert_eq!(augment("AutoContrast", 0, false, &two, 2), [0, 0, 7, 255, 255, 7, 0, 0, 7, 255, 255, 7]);
        assert_eq!(augment("Equalize", 0, false, &two, 2), two, "too few pixels to be spread");
        // A bright pixel in the middle: smoothed to round(5 x 130 / 13) = 50, sharpened by 0.99 from there.
        let mut dot = vec![0; 27];
        dot[12..15].fill(130);
        assert_eq!(augment("Sharpness", 30, true, &dot, 3)[12], 50, "0.01 x 130 + 0.99 x 50 = 50.8");
    }
}
