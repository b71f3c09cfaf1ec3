//! Files that others made, cut, changed and made up: every reader refuses them or reads them, without a panic, in bounded time
//! and memory. `RECURVE_MUTANTS=N` takes N changed files for each reader instead of 1500; `RECURVE_SEEDS=FOLDER` writes the
//! sound ones there, with which fuzzing begins (`tests/fuzz/README.md`).

mod hdf5_file;
mod readers;

use readers::{READERS, mend, target};
use recurve::kernels::choose::{Choices, ConvOp, Key};
use recurve::kernels::conv::ConvShape;
use recurve::network::{NetworkConfig, Preset};
use recurve::reference::random::SplitMix64;
use recurve::train::{Checkpoint, DataState, Event};
use recurve::trajectory::npz::{Extraction, StoredExtraction};
use recurve::tune::cache::{Identity, to_toml};
use recurve::weights::{self, Form, encode};
use std::fs;
use std::io::{Cursor, Read, Write};
use std::panic::catch_unwind;
use std::path::Path;
use std::time::Instant;

/// Longest that a file of a few kilobytes may take.
const SECONDS: f64 = 20.0;
/// Most memory that it may take beside what the process has.
const MEGABYTES: u64 = 1500;

/// Sound files for a reader.
fn sound(reader: &str) -> Vec<Vec<u8>> {
    let small = NetworkConfig {
        image_size: 8,
        stem_channels: 1,
        area_channels: [1, 2, 2, 3],
        kernel_size: 1,
        readout_bias: true,
        timesteps: 3,
        classes: 4,
        ..Preset::Tiny.network()
    };
    let checkpoint = || {
        let mut run = Preset::Tiny.run();
        run.network = small.clone().into();
        run.classes_open = false;
        Checkpoint::initial(&run, DataState::unknown(4))
    };
    let pth = || encode(&checkpoint(), Form::Pth).unwrap();
    match reader {
        "hdf5" => vec![hdf5_file::encode(&hdf5_file::good())],
        "npz" => vec![extraction()],
        "npy" => vec![entry(&extraction(), "outputs_all.npy")],
        "pickle" => vec![entry(&pth(), "data.pkl")],
        "pth" => vec![pth()],
        "safetensors" => vec![encode(&checkpoint(), Form::Safetensors).unwrap()],
        "checkpoint" => vec![checkpoint().to_bytes().unwrap()],
        "config" => {
            let own = "[architecture]\nimage_size = 8\ntimesteps = 3\nclasses = 3\n\
                [[architecture.areas]]\nname = \"a\"\nchannels = 4\n[[architecture.areas]]\nname = \"b\"\nchannels = 2\n\
                [[architecture.connections]]\nfrom = \"input\"\nto = \"a\"\nkind = \"bottom_up\"\n\
                [[architecture.connections]]\nfrom = \"a\"\nto = \"b\"\nkind = \"bottom_up\"\nstride = 2\n\
                [[architecture.connections]]\nfrom = \"a\"\nto = \"a\"\nkind = \"lateral\"\n";
            vec![Preset::Tiny.run().to_toml().into(), own.into()]
        }
        "protocol" => vec![
            b"[protocol]\ntimesteps = 6\n[[protocol.inputs]]\nfrom = 3\nshow = \"blank\"\n[[protocol.gains]]\n\
              connection = \"v1.lateral\"\nfrom = 1\nuntil = 4\ngain = 0.5\n"
                .to_vec(),
        ],
        "choices" => {
            let shape = ConvShape { n: 4, cin: 3, cout: 8, in_h: 8, in_w: 8, out_h: 8, out_w: 8, k: 3, stride: 1 };
            let mut choices = Choices::default();
            for op in [ConvOp::Conv2d, ConvOp::Conv2dDWeight] {
                let key = Key { op, shape, steps: 1, half: false };
                let variant = Choices::TABLE.variant(&target(), &key);
                choices.tuned.insert(key, variant);
            }
            vec![to_toml(&Identity::of(&target()), &choices).into()]
        }
        "metrics" => {
            let events = [
                Event::Step {
                    step: 1,
                    epoch: 0,
                    loss: 2.5,
                    images_per_s: 10.0,
                    grad_norm: None,
                    loss_scale: None,
                    seconds: 1.0,
                },
                Event::Epoch {
                    epoch: 1,
                    step: 2,
                    split: "val".into(),
                    loss: vec![None, Some(1.5)],
                    accuracy: vec![None, Some(0.5)],
                    images: 8,
                },
                Event::End { step: 2, epoch: 1, seconds: 1.25 },
            ];
            vec![events.iter().flat_map(|event| (event.to_line().unwrap() + "\n").into_bytes()).collect()]
        }
        "pictures" => {
            let picture = image::DynamicImage::ImageRgba8(image::RgbaImage::from_fn(9, 7, |x, y| {
                image::Rgba([(x * 20) as u8, (y * 30) as u8, 99, (x * y) as u8 + 100])
            }));
            let encoded = |picture: &image::DynamicImage, format| {
                let mut bytes = Cursor::new(Vec::new());
                picture.write_to(&mut bytes, format).unwrap();
                bytes.into_inner()
            };
            let jpeg = encoded(&picture.to_rgb8().into(), image::ImageFormat::Jpeg);
            let exif = b"\xFF\xE1\0\x22Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
            vec![
                encoded(&picture, image::ImageFormat::Png),
                [&jpeg[..2], exif, &jpeg[2..]].concat(),
                fs::read("tests/pictures/progressive.jpg").unwrap(),
                fs::read("tests/pictures/restart.jpg").unwrap(),
            ]
        }
        "names" => vec!["cat\ndog\nné\ncon\n".into(), b"a\nA\n<script>\n\xff\n".to_vec()],
        _ => panic!("no sound file of {reader}"),
    }
}

