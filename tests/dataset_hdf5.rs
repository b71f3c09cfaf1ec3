//! HDF5 files in MiniEcoset's schema, with and without defects, and the golden files where they are at hand.

mod golden_folder;
mod hdf5_file;

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use golden_folder::golden_folder;
use hdf5_file::{Spec, Type, Writer, byte, deflated, encode, good, numbers, write};
use recurve::Result;
use recurve::dataset::{Normaliser, SPLITS, goldens, inspect, open};
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};

fn message<T>(result: Result<T>) -> String {
    match result {
        Ok(_) => panic!("expected an error"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_good_file_reads_exactly() {
    let folder = tempfile::tempdir().unwrap();
    let mut spec = good();
    spec.splits[1].labels.as_mut().unwrap().2 = Type::U8;
    spec.splits[2].labels.as_mut().unwrap().2 = Type::F64;
    let path = write(folder.path(), "good.h5", &spec);
    let dataset = open(path.to_str().unwrap(), Some(4)).unwrap();
    assert_eq!(dataset.classes(), ["ant", "bee", "cow"]);
    assert_eq!(dataset.splits(), SPLITS);
    assert_eq!((dataset.mean().to_vec(), dataset.std().to_vec()), (spec.mean.clone(), spec.std.clone()));
    for split in &spec.splits {
        let n = dataset.len(split.name).unwrap();
        let indices: Vec<usize> = (0..n).rev().chain([0, 0]).collect();
        let pictures = dataset.read(split.name, &indices).unwrap();
        for (picture, &i) in pictures.data.chunks(48).zip(&indices) {
            assert!(picture.iter().enumerate().all(|(k, &b)| b == byte(split.name, i * 48 + k)));
        }
        assert_eq!(pictures.labels, indices.iter().map(|i| (i % 3) as u32).collect::<Vec<_>>());
    }
    let found = inspect::inspect(path.to_str().unwrap()).unwrap();
    assert_eq!(found.splits[0].per_class, [3, 2, 2]);
    assert!(found.to_string().contains("testplus"));
    spec.splits.pop();
    let path = write(folder.path(), "without testplus.h5", &spec);
    assert_eq!(inspect::inspect(path.to_str().unwrap()).unwrap().splits.len(), 3);
    spec.splits.pop();
    let path = write(folder.path(), "without test.h5", &spec);
    assert!(message(inspect::inspect(path.to_str().unwrap())).contains("/test: expected a group"));
    let beyond = message(dataset.read("val", &[4]));
    assert!(beyond.contains("val") && beyond.contains('4'), "{beyond}");
}

#[test]
fn pictures_of_another_size_than_the_network_s_are_refused_with_both() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "good.h5", &good());
    let error = message(open(path.to_str().unwrap(), Some(32)));
    assert!(error.contains("4 x 4") && error.contains("32"), "{error}");
}

/// A name, a change to a good file, and words that the refusal must hold.
type Defect = (&'static str, fn(&mut Spec), &'static [&'static str]);

const DEFECTS: &[Defect] = &[
    ("a", |s| s.splits.truncate(1), &["/val", "train"]),
    ("b", |s| s.splits[0].labels = None, &["/train/labels"]),
    ("c", |s| s.splits[2].has_data = false, &["/test/data"]),
    ("d", |s| s.categories = None, &["/categories"]),
    ("e", |s| s.mean.truncate(2), &["/train_img_mean_channels", "[2]"]),
    ("f", |s| s.mean[1] = f64::INFINITY, &["/train_img_mean_channels", "inf"]),
    ("g", |s| s.std[1] = 0.0, &["/train_img_std_channels", "channel 1"]),
    ("h", |s| s.std[2] = f64::NAN, &["/train_img_std_channels", "NaN"]),
    ("i", |s| s.splits[1].labels.as_mut().unwrap().0[2] = 3.0, &["/val/labels", "0 to 2", "3 at index 2"]),
    ("j", |s| s.splits[1].labels.as_mut().unwrap().0[3] = -1.0, &["/val/labels", "-1 at index 3"]),
    (
        "k",
        |s| s.splits[0].labels = Some((vec![0.0, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0], vec![7], Type::F32)),
        &["/train/labels", "0.5 at index 1"],
    ),
    ("l", |s| s.splits[0].labels.as_mut().unwrap().1 = vec![6], &["/train/labels", "7 labels", "found 6"]),
    ("m", |s| s.splits[0].labels.as_mut().unwrap().1 = vec![7, 1], &["/train/labels", "[7, 1]"]),
    ("n", |s| s.splits[0].shape = vec![7, 4, 4], &["/train/data", "[7, 4, 4]"]),
    ("o", |s| s.splits[0].shape = vec![7, 3, 4, 4], &["/train/data", "[7, 3, 4, 4]"]),
    ("p", |s| s.splits[0].kind = Type::F32, &["/train/data", "u8", "f32"]),
    ("q", |s| s.splits[0].kind = Type::U16, &["/train/data", "u8", "u16"]),
    ("r", |s| s.splits[3].shape = vec![5, 4, 6, 3], &["/testplus/data", "4 x 6"]),
    ("s", |s| s.splits[3].shape = vec![5, 6, 6, 3], &["/testplus/data", "4 x 4", "6 x 6"]),
    (
        "t",
        |s| (s.splits[0].shape[0], s.splits[0].labels) = (0, Some((vec![], vec![0], Type::I64))),
        &["/train/data", "at least one"],
    ),
];

#[test]
fn broken_files_are_refused_with_file_dataset_expected_and_found() {
    let folder = tempfile::tempdir().unwrap();
    for (name, spoil, words) in DEFECTS {
        let mut spec = good();
        spoil(&mut spec);
        let path = write(folder.path(), &format!("{name}.h5"), &spec);
        let error = message(inspect::inspect(path.to_str().unwrap()));
        for word in words.iter().chain([&path.to_str().unwrap(), &"expected", &"found"]) {
            assert!(error.contains(word), "{name}: no {word:?} in: {error}");
        }
    }
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = encode(&good());
    let path = folder.path().join("cut.h5");
    for cut in [0, 1, 7, 8, 20, 47, 48, 100, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&path, &bytes[..cut]).unwrap();
        let error = message(inspect::inspect(path.to_str().unwrap()));
        assert!(error.contains("cut.h5"), "{error}");
    }
}

#[test]
fn changed_bytes_never_panic() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = encode(&good());
    let path = folder.path().join("changed.h5");
    for at in (0..bytes.len()).step_by(3) {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        fs::write(&path, changed).unwrap();
        inspect::inspect(path.to_str().unwrap()).ok(); // either is right: pixels may be anything
    }
}

/// A file with all that is needed, whose group `train` is what the function writes.
fn with_train(folder: &Path, train: impl FnOnce(&mut Writer) -> u64) -> std::path::PathBuf {
    let mut w = Writer::new();
    let mean = w.dataset(Type::F64, &[3], &numbers(&[100.0; 3], Type::F64));
    let std = w.dataset(Type::F64, &[3], &numbers(&[50.0; 3], Type::F64));
    let names = w.dataset(Type::Text(3), &[2], b"antbee");
    let train = train(&mut w);
    let root = w.group(&[
        ("categories", names),
        ("train_img_mean_channels", mean),
        ("train_img_std_channels", std),
        ("train", train),
    ]);
    let end = w.bytes.len() as u64;
    let path = folder.join("points.h5");
    fs::write(&path, w.finish(root, end)).unwrap();
    path
}

#[test]
fn an_external_link_is_followed_and_a_missing_file_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = with_train(folder.path(), |w| w.group_with_link("data", "elsewhere.h5", "/train/data"));
    let error = message(open(path.to_str().unwrap(), None));
    for word in ["points.h5", "external", "elsewhere.h5", "not there"] {
        assert!(error.contains(word), "`{word}` is not in: {error}");
    }
    write(folder.path(), "elsewhere.h5", &good());
    let error = message(open(path.to_str().unwrap(), None));
    assert!(error.contains("/train/labels") && !error.contains("not there"), "the link is followed: {error}");
    fs::write(folder.path().join("elsewhere.h5"), "no HDF5").unwrap();
    let error = message(open(path.to_str().unwrap(), None));
    assert!(error.contains("points.h5") && error.contains("elsewhere.h5"), "{error}");
}

