//! The built-in stimuli, cluttered glyphs, after Spoerer, McClure & Kriegeskorte 2017 ("Recurrent convolutional neural
//! networks: a better candidate model of biological object recognition", Frontiers in Psychology 8:1551): the task is
//! to name a digit that lies among whole other digits ("digit clutter") and under fragments of digits ("debris").
//! Unlike there, everything is coloured and turned, and the target always lies on top of the clutter.
//!
//! Picture i of a split is a pure function of the options, the seed, the split and i, the same bytes on every platform
//! (the arithmetic uses no function whose last bit differs between platforms).

use super::outline::{Segment, fill, outline};
use super::random::Random;
use super::{ChannelSums, Dataset, Pictures, SPLITS, no_such_picture, no_such_split};
use crate::{Error, Result};

/// Pictures from which the channel statistics are computed.
const SAMPLE: usize = 1000;

/// Coloured digits 0 to 9 under debris, among clutter.
pub struct Glyphs {
    options: Options,
    classes: Vec<String>,
    digits: Vec<Vec<Segment>>,
    mean: [f64; 3],
    std: [f64; 3],
}

/// What can be set after `glyphs:`.
#[derive(Clone, Debug)]
struct Options {
    side: usize,
    seed: u64,
    /// 0 (a large upright digit on a quiet background) to 1; sets what stands below, unless given.
    difficulty: f32,
    /// Most whole digits behind the target.
    clutter: u32,
    /// Fragments of digits in front of the target.
    debris: u32,
    /// Standard deviation of the pixel noise, 0..255.
    noise: f32,
    /// Largest turn to either side, in degrees (at most 45, so that 6 and 9 stay apart).
    rotation: f32,
    /// Pictures in each split, in the order of [`SPLITS`].
    counts: [usize; 4],
    /// Whether every epoch of train has fresh pictures.
    endless: bool,
}

const KEYS: &str = "difficulty, clutter, debris, noise, rotation, seed, train, val, test, testplus, endless";

impl Options {
    fn parse(text: &str, side: usize) -> Result<Options> {
        let mut options = Options {
            side,
            seed: 0,
            difficulty: 0.35,
            clutter: 0,
            debris: 0,
            noise: 0.0,
            rotation: 0.0,
            counts: [5000, 400, 1000, 1500],
            endless: true,
        };
        let pairs: Vec<(&str, &str)> = text
            .split(',')
            .filter(|pair| !pair.is_empty())
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .collect();
        for &(key, value) in pairs.iter().filter(|(key, _)| *key == "difficulty") {
            options.difficulty = number(key, value, 0.0, 1.0)?;
        }
        let d = options.difficulty;
        options.clutter = (6.0 * d).round() as u32;
        options.debris = (12.0 * d).round() as u32;
        options.noise = 2.0 + 18.0 * d;
        options.rotation = 5.0 + 35.0 * d;
        for (key, value) in pairs {
            match key {
                "difficulty" => {}
                "clutter" => options.clutter = whole(key, value, 100)? as u32,
                "debris" => options.debris = whole(key, value, 200)? as u32,
                "noise" => options.noise = number(key, value, 0.0, 255.0)?,
                "rotation" => options.rotation = number(key, value, 0.0, 45.0)?,
                "seed" => options.seed = whole(key, value, u64::MAX)?,
                "endless" => {
                    options.endless = value.parse().map_err(|_| wrong(key, "true or false", value))?;
                }
                _ => match SPLITS.iter().position(|split| *split == key) {
                    Some(split) => match whole(key, value, 100_000_000)? {
                        0 => return Err(wrong(key, "at least one picture", value)),
                        count => options.counts[split] = count as usize,
                    },
                    None => return Err(Error::Config(format!("glyphs: expected one of the keys {KEYS}, found {key}"))),
                },
            }
        }
        Ok(options)
    }
}

fn wrong(key: &str, expected: &str, found: &str) -> Error {
    Error::Config(format!("glyphs: {key}: expected {expected}, found {found:?}"))
}

fn whole(key: &str, value: &str, most: u64) -> Result<u64> {
    let number = value.parse().ok().filter(|&n| n <= most);
    number.ok_or_else(|| wrong(key, &format!("a whole number up to {most}"), value))
}

fn number(key: &str, value: &str, low: f32, high: f32) -> Result<f32> {
    let fits = |n: &f32| (low..=high).contains(n) && (*n != 0.0 || value.parse() == Ok(0.0_f64)); // not too small for f32
    let number = value.parse().ok().filter(fits);
    number.ok_or_else(|| wrong(key, &format!("a number from {low} to {high}"), value))
}