fn extraction() -> Vec<u8> {
    let values = |count: usize| (0..count).map(|i| i as f64 / 8.0 - 1.0).collect::<Vec<_>>();
    let one = Extraction {
        timesteps: 2,
        samples: 3,
        classes: 4,
        features: 5,
        outputs: values(24),
        labels: vec![0, 3, 1],
        representations: values(30),
        readout_weight: values(20),
        readout_bias: Some(values(4)),
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npz");
    one.write(&path).unwrap();
    fs::read(path).unwrap()
}

/// The entry of a zip file whose name ends so.
fn entry(bytes: &[u8], end: &str) -> Vec<u8> {
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
    let at = (0..archive.len()).find(|&i| archive.by_index(i).unwrap().name().unwrap().ends_with(end)).unwrap();
    let mut content = Vec::new();
    archive.by_index(at).unwrap().read_to_end(&mut content).unwrap();
    content
}

/// Words that formats give a meaning to, and numbers at the ends of their types.
const WORDS: [&[u8]; 24] = [
    b"18446744073709551615",
    b"9223372036854775808",
    b"-1",
    b"nan",
    b"inf",
    b"1e999",
    b"[",
    b"{",
    b"\"",
    b"\\",
    b"(",
    b"'|O'",
    b"../../x",
    b"\0",
    b"\n",
    b"\xff\xfe",
    b"true",
    b"null",
    b"[[",
    b"\x94",
    b"h\0",
    b"R",
    b"\xff\xda",
    b"IDAT",
];

/// A file that is changed in one to four places.
fn changed(file: &[u8], random: &mut SplitMix64) -> Vec<u8> {
    let mut bytes = file.to_vec();
    let below = |random: &mut SplitMix64, n: usize| (random.bits() % n.max(1) as u64) as usize;
    for _ in 0..1 + below(random, 4) {
        let at = below(random, bytes.len());
        let length = (1 << below(random, 6)).min(bytes.len() - at);
        match below(random, 9) {
            0 => bytes.truncate(at),
            1 if length > 0 => bytes[at] ^= 1 << below(random, 8),
            2 if length > 0 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][below(random, 5)],
            3 | 4 => {
                // A length or a place, little- or big-endian.
                let number = [0, 1, 0x7fff_ffff, 0xffff_ffff, 1 << 31, 1 << 40, u64::MAX, i64::MAX as u64, 1 << 20];
                let number = number[below(random, 9)];
                let width = [2, 4, 8][below(random, 3)];
                let number = match below(random, 2) {
                    0 => number.to_le_bytes()[..width].to_vec(),
                    _ => number.to_be_bytes()[8 - width..].to_vec(),
                };
                bytes.iter_mut().skip(at).zip(number).for_each(|(byte, new)| *byte = new);
            }
            5 => drop(bytes.drain(at..at + length)),
            6 => {
                let part = bytes[at..at + length].repeat(1 + below(random, 4));
                let to = below(random, bytes.len());
                drop(bytes.splice(to..to, part));
            }
            7 => drop(bytes.splice(at..at + length.min(below(random, 4)), WORDS[below(random, WORDS.len())].to_vec())),
            _ => {
                let to = below(random, bytes.len());
                let part = bytes[at..at + length].to_vec();
                bytes.iter_mut().skip(to).zip(part).for_each(|(byte, new)| *byte = new);
            }
        }
    }
    bytes
}