#[test]
fn a_virtual_dataset_is_refused_with_the_file_that_it_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = with_train(folder.path(), |w| {
        let labels = w.dataset(Type::U8, &[2], &[0, 1]);
        let data = w.virtual_dataset(&[2, 4, 4, 3], "gone.h5");
        w.group(&[("data", data), ("labels", labels)])
    });
    let error = message(open(path.to_str().unwrap(), None));
    for word in ["points.h5", "virtual", "gone.h5", "/train"] {
        assert!(error.contains(word), "`{word}` is not in: {error}");
    }
}

#[test]
fn odd_names_of_classes_are_noted_and_harmless() {
    let folder = tempfile::tempdir().unwrap();
    let mut spec = good();
    spec.categories = Some(vec!["ant", "a\n\u{1b}[31m", "ant"]);
    let path = write(folder.path(), "names.h5", &spec);
    let found = inspect::inspect(path.to_str().unwrap()).unwrap();
    assert_eq!(found.classes[1], "a\\n\\u{1b}[31m");
    let text = found.to_string();
    assert!(text.contains("same name, ant") && text.contains("control characters"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
    spec.categories = Some(vec!["ant", "", "12"]);
    let text = inspect::inspect(write(folder.path(), "names.h5", &spec).to_str().unwrap()).unwrap().to_string();
    assert!(text.contains("class 1 is empty") && text.contains("without a letter: 12"), "{text}");
}

#[test]
fn a_split_is_verified_as_far_as_is_cheap() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "good.h5", &good());
    let dataset = open(path.to_str().unwrap(), None).unwrap();
    for split in SPLITS {
        dataset.verify(split).unwrap();
    }
    assert!(message(dataset.verify("exam")).contains("/exam"));
}