impl Glyphs {
    /// From what stands after `glyphs:` (`key=value,...`, possibly nothing), for pictures of `side` x `side` pixels.
    pub fn parse(options: &str, side: usize) -> Result<Glyphs> {
        if !(16..=1024).contains(&side) {
            return Err(Error::Config(format!("glyphs: image_size: expected 16 to 1024 pixels, found {side}")));
        }
        let mut glyphs = Glyphs {
            options: Options::parse(options, side)?,
            classes: (0..10).map(|d| d.to_string()).collect(),
            digits: ('0'..='9').map(centred).collect(),
            mean: [0.0; 3],
            std: [0.0; 3],
        };
        let mut sums = ChannelSums::default();
        for i in 0..SAMPLE {
            sums.add(&glyphs.draw(0, i));
        }
        (glyphs.mean, glyphs.std) = (sums.mean(), sums.std());
        Ok(glyphs)
    }

    fn split(&self, split: &str) -> Result<usize> {
        SPLITS.iter().position(|name| *name == split).ok_or_else(|| no_such_split("glyphs", split, &self.splits()))
    }

    /// Picture `index` of a split: RGB bytes, `[side][side][3]`.
    fn draw(&self, split: usize, index: usize) -> Vec<u8> {
        let Options { side, difficulty: d, clutter, debris, noise, rotation, .. } = self.options;
        let random = &mut Random::new(b"glyphs  ", [self.options.seed, split as u64, index as u64]);
        let label = label(index) as usize;
        let occluded = SPLITS[split] == "testplus";
        let size = side as f32;

        let colours: [Colour; 2] = [random_colour(random), random_colour(random)];
        let ground = mix(colours[0], colours[1], 0.5);
        let ink = distinct_colour(random, &[(ground, 0.75)]);
        let other = |random: &mut Random| distinct_colour(random, &[(ink, 0.55), (ground, 0.3)]);
        let mut canvas = Canvas::gradient(side, mix(colours[0], ground, 0.6), mix(colours[1], ground, 0.6), random);

        let mut height = size * random.range(0.75 - 0.25 * d, 0.9 - 0.25 * d);
        if occluded {
            height *= 0.9;
        }
        let shift = size * (0.05 + 0.12 * d);
        let centre = [0, 1].map(|_| size / 2.0 + random.range(-shift, shift));

        for _ in 0..random.below(u64::from(clutter) + 1) {
            let digit = (label + 1 + random.below(9) as usize) % 10; // never the target's class
            let place = [random.range(0.0, size), random.range(0.0, size)];
            let scale = height * random.range(0.45, 0.75);
            let shape = turned(&self.digits[digit], random, rotation, scale, place);
            canvas.paint(&shape, other(random), None);
        }

        let target = turned(&self.digits[label], random, rotation, height, centre);
        canvas.paint(&target, ink, None);

        let pieces = if occluded { debris + debris.div_ceil(4) } else { debris };
        for _ in 0..pieces {
            let digit = random.below(10) as usize;
            let place = [random.range(0.0, size), random.range(0.0, size)];
            let half = size * random.range(0.06, 0.12);
            let at = place.map(|x| x + random.range(-0.3, 0.3) * height);
            let shape = turned(&self.digits[digit], random, 45.0, height, at);
            canvas.paint(&shape, other(random), Some([place.map(|x| x - half), place.map(|x| x + half)]));
        }
        if occluded {
            // A bar across the target, upright or level.
            let half = size * random.range(0.025, 0.055);
            let at = random.range(-0.25, 0.25) * height;
            let (across, bar_colour) = (usize::from(random.coin()), other(random));
            let (mut from, mut to) = ([0.0; 2], [size; 2]);
            (from[across], to[across]) = (centre[across] + at - half, centre[across] + at + half);
            canvas.paint(&rectangle(from, to), bar_colour, None);
        }
        canvas.noisy_bytes(noise / 255.0, random)
    }
}