/// Peak of the process's memory in megabytes since [`forget_peak`]; 0 where the system does not say.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0");
    line.split_whitespace().next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0) / 1024
}

/// Lets [`peak`] begin anew (Linux).
fn forget_peak() {
    fs::write("/proc/self/clear_refs", "5").ok();
}

/// All in one test, as the peak of memory is that of the process.
#[test]
fn changed_files_are_read_or_refused_without_panic_in_bounded_time_and_memory() {
    let mutants = std::env::var("RECURVE_MUTANTS").map_or(1500, |n| n.parse().expect("RECURVE_MUTANTS is a number"));
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
    std::panic::set_hook(Box::new(|_| {})); // told below, with the file
    let mut failures = Vec::new();
    for (seed, (name, reader)) in READERS.into_iter().enumerate() {
        let sound = sound(name);
        if let Ok(seeds) = std::env::var("RECURVE_SEEDS") {
            let of_reader = Path::new(&seeds).join(name);
            fs::create_dir_all(&of_reader).unwrap();
            sound
                .iter()
                .enumerate()
                .for_each(|(i, file)| fs::write(of_reader.join(format!("sound-{i}")), file).unwrap());
        }
        for (i, file) in sound.iter().enumerate() {
            let odd = name == "names" && i == 1;
            let read = reader(file, folder.path());
            if read.is_ok() == odd {
                failures.push(format!("{name}: file {i} that changes start from: {read:?}"));
            }
        }
        forget_peak();
        let before = peak();
        let (mut random, began, mut accepted, mut slowest) = (SplitMix64::new(seed as u64), Instant::now(), 0, 0.0_f64);
        // Decoding is slow where pictures are opened as a folder, and so is making folders.
        let count = if ["pictures", "names"].contains(&name) { mutants / 3 } else { mutants };
        for i in 0..count {
            let mut file = changed(&sound[i % sound.len()], &mut random);
            if i % 2 == 0 {
                mend(name, &mut file);
            }
            let start = Instant::now();
            match catch_unwind(|| reader(&file, folder.path())) {
                Ok(read) => accepted += usize::from(read.is_ok()),
                Err(panic) => {
                    let said = panic.downcast_ref::<String>().cloned();
                    let said = said.or_else(|| panic.downcast_ref::<&str>().map(|said| said.to_string()));
                    let kept = std::env::temp_dir().join(format!("recurve-panic-{name}-{i}"));
                    fs::write(&kept, &file).unwrap();
                    failures.push(format!("{name}: panic {} on {}", said.unwrap_or_default(), kept.display()));
                }
            }
            slowest = slowest.max(start.elapsed().as_secs_f64());
        }
        let more = peak().saturating_sub(before);
        println!(
            "{name}: {count} changed files, {accepted} still read, {:.1} s, slowest {slowest:.3} s, {more} MB more",
            began.elapsed().as_secs_f64()
        );
        if slowest > SECONDS || more > MEGABYTES {
            failures.push(format!("{name}: {slowest:.1} s for one file, {more} MB"));
        }
    }
    drop(std::panic::take_hook());
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// What a reader says of a file of this content.
fn said(reader: &str, bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let (_, read) = READERS.into_iter().find(|(name, _)| *name == reader).unwrap();
    read(bytes, folder.path()).expect_err("a file that is refused").to_string()
}

fn zipped(entries: &[(&str, &[u8])], method: zip::CompressionMethod) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, data) in entries {
        zip.start_file(*name, zip::write::SimpleFileOptions::default().compression_method(method)).unwrap();
        zip.write_all(data).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn npy(descr: &str, shape: &str, content: &[u8]) -> Vec<u8> {
    let head = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    let head = format!("{head:<117}\n");
    [b"\x93NUMPY\x01\0v\0", head.as_bytes(), content].concat()
}

#[test]
fn names_in_an_archive_are_no_paths_and_all_that_is_missing_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("a/b");
    fs::create_dir_all(&inner).unwrap();
    let path = inner.join("a.npz");
    fs::write(&path, zipped(&[("../../escape.npy", b"\x93NUMPY")], zip::CompressionMethod::Stored)).unwrap();
    for said in [Extraction::read(&path).unwrap_err(), StoredExtraction::open(&path).unwrap_err()] {
        let said = said.to_string();
        for word in
            ["a.npz", "outputs_all, labels_all, representations_all, readout_weight are missing", "found ../../escape"]
        {
            assert!(said.contains(word), "'{word}' is not in: {said}");
        }
    }
    assert!(!folder.path().join("escape.npy").exists() && !folder.path().join("escape").exists());
}