#[test]
fn training_needs_only_the_split_it_uses() {
    let folder = tempfile::tempdir().unwrap();
    let mut spec = good();
    spec.splits.truncate(2);
    let path = write(folder.path(), "two.h5", &spec);
    let dataset = open(path.to_str().unwrap(), None).unwrap();
    assert_eq!(dataset.splits(), ["train", "val"]);
    let error = message(dataset.len("test"));
    assert!(error.contains("/test") && error.contains("train, val"), "{error}");
}

#[test]
fn a_large_split_is_read_in_slices() {
    // 300 MiB of pictures, nearly all of them a hole in the file.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.h5");
    let (n, side) = (25_600_u64, 64_u64);
    let size = side * side * 3;
    let start = 1 << 20;
    let mut w = Writer::new();
    let mean = w.dataset(Type::F64, &[3], &numbers(&[100.0; 3], Type::F64));
    let std = w.dataset(Type::F64, &[3], &numbers(&[50.0; 3], Type::F64));
    let names = w.dataset(Type::Text(3), &[2], b"antbee");
    let labels: Vec<u8> = (0..n).map(|i| (i % 2) as u8).collect();
    let labels = w.dataset(Type::U8, &[n], &labels);
    let data = w.dataset_at(Type::U8, &[n, side, side, 3], start);
    let train = w.group(&[("data", data), ("labels", labels)]);
    let root = w.group(&[
        ("categories", names),
        ("train_img_mean_channels", mean),
        ("train_img_std_channels", std),
        ("train", train),
    ]);
    let end = start + n * size;
    let mut file = fs::File::create(&path).unwrap();
    file.write_all(&w.finish(root, end)).unwrap();
    file.set_len(end).unwrap();
    let marked = [0, 1, 77, 12_345, 25_598, 25_599];
    for i in marked {
        file.seek(SeekFrom::Start(start + i as u64 * size)).unwrap();
        file.write_all(&vec![(i % 251) as u8 + 1; size as usize]).unwrap();
    }
    drop(file);

    let dataset = open(path.to_str().unwrap(), Some(64)).unwrap();
    let indices = [12_345, 0, 25_599, 78, 77, 77, 25_598, 1];
    let pictures = dataset.read("train", &indices).unwrap();
    for (picture, i) in pictures.data.chunks(size as usize).zip(indices) {
        let wanted = if marked.contains(&i) { (i % 251) as u8 + 1 } else { 0 };
        assert!(picture.iter().all(|&b| b == wanted), "picture {i}");
    }
    assert_eq!(pictures.labels, [1, 0, 1, 0, 1, 1, 0, 1]);
    dataset.verify("train").unwrap();
}

