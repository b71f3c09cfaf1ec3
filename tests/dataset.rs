//! Data sets and loaders, on pictures made here.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use recurve::dataset::{
    Augmentation, Batch, ChannelSums, Dataset, LastBatch, Loader, Normaliser, Pictures, TrainingBatches, inspect, open,
    permutation,
};
use recurve::{Error, Result};

/// Pictures of 2 x 2 pixels whose bytes tell their index; picture `bad` cannot be read, picture `panics` panics.
struct Counted {
    len: usize,
    classes: Vec<String>,
    bad: Option<usize>,
    panics: Option<usize>,
}

fn counted(len: usize, bad: Option<usize>, panics: Option<usize>) -> Arc<dyn Dataset> {
    Arc::new(Counted { len, classes: (0..7).map(|c| format!("class {c}")).collect(), bad, panics })
}

impl Counted {
    fn byte(i: usize, pixel: usize, channel: usize) -> u8 {
        (i * 31 + pixel * 7 + channel * 3) as u8
    }
}

impl Dataset for Counted {
    fn name(&self) -> String {
        "counted".into()
    }
    fn classes(&self) -> &[String] {
        &self.classes
    }
    fn image_size(&self) -> usize {
        2
    }
    fn splits(&self) -> Vec<String> {
        vec!["train".into()]
    }
    fn labels(&self, _: &str) -> Result<Vec<u32>> {
        Ok((0..self.len).map(|i| (i % 7) as u32).collect())
    }
    fn len(&self, _: &str) -> Result<usize> {
        Ok(self.len)
    }
    fn mean(&self) -> [f64; 3] {
        [120.3, 99.9, 130.1]
    }
    fn std(&self) -> [f64; 3] {
        [60.7, 55.5, 70.2]
    }
    fn read(&self, _: &str, indices: &[usize]) -> Result<Pictures> {
        if self.bad.is_some_and(|bad| indices.contains(&bad)) {
            return Err(Error::Data("picture is damaged".into()));
        }
        assert!(!self.panics.is_some_and(|p| indices.contains(&p)), "wanted by a test");
        let mut data = Vec::new();
        for &i in indices {
            data.extend((0..12).map(|k| Counted::byte(i, k / 3, k % 3)));
        }
        let labels = indices.iter().map(|&i| (i % 7) as u32).collect();
        Ok(Pictures { data, labels, n: indices.len(), side: 2 })
    }
}

/// Batches of pictures as they are, the last of an epoch kept.
fn how(batch: usize, seed: u64) -> TrainingBatches {
    TrainingBatches { batch, last: LastBatch::Keep, augment: Augmentation::None, seed }
}

fn steps(dataset: &Arc<dyn Dataset>, batch: usize, seed: u64, start: u64, count: usize) -> Vec<(u64, Batch)> {
    Loader::train(dataset, "train", &how(batch, seed), start).unwrap().take(count).map(|item| item.unwrap()).collect()
}