#[test]
fn python_objects_are_refused_as_such_whatever_their_shape() {
    for shape in ["(1,)", "(2, 3, 4)"] {
        let said = said("npy", &npy("|O", shape, b"\x80\x04cos\nsystem\n"));
        assert!(said.contains("dtype") && said.contains("Python objects") && said.contains("|O"), "{said}");
    }
}

/// An archive whose directory says that a small array has a terabyte: memory is not asked for.
#[test]
fn sizes_that_a_file_cannot_hold_are_refused_before_memory_is_asked_for() {
    let labels = npy("<f8", "(137438953472,)", &[0; 64]);
    let others = npy("<f8", "(4, 5)", &[0; 160]);
    let arrays: [(&str, &[u8]); 4] = [
        ("labels_all.npy", &labels),
        ("outputs_all.npy", &others),
        ("representations_all.npy", &others),
        ("readout_weight.npy", &others),
    ];
    for method in [zip::CompressionMethod::Stored, zip::CompressionMethod::Deflated] {
        let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, data) in arrays {
            let options = zip::write::SimpleFileOptions::default().compression_method(method).large_file(true);
            zip.start_file(name, options).unwrap();
            zip.write_all(data).unwrap();
        }
        let mut bytes = zip.finish().unwrap().into_inner();
        // The length of the first array, wherever the archive says it.
        let claimed = (1_u64 << 40) + 128;
        let length = (labels.len() as u64).to_le_bytes();
        for at in 0..bytes.len() - 8 {
            if bytes[at..at + 8] == length {
                bytes[at..at + 8].copy_from_slice(&claimed.to_le_bytes());
            }
        }
        for at in 0..bytes.len() - 46 {
            if bytes[at..].starts_with(b"PK\x01\x02") && bytes[at + 46..].starts_with(b"labels_all.npy") {
                // In the directory: the size becomes that of 4 GB without one byte, the most that it holds.
                bytes[at + 24..at + 28].copy_from_slice(&0xffff_fffe_u32.to_le_bytes());
            }
        }
        forget_peak();
        let before = peak();
        let said = said("npz", &bytes);
        assert!(said.contains("can hold at most") || said.contains("zip"), "{said}");
        assert!(peak().saturating_sub(before) < 500, "{} MB", peak() - before);
    }
}

#[test]
fn compressed_arrays_that_unpack_to_more_than_memory_should_hold_are_refused() {
    // 2^28 + 1 numbers of a byte: some 260 KB deflated.
    let count = (1 << 28) + 1;
    let head = npy("|u1", &format!("({count},)"), b"");
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
    zip.start_file("labels_all.npy", options).unwrap();
    zip.write_all(&head).unwrap();
    let zeros = vec![0; 1 << 20];
    (0..count >> 20).for_each(|_| zip.write_all(&zeros).unwrap());
    zip.write_all(&[0]).unwrap();
    let other = npy("<f8", "(4, 5)", &[0; 160]);
    for name in ["outputs_all.npy", "representations_all.npy", "readout_weight.npy"] {
        zip.start_file(name, options).unwrap();
        zip.write_all(&other).unwrap();
    }
    let path = tempfile::NamedTempFile::new().unwrap();
    fs::write(path.path(), zip.finish().unwrap().into_inner()).unwrap();
    let said = StoredExtraction::open(path.path()).unwrap_err().to_string();
    assert!(said.contains("labels_all") && said.contains("held in memory"), "{said}");
}