/// Writes what a golden folder holds beside good files.
/// Chunks of 100 pictures in any order in the file, most as they are, some compressed, one never written: pictures are read one by
/// one where that is possible, and the same whichever way.
#[test]
fn pictures_of_large_chunked_splits_are_read_alone_or_decoded() {
    const EACH: usize = 100;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chunked.h5");
    let (n, side) = (25_550_usize, 64_usize); // the last chunk is half full
    let (size, start) = (side * side * 3, 1_usize << 20);
    let (chunk, count) = (EACH * size, n.div_ceil(EACH));
    let room = chunk + 4096; // for a compressed one
    let address = |i: usize| (start + (i * 101 % count) * room) as u64;
    let picture = |i: usize| -> Vec<u8> { (0..size).map(|k| (i * 7 + k * 13 + k / 256) as u8).collect() };
    let compressed = [3, 200];
    let content = |i: usize| -> Vec<u8> { (i * EACH..(i + 1) * EACH).flat_map(picture).collect() };
    let entries: Vec<(u64, u32, u32)> = (0..count - 1) // the last chunk was never written
        .map(|i| match compressed.contains(&i) {
            true => (address(i), deflated(&content(i)).len() as u32, 0),
            false => (address(i), chunk as u32, 1),
        })
        .collect();
    let mut w = Writer::new();
    let mean = w.dataset(Type::F64, &[3], &numbers(&[127.0; 3], Type::F64));
    let std = w.dataset(Type::F64, &[3], &numbers(&[74.0; 3], Type::F64));
    let names = w.dataset(Type::Text(3), &[2], b"antbee");
    let labels: Vec<u8> = (0..n).map(|i| (i % 2) as u8).collect();
    let labels = w.dataset(Type::U8, &[n as u64], &labels);
    let data = w.chunked(&[n as u64, side as u64, side as u64, 3], EACH as u64, &entries);
    let train = w.group(&[("data", data), ("labels", labels)]);
    let root = w.group(&[
        ("categories", names),
        ("train_img_mean_channels", mean),
        ("train_img_std_channels", std),
        ("train", train),
    ]);
    let end = (start + count * room) as u64;
    let mut file = fs::File::create(&path).unwrap();
    file.write_all(&w.finish(root, end)).unwrap();
    file.set_len(end).unwrap();
    let written = [0, 1, 3, 77, 200, 253, 254];
    for i in written {
        file.seek(SeekFrom::Start(address(i))).unwrap();
        file.write_all(&if compressed.contains(&i) { deflated(&content(i)) } else { content(i) }).unwrap();
    }
    drop(file);

    let dataset = open(path.to_str().unwrap(), Some(64)).unwrap();
    let indices = [399, 0, 20_042, 7_750, 25_499, 100, 25_549, 300, 20_042, 99, 500, 25_400];
    let pictures = dataset.read("train", &indices).unwrap();
    for (found, i) in pictures.data.chunks(size).zip(indices) {
        let wanted = if written.contains(&(i / EACH)) && i < 25_500 { picture(i) } else { vec![0; size] };
        assert!(found == wanted, "picture {i}");
    }
    assert_eq!(dataset.unverified(), Vec::<String>::new(), "most of it lies there as it is");
    // A file that ends within a chunk says so, by name.
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(end - 1).unwrap();
    assert!(message(open(path.to_str().unwrap(), Some(64))).contains("truncated"));
}