fn message<T>(result: Result<T>) -> String {
    match result {
        Ok(_) => panic!("expected an error"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn shuffling_is_a_reproducible_permutation() {
    let order = permutation(1000, 5, 2);
    let mut sorted = order.clone();
    sorted.sort();
    assert_eq!(sorted, (0..1000).collect::<Vec<_>>());
    assert_eq!(order, permutation(1000, 5, 2));
    assert_ne!(order, permutation(1000, 5, 3), "the epoch matters");
    assert_ne!(order, permutation(1000, 6, 2), "the seed matters");
    // The same on every platform and in every version, or a run could not be resumed elsewhere.
    assert_eq!(permutation(10, 1, 0), [5, 2, 9, 6, 4, 0, 7, 1, 3, 8]);
}

#[test]
fn shuffling_favours_no_place() {
    let mut counts = [[0_u32; 5]; 5];
    for epoch in 0..5000 {
        for (place, picture) in permutation(5, 3, epoch).into_iter().enumerate() {
            counts[place][picture] += 1;
        }
    }
    // Each is binomial with mean 1000 and standard deviation 28.
    assert!(counts.iter().flatten().all(|&n| (860..1140).contains(&n)), "{counts:?}");
}

#[test]
fn resumed_loading_equals_uninterrupted_loading() {
    let dataset = counted(23, None, None);
    let all = steps(&dataset, 5, 9, 0, 14); // 5 steps an epoch, the last of 3 pictures
    for start in [1, 3, 4, 6, 11] {
        assert_eq!(steps(&dataset, 5, 9, start, 14 - start as usize), all[start as usize..], "from step {start}");
    }
    assert_ne!(steps(&dataset, 5, 10, 0, 14), all);
    let numbers: Vec<u64> = all.iter().map(|(step, _)| *step).collect();
    assert_eq!(numbers, (0..14).collect::<Vec<_>>());
}

/// What is left at the end of an epoch is a batch of its own, as published; runs of before leave it out.
#[test]
fn an_epoch_holds_every_picture_once_and_of_old_runs_at_most_once() {
    let dataset = counted(21, None, None);
    for (batch, last, steps, pictures) in [
        (7, LastBatch::Keep, 3, 21),
        (8, LastBatch::Keep, 3, 21),
        (8, LastBatch::Drop, 2, 16),
        (100, LastBatch::Keep, 1, 21),
    ] {
        let how = TrainingBatches { last, ..how(batch, 2) };
        assert_eq!(Loader::steps_per_epoch(&*dataset, "train", batch, last).unwrap(), steps);
        let mut firsts: Vec<u32> = Vec::new();
        for item in Loader::train(&dataset, "train", &how, 0).unwrap().take(steps as usize) {
            let (_, batch) = item.unwrap();
            assert_eq!((batch.labels.len(), batch.whole), (how.batch, batch.n));
            let real = batch.pictures.chunks_exact(12).take(batch.n);
            firsts.extend(real.map(|p| u32::from_le_bytes(p[..4].try_into().unwrap()))); // pixel 0 tells
        }
        assert_eq!(firsts.len(), pictures);
        firsts.sort();
        firsts.dedup();
        assert_eq!(firsts.len(), pictures, "none twice");
    }
}

/// A shuffled epoch does not remember the file's order: place in the epoch and place in the file are uncorrelated (within five
/// standard deviations, 1 / sqrt(n)), neighbours of the file do not follow each other more often than by chance, and every tenth
/// of an epoch has its share of every tenth of the file.
#[test]
fn an_epoch_of_a_large_data_set_is_well_shuffled() {
    const N: usize = 260_000;
    let order = permutation(N, 1, 0);
    let middle = (N - 1) as f64 / 2.0;
    let centred = |x: usize| x as f64 - middle;
    let (mut product, mut square, mut neighbours) = (0.0, 0.0, 0);
    let mut shares = [[0_usize; 10]; 10];
    for (place, &picture) in order.iter().enumerate() {
        product += centred(place) * centred(picture);
        square += centred(place).powi(2);
        shares[place * 10 / N][picture * 10 / N] += 1;
        neighbours += usize::from(place > 0 && order[place - 1].abs_diff(picture) == 1);
    }
    let correlation = product / square;
    assert!(correlation.abs() < 5.0 / (N as f64).sqrt(), "{correlation}");
    assert!(neighbours < 15, "{neighbours} pairs of neighbours; 2 are expected, as of a Poisson distribution");
    // Each share has mean 2600 and a standard deviation of 46.
    assert!(shares.iter().flatten().all(|&n| n.abs_diff(2600) < 230), "{shares:?}");
    let mut sorted = order;
    sorted.sort_unstable();
    assert!(sorted.into_iter().eq(0..N), "every picture once");
}

#[test]
fn batches_hold_pictures_as_they_are_stored() {
    let dataset = counted(40, None, None);
    let order = permutation(40, 1, 0);
    let (_, batch) = &steps(&dataset, 6, 1, 0, 1)[0];
    assert_eq!((batch.n, batch.labels.len(), batch.pictures.len()), (6, 6, 3 * 2 * 2 * 6));
    let normaliser = Normaliser::new(dataset.mean(), dataset.std());
    for (n, &i) in order[..6].iter().enumerate() {
        assert_eq!(batch.labels[n], (i % 7) as u32);
        for (pixel, c) in (0..12).map(|k| (k / 3, k % 3)) {
            let byte = batch.pictures[(n * 4 + pixel) * 3 + c];
            assert_eq!(byte, Counted::byte(i, pixel, c));
            // What the device makes of it: the published normalisation, in f32.
            let (mean, std) = ((dataset.mean()[c] / 255.0) as f32, (dataset.std()[c] / 255.0) as f32);
            let wanted = (f32::from(byte) / 255.0 - mean) / std;
            assert_eq!(normaliser.table()[c * 256 + usize::from(byte)].to_bits(), wanted.to_bits());
        }
    }
}

#[test]
fn parts_of_a_batch_are_its_pictures_in_order() {
    let dataset = counted(10, None, None);
    let picture = |i: usize| dataset.read("train", &[i]).unwrap().data;
    let whole = Batch::new(dataset.read("train", &[0, 1, 2, 3, 4]).unwrap(), 6);
    assert_eq!((whole.n, whole.pictures.len()), (5, 72));
    let parts = whole.parts(3);
    assert_eq!(parts.iter().map(|p| (p.n, p.labels.len())).collect::<Vec<_>>(), [(2, 2), (2, 2), (1, 2)]);
    for (i, part) in parts.iter().enumerate() {
        assert_eq!(part.pictures[..12], picture(2 * i));
        assert_eq!(part.pictures[12..], picture((2 * i + 1).min(4)), "the last picture is repeated");
    }
}

#[test]
fn each_picture_is_followed_by_the_next_of_its_split_and_the_last_by_the_first() {
    let dataset = counted(5, None, None);
    let batches: Vec<Batch> = Loader::in_order(&dataset, "train", 3, true).unwrap().map(|b| b.unwrap().1).collect();
    let pictures = |list: &[usize]| dataset.read("train", list).unwrap().data;
    assert_eq!(batches[0].next.as_deref().unwrap()[..36], pictures(&[1, 2, 3]));
    assert_eq!(batches[1].next.as_deref().unwrap()[..36], pictures(&[4, 0, 0]), "padded like the pictures");
}

#[test]
fn listed_pictures_come_in_their_order_and_no_batch_holds_both_parts() {
    let dataset = counted(11, None, None);
    let ids = [9, 0, 3, 10, 1, 2, 2, 7];
    let batches: Vec<(u64, Batch)> =
        Loader::listed(&dataset, "train", &ids, 5, 3, true).unwrap().map(|item| item.unwrap()).collect();
    assert_eq!(batches.iter().map(|(k, b)| (*k, b.n)).collect::<Vec<_>>(), [(0, 3), (1, 2), (2, 3)]);
    let pictures = |list: &[usize]| dataset.read("train", list).unwrap().data;
    for ((_, batch), of) in batches.iter().zip([[9, 0, 3], [10, 1, 1], [2, 2, 7]]) {
        assert_eq!(batch.pictures, pictures(&of));
        let next: Vec<usize> = of.iter().map(|i| (i + 1) % 11).collect();
        assert_eq!(batch.next.as_ref().unwrap(), &pictures(&next), "followed by the next of the split");
    }
    let error = message(Loader::listed(&dataset, "train", &[11], 1, 3, false));
    assert!(error.contains("picture 11") && error.contains("11"), "{error}");
}

#[test]
fn evaluation_goes_through_all_pictures_and_pads_the_last_batch() {
    let dataset = counted(11, None, None);
    let batches: Vec<(u64, Batch)> = Loader::eval(&dataset, "train", 4).unwrap().map(|item| item.unwrap()).collect();
    assert_eq!(batches.iter().map(|(k, b)| (*k, b.n)).collect::<Vec<_>>(), [(0, 4), (1, 4), (2, 3)]);
    assert_eq!(batches[2].1.labels, [1, 2, 3, 3]); // 8, 9, 10 and 10 again, modulo 7
    assert_eq!(batches[2].1.pictures, dataset.read("train", &[8, 9, 10, 10]).unwrap().data);
}

#[test]
fn where_the_last_batch_is_dropped_one_larger_than_the_split_is_refused_with_both_numbers() {
    let drop = TrainingBatches { last: LastBatch::Drop, ..how(24, 0) };
    let error = message(Loader::train(&counted(23, None, None), "train", &drop, 0));
    assert!(error.contains("batch 24") && error.contains("23") && error.contains("last_batch"), "{error}");
    assert!(message(Loader::train(&counted(23, None, None), "train", &how(0, 0), 0)).contains("batch"));
}

#[test]
fn errors_and_panics_on_worker_threads_reach_the_caller() {
    for (bad, panics) in [(Some(22), None), (None, Some(22))] {
        let mut loader = Loader::eval(&counted(40, bad, panics), "train", 4).unwrap();
        for k in 0..5 {
            assert_eq!(loader.next().unwrap().unwrap().0, k, "the batches before the damaged picture");
        }
        let error = message(loader.next().unwrap());
        assert!(error.contains(if bad.is_some() { "damaged" } else { "thread" }), "{error}");
        assert!(loader.next().is_none(), "nothing after the error");
    }
}

#[test]
fn a_loader_can_be_dropped_at_any_time() {
    for taken in 0..5 {
        let loader = Loader::train(&counted(40, None, None), "train", &how(4, 0), 0).unwrap();
        assert_eq!(loader.take(taken).count(), taken);
    }
}

#[test]
fn channel_sums_are_exact() {
    let mut sums = ChannelSums::default();
    sums.add(&[10, 0, 255, 20, 0, 255]);
    let mut others = ChannelSums::default();
    others.add(&[30, 3, 255]);
    sums.merge(&others);
    assert_eq!(sums.mean(), [20.0, 1.0, 255.0]);
    let wanted = [(200.0_f64 / 3.0).sqrt(), 2_f64.sqrt(), 0.0];
    assert!(sums.std().iter().zip(wanted).all(|(found, wanted)| (found - wanted).abs() < 1e-14), "{:?}", sums.std());
}

/// FNV-1a.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
}

#[test]
fn glyphs_are_the_same_everywhere() {
    let glyphs = open("glyphs", Some(32)).unwrap();
    let hashes = ["train", "testplus"].map(|split| hash(&glyphs.read(split, &[0, 1, 2, 3, 999]).unwrap().data));
    assert_eq!(
        hashes,
        [12536440882542987994, 17268002155366888005],
        "the pictures of published runs must not change unnoticed"
    );
    let all = glyphs.read("val", &(0..50).collect::<Vec<_>>()).unwrap();
    let one = glyphs.read("val", &[37]).unwrap();
    assert_eq!(one.data, all.data[37 * 3072..38 * 3072], "a picture does not depend on what is read with it");
    let again = open("glyphs:seed=0,difficulty=0.35", None).unwrap();
    assert_eq!(again.read("val", &[37]).unwrap(), one);
    assert_eq!(again.mean(), glyphs.mean());
    assert_ne!(open("glyphs:seed=1", None).unwrap().read("val", &[37]).unwrap(), one);
}

#[test]
fn glyph_epochs_are_fresh_unless_fixed() {
    let endless = open("glyphs:train=40", None).unwrap();
    assert!(endless.endless("train") && !endless.endless("val"));
    let batches = steps(&endless, 20, 3, 0, 4);
    let mut pictures: Vec<_> = batches.iter().flat_map(|(_, b)| b.pictures.chunks(b.pictures.len() / 20)).collect();
    pictures.sort();
    pictures.dedup();
    assert_eq!(pictures.len(), 80, "two epochs have no picture in common");

    let fixed = open("glyphs:train=40,endless=false", None).unwrap();
    assert_eq!(fixed.len("train").unwrap(), 40);
    let error = message(fixed.read("train", &[40]));
    assert!(error.contains("40") && error.contains("train"), "{error}");
}

#[test]
fn glyph_options_work_and_wrong_ones_are_named() {
    let quiet = open("glyphs:difficulty=0,noise=0,clutter=0,debris=0", Some(16)).unwrap();
    let loud = open("glyphs:difficulty=0,noise=0,clutter=0,debris=20", Some(16)).unwrap();
    assert_ne!(quiet.read("train", &[0]).unwrap(), loud.read("train", &[0]).unwrap());
    assert_eq!(open("glyphs:val=7", Some(48)).unwrap().len("val").unwrap(), 7);
    for (spec, word) in [
        ("glyphs:difficulti=1", "difficulti"),
        ("glyphs:difficulty=1.5", "1.5"),
        ("glyphs:noise=x", "noise"),
        ("glyphs:val=0", "val"),
        ("glyphs:endless=perhaps", "endless"),
        ("glyphs:seed", "seed"),
    ] {
        let error = message(open(spec, None));
        assert!(error.contains(word), "{spec}: {error}");
    }
    let error = message(open("glyphs", None).unwrap().len("validation"));
    assert!(error.contains("validation") && error.contains("testplus"), "{error}");
}

/// A PNG of one colour with a black left half.
fn png(path: &Path, width: u32, height: u32, colour: [u8; 3]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let paint = |x, _| image::Rgb(if x < width / 2 { [0; 3] } else { colour });
    image::RgbImage::from_fn(width, height, paint).save(path).unwrap();
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (class, colour) in [("cat", [200, 100, 50]), ("dog", [40, 80, 120])] {
        for i in 0..12 {
            png(&folder.path().join(format!("train/{class}/{i}.png")), 16, 16, colour);
        }
    }
    folder
}

fn open_folder(folder: &tempfile::TempDir, side: usize) -> Result<Arc<dyn Dataset>> {
    open(folder.path().to_str().unwrap(), Some(side))
}

#[test]
fn a_folder_is_read_and_held_out() {
    let folder = folder();
    let dataset = open_folder(&folder, 16).unwrap();
    assert_eq!(dataset.classes(), ["cat", "dog"]);
    assert_eq!(dataset.splits(), ["train", "val"]);
    assert_eq!(dataset.labels("train").unwrap(), [vec![0; 11], vec![1; 11]].concat());
    assert_eq!(dataset.labels("val").unwrap(), [0, 1]);
    assert!(dataset.notes()[0].contains("2 of 24"), "{:?}", dataset.notes());
    assert_eq!(dataset.mean(), [60.0, 45.0, 42.5]);
    let pictures = dataset.read("train", &[15, 0]).unwrap();
    assert_eq!(pictures.labels, [1, 0]);
    assert_eq!(pictures.data[..3], [0, 0, 0]);
    assert_eq!(pictures.data[45..48], [40, 80, 120]);
    let again = open_folder(&folder, 16).unwrap();
    assert_eq!(again.read("val", &[0, 1]).unwrap(), dataset.read("val", &[0, 1]).unwrap());
    assert!(message(dataset.len("test")).contains("train, val"));
    assert!(dataset.verify("val").is_ok() && message(dataset.verify("test")).contains("train, val"));

    let found = inspect::inspect(folder.path().to_str().unwrap()).unwrap();
    assert_eq!(found.splits[0].per_class, [11, 11]);
    assert_eq!(found.splits[0].mean, found.stored_mean);
}

#[test]
fn pictures_of_a_folder_are_cropped_about_their_centre_and_resized() {
    let folder = folder();
    // 48 x 16 with black left half: the central 16 x 16 are half black, too.
    png(&folder.path().join("val/cat/wide.png"), 48, 16, [200, 100, 50]);
    png(&folder.path().join("val/dog/large.png"), 64, 64, [40, 80, 120]);
    let dataset = open_folder(&folder, 16).unwrap();
    let pictures = dataset.read("val", &[0, 1]).unwrap();
    assert_eq!(pictures.data[..21], [0; 21], "the left half is black");
    assert_eq!(pictures.data[27..48], [200, 100, 50].repeat(7), "the right half is coloured");
    assert_eq!(pictures.data[768..768 + 15], [0; 15]);
    assert_eq!(pictures.data[768 + 33..768 + 48], [40, 80, 120].repeat(5));
}

#[test]
fn transparency_lies_on_white() {
    let folder = folder();
    for class in ["cat", "dog"] {
        let path = folder.path().join(format!("val/{class}/clear.png"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        image::RgbaImage::from_pixel(16, 16, image::Rgba([10, 20, 30, 0])).save(path).unwrap();
    }
    let pictures = open_folder(&folder, 16).unwrap().read("val", &[0]).unwrap();
    assert!(pictures.data.iter().all(|&byte| byte == 255));
}

#[test]
fn wrong_folders_are_refused_by_name() {
    let damaged = folder();
    fs::write(damaged.path().join("train/dog/a.png"), "not a picture").unwrap();
    assert!(message(open_folder(&damaged, 16)).contains("a.png"));

    let empty = folder();
    fs::create_dir(empty.path().join("train/emu")).unwrap();
    assert!(message(open_folder(&empty, 16)).contains("emu"));

    let lacking = folder();
    png(&lacking.path().join("val/cat/a.png"), 16, 16, [1, 2, 3]);
    let error = message(open_folder(&lacking, 16));
    assert!(error.contains("val") && error.contains("dog"), "{error}");

    let odd = folder();
    for class in ["cat", "dog", "emu"] {
        png(&odd.path().join(format!("test/{class}/a.png")), 16, 16, [1, 2, 3]);
    }
    let error = message(open_folder(&odd, 16));
    assert!(error.contains("test") && error.contains("emu"), "{error}");

    let bare = tempfile::tempdir().unwrap();
    assert!(message(open_folder(&bare, 16)).contains("train"));
    fs::create_dir(bare.path().join("train")).unwrap();
    assert!(message(open_folder(&bare, 16)).contains("class"));
}

#[test]
fn what_is_not_there_is_named_with_what_is_accepted() {
    let error = message(open("somewhere/nowhere.h5", None));
    assert!(error.contains("nowhere.h5") && error.contains("HDF5") && error.contains("glyphs"), "{error}");
}

#[test]
fn a_contact_sheet_shows_every_class() {
    let dataset = open("glyphs:difficulty=0,noise=0", Some(32)).unwrap();
    let sheet = inspect::sheet(&*dataset, "val", 3, None).unwrap();
    // The first picture of class 0, enlarged three times, stands below the title.
    let first = &dataset.read("val", &[0]).unwrap().data;
    for (x, y) in [(0, 0), (31, 0), (16, 16), (31, 31)] {
        let at = ((y * 32 + x) * 3) as usize;
        assert_eq!(sheet.get_pixel(12 + 3 * x + 1, 40 + 3 * y + 1).0, first[at..at + 3]);
    }
    let ink = |from: u32, to: u32| (from..to).any(|y| (0..sheet.width()).any(|x| sheet.get_pixel(x, y).0[0] < 100));
    assert!(ink(10, 30), "a title");
    assert!(ink(40 + 96 + 2, 40 + 96 + 14), "class names under the first row");
    let folder = tempfile::tempdir().unwrap();
    inspect::write_png(&sheet, &folder.path().join("sheet.png")).unwrap();
    assert!(inspect::write_png(&sheet, &folder.path().join("none/sheet.png")).is_err());
}