/// Names of any length lie in heaps, which the crate that reads HDF5 copies once for each name: many names that are one text, or
/// texts in heaps upon each other, would be far more memory than the file has bytes.
#[test]
fn class_names_that_lie_upon_each_other_in_the_file_are_refused() {
    let file = |references: &[(u64, u32)], heaps: u64| {
        let mut w = hdf5_file::Writer::new();
        let at = w.bytes.len() as u64;
        for _ in 0..heaps {
            let mut heap = b"GCOL\x01\0\0\0".to_vec();
            heap.extend(4096_u64.to_le_bytes());
            for index in 1..=3_u16 {
                heap.extend(index.to_le_bytes());
                heap.extend([0; 6]);
                heap.extend(5_u64.to_le_bytes());
                heap.extend([b'a' + index as u8; 8]);
            }
            heap.resize(if heaps == 1 { 4096 } else { 128 }, 0);
            w.append(&heap);
        }
        let content: Vec<u8> = references
            .iter()
            .flat_map(|(heap, index)| {
                [5_u32.to_le_bytes().to_vec(), (at + heap).to_le_bytes().to_vec(), index.to_le_bytes().to_vec()]
                    .concat()
            })
            .collect();
        let address = w.append(&content);
        let mut space = vec![2, 1, 0, 1];
        space.extend((references.len() as u64).to_le_bytes());
        let datatype = vec![0x19, 1, 0, 0, 16, 0, 0, 0, 0x13, 0, 0, 0, 1, 0, 0, 0];
        let mut layout = vec![3, 1];
        layout.extend(address.to_le_bytes());
        layout.extend((content.len() as u64).to_le_bytes());
        let categories = w.object(&[(0x01, space), (0x03, datatype), (0x08, layout)]);
        let root = w.group(&[("categories", categories)]);
        let end = w.bytes.len() as u64;
        w.finish(root, end)
    };
    let sound = said("hdf5", &file(&[(0, 1), (0, 2), (0, 3)], 1));
    assert!(
        sound.contains("train_img_mean_channels"),
        "names of any length are read, what comes next is missing: {sound}"
    );
    let same = said("hdf5", &file(&[(0, 1), (0, 2), (0, 1)], 1));
    assert!(same.contains("/categories") && same.contains("one and the same"), "{same}");
    let upon: Vec<(u64, u32)> = (0..40).map(|i| (i * 128, 1)).collect();
    let upon = said("hdf5", &file(&upon, 40));
    assert!(upon.contains("/categories") && upon.contains("heaps of 163840 bytes"), "{upon}");
}

#[test]
fn many_pickles_in_one_archive_are_refused() {
    let names: Vec<String> = (0..40).map(|i| format!("archive/{i}.pkl")).collect();
    let entries: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b"\x80\x02}."[..])).collect();
    let said = said("pth", &zipped(&entries, zip::CompressionMethod::Deflated));
    assert!(said.contains("more than 16 pickles"), "{said}");
}

/// Two links in each of 30 folders to the next: 2^30 ways to one picture.
#[cfg(unix)]
#[test]
fn folders_that_links_multiply_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let beside = folder.path().join("beside");
    for i in 0..30 {
        let here = beside.join(i.to_string());
        fs::create_dir_all(&here).unwrap();
        for link in ["x", "y"] {
            std::os::unix::fs::symlink(beside.join((i + 1).to_string()), here.join(link)).unwrap();
        }
    }
    fs::create_dir_all(beside.join("30")).unwrap();
    fs::create_dir_all(folder.path().join("data/train")).unwrap();
    std::os::unix::fs::symlink(beside.join("0"), folder.path().join("data/train/a")).unwrap();
    let began = Instant::now();
    let said = recurve::dataset::Folder::open(&folder.path().join("data"), 8).err().unwrap().to_string();
    assert!(said.contains("again and again"), "{said}");
    assert!(began.elapsed().as_secs_f64() < SECONDS);
}

#[test]
fn descriptions_of_too_many_areas_and_texts_without_end_are_refused() {
    let areas: String = (0..2000).map(|i| format!("[[architecture.areas]]\nname = \"a{i}\"\nchannels = 1\n")).collect();
    let one = "[[architecture.connections]]\nfrom = \"input\"\nto = \"a0\"\nkind = \"bottom_up\"\n";
    let text = format!("[architecture]\nimage_size = 8\ntimesteps = 3\n{areas}{one}");
    let told = said("config", text.as_bytes());
    assert!(told.contains("number of areas") && told.contains("1024"), "{told}");
    let told = said("config", &vec![b'#'; 3 << 20]);
    assert!(told.contains("at most 1048576 bytes"), "{told}");
    #[cfg(unix)]
    for endless in
        [weights::read(Path::new("/dev/zero")).unwrap_err(), Checkpoint::read(Path::new("/dev/zero")).unwrap_err()]
    {
        assert!(endless.to_string().contains("at most"), "{endless}");
    }
}
