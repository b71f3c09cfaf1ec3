//! TrivialAugmentWide on pictures of bytes: the fast operations against their plain twin and against torchvision's results, and
//! pictures of a run against those of a run that is resumed, cut into parts, or evaluated.

mod golden_folder;

use golden_folder::golden_folder;
use proptest::prelude::*;
use recurve::dataset::augment::{BINS, Drawn, NAMES, Scratch, goldens, has_magnitude, is_signed};
use recurve::dataset::{Augmentation, Batch, LastBatch, Loader, TrainingBatches, open};
use recurve::reference::augment::augment;

/// Pictures in which operations meet their corners: noise, few values, one value, steps.
fn picture(kind: usize, side: usize, seed: u32) -> Vec<u8> {
    let mut state = seed | 1;
    let mut word = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state >> 8
    };
    let mut bytes: Vec<u8> = (0..side * side * 3).map(|_| word() as u8).collect();
    match kind {
        0 => {}
        1 => bytes.iter_mut().for_each(|v| *v = 100 + *v % 4),
        2 => bytes.iter_mut().for_each(|v| *v = if *v < 250 { 0 } else { 255 }),
        3 => bytes.fill(seed as u8),
        _ => bytes.iter_mut().enumerate().for_each(|(i, v)| *v = (i / 3 % side * 5) as u8),
    }
    bytes
}

fn same(drawn: Drawn, before: &[u8], side: usize, scratch: &mut Scratch) {
    let mut found = before.to_vec();
    drawn.operation().apply(&mut found, side, scratch);
    let expected = augment(NAMES[drawn.operation], drawn.bin, drawn.minus, before, side);
    let first = found.iter().zip(&expected).position(|(a, b)| a != b);
    if let Some(at) = first {
        panic!("{drawn} at side {side}: byte {at} is {}, {} expected", found[at], expected[at]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").map_or(200, |n| n.parse().expect("PROPTEST_CASES is a number")),
        failure_persistence: None,
        ..Default::default()
    })]

    /// At any side, whatever a picture shows.
    #[test]
    fn operations_are_those_of_the_twin(
        operation in 0_usize..14, bin in 0_usize..BINS, minus: bool, side in 1_usize..=128, kind in 0_usize..5, seed: u32,
    ) {
        let bin = if has_magnitude(operation) { bin } else { 0 };
        let drawn = Drawn { operation, bin, minus: minus && is_signed(operation) };
        same(drawn, &picture(kind, side, seed), side, &mut Scratch::default());
    }
}

/// Every operation, bin and sign at sides that vector instructions do not divide, with one scratch for all.
#[test]
fn all_operations_at_odd_sizes() {
    let mut scratch = Scratch::default();
    for side in [1, 2, 3, 4, 5, 7, 17, 31, 33, 64, 65] {
        for operation in 0..NAMES.len() {
            for bin in 0..if has_magnitude(operation) { BINS } else { 1 } {
                for minus in if is_signed(operation) { &[false, true][..] } else { &[false] } {
                    same(Drawn { operation, bin, minus: *minus }, &picture(bin % 5, side, 77), side, &mut scratch);
                }
            }
        }
    }
}

#[test]
#[ignore = "needs the golden files"]
fn golden_files_of_augmentation() {
    let path = golden_folder("golden-augment").join("augment.safetensors");
    let fast = goldens::check(&path).unwrap().expect("a golden file");
    assert_eq!((fast.cases, fast.digests, fast.first.as_deref()), ([621, 0], [6230, 0], None));
    let twin = &mut |drawn: Drawn, picture: &mut [u8], side: usize| {
        picture.copy_from_slice(&augment(NAMES[drawn.operation], drawn.bin, drawn.minus, picture, side));
    };
    assert_eq!(goldens::check_with(&path, twin).unwrap().expect("a golden file"), fast);
    // One grey level in one of ten thousand bytes is found.
    let spoilt = &mut |drawn: Drawn, picture: &mut [u8], side: usize| {
        drawn.operation().apply(picture, side, &mut Scratch::default());
        if drawn.to_string() == "ShearY -0.76" {
            picture[side] ^= 1;
        }
    };
    let found = goldens::check_with(&path, spoilt).unwrap().expect("a golden file");
    assert!(!found.passed() && found.cases[1] > 0 && found.digests[1] > 0, "{found:?}");
}

const DATA: &str = "glyphs:train=23,val=5,test=5,difficulty=0.3,endless=false";

fn batches(augment: Augmentation, batch: usize, start: u64, count: usize) -> Vec<Batch> {
    let data = open(DATA, Some(16)).unwrap();
    let how = TrainingBatches { batch, last: LastBatch::Keep, augment, seed: 4 };
    Loader::train(&data, "train", &how, start).unwrap().take(count).map(|item| item.unwrap().1).collect()
}

/// A picture's augmentation does not depend on the batch that it comes in, nor on where loading began.
#[test]
fn what_is_drawn_depends_on_seed_epoch_and_picture_alone() {
    let whole = batches(Augmentation::Trivial, 5, 0, 10); // two epochs of 5 steps, the last of 3 pictures
    assert_eq!(whole.iter().map(|b| b.n).collect::<Vec<_>>(), [5, 5, 5, 5, 3, 5, 5, 5, 5, 3]);
    for start in [1, 4, 5, 9] {
        assert_eq!(batches(Augmentation::Trivial, 5, start, 10 - start as usize), whole[start as usize..]);
    }
    let bytes = 3 * 16 * 16;
    let pictures = |of: &[Batch]| -> Vec<Vec<u8>> {
        of.iter().flat_map(|b| b.pictures.chunks_exact(bytes).take(b.n).map(<[u8]>::to_vec)).collect()
    };
    assert_eq!(pictures(&batches(Augmentation::Trivial, 23, 0, 2)), pictures(&whole), "in batches of another size");
    let plain = pictures(&batches(Augmentation::None, 5, 0, 10));
    let changed = plain.iter().zip(pictures(&whole)).filter(|(a, b)| *a != b).count();
    assert!(changed > 30, "{changed} of 46 pictures are changed");
}

#[test]
fn evaluation_is_never_augmented() {
    let data = open(DATA, Some(16)).unwrap();
    let read = data.read("train", &(0..23).collect::<Vec<_>>()).unwrap();
    let batches: Vec<Batch> = Loader::eval(&data, "train", 23).unwrap().map(|item| item.unwrap().1).collect();
    assert_eq!(batches[0].pictures, read.data);
}