fn write_expected(folder: &Path, spec: &Spec, spoil: impl Fn(&mut Vec<f32>)) {
    let normaliser = Normaliser::new(spec.mean[..].try_into().unwrap(), spec.std[..].try_into().unwrap());
    let mut tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = vec![
        ("train_img_mean_channels".into(), Dtype::F64, vec![3], numbers(&spec.mean, Type::F64)),
        ("train_img_std_channels".into(), Dtype::F64, vec![3], numbers(&spec.std, Type::F64)),
    ];
    for split in &spec.splits {
        let n = split.shape[0] as usize;
        let data: Vec<u8> = (0..n * 48).map(|k| byte(split.name, k)).collect();
        let mut normalised = Vec::new();
        for (i, c, p) in (0..n * 48).map(|k| (k / 48, k / 16 % 3, k % 16)) {
            normalised.push(normaliser.value(c, data[i * 48 + p * 3 + c]));
        }
        spoil(&mut normalised);
        let normalised = normalised.iter().flat_map(|x| x.to_le_bytes()).collect();
        let labels = numbers(&split.labels.as_ref().unwrap().0, Type::I64);
        tensors.push((format!("{}/data", split.name), Dtype::U8, vec![n, 4, 4, 3], data));
        tensors.push((format!("{}/labels", split.name), Dtype::I64, vec![n], labels));
        tensors.push((format!("{}/normalised", split.name), Dtype::F32, vec![n, 3, 4, 4], normalised));
    }
    let views = tensors
        .iter()
        .map(|(name, dtype, shape, data)| (name.as_str(), TensorView::new(*dtype, shape.clone(), data).unwrap()));
    serialize_to_file(views, None, &folder.join("expected.safetensors")).unwrap();
}

#[test]
fn golden_files_pass_only_if_everything_is_equal() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "some.h5", &good());
    write_expected(folder.path(), &good(), |_| {});
    let golden = goldens::check_h5(&path).unwrap();
    assert_eq!((golden.largest_error, golden.tolerance), (0.0, 0.0));

    write_expected(folder.path(), &good(), |x| x[5] *= 1.000_001);
    assert!(message(goldens::check_h5(&path)).contains("normalised"));
    let mut other = good();
    other.mean[0] += 1e-9;
    write_expected(folder.path(), &other, |_| {});
    assert!(message(goldens::check_h5(&path)).contains("mean"));
    let mut other = good();
    other.splits[3].labels.as_mut().unwrap().0[0] = 2.0;
    write_expected(folder.path(), &other, |_| {});
    assert!(message(goldens::check_h5(&path)).contains("/testplus/labels"));
}

#[test]
fn golden_broken_files_pass_only_if_they_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut spec = good();
    let sound = write(folder.path(), "sound.h5", &spec);
    spec.std[0] = -1.0;
    let broken = write(folder.path(), "broken.h5", &spec);
    let unlisted = write(folder.path(), "unlisted.h5", &spec);
    assert!(message(goldens::check_h5(&broken)).contains("files.json"));
    fs::write(folder.path().join("files.json"), r#"{"broken": "negative std", "sound": "nothing"}"#).unwrap();
    assert!(goldens::check_h5(&broken).unwrap().compared.contains("train_img_std_channels"));
    assert!(message(goldens::check_h5(&sound)).contains("accepted"));
    assert!(message(goldens::check_h5(&unlisted)).contains("unlisted"));
}

#[test]
#[ignore = "reads the golden files of ../shared: scripts/test.sh runs it where they are"]
fn golden_files_of_data_pass() {
    let golden = golden_folder("golden");
    for (folder, least) in [("h5", 20), ("h5_bad", 28)] {
        let mut checked = 0;
        for entry in fs::read_dir(golden.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "h5") {
                goldens::check_h5(&path).unwrap();
                checked += 1;
            }
        }
        assert!(checked >= least, "{folder}: {checked} files");
    }
}