impl Dataset for Glyphs {
    fn name(&self) -> String {
        format!("glyphs (difficulty {}, seed {})", self.options.difficulty, self.options.seed)
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn image_size(&self) -> usize {
        self.options.side
    }

    fn splits(&self) -> Vec<String> {
        SPLITS.map(String::from).to_vec()
    }

    fn labels(&self, split: &str) -> Result<Vec<u32>> {
        Ok((0..self.len(split)?).map(label).collect())
    }

    fn len(&self, split: &str) -> Result<usize> {
        Ok(self.options.counts[self.split(split)?])
    }

    fn endless(&self, split: &str) -> bool {
        split == "train" && self.options.endless
    }

    fn mean(&self) -> [f64; 3] {
        self.mean
    }

    fn std(&self) -> [f64; 3] {
        self.std
    }

    fn read(&self, split: &str, indices: &[usize]) -> Result<Pictures> {
        let (number, len) = (self.split(split)?, self.len(split)?);
        if let Some(&beyond) = indices.iter().find(|&&i| i >= len && !self.endless(split)) {
            return Err(no_such_picture(&self.name(), split, beyond, len));
        }
        Ok(Pictures {
            data: indices.iter().flat_map(|&i| self.draw(number, i)).collect(),
            labels: indices.iter().map(|&i| label(i)).collect(),
            n: indices.len(),
            side: self.options.side,
        })
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = vec![format!("channel statistics are those of the first {SAMPLE} training pictures")];
        if self.options.endless {
            notes.push(format!("every epoch has {} fresh training pictures", self.options.counts[0]));
        }
        notes
    }
}

/// Classes take turns, so that every split is balanced.
fn label(index: usize) -> u32 {
    (index % 10) as u32
}

/// A character's outline with the middle of its bounding box at the origin and height 1.
fn centred(character: char) -> Vec<Segment> {
    let segments = outline(character);
    let ends = |axis: usize| segments.iter().flatten().map(move |p| p[axis]);
    let bounds =
        [0, 1].map(|axis| (ends(axis).fold(f32::INFINITY, f32::min), ends(axis).fold(f32::NEG_INFINITY, f32::max)));
    let middle = bounds.map(|(low, high)| (low + high) / 2.0);
    let height = bounds[1].1 - bounds[1].0;
    segments.iter().map(|s| s.map(|p| [(p[0] - middle[0]) / height, (p[1] - middle[1]) / height])).collect()
}

/// A shape turned by up to `most` degrees to either side, scaled and moved.
fn turned(shape: &[Segment], random: &mut Random, most: f32, scale: f32, centre: [f32; 2]) -> Vec<Segment> {
    // With t = tan(angle / 2), cos = (1 - t^2) / (1 + t^2) and sin = 2 t / (1 + t^2): no trigonometric function.
    let half = most * std::f32::consts::PI / 360.0;
    let t = random.range(-1.0, 1.0) * (half + half.powi(3) / 3.0 + half.powi(5) * 2.0 / 15.0);
    let (cos, sin) = ((1.0 - t * t) / (1.0 + t * t), 2.0 * t / (1.0 + t * t));
    let place = |[x, y]: [f32; 2]| [centre[0] + scale * (cos * x - sin * y), centre[1] + scale * (sin * x + cos * y)];
    shape.iter().map(|segment| segment.map(place)).collect()
}

fn rectangle([x0, y0]: [f32; 2], [x1, y1]: [f32; 2]) -> Vec<Segment> {
    let corners = [[x0, y0], [x1, y0], [x1, y1], [x0, y1]];
    (0..4).map(|i| [corners[i], corners[(i + 1) % 4]]).collect()
}

/// Red, green, blue, 0..1.
type Colour = [f32; 3];

fn random_colour(random: &mut Random) -> Colour {
    [(); 3].map(|()| random.range(0.0, 1.0))
}

fn mix(a: Colour, b: Colour, t: f32) -> Colour {
    std::array::from_fn(|c| a[c] + (b[c] - a[c]) * t)
}

/// A random colour at least so far from the given ones; of 16 tries the one that comes nearest to that.
fn distinct_colour(random: &mut Random, from: &[(Colour, f32)]) -> Colour {
    let margin = |colour: Colour| {
        let margins = from.iter().map(|(other, least)| {
            let squares: f32 = (0..3).map(|c| (colour[c] - other[c]).powi(2)).sum();
            squares.sqrt() - least
        });
        margins.fold(f32::INFINITY, f32::min)
    };
    let mut best = random_colour(random);
    for _ in 1..16 {
        if margin(best) >= 0.0 {
            break;
        }
        let colour = random_colour(random);
        if margin(colour) > margin(best) {
            best = colour;
        }
    }
    best
}

struct Canvas {
    side: usize,
    pixels: Vec<Colour>,
}

impl Canvas {
    /// From one colour to the other in a random direction.
    fn gradient(side: usize, from: Colour, to: Colour, random: &mut Random) -> Canvas {
        let (a, b) = (random.range(-1.0, 1.0), random.range(-1.0, 1.0));
        let position = |i: usize| (i as f32 + 0.5) / side as f32 - 0.5;
        let t = |i: usize| (0.5 + a * position(i % side) + b * position(i / side)).clamp(0.0, 1.0);
        Canvas { side, pixels: (0..side * side).map(|i| mix(from, to, t(i))).collect() }
    }

    /// Lays a shape over what is there; only inside the window, if there is one (upper left, lower right corner).
    fn paint(&mut self, shape: &[Segment], colour: Colour, window: Option<[[f32; 2]; 2]>) {
        let coverage = fill(shape, self.side, self.side);
        for (i, &inside) in coverage.values.iter().enumerate() {
            let (x, y) = (coverage.left + i % coverage.width, coverage.top + i / coverage.width);
            let within = window.is_none_or(|[from, to]| {
                let (x, y) = (x as f32 + 0.5, y as f32 + 0.5);
                from[0] <= x && x < to[0] && from[1] <= y && y < to[1]
            });
            if within && inside > 0.0 {
                let pixel = &mut self.pixels[y * self.side + x];
                *pixel = mix(*pixel, colour, inside.min(1.0));
            }
        }
    }

    /// Bytes, with noise of this standard deviation added.
    fn noisy_bytes(&self, noise: f32, random: &mut Random) -> Vec<u8> {
        let values = self.pixels.iter().flatten();
        values.map(|value| ((value + noise * random.gauss()) * 255.0).round().clamp(0.0, 255.0) as u8).collect()
    }
}
